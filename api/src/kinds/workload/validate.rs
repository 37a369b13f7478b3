//! Validation of workloads in the group `apps`, and of ReplicationControllers.

use serde_json::Value;

use crate::field::{ErrorList, FieldError, Path};
use crate::kinds::check::{immutable, internal, messages, non_negative, one_of, required};
use crate::kinds::json::{get, int, list, object, objects, text};
use crate::kinds::pod::validate as pod;
use crate::kinds::storage;
use crate::labels::Selector;
use crate::validate::labels;
use crate::{Object, names};

/// A kind's `validate` hook.
type Validate = fn(&Object, Option<&Object>, &str, &mut ErrorList);

/// Of the kinds that the parent module knows.
pub fn of(kind: &str) -> Option<Validate> {
    Some(match kind {
        "Deployment" => deployment,
        "ReplicaSet" => replica_set,
        "ReplicationController" => replication_controller,
        "StatefulSet" => stateful_set,
        "DaemonSet" => daemon_set,
        "Job" => super::jobs::job,
        "CronJob" => super::jobs::cron_job,
        _ => return None,
    })
}

/// Runs `check` on the spec, or on `status` the counts of it.
fn on_spec(
    object_: &Object,
    subresource: &str,
    counts: &[&str],
    errors: &mut ErrorList,
    check: impl FnOnce(&Object, &Path, &mut ErrorList),
) {
    let empty = Object::new();
    if subresource == "status" {
        status(object(object_, "status").unwrap_or(&empty), counts, errors);
    } else {
        check(object(object_, "spec").unwrap_or(&empty), &Path::new("spec"), errors);
    }
}

/// Counts in a status are not negative, and parts are not more than the whole, which is `replicas`.
fn status(status: &Object, counts: &[&str], errors: &mut ErrorList) {
    let path = Path::new("status");
    for key in ["observedGeneration", "replicas"].iter().chain(counts) {
        non_negative(status, key, &path, errors);
    }
    if get(status, "replicas").is_none() {
        return;
    }
    let number = |key: &str| int(status, key).unwrap_or(0);
    for key in counts.iter().filter(|key| !matches!(**key, "unavailableReplicas" | "terminatingReplicas")) {
        if number(key) > number("replicas") {
            let detail = "cannot be greater than status.replicas";
            errors.push(FieldError::invalid(&path.child(key), number(key), detail));
        }
    }
    if number("availableReplicas") > number("readyReplicas") {
        let detail = "cannot be greater than readyReplicas";
        errors.push(FieldError::invalid(&path.child("availableReplicas"), number("availableReplicas"), detail));
    }
}

fn spec_of(object_: &Object) -> Option<&Object> {
    object(object_, "spec")
}

/// The selector cannot change once the object exists.
fn fixed_selector(spec: &Object, old: Option<&Object>, path: &Path, errors: &mut ErrorList) {
    if let Some(old) = old.and_then(spec_of) {
        let mut found = ErrorList::new();
        immutable(spec, old, "selector", path, &mut found);
        errors.extend(found.into_iter().map(|error| match get(spec, "selector") {
            Some(selector) => error.shown_as(selector_text(selector)),
            None => error,
        }));
    }
}

/// A selector with its fields in the order in which upstream writes them.
fn selector_text(selector: &Value) -> String {
    let parts = ["matchLabels", "matchExpressions"].into_iter();
    let parts = parts.filter_map(|key| selector.get(key).map(|value| format!("{key:?}:{value}")));
    format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
}

/// The selector must be there, not be empty, and match the template, which is checked too.
fn selector_and_template(spec: &Object, kind: &str, path: &Path, errors: &mut ErrorList) {
    let selector_path = path.child("selector");
    let selector = get(spec, "selector");
    match selector {
        None if kind != "daemonset" => errors.push(FieldError::required(&selector_path, "")),
        None => {}
        Some(value) => {
            labels::selector(Some(value), &selector_path, errors);
            if is_empty(value) {
                let detail = format!("empty selector is invalid for {kind}");
                errors.push(FieldError::invalid(&selector_path, value.clone(), detail));
            }
        }
    }
    let path = path.child("template");
    let empty = Object::new();
    let template = object(spec, "template").unwrap_or(&empty);
    match Selector::from_label_selector(selector) {
        Err(_) if kind == "daemonset" => {}
        Err(_) => {
            let detail = if kind == "statefulset" { "" } else { "invalid label selector" };
            let value = selector.cloned().unwrap_or(Value::Null);
            errors.push(FieldError::invalid(&selector_path, value, detail));
            return;
        }
        Ok(parsed) => must_match(&parsed, template, &path, errors),
    }
    pod::template(template, &path, errors);
}

