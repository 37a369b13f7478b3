//! Pods: their hooks, and the template code that all workloads share.

pub mod defaults;
pub mod diff;
mod env;
pub mod limits;
mod probes;
pub mod resources;
pub mod scheduling;
mod security;
mod update;
pub mod validate;
pub mod volumes;
pub mod warnings;

use serde_json::{Value, json};

use super::json::{each_mut, ensure, get, int, is_true, keep, list, object, object_mut, objects, text};
use super::prepare;
use crate::field::Path;
use crate::table::{Grace, Hooks};
use crate::{Object, Status, object};

pub fn hooks() -> Hooks {
    Hooks {
        default: Some(defaults::pod),
        prepare: Some(prepare),
        validate: Some(validate::pod),
        fields: Some(fields),
        warnings: Some(warnings::pod),
        grace: Some(grace),
        ..Hooks::default()
    }
}

pub fn template_hooks() -> Hooks {
    Hooks {
        default: Some(|object| defaults::template(ensure(object, "template"))),
        prepare: Some(|new, old, _| prepare::generation(new, old, |n, o| get(n, "template") != get(o, "template"))),
        validate: Some(|object, _, _, errors| {
            let empty = Object::new();
            validate::template(self::object(object, "template").unwrap_or(&empty), &Path::new("template"), errors);
        }),
        ..Hooks::default()
    }
}

/// Upstream's `podStrategy`, `podStatusStrategy`, `podEphemeralContainersStrategy` and `podResizeStrategy`.
fn prepare(new: &mut Object, old: Option<&Object>, subresource: &str) {
    let Some(old) = old else {
        prepare_create(new);
        return;
    };
    match subresource {
        "status" => {
            prepare_status(new, old);
            return;
        }
        "ephemeralcontainers" => keep_all_but(new, old, &["ephemeralContainers"]),
        "resize" => prepare_resize(new, old),
        _ => {
            keep(new, old, "status");
            defaults::service_account(ensure(new, "spec"));
        }
    }
    prepare::generation(new, Some(old), prepare::spec_changed);
}

fn prepare_create(new: &mut Object) {
    let labels = object::metadata(new).and_then(|m| object(m, "labels")).cloned().unwrap_or_default();
    let spec = ensure(new, "spec");
    // Admission may have set one of the two names of the service account.
    defaults::service_account(spec);
    merge_label_keys(spec, &labels);
    let mut status = json!({"phase": "Pending", "qosClass": resources::qos_class(spec)});
    if !list(spec, "schedulingGates").is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null,
            "lastTransitionTime": object::meta_str(new, "creationTimestamp"),
        }]);
    }
    new.insert("status".to_owned(), status);
    prepare::generation(new, None, prepare::spec_changed);
}

/// A write of `status` leaves everything else alone that upstream leaves alone.
fn prepare_status(new: &mut Object, old: &Object) {
    keep(new, old, "spec");
    let empty = Object::new();
    let old_metadata = object::metadata(old).unwrap_or(&empty);
    let metadata = object::metadata_mut(new);
    keep(metadata, old_metadata, "ownerReferences");
    keep(metadata, old_metadata, "deletionTimestamp");
    let old_status = object(old, "status").unwrap_or(&empty);
    let status = ensure(new, "status");
    if text(status, "qosClass").is_empty() {
        keep(status, old_status, "qosClass");
    }
    keep_generations(status, old_status);
}

/// `observedGeneration` of the status and its conditions stays where the writer does not know it.
fn keep_generations(status: &mut Object, old: &Object) {
    let unset = |o: &Object| int(o, "observedGeneration").unwrap_or(0) == 0;
    if unset(status) {
        keep(status, old, "observedGeneration");
    }
    let mut taken: Vec<usize> = Vec::new();
    each_mut(status, "conditions", |condition| {
        let of_type = |(i, o): &(usize, &Object)| !taken.contains(i) && text(o, "type") == text(condition, "type");
        let Some((i, old)) = objects(old, "conditions").find(of_type) else { return };
        taken.push(i);
        if unset(condition) {
            keep(condition, old, "observedGeneration");
        }
    });
}

