//! Pure: a Deployment's status and conditions, with upstream's reasons and messages.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::rollout;

/// `progressDeadlineSeconds` of this size means there is none.
const NO_DEADLINE: i32 = i32::MAX;

pub fn has_deadline(deployment: &Deployment) -> bool {
    let deadline = deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds);
    deadline.is_some_and(|seconds| seconds != NO_DEADLINE)
}

pub fn find<'a>(conditions: &'a [DeploymentCondition], kind: &str) -> Option<&'a DeploymentCondition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

pub fn condition(kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// Puts a condition in place of its former self; the same status and reason leave the former as it is.
pub fn set(conditions: &mut Vec<DeploymentCondition>, mut new: DeploymentCondition) {
    if let Some(old) = find(conditions, &new.type_) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time = old.last_transition_time.clone();
        }
    }
    conditions.retain(|condition| condition.type_ != new.type_);
    conditions.push(new);
}

fn sum(sets: &[Arc<ReplicaSet>], count: impl Fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32) -> i32 {
    sets.iter().filter_map(|set| set.status.as_ref()).map(count).sum()
}

/// The counts and the Available condition.
pub fn calculate(
    deployment: &Deployment,
    all: &[Arc<ReplicaSet>],
    new: Option<&Arc<ReplicaSet>>,
    now: Timestamp,
) -> DeploymentStatus {
    let old = deployment.status.clone().unwrap_or_default();
    let available = sum(all, |status| status.available_replicas.unwrap_or(0));
    let total: i32 = all.iter().map(|set| rollout::size(set)).sum();
    let mut conditions = old.conditions.unwrap_or_default();
    let enough = available >= rollout::replicas(deployment) - rollout::max_unavailable(deployment);
    let told = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut conditions, condition("Available", told.0, told.1, told.2, now));
    DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: Some(sum(all, |status| status.replicas)),
        updated_replicas: Some(new.and_then(|set| set.status.as_ref()).map_or(0, |status| status.replicas)),
        ready_replicas: Some(sum(all, |status| status.ready_replicas.unwrap_or(0))),
        available_replicas: Some(available),
        unavailable_replicas: Some((total - available).max(0)),
        terminating_replicas: Some(sum(all, |status| status.terminating_replicas.unwrap_or(0))),
        collision_count: old.collision_count,
        conditions: Some(conditions),
    }
}

fn count(n: Option<i32>) -> i32 {
    n.unwrap_or(0)
}

fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = rollout::replicas(deployment);
    count(status.updated_replicas) == wanted
        && count(status.replicas) == wanted
        && count(status.available_replicas) == wanted
        && status.observed_generation >= deployment.metadata.generation
}

