//! Pure: a PodDisruptionBudget, its Pods and how many there should be in; its status out.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pods;

/// How long an eviction that was allowed may take until its Pod is deleted.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_mins(2);
/// How long a Pod may be marked as about to be disrupted without being deleted.
const STALE: SignedDuration = SignedDuration::from_mins(2);
const CONDITION: &str = "DisruptionAllowed";

/// What the budget's numbers are counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    pub pods: i32,
    pub healthy: i32,
}

/// Whether the Pods' controllers must be asked how many Pods they want.
pub fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.as_ref();
    spec.is_some_and(|spec| {
        spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
    })
}

/// How many Pods there should be and how many of them healthy. `scale` is the sum of what the Pods' controllers want.
///
/// # Errors
/// A percentage that is none.
pub fn expected(budget: &PodDisruptionBudget, pods: usize, scale: i32) -> Result<Expected, String> {
    let spec = budget.spec.clone().unwrap_or_default();
    if let Some(unavailable) = &spec.max_unavailable {
        let unavailable = scaled(unavailable, scale)?;
        return Ok(Expected { pods: scale, healthy: (scale - unavailable).max(0) });
    }
    match &spec.min_available {
        Some(IntOrString::Int(number)) => {
            Ok(Expected { pods: i32::try_from(pods).unwrap_or(i32::MAX), healthy: *number })
        }
        Some(share) => Ok(Expected { pods: scale, healthy: scaled(share, scale)? }),
        None => Ok(Expected { pods: 0, healthy: 0 }),
    }
}

/// A number, or a share of `total` rounded up.
fn scaled(value: &IntOrString, total: i32) -> Result<i32, String> {
    match value {
        IntOrString::Int(number) => Ok(*number),
        IntOrString::String(text) => {
            let bad = || format!("invalid value for IntOrString: invalid type: string is not a percentage ({text:?})");
            let percent: i64 = text.strip_suffix('%').and_then(|digits| digits.parse().ok()).ok_or_else(bad)?;
            let share = percent.saturating_mul(total.into()).saturating_add(99).div_euclid(100);
            Ok(i32::try_from(share).unwrap_or(i32::MAX))
        }
    }
}

/// The new status, and when it must be computed again without any event.
pub fn status(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    expected: Expected,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<Timestamp>) {
    let old = budget.status.clone().unwrap_or_default();
    let marked = old.disrupted_pods.clone().unwrap_or_default();
    let name = |pod: &Pod| pod.metadata.name.clone().unwrap_or_default();
    let mut disrupted = BTreeMap::new();
    let mut recheck: Option<Timestamp> = None;
    let mut healthy = 0;
    for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let due = marked.get(&name(pod)).map(|since| (since, since.0 + DELETION_TIMEOUT));
        match due {
            Some((since, end)) if end >= now => {
                disrupted.insert(name(pod), since.clone());
                recheck = Some(recheck.map_or(end, |soonest| soonest.min(end)));
            }
            _ => healthy += i32::from(pods::is_ready(pod)),
        }
    }
    let allowed = if expected.pods > 0 { (healthy - expected.healthy).max(0) } else { 0 };
    let (holds, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let generation = budget.metadata.generation;
    let status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(expected.healthy),
        expected_pods: Some(expected.pods),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        observed_generation: generation,
        conditions: Some(condition(old.conditions, holds, reason, "", generation, now)),
    };
    (status, recheck)
}

/// The status when the numbers cannot be known: nothing may be disrupted.
pub fn failed(budget: &PodDisruptionBudget, why: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    let mut status = budget.status.clone().unwrap_or_default();
    status.disruptions_allowed = Some(0);
    let generation = status.observed_generation;
    status.conditions = Some(condition(status.conditions.take(), "False", "SyncFailed", why, generation, now));
    status
}

fn condition(
    old: Option<Vec<Condition>>,
    holds: &str,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = old.unwrap_or_default();
    let before = conditions.iter().position(|condition| condition.type_ == CONDITION);
    let before = before.map(|index| conditions.remove(index)).filter(|condition| condition.status == holds);
    conditions.push(Condition {
        type_: CONDITION.to_owned(),
        status: holds.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: before.map_or(Time(now), |condition| condition.last_transition_time),
    });
    conditions
}

