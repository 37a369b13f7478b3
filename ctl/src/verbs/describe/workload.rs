//! Deployments, ReplicaSets, DaemonSets, StatefulSets and Jobs.

use api::labels::Selector;
use serde_json::Value;

use super::parts::{conditions, controller, head, inline_labels, labels_and_annotations};
use super::pod::template;
use super::text::{Text, number, or_none, time};
use super::{Subject, list, name_of};
use crate::error::Result;
use crate::session::Query;
use crate::verbs::pods::{items, matching, selector_of, text};

const REVISION: &str = "/metadata/annotations/deployment.kubernetes.io~1revision";

fn selector(object: &Value) -> String {
    match Selector::from_label_selector(object.pointer("/spec/selector")) {
        Ok(selector) => selector.to_string(),
        Err(error) => format!("Failed to get selector: {error}"),
    }
}

fn of_template(out: &mut Text, object: &Value) {
    template(out, object.pointer("/spec/template").unwrap_or(&Value::Null));
}

pub(super) async fn deployment(out: &mut Text, subject: &Subject<'_>) -> Result<()> {
    let object = subject.object;
    head(out, object);
    out.field(0, "CreationTimestamp", time(object, "/metadata/creationTimestamp"));
    labels_and_annotations(out, object);
    out.field(0, "Selector", selector(object));
    let count = |field: &str| number(object, field);
    out.field(
        0,
        "Replicas",
        format!(
            "{} desired | {} updated | {} total | {} available | {} unavailable",
            count("/spec/replicas"),
            count("/status/updatedReplicas"),
            count("/status/replicas"),
            count("/status/availableReplicas"),
            count("/status/unavailableReplicas")
        ),
    );
    out.field(0, "StrategyType", text(object, "/spec/strategy/type"));
    out.field(0, "MinReadySeconds", count("/spec/minReadySeconds").to_string());
    if let Some(update) = object.pointer("/spec/strategy/rollingUpdate") {
        let part = |key: &str| update.get(key).map(super::text::plain).unwrap_or_default();
        let said = format!("{} max unavailable, {} max surge", part("maxUnavailable"), part("maxSurge"));
        out.field(0, "RollingUpdateStrategy", said);
    }
    of_template(out, object);
    conditions(out, object);
    replica_sets(out, subject).await
}

async fn replica_sets(out: &mut Text, subject: &Subject<'_>) -> Result<()> {
    let object = subject.object;
    let path = format!("/apis/apps/v1/namespaces/{}/replicasets", subject.namespace);
    let query = Query::new().with("labelSelector", selector_of(object)?);
    let mut sets = list(subject.session, &path, query).await?;
    let uid = text(object, "/metadata/uid");
    sets.retain(|set| items(set, "/metadata/ownerReferences").any(|owner| text(owner, "/uid") == uid));
    if sets.is_empty() {
        return Ok(());
    }
    let (new, old): (Vec<&Value>, Vec<&Value>) = sets
        .iter()
        .partition(|set| text(set, REVISION) == text(object, REVISION) && !text(object, REVISION).is_empty());
    let shown = |sets: Vec<&Value>| {
        let one = |set: &&Value| {
            let (made, wanted) = (number(set, "/status/replicas"), number(set, "/spec/replicas"));
            format!("{} ({made}/{wanted} replicas created)", name_of(set))
        };
        let all = sets.iter().map(one).collect::<Vec<_>>().join(", ");
        or_none(&all).to_owned()
    };
    out.field(0, "OldReplicaSets", shown(old));
    out.field(0, "NewReplicaSet", shown(new));
    Ok(())
}

/// How many of an object's Pods are in which phase.
async fn pods_status(out: &mut Text, subject: &Subject<'_>) -> Result<()> {
    let object = subject.object;
    let pods = matching(subject.session, subject.namespace, &selector_of(object)?).await?;
    let uid = text(object, "/metadata/uid");
    let own = pods.iter().filter(|pod| items(pod, "/metadata/ownerReferences").any(|owner| text(owner, "/uid") == uid));
    let phases: Vec<&str> = own.map(|pod| text(pod, "/status/phase")).collect();
    let count = |phase: &str| phases.iter().filter(|p| **p == phase).count();
    out.field(
        0,
        "Pods Status",
        format!(
            "{} Running / {} Waiting / {} Succeeded / {} Failed",
            count("Running"),
            count("Pending"),
            count("Succeeded"),
            count("Failed")
        ),
    );
    Ok(())
}

pub(super) async fn replica_set(out: &mut Text, subject: &Subject<'_>) -> Result<()> {
    let object = subject.object;
    head(out, object);
    out.field(0, "Selector", selector(object));
    labels_and_annotations(out, object);
    controller(out, object);
    let (current, wanted) = (number(object, "/status/replicas"), number(object, "/spec/replicas"));
    out.field(0, "Replicas", format!("{current} current / {wanted} desired"));
    pods_status(out, subject).await?;
    of_template(out, object);
    conditions(out, object);
    Ok(())
}

