//! What controllers ask of a Pod: is it active, ready, available; and which of several should go first.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodSpec};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What Pods are found by in the informer: their controller's UID, or [`orphans`] of their namespace.
pub fn index(pod: &Pod) -> Option<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    Some(crate::owner::controller_of(pod).map_or_else(|| orphans(namespace), |owner| owner.uid.clone()))
}

/// The index value of a namespace's Pods that nobody controls.
pub fn orphans(namespace: &str) -> String {
    format!("orphans of {namespace}")
}

/// What the controllers keep of a Pod that was read sparsely: its metadata and status, and of its specification what
/// they look at.
pub fn kept(mut pod: Pod) -> Pod {
    let Some(spec) = pod.spec.take() else { return pod };
    let container = |container: Container| Container {
        name: container.name,
        image: container.image,
        ports: container.ports,
        restart_policy: container.restart_policy,
        ..Container::default()
    };
    pod.spec = Some(PodSpec {
        node_name: spec.node_name,
        tolerations: spec.tolerations,
        host_network: spec.host_network,
        hostname: spec.hostname,
        subdomain: spec.subdomain,
        readiness_gates: spec.readiness_gates,
        priority: spec.priority,
        restart_policy: spec.restart_policy,
        scheduling_gates: spec.scheduling_gates,
        containers: spec.containers.into_iter().map(container).collect(),
        init_containers: spec.init_containers.map(|all| all.into_iter().map(container).collect()),
        volumes: spec.volumes,
        ..PodSpec::default()
    });
    pod
}

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("")
}

pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither ended nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("")
}

/// Since when the Pod is ready, if it is.
fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// Whether the Pod has been ready for `min_ready_seconds`; otherwise, for a ready one, how long it still takes.
pub fn availability(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Result<(), Option<SignedDuration>> {
    if !is_ready(pod) {
        return Err(None);
    }
    if min_ready_seconds == 0 {
        return Ok(());
    }
    let Some(since) = ready_since(pod) else { return Err(None) };
    let left = since.duration_until(now);
    let wanted = SignedDuration::from_secs(min_ready_seconds.into());
    if left >= wanted { Ok(()) } else { Err(Some(wanted - left)) }
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).max().unwrap_or(0)
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(DELETION_COST)).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn phase_rank(pod: &Pod) -> u8 {
    match phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

/// Orders Pods so that those to delete first come first (upstream's `ActivePodsWithRanks`).
///
/// `on_node` counts the related Pods of each node: of two alike, the one on the fuller node goes.
fn deletion_order(a: &Pod, b: &Pod, on_node: &HashMap<&str, usize>) -> Ordering {
    let assigned = |pod: &Pod| !node_name(pod).is_empty();
    let rank = |pod: &Pod| on_node.get(node_name(pod)).copied().unwrap_or(0);
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    assigned(a)
        .cmp(&assigned(b))
        .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| rank(b).cmp(&rank(a)))
        .then_with(|| newer_first(ready_since(a), ready_since(b)))
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| newer_first(created(a), created(b)))
}

fn newer_first(a: Option<Timestamp>, b: Option<Timestamp>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => b.cmp(&a),
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

/// The `count` Pods to delete of `pods`. `related` are the Pods that count for spreading over nodes.
pub fn to_delete(mut pods: Vec<Arc<Pod>>, related: &[Arc<Pod>], count: usize) -> Vec<Arc<Pod>> {
    if count < pods.len() {
        let mut on_node: HashMap<&str, usize> = HashMap::new();
        for pod in related.iter().filter(|pod| is_active(pod)) {
            *on_node.entry(node_name(pod)).or_default() += 1;
        }
        pods.sort_by(|a, b| deletion_order(a, b, &on_node));
    }
    pods.truncate(count);
    pods
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pod(name: &str, node: &str, phase: &str, ready: bool, cost: &str, created: &str) -> Arc<Pod> {
        let status = if ready { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": name, "creationTimestamp": created, "annotations": {DELETION_COST: cost}},
                "spec": {"nodeName": node, "containers": []},
                "status": {"phase": phase, "conditions": [
                    {"type": "Ready", "status": status, "lastTransitionTime": created}]},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn the_least_useful_pods_go_first() {
        let early = "2026-01-01T00:00:00Z";
        let late = "2026-01-02T00:00:00Z";
        let all = vec![
            pod("old-ready", "n1", "Running", true, "0", early),
            pod("new-ready", "n1", "Running", true, "0", late),
            pod("alone-on-node", "n2", "Running", true, "0", late),
            pod("dear", "n1", "Running", true, "10", late),
            pod("unready", "n1", "Running", false, "0", early),
            pod("pending", "n1", "Pending", false, "0", early),
            pod("unassigned", "", "Pending", false, "0", early),
        ];
        let order: Vec<_> = (1..=all.len())
            .map(|count| {
                let picked = to_delete(all.clone(), &all, count);
                picked.last().unwrap().metadata.name.clone().unwrap()
            })
            .take(all.len() - 1)
            .collect();
        assert_eq!(order, ["unassigned", "pending", "unready", "new-ready", "old-ready", "alone-on-node"]);
    }
}