fn is_empty(selector: &Value) -> bool {
    let count = |key: &str| match selector.get(key) {
        Some(Value::Object(map)) => map.len(),
        Some(Value::Array(list)) => list.len(),
        _ => 0,
    };
    count("matchLabels") + count("matchExpressions") == 0
}

fn must_match(selector: &Selector, template: &Object, path: &Path, errors: &mut ErrorList) {
    let labels = object(template, "metadata").and_then(|m| object(m, "labels"));
    if !selector.is_empty() && !selector.matches(&labels) {
        let value = labels.map_or(Value::Null, |labels| labels.clone().into());
        let path = path.child("metadata").child("labels");
        errors.push(FieldError::invalid(&path, value, "`selector` does not match template `labels`"));
    }
}

/// Pods of these kinds run for ever.
fn always_restarts(spec: &Object, kind: &str, path: &Path, errors: &mut ErrorList) {
    let path = path.child("template").child("spec");
    let pod = object(spec, "template").and_then(|t| object(t, "spec"));
    let policy = pod.map_or("", |pod| text(pod, "restartPolicy"));
    if policy != "Always" {
        errors.push(FieldError::not_supported(&path.child("restartPolicy"), policy, &["Always"]));
    }
    if pod.is_some_and(|pod| get(pod, "activeDeadlineSeconds").is_some()) {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(&path.child("activeDeadlineSeconds"), detail));
    }
}

fn deployment(new: &Object, old: Option<&Object>, subresource: &str, errors: &mut ErrorList) {
    const COUNTS: [&str; 5] =
        ["updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas", "terminatingReplicas"];
    on_spec(new, subresource, &COUNTS, errors, |spec, path, errors| {
        non_negative(spec, "replicas", path, errors);
        selector_and_template(spec, "deployment", path, errors);
        if get(spec, "selector").is_none_or(|s| Selector::from_label_selector(Some(s)).is_ok()) {
            always_restarts(spec, "ReplicaSet", path, errors);
        }
        deployment_strategy(spec, &path.child("strategy"), errors);
        non_negative(spec, "minReadySeconds", path, errors);
        non_negative(spec, "revisionHistoryLimit", path, errors);
        non_negative(spec, "progressDeadlineSeconds", path, errors);
        let ready = int(spec, "minReadySeconds").unwrap_or(0);
        if let Some(deadline) = int(spec, "progressDeadlineSeconds").filter(|d| *d <= ready) {
            let path = path.child("progressDeadlineSeconds");
            errors.push(FieldError::invalid(&path, deadline, "must be greater than minReadySeconds"));
        }
        fixed_selector(spec, old, path, errors);
    });
}

fn deployment_strategy(spec: &Object, path: &Path, errors: &mut ErrorList) {
    let empty = Object::new();
    let strategy = object(spec, "strategy").unwrap_or(&empty);
    let rolling = object(strategy, "rollingUpdate");
    match text(strategy, "type") {
        "Recreate" => {
            if rolling.is_some() {
                let detail = "may not be specified when strategy `type` is 'Recreate'";
                errors.push(FieldError::forbidden(&path.child("rollingUpdate"), detail));
            }
        }
        "RollingUpdate" => match rolling {
            None => errors
                .push(FieldError::required(&path.child("rollingUpdate"), "this should be defaulted and never be nil")),
            Some(rolling) => {
                let path = path.child("rollingUpdate");
                for key in ["maxUnavailable", "maxSurge"] {
                    count_or_percent(rolling, key, &path, errors);
                }
                if number(rolling, "maxUnavailable") == 0 && number(rolling, "maxSurge") == 0 {
                    let value = rolling.get("maxUnavailable").cloned().unwrap_or(Value::Null);
                    let detail = "may not be 0 when `maxSurge` is 0";
                    errors.push(FieldError::invalid(&path.child("maxUnavailable"), value, detail));
                }
                not_above_all(rolling, "maxUnavailable", &path, errors);
            }
        },
        other => {
            // Upstream shows the whole strategy, in its internal form.
            let error = FieldError::not_supported(path, other, &["Recreate", "RollingUpdate"]);
            errors.push(error.shown_as(format!("{{\"Type\":{other:?},\"RollingUpdate\":null}}")));
        }
    }
}

/// A count, or a percentage of the replicas.
pub fn count_or_percent(owner: &Object, key: &str, path: &Path, errors: &mut ErrorList) {
    match get(owner, key) {
        Some(Value::String(value)) => messages(value, &path.child(key), names::percent(value), errors),
        _ => non_negative(owner, key, path, errors),
    }
}

