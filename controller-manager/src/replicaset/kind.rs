//! The two kinds that this controller serves: ReplicationController is the older form of ReplicaSet, seen as one here.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{FromJson, Informer, ToJson};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Resource;

use crate::context::Context;
use crate::owner;

/// A kind that keeps a number of Pods.
pub trait Kind: Resource<DynamicType = (), Scope = NamespaceResourceScope> + FromJson + ToJson + Clone + Sync {
    /// The controller's name and service account.
    const CONTROLLER: &'static str;
    /// Whether the status says how many Pods are ending.
    const COUNTS_TERMINATING: bool;

    fn informer(context: &Context) -> &Informer<Self>;

    fn selects(&self, labels: &BTreeMap<String, String>) -> bool;

    /// The object as a ReplicaSet, metadata included.
    fn view(object: &Arc<Self>) -> Arc<ReplicaSet>;

    fn with_status(&self, status: ReplicaSetStatus) -> Self;
}

impl Kind for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset-controller";
    const COUNTS_TERMINATING: bool = true;

    fn informer(context: &Context) -> &Informer<Self> {
        &context.replica_sets
    }

    fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        owner::selects(self.spec.as_ref().map(|spec| &spec.selector), labels)
    }

    fn view(object: &Arc<Self>) -> Arc<ReplicaSet> {
        Arc::clone(object)
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        Self { status: Some(status), ..self.clone() }
    }
}

impl Kind for ReplicationController {
    const CONTROLLER: &'static str = "replication-controller";
    const COUNTS_TERMINATING: bool = false;

    fn informer(context: &Context) -> &Informer<Self> {
        &context.replication_controllers
    }

    fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        let selector = self.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| {
            !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        })
    }

    fn view(object: &Arc<Self>) -> Arc<ReplicaSet> {
        let spec = object.spec.clone().unwrap_or_default();
        let status = object.status.clone().map(|status| ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            terminating_replicas: None,
            observed_generation: status.observed_generation,
            conditions: status.conditions.map(|all| all.into_iter().map(condition_of).collect()),
        });
        Arc::new(ReplicaSet {
            metadata: object.metadata.clone(),
            spec: Some(ReplicaSetSpec {
                replicas: spec.replicas,
                min_ready_seconds: spec.min_ready_seconds,
                selector: LabelSelector { match_labels: spec.selector, ..LabelSelector::default() },
                template: spec.template,
            }),
            status,
        })
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let conditions = status.conditions.map(|all| all.into_iter().map(condition_from).collect());
        let status = ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            conditions,
        };
        Self { status: Some(status), ..self.clone() }
    }
}

fn condition_of(condition: ReplicationControllerCondition) -> ReplicaSetCondition {
    ReplicaSetCondition {
        type_: condition.type_,
        status: condition.status,
        reason: condition.reason,
        message: condition.message,
        last_transition_time: condition.last_transition_time,
    }
}

fn condition_from(condition: ReplicaSetCondition) -> ReplicationControllerCondition {
    ReplicationControllerCondition {
        type_: condition.type_,
        status: condition.status,
        reason: condition.reason,
        message: condition.message,
        last_transition_time: condition.last_transition_time,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_replication_controller_is_seen_as_a_replica_set() {
        let controller: ReplicationController = serde_json::from_value(json!({
            "metadata": {"name": "rc", "uid": "u"},
            "spec": {"replicas": 2, "selector": {"app": "web"}, "template": {"metadata": {"labels": {"app": "web"}}}},
        }))
        .unwrap();
        let controller = Arc::new(controller);
        let view = ReplicationController::view(&controller);
        assert_eq!(view.metadata.uid.as_deref(), Some("u"));
        assert_eq!(view.spec.as_ref().unwrap().replicas, Some(2));
        assert!(controller.selects(&[("app".to_owned(), "web".to_owned())].into()));
        assert!(!controller.selects(&BTreeMap::new()));
        let status = ReplicaSetStatus { replicas: 2, terminating_replicas: Some(1), ..ReplicaSetStatus::default() };
        assert_eq!(controller.with_status(status).status.unwrap().replicas, 2);
    }
}