/// Keeps the stored spec but for some of its fields, and the stored status.
fn keep_all_but(new: &mut Object, old: &Object, keys: &[&str]) {
    let wanted = object_mut(new, "spec").map(std::mem::take).unwrap_or_default();
    keep(new, old, "spec");
    keep(new, old, "status");
    let spec = ensure(new, "spec");
    for key in keys {
        keep(spec, &wanted, key);
    }
}

/// Of the containers only resources and resize policies may change. Other containers are left for validation to refuse.
fn prepare_resize(new: &mut Object, old: &Object) {
    let names = |pod: &Object, key: &str| -> Vec<String> {
        let spec = object(pod, "spec");
        spec.into_iter().flat_map(|s| objects(s, key)).map(|(_, c)| text(c, "name").to_owned()).collect()
    };
    const LISTS: [&str; 2] = ["containers", "initContainers"];
    if LISTS.iter().any(|key| names(new, key) != names(old, key)) {
        return;
    }
    let wanted = object(new, "spec").cloned().unwrap_or_default();
    keep_all_but(new, old, &["resources"]);
    let spec = ensure(new, "spec");
    for key in LISTS {
        let mut wanted = objects(&wanted, key);
        each_mut(spec, key, |container| {
            if let Some((_, wanted)) = wanted.next() {
                keep(container, wanted, "resources");
                keep(container, wanted, "resizePolicy");
            }
        });
    }
}

/// `matchLabelKeys` and `mismatchLabelKeys` become expressions of the selector beside them (KEP-3633, KEP-3243).
fn merge_label_keys(spec: &mut Object, labels: &Object) {
    each_mut(spec, "topologySpreadConstraints", |constraint| merge_keys(constraint, labels));
    for affinity in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = object_mut(spec, "affinity").and_then(|a| object_mut(a, affinity)) else { continue };
        each_mut(affinity, "requiredDuringSchedulingIgnoredDuringExecution", |term| merge_keys(term, labels));
        each_mut(affinity, "preferredDuringSchedulingIgnoredDuringExecution", |preferred| {
            object_mut(preferred, "podAffinityTerm").into_iter().for_each(|term| merge_keys(term, labels));
        });
    }
}

fn merge_keys(owner: &mut Object, labels: &Object) {
    let mut expressions = Vec::new();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in list(owner, field).iter().filter_map(Value::as_str) {
            if let Some(value) = labels.get(key) {
                expressions.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    if expressions.is_empty() || object(owner, "labelSelector").is_none() {
        return;
    }
    let selector = ensure(owner, "labelSelector");
    match selector.get_mut("matchExpressions") {
        Some(Value::Array(list)) => list.extend(expressions),
        _ => {
            selector.insert("matchExpressions".to_owned(), expressions.into());
        }
    }
}

/// In the order of the resource table's row.
fn fields(pod: &Object) -> Vec<String> {
    let empty = Object::new();
    let spec = object(pod, "spec").unwrap_or(&empty);
    let status = object(pod, "status").unwrap_or(&empty);
    let address = objects(status, "podIPs").next().map_or("", |(_, ip)| text(ip, "ip"));
    vec![
        text(spec, "nodeName").to_owned(),
        text(spec, "restartPolicy").to_owned(),
        text(spec, "schedulerName").to_owned(),
        text(spec, "serviceAccountName").to_owned(),
        is_true(spec, "hostNetwork").to_string(),
        text(status, "phase").to_owned(),
        address.to_owned(),
        // Upstream accepts the label `status.podIPs` and never gives it a value.
        String::new(),
        text(status, "nominatedNodeName").to_owned(),
    ]
}

/// Upstream's `podStrategy.CheckGracefulDelete`: a Pod without a node, or one that has ended, goes at once.
fn grace(pod: &mut Object, requested: Option<i64>) -> Result<Grace, Status> {
    let empty = Object::new();
    let spec = object(pod, "spec").unwrap_or(&empty);
    let phase = object(pod, "status").map_or("", |s| text(s, "phase"));
    let period = requested.or_else(|| int(spec, "terminationGracePeriodSeconds")).unwrap_or(0);
    if text(spec, "nodeName").is_empty() || matches!(phase, "Failed" | "Succeeded") {
        return Ok(Grace::Immediate);
    }
    Ok(match period {
        0 => Grace::Immediate,
        1.. => Grace::Seconds(period),
        _ => Grace::Seconds(1),
    })
}
