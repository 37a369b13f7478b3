//! Pure: which taints a Node should have, when silence becomes Unknown, when a Pod must leave a tainted Node.

use std::time::Duration;

use client::taints::tolerates;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A Node that was silent for this long is Unknown (upstream's `--node-monitor-grace-period`).
pub const GRACE: Duration = Duration::from_secs(50);

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Condition, its status, and the taint that it means.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];

pub fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

fn status<'a>(node: &'a Node, kind: &str) -> &'a str {
    condition(node, kind).map_or("", |condition| condition.status.as_str())
}

/// Whether a taint is this controller's business.
fn managed(taint: &Taint) -> bool {
    match taint.effect.as_str() {
        "NoSchedule" => taint.key == UNSCHEDULABLE || BY_CONDITION.iter().any(|(_, _, key)| *key == taint.key),
        "NoExecute" => taint.key == NOT_READY || taint.key == UNREACHABLE,
        _ => false,
    }
}

/// The Node's taints as they should be; `None` when they are so. Taints that others set stay.
pub fn taints(node: &Node, now: Timestamp) -> Option<Vec<Taint>> {
    let current = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = BY_CONDITION
        .iter()
        .filter(|(kind, bad, _)| status(node, kind) == *bad)
        .map(|(_, _, key)| (*key, "NoSchedule"))
        .collect();
    match status(node, "Ready") {
        "False" => wanted.push((NOT_READY, "NoExecute")),
        "Unknown" => wanted.push((UNREACHABLE, "NoExecute")),
        _ => {}
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let is = |taint: &Taint, key: &str, effect: &str| taint.key == key && taint.effect == effect;
    let mut new: Vec<Taint> = current
        .iter()
        .filter(|taint| !managed(taint) || wanted.iter().any(|(key, effect)| is(taint, key, effect)))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !new.iter().any(|taint| is(taint, key, effect)) {
            new.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: (effect == "NoExecute").then_some(Time(now)),
                value: None,
            });
        }
    }
    (new != current).then_some(new)
}

/// The conditions of a Node that fell silent.
pub fn unknown_conditions(node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    let told = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
    let old = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let mut conditions = old.clone();
    for kind in told {
        let before = old.iter().find(|condition| condition.type_ == kind);
        if before.is_some_and(|condition| condition.status == "Unknown") {
            continue;
        }
        let (reason, message) = match before {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        conditions.retain(|condition| condition.type_ != kind);
        conditions.push(NodeCondition {
            type_: kind.to_owned(),
            status: "Unknown".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: Some(Time(now)),
            last_heartbeat_time: before.and_then(|condition| condition.last_heartbeat_time.clone()),
        });
    }
    conditions
}

/// When a Pod must leave its Node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    Never,
    Now,
    At(Timestamp),
}

/// Upstream's taint manager: a taint that is not tolerated drives out at once; tolerations with seconds, after the
/// shortest of them.
pub fn leave(pod: &Pod, node: &Node, now: Timestamp) -> Leave {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let driving: Vec<&Taint> = taints.iter().filter(|taint| taint.effect == "NoExecute").collect();
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut earliest: Option<Timestamp> = None;
    for taint in driving {
        let matching: Vec<_> = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).collect();
        if matching.is_empty() {
            return Leave::Now;
        }
        let seconds = matching.iter().filter_map(|toleration| toleration.toleration_seconds).min();
        let since = taint.time_added.as_ref().map_or(now, |time| time.0);
        match seconds {
            Some(seconds) if seconds <= 0 => return Leave::Now,
            Some(seconds) => {
                let at = since.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
                earliest = Some(earliest.map_or(at, |soonest| soonest.min(at)));
            }
            None => {}
        }
    }
    match earliest {
        None => Leave::Never,
        Some(at) if at <= now => Leave::Now,
        Some(at) => Leave::At(at),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn node(ready: &str, taints: serde_json::Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
        .unwrap()
    }

    fn keys(taints: Option<Vec<Taint>>) -> Option<Vec<String>> {
        taints.map(|taints| taints.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect())
    }

    #[test]
    fn taints_follow_conditions_and_leave_others_alone() {
        let now = Timestamp::UNIX_EPOCH;
        let theirs = json!({"key": "gpu", "effect": "NoSchedule"});
        let fresh = json!({"key": NOT_READY, "effect": "NoSchedule"});
        let cases = [
            (node("True", json!([theirs, fresh])), Some(vec!["gpu:NoSchedule".to_owned()])),
            (node("True", json!([theirs])), None),
            (
                node("Unknown", json!([])),
                Some(vec![format!("{UNREACHABLE}:NoSchedule"), format!("{UNREACHABLE}:NoExecute")]),
            ),
            (
                node("False", json!([{"key": UNREACHABLE, "effect": "NoExecute"}])),
                Some(vec![format!("{NOT_READY}:NoSchedule"), format!("{NOT_READY}:NoExecute")]),
            ),
        ];
        for (node, expected) in cases {
            assert_eq!(keys(taints(&node, now)), expected);
        }
    }

    #[test]
    fn pods_leave_when_their_tolerations_end() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let tainted =
            node("False", json!([{"key": NOT_READY, "effect": "NoExecute", "timeAdded": "2026-01-01T00:06:00Z"}]));
        let pod = |tolerations: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [], "tolerations": tolerations}})).unwrap()
        };
        let seconds = |n: i64| json!([{"key": NOT_READY, "operator": "Exists", "tolerationSeconds": n}]);
        let cases = [
            (json!([]), Leave::Now),
            (json!([{"operator": "Exists"}]), Leave::Never),
            (seconds(300), Leave::At("2026-01-01T00:11:00Z".parse().unwrap())),
            (seconds(60), Leave::Now),
            (seconds(0), Leave::Now),
        ];
        for (tolerations, expected) in cases {
            assert_eq!(leave(&pod(tolerations.clone()), &tainted, now), expected, "{tolerations}");
        }
        assert_eq!(leave(&pod(json!([])), &node("True", json!([])), now), Leave::Never);
    }

    #[test]
    fn silence_is_unknown_once() {
        let conditions = unknown_conditions(&node("True", json!([])), Timestamp::UNIX_EPOCH);
        assert!(conditions.iter().all(|condition| condition.status == "Unknown"));
        assert_eq!(conditions.len(), 4);
    }
}
