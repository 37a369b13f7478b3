//! Defaults of workloads (upstream's `apps/v1/defaults.go`, `batch/v1/defaults.go`).

use serde_json::Value;

use crate::Object;
use crate::kinds::json::{default, default_object, default_text, each_mut, ensure, get, int, object, object_mut, text};
use crate::kinds::pod::defaults::template;
use crate::kinds::storage;
use crate::object;

fn spec_of(object: &mut Object) -> &mut Object {
    default_object(object, "status");
    let spec = ensure(object, "spec");
    template(ensure(spec, "template"));
    spec
}

pub fn deployment(object: &mut Object) {
    let spec = spec_of(object);
    default(spec, "replicas", 1);
    let strategy = ensure(spec, "strategy");
    default_text(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        let rolling = ensure(strategy, "rollingUpdate");
        default(rolling, "maxUnavailable", "25%");
        default(rolling, "maxSurge", "25%");
    }
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "progressDeadlineSeconds", 600);
}

pub fn replica_set(object: &mut Object) {
    default(spec_of(object), "replicas", 1);
}

/// Without a selector, and without labels of its own, it takes those of its template.
pub fn replication_controller(object: &mut Object) {
    default_object(object, "status");
    let spec = ensure(object, "spec");
    object_mut(spec, "template").into_iter().for_each(template);
    default(spec, "replicas", 1);
    let labels = object::at(spec, &["template", "metadata", "labels"]).cloned();
    let Some(labels) = labels.filter(Value::is_object) else { return };
    if self::object(spec, "selector").is_none_or(Object::is_empty) {
        spec.insert("selector".to_owned(), labels.clone());
    }
    default_labels(object, labels);
}

fn default_labels(object: &mut Object, labels: Value) {
    let metadata = object::metadata_mut(object);
    if self::object(metadata, "labels").is_none_or(Object::is_empty) {
        metadata.insert("labels".to_owned(), labels);
    }
}

pub fn stateful_set(object: &mut Object) {
    let spec = spec_of(object);
    default_text(spec, "podManagementPolicy", "OrderedReady");
    let strategy = ensure(spec, "updateStrategy");
    if text(strategy, "type").is_empty() {
        default_text(strategy, "type", "RollingUpdate");
        default_object(strategy, "rollingUpdate");
    }
    if text(strategy, "type") == "RollingUpdate"
        && let Some(rolling) = object_mut(strategy, "rollingUpdate")
    {
        default(rolling, "partition", 0);
    }
    default(spec, "serviceName", "");
    let retention = ensure(spec, "persistentVolumeClaimRetentionPolicy");
    default_text(retention, "whenDeleted", "Retain");
    default_text(retention, "whenScaled", "Retain");
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    each_mut(spec, "volumeClaimTemplates", |claim| {
        claim.entry("apiVersion").or_insert_with(|| "v1".into());
        claim.entry("kind").or_insert_with(|| "PersistentVolumeClaim".into());
        storage::claim(claim);
    });
}

pub fn daemon_set(object: &mut Object) {
    let spec = spec_of(object);
    let strategy = ensure(spec, "updateStrategy");
    default_text(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        let rolling = ensure(strategy, "rollingUpdate");
        default(rolling, "maxUnavailable", 1);
        default(rolling, "maxSurge", 0);
    }
    default(spec, "revisionHistoryLimit", 10);
}

pub fn job(object: &mut Object) {
    default_object(object, "status");
    let spec = ensure(object, "spec");
    job_spec(spec);
    if int(spec, "completions").is_none() && int(spec, "parallelism").is_none() {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    let by_index = get(spec, "backoffLimitPerIndex").is_some();
    default(spec, "backoffLimit", if by_index { i64::from(i32::MAX) } else { 6 });
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    let failure_policy = get(spec, "podFailurePolicy").is_some();
    default(spec, "podReplacementPolicy", if failure_policy { "Failed" } else { "TerminatingOrFailed" });
    default(spec, "manualSelector", false);
    let labels = object::at(spec, &["template", "metadata", "labels"]).cloned();
    if let Some(labels) = labels.filter(Value::is_object) {
        default_labels(object, labels);
    }
}

/// The part of a Job's defaults that a CronJob's template has as well.
fn job_spec(spec: &mut Object) {
    template(ensure(spec, "template"));
    if let Some(policy) = object_mut(spec, "podFailurePolicy") {
        each_mut(policy, "rules", |rule| {
            each_mut(rule, "onPodConditions", |pattern| default_text(pattern, "status", "True"));
        });
    }
}

pub fn cron_job(object: &mut Object) {
    default_object(object, "status");
    let spec = ensure(object, "spec");
    default_text(spec, "concurrencyPolicy", "Allow");
    default(spec, "suspend", false);
    default(spec, "successfulJobsHistoryLimit", 3);
    default(spec, "failedJobsHistoryLimit", 1);
    let job = ensure(spec, "jobTemplate");
    default_object(job, "metadata");
    job_spec(ensure(job, "spec"));
}