/// Whether Pods were made, removed, or became ready or available since the last status.
fn has_progressed(deployment: &Deployment, new: &DeploymentStatus) -> bool {
    let old = deployment.status.clone().unwrap_or_default();
    let old_rest = count(old.replicas) - count(old.updated_replicas);
    let new_rest = count(new.replicas) - count(new.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || new_rest < old_rest
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

fn deadline_left(deployment: &Deployment, progressing: &DeploymentCondition, now: Timestamp) -> SignedDuration {
    let deadline = deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds).unwrap_or(0);
    let since = progressing.last_update_time.as_ref().map_or(now, |time| time.0);
    SignedDuration::from_secs(deadline.into()) - since.duration_until(now)
}

fn has_timed_out(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> bool {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let Some(progressing) = find(conditions, "Progressing") else { return false };
    match progressing.reason.as_deref() {
        Some("NewReplicaSetAvailable") => false,
        Some("ProgressDeadlineExceeded") => true,
        _ => deadline_left(deployment, progressing, now).is_negative(),
    }
}

/// Adds the Progressing and ReplicaFailure conditions of a rollout, and says when to look for a passed deadline.
pub fn progress(
    deployment: &Deployment,
    status: &mut DeploymentStatus,
    all: &[Arc<ReplicaSet>],
    new: Option<&Arc<ReplicaSet>>,
    now: Timestamp,
) -> Option<SignedDuration> {
    let mut conditions = status.conditions.take().unwrap_or_default();
    let current = find(&conditions, "Progressing").cloned();
    let settled = count(status.replicas) == count(status.updated_replicas)
        && current.as_ref().and_then(|c| c.reason.as_deref()) == Some("NewReplicaSetAvailable");
    status.conditions = Some(conditions.clone());
    if !has_deadline(deployment) {
        conditions.retain(|condition| condition.type_ != "Progressing");
    } else if !settled {
        judge(deployment, status, &mut conditions, current.as_ref(), new, now);
    }
    let failed = |set: &Arc<ReplicaSet>| {
        let status = set.status.as_ref()?;
        status.conditions.as_ref()?.iter().find(|condition| condition.type_ == "ReplicaFailure").cloned()
    };
    match new.and_then(failed).or_else(|| all.iter().find_map(failed)) {
        Some(failure) => set(
            &mut conditions,
            DeploymentCondition {
                type_: failure.type_,
                status: failure.status,
                reason: failure.reason,
                message: failure.message,
                last_transition_time: failure.last_transition_time.clone(),
                last_update_time: failure.last_transition_time,
            },
        ),
        None => conditions.retain(|condition| condition.type_ != "ReplicaFailure"),
    }
    let watched = find(&conditions, "Progressing").filter(|condition| {
        has_deadline(deployment)
            && !is_complete(deployment, status)
            && condition.reason.as_deref() != Some("ProgressDeadlineExceeded")
    });
    let recheck = watched.map(|condition| deadline_left(deployment, condition, now) + SignedDuration::from_secs(1));
    status.conditions = Some(conditions);
    recheck
}

fn judge(
    deployment: &Deployment,
    status: &DeploymentStatus,
    conditions: &mut Vec<DeploymentCondition>,
    current: Option<&DeploymentCondition>,
    new: Option<&Arc<ReplicaSet>>,
    now: Timestamp,
) {
    let who = match new {
        Some(new) => format!("ReplicaSet {:?}", new.name_any()),
        None => format!("Deployment {:?}", deployment.name_any()),
    };
    if is_complete(deployment, status) {
        let message = format!("{who} has successfully progressed.");
        set(conditions, condition("Progressing", "True", "NewReplicaSetAvailable", &message, now));
    } else if has_progressed(deployment, status) {
        let message = format!("{who} is progressing.");
        let mut told = condition("Progressing", "True", "ReplicaSetUpdated", &message, now);
        if let Some(current) = current.filter(|current| current.status == "True") {
            told.last_transition_time = current.last_transition_time.clone();
        }
        // Progress is worth a new time even when the reason is the same: the deadline counts from it.
        conditions.retain(|condition| condition.type_ != "Progressing");
        conditions.push(told);
    } else if has_timed_out(deployment, status, now) {
        let message = format!("{who} has timed out progressing.");
        set(conditions, condition("Progressing", "False", "ProgressDeadlineExceeded", &message, now));
    }
}

/// Whether two statuses say the same; unset counts as zero, as on the wire.
pub fn same(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    old.observed_generation == new.observed_generation
        && count(old.replicas) == count(new.replicas)
        && count(old.updated_replicas) == count(new.updated_replicas)
        && count(old.ready_replicas) == count(new.ready_replicas)
        && count(old.available_replicas) == count(new.available_replicas)
        && count(old.unavailable_replicas) == count(new.unavailable_replicas)
        && count(old.terminating_replicas) == count(new.terminating_replicas)
        && old.collision_count == new.collision_count
        && old.conditions.as_deref().unwrap_or_default() == new.conditions.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn deployment(status: serde_json::Value) -> Deployment {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "generation": 2},
            "spec": {"replicas": 2, "progressDeadlineSeconds": 600, "selector": {}, "template": {}},
            "status": status,
        }))
        .unwrap()
    }

    fn new_set(ready: i32) -> Arc<ReplicaSet> {
        Arc::new(
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "web-1"}, "spec": {"replicas": 2, "selector": {}},
                "status": {"replicas": 2, "readyReplicas": ready, "availableReplicas": ready},
            }))
            .unwrap(),
        )
    }

    fn reason(deployment: &Deployment, ready: i32, now: &str) -> (String, Option<SignedDuration>) {
        let now: Timestamp = now.parse().unwrap();
        let new = new_set(ready);
        let all = [Arc::clone(&new)];
        let mut status = calculate(deployment, &all, Some(&new), now);
        let recheck = progress(deployment, &mut status, &all, Some(&new), now);
        let conditions = status.conditions.unwrap();
        (find(&conditions, "Progressing").unwrap().reason.clone().unwrap(), recheck)
    }

    #[test]
    fn progressing_completes_or_times_out() {
        let started = deployment(serde_json::json!({"updatedReplicas": 2, "replicas": 2, "conditions": [
            {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated",
             "lastUpdateTime": "2026-01-01T00:00:00Z"}]}));
        let (why, recheck) = reason(&started, 0, "2026-01-01T00:01:00Z");
        assert_eq!(why, "ReplicaSetUpdated");
        assert_eq!(recheck, Some(SignedDuration::from_secs(541)));
        assert_eq!(reason(&started, 0, "2026-01-01T00:10:01Z").0, "ProgressDeadlineExceeded");
        assert_eq!(reason(&started, 1, "2026-01-01T00:10:01Z").0, "ReplicaSetUpdated", "progress counts anew");
        assert_eq!(reason(&started, 2, "2026-01-01T00:01:00Z"), ("NewReplicaSetAvailable".to_owned(), None));
    }
}
