//! Whether a Pod that was bound to this node may run on it: upstream's predicates at the kubelet, with their reasons.

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod};

use crate::agent::Agent;
use crate::node::sysctl;
use crate::pod::registry::Snapshot;
use crate::{qos, spec};

/// Reason and message of a rejection; `None` admits the Pod.
pub fn check(agent: &Agent, pod: &Pod) -> Option<(String, String)> {
    if let Some(refused) = sysctl::check(pod) {
        return Some(refused);
    }
    let node = agent.node.borrow().clone();
    if let Some(node) = node.as_deref()
        && !affine(pod, node)
    {
        return Some((
            "NodeAffinity".to_owned(),
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector".to_owned(),
        ));
    }
    // One that has reported its end takes nothing any more, as upstream: the scheduler counts it no longer.
    let holds = |s: &Snapshot| s.active && !spec::is_terminal_phase(s.status.phase.as_deref());
    let others: Vec<_> =
        agent.pods.all().iter().map(|e| e.snapshot()).filter(|s| holds(s)).map(|s| s.pod.clone()).collect();
    fits(agent, pod, others.iter().map(AsRef::as_ref))
}

fn fits<'a>(agent: &Agent, pod: &Pod, others: impl Iterator<Item = &'a Pod> + Clone) -> Option<(String, String)> {
    let count = i64::try_from(others.clone().count()).unwrap_or(i64::MAX);
    let allocatable = agent.allocatable();
    let most = i64::from(agent.config.max_pods);
    if count + 1 > most {
        return Some(out_of("pods", 1, count, most));
    }
    for (name, capacity) in [("cpu", allocatable.cpu_millis), ("memory", allocatable.memory_bytes)] {
        let asked = qos::pod_request(pod, name);
        let used: i64 = others.clone().map(|p| qos::pod_request(p, name)).sum();
        if asked > 0 && used + asked > capacity {
            return Some(out_of(name, asked, used, capacity));
        }
    }
    let ports = |p: &Pod| -> Vec<(String, i32)> {
        let all = spec::containers(p).iter().flat_map(|c| c.ports.iter().flatten());
        all.filter_map(|p| Some((p.protocol.clone().unwrap_or_else(|| "TCP".into()), p.host_port.filter(|h| *h > 0)?)))
            .collect()
    };
    let mine = ports(pod);
    let taken = !mine.is_empty() && others.into_iter().any(|o| ports(o).iter().any(|p| mine.contains(p)));
    taken.then(|| {
        let message = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        ("NodePorts".to_owned(), message.to_owned())
    })
}

fn out_of(name: &str, asked: i64, used: i64, capacity: i64) -> (String, String) {
    let message =
        format!("Node didn't have enough resource: {name}, requested: {asked}, used: {used}, capacity: {capacity}");
    (format!("OutOf{name}"), message)
}

/// nodeSelector and required node affinity against the node's labels.
fn affine(pod: &Pod, node: &Node) -> bool {
    let spec = spec::spec(pod);
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|l| l.get(key)).map(String::as_str);
    if !spec.node_selector.iter().flatten().all(|(k, v)| label(k) == Some(v)) {
        return false;
    }
    let required = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| required.node_selector_terms.iter().any(|term| term_matches(term, node)))
}

fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|l| l.get(key)).map(String::as_str);
    let name = node.metadata.name.as_deref();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    if fields.is_empty() && expressions.is_empty() {
        return false;
    }
    fields.iter().all(|r| r.key == "metadata.name" && holds(r, name))
        && expressions.iter().all(|r| holds(r, label(&r.key)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|v| values.iter().any(|x| x == v));
    let bound = || -> Option<(i64, i64)> { Some((value?.parse().ok()?, values.first()?.parse().ok()?)) };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => bound().is_some_and(|(v, b)| v > b),
        "Lt" => bound().is_some_and(|(v, b)| v < b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_and_affinity() {
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"a": "1", "b": "5"}}})).unwrap();
        let required = |expressions: serde_json::Value| {
            json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": expressions}]}}}})
        };
        for (spec, want) in [
            (json!({}), true),
            (json!({"nodeSelector": {"a": "1"}}), true),
            (json!({"nodeSelector": {"a": "2"}}), false),
            (required(json!([{"key": "a", "operator": "In", "values": ["1", "2"]}])), true),
            (required(json!([{"key": "b", "operator": "Gt", "values": ["5"]}])), false),
            (required(json!([{"key": "c", "operator": "DoesNotExist"}])), true),
        ] {
            let mut pod = json!({"spec": spec});
            pod["spec"]["containers"] = json!([]);
            assert_eq!(affine(&serde_json::from_value(pod).unwrap(), &node), want, "{spec}");
        }
        let message = out_of("cpu", 100, 1950, 2000).1;
        assert_eq!(message, "Node didn't have enough resource: cpu, requested: 100, used: 1950, capacity: 2000");
    }
}