/// When the mark that a Pod is about to be disrupted has become stale, if it has one that can.
pub fn stale_at(pod: &Pod) -> Option<Timestamp> {
    if pod.metadata.deletion_timestamp.is_some() || pods::is_terminal(pod) {
        return None;
    }
    let mark = pods::condition(pod, "DisruptionTarget").filter(|condition| condition.status == "True")?;
    if mark.reason.as_deref() == Some("TerminationByKubelet") {
        return None;
    }
    let since = mark.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    Some(since + STALE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn budget(spec: serde_json::Value, status: serde_json::Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({"metadata": {"name": "b", "generation": 2}, "spec": spec, "status": status}))
            .unwrap()
    }

    fn pod(name: &str, ready: bool) -> Arc<Pod> {
        let status = if ready { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}}))
            .unwrap(),
        )
    }

    #[test]
    fn what_is_expected() {
        let cases = [
            (json!({"minAvailable": 2}), 3, 9, (3, 2)),
            (json!({"minAvailable": "50%"}), 3, 5, (5, 3)),
            (json!({"maxUnavailable": 1}), 3, 5, (5, 4)),
            (json!({"maxUnavailable": "30%"}), 3, 5, (5, 3)),
            (json!({"maxUnavailable": 9}), 3, 5, (5, 0)),
            (json!({}), 3, 5, (0, 0)),
        ];
        for (spec, pods, scale, (all, healthy)) in cases {
            let got = expected(&budget(spec.clone(), json!(null)), pods, scale);
            assert_eq!(got, Ok(Expected { pods: all, healthy }), "{spec}");
        }
        assert!(expected(&budget(json!({"maxUnavailable": "x"}), json!(null)), 1, 1).is_err());
        assert!(!needs_scale(&budget(json!({"minAvailable": 2}), json!(null))));
    }

    #[test]
    fn how_many_may_be_disrupted() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let all = [pod("a", true), pod("b", true), pod("c", false)];
        let fresh = budget(json!({"minAvailable": 1}), json!(null));
        let (status_, recheck) = status(&fresh, &all, Expected { pods: 3, healthy: 1 }, now);
        assert_eq!((status_.current_healthy, status_.disruptions_allowed, recheck), (Some(2), Some(1), None));
        let condition = &status_.conditions.as_ref().unwrap()[0];
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("True", "SufficientPods"));

        let evicting = json!({"currentHealthy": 2, "desiredHealthy": 1, "disruptionsAllowed": 0, "expectedPods": 3,
            "disruptedPods": {"a": "2026-01-01T00:09:00Z", "b": "2026-01-01T00:01:00Z",
                "gone": "2026-01-01T00:09:00Z"}});
        let (status_, recheck) =
            status(&budget(json!({"minAvailable": 1}), evicting), &all, Expected { pods: 3, healthy: 1 }, now);
        assert_eq!((status_.current_healthy, status_.disruptions_allowed), (Some(1), Some(0)));
        assert_eq!(status_.disrupted_pods.unwrap().into_keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(recheck.unwrap().to_string(), "2026-01-01T00:11:00Z");
        let (status_, _) = status(&fresh, &[], Expected { pods: 0, healthy: -1 }, now);
        assert_eq!(status_.disruptions_allowed, Some(0), "a budget over nothing allows nothing");
    }

    #[test]
    fn marks_become_stale() {
        let marked = |reason: &str, status: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"phase": "Running", "conditions": [
                {"type": "DisruptionTarget", "status": status, "reason": reason,
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}))
            .unwrap()
        };
        assert_eq!(stale_at(&marked("EvictionByEvictionAPI", "True")).unwrap().to_string(), "2026-01-01T00:02:00Z");
        assert_eq!(stale_at(&marked("EvictionByEvictionAPI", "False")), None);
        assert_eq!(stale_at(&marked("TerminationByKubelet", "True")), None);
    }
}
