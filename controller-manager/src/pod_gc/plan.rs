//! Pure: which Pods are removed because nobody else will.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::pods;

/// Ended Pods that may stay in the cluster (upstream's `--terminated-pod-gc-threshold`).
pub const TERMINATED: usize = 12_500;
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is to end, and was never given to a node that could end it.
    Unscheduled,
    /// It is to end, on a node that somebody declared dead.
    OutOfService,
    /// Its node is not there; to be made sure of before it is removed.
    Orphaned,
}

/// Why a Pod is to be removed, if it is. `node` is the Node it was given to, if there is one.
pub fn judge(pod: &Pod, node: Option<&Node>) -> Option<Why> {
    let terminating = pod.metadata.deletion_timestamp.is_some();
    match node {
        None if pods::node_name(pod).is_empty() => terminating.then_some(Why::Unscheduled),
        None => Some(Why::Orphaned),
        Some(node) => (terminating && is_out_of_service(node)).then_some(Why::OutOfService),
    }
}

/// Not ready, and tainted as out of service by an administrator.
pub fn is_out_of_service(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    !ready && taints.into_iter().flatten().any(|taint| taint.key == OUT_OF_SERVICE)
}

/// The ended Pods beyond the threshold: evicted ones first, then the oldest.
pub fn surplus(mut ended: Vec<Arc<Pod>>, threshold: usize) -> Vec<Arc<Pod>> {
    let count = ended.len().saturating_sub(threshold);
    if count > 0 {
        let evicted = |pod: &Pod| {
            let status = pod.status.as_ref();
            status.is_some_and(|s| s.phase.as_deref() == Some("Failed") && s.reason.as_deref() == Some("Evicted"))
        };
        ended.sort_by_cached_key(|pod| {
            let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (!evicted(pod), created, pod.metadata.name.clone())
        });
    }
    ended.truncate(count);
    ended
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn pod(node: &str, terminating: bool) -> Pod {
        let stamp = terminating.then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({"metadata": {"name": "p", "deletionTimestamp": stamp},
            "spec": {"nodeName": node, "containers": []}}))
        .unwrap()
    }

    fn node(ready: &str, taint: &str) -> Node {
        serde_json::from_value(
            json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": taint, "effect": "NoExecute"}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}}),
        )
        .unwrap()
    }

    #[test]
    fn who_is_removed() {
        let dead = || Some(node("Unknown", OUT_OF_SERVICE));
        let cases = [
            (pod("", false), None, None),
            (pod("", true), None, Some(Why::Unscheduled)),
            (pod("gone", false), None, Some(Why::Orphaned)),
            (pod("gone", true), None, Some(Why::Orphaned)),
            (pod("n", true), Some(node("True", "x")), None),
            (pod("n", true), Some(node("True", OUT_OF_SERVICE)), None),
            (pod("n", true), dead(), Some(Why::OutOfService)),
            (pod("n", false), dead(), None),
        ];
        for (pod, node, expected) in cases {
            assert_eq!(judge(&pod, node.as_ref()), expected, "{pod:?} {node:?}");
        }
    }

    #[test]
    fn the_oldest_ended_pods_go_first_but_evicted_ones_before_them() {
        let ended = |name: &str, day: u8, reason: &str| -> Arc<Pod> {
            let created = format!("2026-01-0{day}T00:00:00Z");
            Arc::new(
                serde_json::from_value(json!({"metadata": {"name": name, "creationTimestamp": created},
                    "status": {"phase": "Failed", "reason": reason}}))
                .unwrap(),
            )
        };
        let all = vec![ended("new", 3, ""), ended("old", 1, ""), ended("evicted", 2, "Evicted")];
        let names = |threshold| {
            surplus(all.clone(), threshold).iter().map(|p| p.metadata.name.clone().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(names(1), ["evicted", "old"]);
        assert!(names(3).is_empty());
    }
}
