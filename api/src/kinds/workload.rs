//! Workloads: the kinds that make Pods from a template.

mod defaults;
mod jobs;
mod schedule;
pub mod validate;

use serde_json::{Value, json};

use super::json::{ensure, get, is_true, keep, object, text};
use super::{pod, prepare};
use crate::field::Path;
use crate::table::Hooks;
use crate::{Object, object};

type Prepare = fn(&mut Object, Option<&Object>, &str);

/// Hooks of a kind in the groups `apps` and `batch`, and of ReplicationController.
pub fn hooks(kind: &str) -> Hooks {
    let (default, prepare): (fn(&mut Object), Prepare) = match kind {
        "Deployment" => (defaults::deployment, deployment),
        "ReplicaSet" => (defaults::replica_set, replicas),
        "ReplicationController" => (defaults::replication_controller, replicas),
        "StatefulSet" => (defaults::stateful_set, stateful_set),
        "DaemonSet" => (defaults::daemon_set, daemon_set),
        "Job" => (defaults::job, job),
        "CronJob" => (defaults::cron_job, cron_job),
        _ => return Hooks::default(),
    };
    let fields: Option<fn(&Object) -> Vec<String>> = match kind {
        "ReplicationController" => Some(|o| vec![count(o, "replicas")]),
        "Job" => Some(|o| vec![count(o, "succeeded")]),
        _ => None,
    };
    Hooks {
        default: Some(default),
        prepare: Some(prepare),
        validate: validate::of(kind),
        fields,
        warnings: Some(warnings),
        ..Hooks::default()
    }
}

fn warnings(object: &Object) -> Vec<String> {
    let mut warnings = Vec::new();
    pod::warnings::dns_name(object::name(object), "Pod names and hostnames", &mut warnings);
    if let Some(Value::Object(spec)) = object::at(object, &["spec", "template", "spec"]) {
        let path = Path::new("spec").child("template").child("spec");
        pod::warnings::of_spec(spec, &path, &mut warnings);
    }
    warnings
}

fn count(object: &Object, key: &str) -> String {
    object::at(object, &["status", key]).and_then(Value::as_i64).unwrap_or(0).to_string()
}

/// Annotations count too, because they are copied to the ReplicaSets; `status` cannot change labels.
fn deployment(new: &mut Object, old: Option<&Object>, subresource: &str) {
    prepare::with_status(new, old, subresource, || json!({}));
    if let (Some(old), "status") = (old, subresource) {
        let empty = Object::new();
        keep(object::metadata_mut(new), object::metadata(old).unwrap_or(&empty), "labels");
        return;
    }
    let annotations = |o: &Object| object::metadata(o).and_then(|m| get(m, "annotations")).cloned();
    prepare::generation(new, old, |new, old| prepare::spec_changed(new, old) || annotations(new) != annotations(old));
}

fn replicas(new: &mut Object, old: Option<&Object>, subresource: &str) {
    prepare::counted(new, old, subresource, || json!({"replicas": 0}));
}

fn stateful_set(new: &mut Object, old: Option<&Object>, subresource: &str) {
    prepare::counted(new, old, subresource, || json!({"replicas": 0, "availableReplicas": 0}));
}

fn daemon_set(new: &mut Object, old: Option<&Object>, subresource: &str) {
    const GENERATION: &str = "deprecated.daemonset.template.generation";
    prepare::counted(
        new,
        old,
        subresource,
        || json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0}),
    );
    if subresource == "status" {
        return;
    }
    // The template's generation lives in an annotation in apps/v1.
    let stored = |o: &Object| {
        let annotation = object::metadata(o).and_then(|m| object(m, "annotations")).map(|a| text(a, GENERATION));
        annotation.and_then(|text| text.parse::<i64>().ok())
    };
    let template = |o: &Object| object::at(o, &["spec", "template"]).cloned();
    let generation = match old {
        None => stored(new).unwrap_or(0).max(1),
        Some(old) => stored(old).unwrap_or(0) + i64::from(template(new) != template(old)),
    };
    let annotations = ensure(object::metadata_mut(new), "annotations");
    annotations.insert(GENERATION.to_owned(), generation.to_string().into());
}

/// A Job selects its Pods by its UID unless it says that it does not.
fn job(new: &mut Object, old: Option<&Object>, subresource: &str) {
    if old.is_none() && !object(new, "spec").is_some_and(|spec| is_true(spec, "manualSelector")) {
        select_by_uid(new);
    }
    prepare::counted(new, old, subresource, || json!({}));
}

fn select_by_uid(job: &mut Object) {
    let (uid, name) = (object::uid(job).to_owned(), object::name(job).to_owned());
    let labels_of = |o: &Object| object::metadata(o).and_then(|m| object(m, "labels")).cloned().unwrap_or_default();
    // Labels that the Job took over from its template by default stay the template's.
    let template_labels = object::at(job, &["spec", "template"]).and_then(Value::as_object).map(labels_of);
    let shared = labels_of(job) == template_labels.unwrap_or_default();
    let spec = ensure(job, "spec");
    let labels = ensure(ensure(ensure(spec, "template"), "metadata"), "labels");
    for (key, value) in [
        ("controller-uid", &uid),
        ("batch.kubernetes.io/controller-uid", &uid),
        ("job-name", &name),
        ("batch.kubernetes.io/job-name", &name),
    ] {
        labels.entry(key).or_insert_with(|| value.as_str().into());
    }
    let labels = labels.clone();
    let selector = ensure(ensure(spec, "selector"), "matchLabels");
    selector.entry("batch.kubernetes.io/controller-uid").or_insert_with(|| uid.into());
    if shared {
        object::metadata_mut(job).insert("labels".to_owned(), labels.into());
    }
}

fn cron_job(new: &mut Object, old: Option<&Object>, subresource: &str) {
    prepare::counted(new, old, subresource, || json!({}));
}
