//! `apply --prune`: deletes what was applied before and is no longer in the files.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::Resource;
use crate::apply::LAST_APPLIED;
use crate::error::Result;
use crate::flags::Args;
use crate::output::{DryRun, Told};
use crate::session::Session;
use crate::target::{self, Target, with_type};
use crate::verbs::pods::text;

/// Group, version and kind of what is pruned when the flags name nothing.
const KINDS: [(&str, &str, &str); 16] = [
    ("", "v1", "ConfigMap"),
    ("", "v1", "Endpoints"),
    ("", "v1", "PersistentVolumeClaim"),
    ("", "v1", "Pod"),
    ("", "v1", "ReplicationController"),
    ("", "v1", "Secret"),
    ("", "v1", "Service"),
    ("batch", "v1", "Job"),
    ("batch", "v1", "CronJob"),
    ("networking.k8s.io", "v1", "Ingress"),
    ("apps", "v1", "DaemonSet"),
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "ReplicaSet"),
    ("apps", "v1", "StatefulSet"),
    ("", "v1", "Namespace"),
    ("", "v1", "PersistentVolume"),
];

/// What was applied in this run.
#[derive(Default)]
pub(super) struct Visited {
    uids: BTreeSet<String>,
    namespaces: BTreeSet<String>,
}

impl Visited {
    pub(super) fn note(&mut self, target: &Target, object: &Value) {
        self.uids.insert(text(object, "/metadata/uid").to_owned());
        if target.resource.is_namespaced {
            self.namespaces.insert(target.namespace.clone());
        }
    }
}

/// Whether the flags go together.
pub(super) fn check(args: &Args) -> Result<()> {
    if args.on("all") && args.has("selector") {
        bail!("cannot set --all and --selector at the same time");
    }
    if args.on("prune") && !args.on("all") && !args.has("selector") {
        bail!(
            "all resources selected for prune without explicitly passing --all. To prune all resources, pass the \
             --all flag. If you did not mean to prune all resources, specify a label selector"
        );
    }
    Ok(())
}

/// The types that are looked at, in order.
pub(super) async fn resources(session: &Session, args: &Args) -> Result<Vec<Resource>> {
    let discovery = session.discovery().await?;
    let find = |group: &str, version: &str, kind: &str| {
        let found = discovery.of_kind(&api::meta::api_version(group, version), kind).cloned();
        found.with_context(|| format!("no matches for kind {kind:?} in version {:?}", format!("{group}/{version}")))
    };
    let named = args.all("prune-allowlist");
    if named.is_empty() {
        return KINDS.into_iter().map(|(group, version, kind)| find(group, version, kind)).collect();
    }
    let parse = |text: &String| match text.split('/').collect::<Vec<_>>().as_slice() {
        [group, version, kind] => find(if *group == "core" { "" } else { group }, version, kind),
        _ => bail!("invalid GroupVersionKind format: {text}, please follow <group/version/kind>"),
    };
    named.iter().map(parse).collect()
}

/// Deletes what the selector chooses, was applied once, and was not applied now.
pub(super) async fn run(
    session: &Session,
    args: &Args,
    told: &mut Told<'_>,
    resources: &[Resource],
    visited: &Visited,
) -> Result<()> {
    for namespace in &visited.namespaces {
        for resource in resources.iter().filter(|resource| resource.is_namespaced) {
            let what = || format!("error pruning namespaced object {}, Kind={}", resource.api_version(), resource.kind);
            of_type(session, args, told, (resource, namespace), visited).await.with_context(what)?;
        }
    }
    for resource in resources.iter().filter(|resource| !resource.is_namespaced) {
        let what = || format!("error pruning nonNamespaced object {}, Kind={}", resource.api_version(), resource.kind);
        of_type(session, args, told, (resource, ""), visited).await.with_context(what)?;
    }
    Ok(())
}

async fn of_type(
    session: &Session,
    args: &Args,
    told: &mut Told<'_>,
    (resource, namespace): (&Resource, &str),
    visited: &Visited,
) -> Result<()> {
    let mut options = json!({"propagationPolicy": match args.get("cascade") {
        Some("foreground") => "Foreground",
        Some("orphan" | "false") => "Orphan",
        _ => "Background",
    }});
    if let Some(seconds) = args.number("grace-period")?.filter(|seconds| *seconds >= 0) {
        options["gracePeriodSeconds"] = seconds.into();
    }
    let dry = DryRun::of(args)?;
    if dry == DryRun::Server {
        options["dryRun"] = json!(["All"]);
    }
    let mut list = session.list(&resource.path(namespace), &target::selectors(args)).await?;
    for item in list.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default() {
        let was_applied = item.pointer("/metadata/annotations").is_some_and(|a| a.get(LAST_APPLIED).is_some());
        if !was_applied || visited.uids.contains(text(&item, "/metadata/uid")) {
            continue;
        }
        let target = Target::of(resource, with_type(resource, item.clone()));
        if dry != DryRun::Client {
            session.delete(&target.path(), &options).await?;
        }
        told.did(&target, "pruned", &item)?;
    }
    Ok(())
}
