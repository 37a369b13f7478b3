//! Aggregated ClusterRoles: their rules are those of all ClusterRoles that their selectors select.

use std::sync::Arc;

use anyhow::Context as _;
use api::NamespacedName;
use client::Api;
use client::informer::key_of;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::{Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::context::Context;
use crate::owner;

const NAME: &str = "clusterrole-aggregation-controller";

pub fn start(context: &Arc<Context>) {
    let queue = context.queue();
    let (changed, all) = (queue.clone(), context.cluster_roles.clone());
    context.cluster_roles.on_change(move |change| {
        if change.object().aggregation_rule.is_some() {
            changed.add(key_of(&**change.object()));
        }
        let aggregated = all.filter(|role| role.aggregation_rule.is_some());
        aggregated.iter().for_each(|role| changed.add(key_of(&**role)));
    });
    let roles = context.cluster_roles.clone();
    let ready = async move { roles.synced().await };
    let (client, context_) = (context.client(NAME), Arc::clone(context));
    context.spawn(NAME, queue, 1, ready, move |key| {
        let (client, context) = (client.clone(), Arc::clone(&context_));
        async move { sync(&client, &context, &key).await }
    });
}

async fn sync(client: &Client, context: &Context, key: &NamespacedName) -> anyhow::Result<()> {
    let Some(role) = context.cluster_roles.get("", &key.name) else { return Ok(()) };
    let Some(rules) = aggregated(&role, context.cluster_roles.list()) else { return Ok(()) };
    if role.rules.as_deref().unwrap_or_default() == rules {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": key.name}, "rules": rules,
    });
    let api: Api<ClusterRole> = Api::all(client.clone());
    api.patch(&key.name, &PatchParams::apply(NAME).force(), &Patch::Apply(patch))
        .await
        .map(drop)
        .with_context(|| format!("write the rules of ClusterRole {}", key.name))
}

/// The rules of an aggregated role: of the selected roles by name, each rule once. Nothing for an ordinary role.
fn aggregated(role: &ClusterRole, mut all: Vec<Arc<ClusterRole>>) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.clone().unwrap_or_default();
    all.sort_by_cached_key(|other| other.name_any());
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in &selectors {
        let selected = all.iter().filter(|other| {
            other.metadata.name != role.metadata.name && owner::selects(Some(selector), other.labels())
        });
        for rule in selected.flat_map(|other| other.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Some(rules)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn role(name: &str, label: &str, verbs: &[&str], aggregates: Option<&str>) -> Arc<ClusterRole> {
        let rule = aggregates.map(|label| json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]}));
        let rules: Vec<_> =
            verbs.iter().map(|verb| json!({"verbs": [verb], "apiGroups": [""], "resources": ["pods"]})).collect();
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name, "labels": {label: "true"}},
                "aggregationRule": rule, "rules": rules}))
            .unwrap(),
        )
    }

    #[test]
    fn rules_come_from_the_selected_roles_once_each() {
        let all = vec![
            role("admin", "to-admin", &["old"], Some("to-admin")),
            role("b", "to-admin", &["list", "get"], None),
            role("a", "to-admin", &["get"], None),
            role("c", "to-view", &["watch"], None),
        ];
        let verbs = |rules: Vec<PolicyRule>| rules.into_iter().flat_map(|rule| rule.verbs).collect::<Vec<_>>();
        assert_eq!(verbs(aggregated(&all[0], all.clone()).unwrap()), ["get", "list"]);
        assert!(aggregated(&all[1], all.clone()).is_none());
        let alone = role("x", "y", &["get"], Some("to-nobody"));
        assert_eq!(aggregated(&alone, all), Some(Vec::new()));
    }
}