pub(super) async fn daemon_set(out: &mut Text, subject: &Subject<'_>) -> Result<()> {
    let object = subject.object;
    head(out, object);
    out.field(0, "Selector", selector(object));
    out.field(0, "Node-Selector", inline_labels(object.pointer("/spec/template/spec/nodeSelector")));
    labels_and_annotations(out, object);
    for (title, field) in [
        ("Desired Number of Nodes Scheduled", "desiredNumberScheduled"),
        ("Current Number of Nodes Scheduled", "currentNumberScheduled"),
        ("Number of Nodes Scheduled with Up-to-date Pods", "updatedNumberScheduled"),
        ("Number of Nodes Scheduled with Available Pods", "numberAvailable"),
        ("Number of Nodes Misscheduled", "numberMisscheduled"),
    ] {
        out.line(0, format!("{title}: {}", number(object, &format!("/status/{field}"))));
    }
    pods_status(out, subject).await?;
    of_template(out, object);
    Ok(())
}

pub(super) async fn stateful_set(out: &mut Text, subject: &Subject<'_>) -> Result<()> {
    let object = subject.object;
    head(out, object);
    out.field(0, "CreationTimestamp", time(object, "/metadata/creationTimestamp"));
    out.field(0, "Selector", selector(object));
    labels_and_annotations(out, object);
    out.field(0, "Service Name", text(object, "/spec/serviceName"));
    out.field_of(0, "Pod Management Policy", object, "/spec/podManagementPolicy");
    let (wanted, total) = (number(object, "/spec/replicas"), number(object, "/status/replicas"));
    out.field(0, "Replicas", format!("{wanted} desired | {total} total"));
    out.field(0, "Update Strategy", text(object, "/spec/updateStrategy/type"));
    if let Some(partition) = object.pointer("/spec/updateStrategy/rollingUpdate/partition") {
        out.field(1, "Partition", partition.to_string());
    }
    if let Some(policy) = object.pointer("/spec/persistentVolumeClaimRetentionPolicy") {
        out.line(0, "Persistent Volume Claim Retention Policy:");
        out.field_of(1, "WhenDeleted", policy, "/whenDeleted");
        out.field_of(1, "WhenScaled", policy, "/whenScaled");
    }
    pods_status(out, subject).await?;
    of_template(out, object);
    let mut claims = items(object, "/spec/volumeClaimTemplates").peekable();
    if claims.peek().is_none() {
        out.field(0, "Volume Claims", "<none>");
        return Ok(());
    }
    out.line(0, "Volume Claims:");
    for claim in claims {
        out.field(1, "Name", name_of(claim));
        out.field(1, "StorageClass", text(claim, "/spec/storageClassName"));
        super::parts::labels(out, "  Labels", claim.pointer("/metadata/labels"));
        super::parts::annotations(out, "  Annotations", claim.pointer("/metadata/annotations"));
        out.field(1, "Capacity", or_none(text(claim, "/spec/resources/requests/storage")));
        let modes: Vec<&str> = items(claim, "/spec/accessModes").filter_map(Value::as_str).collect();
        out.field(1, "Access Modes", format!("[{}]", modes.join(" ")));
    }
    Ok(())
}

pub(super) fn job(out: &mut Text, object: &Value) {
    head(out, object);
    out.field(0, "Selector", selector(object));
    labels_and_annotations(out, object);
    controller(out, object);
    out.field_of(0, "Parallelism", object, "/spec/parallelism");
    match object.pointer("/spec/completions") {
        Some(completions) => out.field(0, "Completions", completions.to_string()),
        None => out.field(0, "Completions", "<unset>"),
    }
    out.field_of(0, "Completion Mode", object, "/spec/completionMode");
    out.field_of(0, "Suspend", object, "/spec/suspend");
    out.field_of(0, "Backoff Limit", object, "/spec/backoffLimit");
    out.field_of(0, "TTL Seconds After Finished", object, "/spec/ttlSecondsAfterFinished");
    for (title, pointer) in [("Start Time", "/status/startTime"), ("Completed At", "/status/completionTime")] {
        if object.pointer(pointer).is_some() {
            out.field(0, title, time(object, pointer));
        }
    }
    let seconds = |pointer: &str| api::time::parse_rfc3339(text(object, pointer)).ok();
    if let (Some(start), Some(end)) = (seconds("/status/startTime"), seconds("/status/completionTime")) {
        out.field(0, "Duration", api::printer::duration(end - start));
    }
    if let Some(deadline) = object.pointer("/spec/activeDeadlineSeconds") {
        out.field(0, "Active Deadline Seconds", format!("{deadline}s"));
    }
    let count = |field: &str| number(object, &format!("/status/{field}"));
    let ready = object.pointer("/status/ready").map(|ready| format!(" ({ready} Ready)")).unwrap_or_default();
    let (active, done, failed) = (count("active"), count("succeeded"), count("failed"));
    out.field(0, "Pods Statuses", format!("{active} Active{ready} / {done} Succeeded / {failed} Failed"));
    of_template(out, object);
}