/// The number of a count or percentage; 0 when it is missing or wrong.
fn number(owner: &Object, key: &str) -> i64 {
    match get(owner, key) {
        Some(Value::String(text)) => text.trim_end_matches('%').parse().unwrap_or(0),
        Some(value) => value.as_i64().unwrap_or(0),
        None => 0,
    }
}

pub fn not_above_all(owner: &Object, key: &str, path: &Path, errors: &mut ErrorList) {
    let value = text(owner, key);
    if value.ends_with('%') && names::percent(value).is_empty() && number(owner, key) > 100 {
        errors.push(FieldError::invalid(&path.child(key), value, "must not be greater than 100%"));
    }
}

fn replica_set(new: &Object, old: Option<&Object>, subresource: &str, errors: &mut ErrorList) {
    const COUNTS: [&str; 4] = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas", "terminatingReplicas"];
    on_spec(new, subresource, &COUNTS, errors, |spec, path, errors| {
        non_negative(spec, "replicas", path, errors);
        non_negative(spec, "minReadySeconds", path, errors);
        // The kind's name stands so upstream.
        selector_and_template(spec, "deployment", path, errors);
        always_restarts(spec, "ReplicaSet", path, errors);
        fixed_selector(spec, old, path, errors);
    });
}

fn replication_controller(new: &Object, _old: Option<&Object>, subresource: &str, errors: &mut ErrorList) {
    const COUNTS: [&str; 3] = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    on_spec(new, subresource, &COUNTS, errors, |spec, path, errors| {
        non_negative(spec, "minReadySeconds", path, errors);
        non_negative(spec, "replicas", path, errors);
        let empty = Object::new();
        let selector = Selector::from_map(object(spec, "selector").unwrap_or(&empty));
        if selector.is_empty() {
            errors.push(FieldError::required(&path.child("selector"), ""));
        }
        match object(spec, "template") {
            None => errors.push(FieldError::required(&path.child("template"), "")),
            Some(template) => {
                must_match(&selector, template, &path.child("template"), errors);
                pod::template(template, &path.child("template"), errors);
                always_restarts(spec, "ReplicationController", path, errors);
            }
        }
    });
}

fn daemon_set(new: &Object, old: Option<&Object>, subresource: &str, errors: &mut ErrorList) {
    const COUNTS: [&str; 7] = [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
    ];
    on_spec(new, subresource, &COUNTS, errors, |spec, path, errors| {
        fixed_selector(spec, old, path, errors);
        selector_and_template(spec, "daemonset", path, errors);
        always_restarts(spec, "DaemonSet", path, errors);
        non_negative(spec, "minReadySeconds", path, errors);
        daemon_strategy(spec, &path.child("updateStrategy"), errors);
        non_negative(spec, "revisionHistoryLimit", path, errors);
    });
}

fn daemon_strategy(spec: &Object, path: &Path, errors: &mut ErrorList) {
    let empty = Object::new();
    let strategy = object(spec, "updateStrategy").unwrap_or(&empty);
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let path = path.child("rollingUpdate");
            let Some(rolling) = object(strategy, "rollingUpdate") else {
                errors.push(FieldError::required(&path, ""));
                return;
            };
            for key in ["maxUnavailable", "maxSurge"] {
                count_or_percent(rolling, key, &path, errors);
            }
            for key in ["maxUnavailable", "maxSurge"] {
                not_above_all(rolling, key, &path, errors);
            }
            match (number(rolling, "maxUnavailable") != 0, number(rolling, "maxSurge") != 0) {
                (true, true) => {
                    let value = rolling.get("maxSurge").cloned().unwrap_or(Value::Null);
                    let detail = "may not be set when maxUnavailable is non-zero";
                    errors.push(FieldError::invalid(&path.child("maxSurge"), value, detail));
                }
                (false, false) => {
                    let detail = "cannot be 0 when maxSurge is 0";
                    errors.push(FieldError::required(&path.child("maxUnavailable"), detail));
                }
                _ => {}
            }
        }
        other => {
            let error = FieldError::not_supported(path, other, &["RollingUpdate", "OnDelete"]);
            errors.push(error.shown_as(format!("{{\"Type\":{other:?},\"RollingUpdate\":null}}")));
        }
    }
}

const STATEFUL_FIXED: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                              'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                              'minReadySeconds' are forbidden";

