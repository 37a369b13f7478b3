//! Pure: a ReplicaSet and its Pods in, how many Pods to make or which to delete and the new status out.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pods;

/// At most this many Pods are made or deleted in one go, as upstream's BurstReplicas.
pub const BURST: usize = 500;

#[derive(Debug)]
pub enum Manage {
    Nothing,
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

/// What to do about the number of Pods. `related` are Pods of the same owner's other ReplicaSets too.
pub fn manage(set: &ReplicaSet, active: Vec<Arc<Pod>>, related: &[Arc<Pod>]) -> Manage {
    let wanted = wanted(set);
    match active.len() {
        have if have < wanted => Manage::Create((wanted - have).min(BURST)),
        have if have > wanted => Manage::Delete(pods::to_delete(active, related, (have - wanted).min(BURST))),
        _ => Manage::Nothing,
    }
}

/// Whether there are more Pods than wanted.
pub fn has_surplus(set: &ReplicaSet, active: &[Arc<Pod>]) -> bool {
    active.len() > wanted(set)
}

fn wanted(set: &ReplicaSet) -> usize {
    usize::try_from(set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)).unwrap_or(0)
}

/// Whether a change of a Pod can change what its set has to do or say. Where it runs is asked only when Pods are to be
/// deleted.
pub fn matters(old: &Pod, new: &Pod) -> bool {
    old.metadata.labels != new.metadata.labels
        || old.metadata.owner_references != new.metadata.owner_references
        || old.metadata.deletion_timestamp != new.metadata.deletion_timestamp
        || pods::phase(old) != pods::phase(new)
        || pods::condition(old, "Ready") != pods::condition(new, "Ready")
}

/// The status to write, and when availability will change without any event (`minReadySeconds`).
///
/// `failure` is the error of managing the Pods: reason (`FailedCreate`, `FailedDelete`) and message.
pub fn status(
    set: &ReplicaSet,
    all: &[Arc<Pod>],
    failure: Option<(&str, &str)>,
    now: Timestamp,
) -> (ReplicaSetStatus, Option<SignedDuration>) {
    let spec = set.spec.as_ref();
    let min_ready = spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let template = spec.and_then(|spec| spec.template.as_ref()).and_then(|template| template.metadata.as_ref());
    let template_labels = template.and_then(|meta| meta.labels.as_ref());
    let mut counts = Counts::default();
    let mut recheck: Option<SignedDuration> = None;
    for pod in all {
        if pods::is_terminal(pod) {
            continue;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            counts.terminating += 1;
            continue;
        }
        counts.replicas += 1;
        let labels = pod.metadata.labels.as_ref();
        let has = |(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value);
        counts.labeled += i32::from(template_labels.into_iter().flatten().all(has));
        counts.ready += i32::from(pods::is_ready(pod));
        match pods::availability(pod, min_ready, now) {
            Ok(()) => counts.available += 1,
            Err(Some(left)) => recheck = Some(recheck.map_or(left, |soonest| soonest.min(left))),
            Err(None) => {}
        }
    }
    let old = set.status.clone().unwrap_or_default();
    let status = ReplicaSetStatus {
        replicas: counts.replicas,
        fully_labeled_replicas: Some(counts.labeled),
        ready_replicas: Some(counts.ready),
        available_replicas: Some(counts.available),
        terminating_replicas: Some(counts.terminating),
        observed_generation: set.metadata.generation,
        conditions: conditions(old.conditions, failure, now),
    };
    (status, recheck)
}

#[derive(Default)]
struct Counts {
    replicas: i32,
    labeled: i32,
    ready: i32,
    available: i32,
    terminating: i32,
}

fn conditions(
    old: Option<Vec<ReplicaSetCondition>>,
    failure: Option<(&str, &str)>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = old.unwrap_or_default();
    let current = conditions.iter().position(|condition| condition.type_ == "ReplicaFailure");
    match (failure, current) {
        (Some((reason, message)), None) => conditions.push(ReplicaSetCondition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: Some(Time(now)),
        }),
        (None, Some(index)) => {
            conditions.remove(index);
        }
        _ => {}
    }
    (!conditions.is_empty()).then_some(conditions)
}

/// Whether two statuses say the same; unset counts as zero, as on the wire.
pub fn same(old: &ReplicaSetStatus, new: &ReplicaSetStatus) -> bool {
    let zero = |n: Option<i32>| n.unwrap_or(0);
    old.replicas == new.replicas
        && zero(old.fully_labeled_replicas) == zero(new.fully_labeled_replicas)
        && zero(old.ready_replicas) == zero(new.ready_replicas)
        && zero(old.available_replicas) == zero(new.available_replicas)
        && zero(old.terminating_replicas) == zero(new.terminating_replicas)
        && old.observed_generation == new.observed_generation
        && old.conditions.as_deref().unwrap_or_default() == new.conditions.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn set(replicas: i32, min_ready: i32) -> ReplicaSet {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "namespace": "ns", "generation": 3},
            "spec": {"replicas": replicas, "minReadySeconds": min_ready, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
        }))
        .unwrap()
    }

    fn pod(phase: &str, ready_at: Option<&str>, label: &str) -> Arc<Pod> {
        let status = if ready_at.is_some() { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "p", "labels": {"app": label}},
                "status": {"phase": phase, "conditions": [
                    {"type": "Ready", "status": status, "lastTransitionTime": ready_at}]},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn numbers_of_pods() {
        let running = || vec![pod("Running", None, "web"); 3];
        assert!(matches!(manage(&set(3, 0), running(), &[]), Manage::Nothing));
        assert!(matches!(manage(&set(5, 0), running(), &[]), Manage::Create(2)));
        assert!(matches!(manage(&set(10_000, 0), running(), &[]), Manage::Create(BURST)));
        match manage(&set(1, 0), running(), &[]) {
            Manage::Delete(pods) => assert_eq!(pods.len(), 2),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn status_counts_and_says_when_to_look_again() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let pods = [
            pod("Running", Some("2026-01-01T00:00:00Z"), "web"),
            pod("Running", Some("2026-01-01T00:00:50Z"), "web"),
            pod("Pending", None, "other"),
            pod("Failed", None, "web"),
        ];
        let (status, recheck) = status(&set(3, 30), &pods, Some(("FailedCreate", "quota")), now);
        assert_eq!(status.replicas, 3);
        assert_eq!(status.fully_labeled_replicas, Some(2));
        assert_eq!((status.ready_replicas, status.available_replicas), (Some(2), Some(1)));
        assert_eq!(status.observed_generation, Some(3));
        assert_eq!(status.conditions.unwrap()[0].reason.as_deref(), Some("FailedCreate"));
        assert_eq!(recheck, Some(SignedDuration::from_secs(20)));
    }
}