fn stateful_set(new: &Object, old: Option<&Object>, subresource: &str, errors: &mut ErrorList) {
    const COUNTS: [&str; 4] = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    on_spec(new, subresource, &COUNTS, errors, |spec, path, errors| {
        stateful_spec(spec, old.is_none(), path, errors);
        if let Some(old) = old.and_then(spec_of) {
            const MAY_CHANGE: [&str; 7] = [
                "replicas",
                "template",
                "updateStrategy",
                "minReadySeconds",
                "ordinals",
                "revisionHistoryLimit",
                "persistentVolumeClaimRetentionPolicy",
            ];
            let fixed = |spec: &Object| -> Object {
                let kept = spec.iter().filter(|(key, value)| !value.is_null() && !MAY_CHANGE.contains(&key.as_str()));
                kept.map(|(key, value)| (key.clone(), value.clone())).collect()
            };
            if fixed(spec) != fixed(old) {
                errors.push(FieldError::forbidden(path, STATEFUL_FIXED));
            }
        }
    });
}

fn stateful_spec(spec: &Object, is_new: bool, path: &Path, errors: &mut ErrorList) {
    match required(spec, "podManagementPolicy", path, errors) {
        "" | "OrderedReady" | "Parallel" => {}
        other => {
            let detail = "must be 'OrderedReady' or 'Parallel'";
            errors.push(FieldError::invalid(&path.child("podManagementPolicy"), other, detail));
        }
    }
    stateful_strategy(spec, &path.child("updateStrategy"), errors);
    if let Some(retention) = object(spec, "persistentVolumeClaimRetentionPolicy") {
        let path = path.child("persistentVolumeClaimRetentionPolicy");
        for key in ["whenDeleted", "whenScaled"] {
            one_of(retention, key, &["Retain", "Delete"], &path, errors);
        }
    }
    if is_new {
        for (i, claim) in objects(spec, "volumeClaimTemplates") {
            storage::stateful_claim(claim, &path.child("volumeClaimTemplates").index(i), errors);
        }
    }
    non_negative(spec, "replicas", path, errors);
    non_negative(spec, "minReadySeconds", path, errors);
    if let Some(ordinals) = object(spec, "ordinals") {
        non_negative(ordinals, "start", &path.child("ordinals"), errors);
    }
    let service = text(spec, "serviceName");
    if is_new && !service.is_empty() {
        messages(service, &path.child("serviceName"), names::dns1123_label(service), errors);
    }
    let with_claims = with_claim_volumes(spec);
    selector_and_template(&with_claims, "statefulset", path, errors);
    always_restarts(spec, "StatefulSet", path, errors);
}

/// The spec with a volume in its template for every claim template, as its Pods will have.
fn with_claim_volumes(spec: &Object) -> Object {
    let mut spec = spec.clone();
    let claims: Vec<String> = objects(&spec, "volumeClaimTemplates")
        .filter_map(|(_, claim)| object(claim, "metadata").map(|m| text(m, "name").to_owned()))
        .collect();
    let pod = crate::kinds::json::object_mut(&mut spec, "template")
        .and_then(|template| crate::kinds::json::object_mut(template, "spec"));
    if let Some(pod) = pod {
        pod.remove("hostname");
        pod.remove("subdomain");
        let kept =
            list(pod, "volumes").iter().filter(|v| !claims.iter().any(|c| v.get("name").is_some_and(|n| n == c)));
        let own = claims.iter().map(
            |name| serde_json::json!({"name": name, "persistentVolumeClaim": {"claimName": name, "readOnly": false}}),
        );
        let volumes: Vec<Value> = own.chain(kept.cloned()).collect();
        if !volumes.is_empty() {
            pod.insert("volumes".to_owned(), volumes.into());
        }
    }
    spec
}

fn stateful_strategy(spec: &Object, path: &Path, errors: &mut ErrorList) {
    let empty = Object::new();
    let strategy = object(spec, "updateStrategy").unwrap_or(&empty);
    let rolling = object(strategy, "rollingUpdate");
    match (text(strategy, "type"), rolling) {
        ("", _) => errors.push(FieldError::required(path, "")),
        ("OnDelete", Some(rolling)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            let error = FieldError::invalid(&path.child("rollingUpdate"), rolling.clone(), detail);
            errors.push(error.shown_as(internal(rolling, &["partition", "maxUnavailable"])));
        }
        ("RollingUpdate", Some(rolling)) => {
            let path = path.child("rollingUpdate");
            non_negative(rolling, "partition", &path, errors);
            if let Some(value) = get(rolling, "maxUnavailable") {
                count_or_percent(rolling, "maxUnavailable", &path, errors);
                if number(rolling, "maxUnavailable") == 0 {
                    errors.push(FieldError::invalid(&path.child("maxUnavailable"), value.clone(), "cannot be 0"));
                }
                not_above_all(rolling, "maxUnavailable", &path, errors);
            }
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        (other, _) => {
            let error = FieldError::invalid(path, other, "must be 'RollingUpdate' or 'OnDelete'");
            errors.push(error.shown_as(format!("{{\"Type\":{other:?},\"RollingUpdate\":null}}")));
        }
    }
}
