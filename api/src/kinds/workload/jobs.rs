//! Validation of Jobs and CronJobs.

use serde_json::Value;

use super::schedule;
use crate::field::{ErrorList, FieldError, Path};
use crate::kinds::check::{IMMUTABLE, immutable, internal, non_negative, one_of};
use crate::kinds::json::{get, int, is_true, list, object, objects, same, text};
use crate::kinds::pod::validate as pod;
use crate::labels::Selector;
use crate::validate::labels;
use crate::{Object, names, object as meta};

const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
/// Longest name of a CronJob: its Jobs' names have 11 more characters.
const CRON_NAME_MAX: usize = 52;
const MAX_PARALLELISM: i64 = 100_000;

pub fn job(new: &Object, old: Option<&Object>, subresource: &str, errors: &mut ErrorList) {
    let empty = Object::new();
    let path = Path::new("spec");
    if subresource == "status" {
        let status = object(new, "status").unwrap_or(&empty);
        for key in ["active", "succeeded", "failed", "ready", "terminating"] {
            non_negative(status, key, &Path::new("status"), errors);
        }
        return;
    }
    let spec = object(new, "spec").unwrap_or(&empty);
    match old.and_then(|old| object(old, "spec")) {
        None => {
            generated_selector(new, spec, errors);
            job_spec(spec, &path, errors);
            selector(spec, &path, errors);
        }
        Some(old) => {
            job_spec(spec, &path, errors);
            selector(spec, &path, errors);
            job_update(spec, old, &path, errors);
        }
    }
}

/// The selector that the server makes must select this Job's Pods only.
fn generated_selector(job: &Object, spec: &Object, errors: &mut ErrorList) {
    if is_true(spec, "manualSelector") || meta::uid(job).is_empty() {
        return;
    }
    let labels = object(spec, "template").and_then(|t| object(t, "metadata")).and_then(|m| object(m, "labels"));
    let value = labels.map_or("", |labels| text(labels, UID_LABEL));
    if value != meta::uid(job) {
        let path = Path::new("spec").child("template").child("metadata").child("labels").key(UID_LABEL);
        let detail = format!("must be '{}'", meta::uid(job));
        errors.push(FieldError::invalid(&path, value, detail));
    }
}

fn selector(spec: &Object, path: &Path, errors: &mut ErrorList) {
    let path_ = path.child("selector");
    let value = get(spec, "selector");
    if value.is_none() {
        errors.push(FieldError::required(&path_, ""));
    }
    labels::selector(value, &path_, errors);
    if let Ok(selector) = Selector::from_label_selector(value) {
        let labels = object(spec, "template").and_then(|t| object(t, "metadata")).and_then(|m| object(m, "labels"));
        if !selector.matches(&labels) {
            let shown = labels.map_or(Value::Null, |labels| labels.clone().into());
            let path = path.child("template").child("metadata").child("labels");
            errors.push(FieldError::invalid(&path, shown, "`selector` does not match template `labels`"));
        }
    }
}

/// What may not change; a suspended Job that has not started may change where its Pods run.
fn job_update(spec: &Object, old: &Object, path: &Path, errors: &mut ErrorList) {
    let indexed = text(spec, "completionMode") == "Indexed";
    let elastic = indexed && int(spec, "completions") == int(spec, "parallelism");
    if !same(spec, old, "completions") && !elastic {
        let value = spec.get("completions").cloned().unwrap_or(Value::Null);
        let detail = if indexed {
            format!(
                "can only be modified in tandem with {} such that {} == {}",
                path.child("parallelism"),
                path.child("completions"),
                path.child("parallelism")
            )
        } else {
            IMMUTABLE.to_owned()
        };
        errors.push(FieldError::invalid(&path.child("completions"), value, detail));
    }
    immutable(spec, old, "selector", path, errors);
    let scheduling_free = |spec: &Object| {
        let mut template = object(spec, "template").cloned().unwrap_or_default();
        crate::kinds::json::object_mut(&mut template, "metadata").map(std::mem::take);
        if let Some(pod) = crate::kinds::json::object_mut(&mut template, "spec") {
            for key in ["nodeSelector", "affinity", "tolerations", "schedulingGates"] {
                pod.remove(key);
            }
        }
        template
    };
    let suspended = is_true(old, "suspend");
    let unchanged = if suspended { scheduling_free(spec) == scheduling_free(old) } else { same(spec, old, "template") };
    if !unchanged {
        let value = spec.get("template").cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(&path.child("template"), value, IMMUTABLE));
    }
    for key in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        immutable(spec, old, key, path, errors);
    }
}

fn job_spec(spec: &Object, path: &Path, errors: &mut ErrorList) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        non_negative(spec, key, path, errors);
    }
    if get(spec, "maxFailedIndexes").is_some() && get(spec, "backoffLimitPerIndex").is_none() {
        let detail = "when maxFailedIndexes is specified";
        errors.push(FieldError::required(&path.child("backoffLimitPerIndex"), detail));
    }
    completion_mode(spec, path, errors);
    if let Some(policy) = object(spec, "podFailurePolicy") {
        failure_policy(spec, policy, &path.child("podFailurePolicy"), errors);
    }
    if let Some(policy) = object(spec, "successPolicy") {
        success_policy(spec, policy, &path.child("successPolicy"), errors);
    }
    if get(spec, "podReplacementPolicy").is_some() {
        let allowed: &[&str] = match get(spec, "podFailurePolicy") {
            Some(_) => &["Failed"],
            None => &["Failed", "TerminatingOrFailed"],
        };
        one_of(spec, "podReplacementPolicy", allowed, path, errors);
    }
    let empty = Object::new();
    let template = object(spec, "template").unwrap_or(&empty);
    pod::template(template, &path.child("template"), errors);
    restart_policy(spec, template, path, errors);
}

fn restart_policy(spec: &Object, template: &Object, path: &Path, errors: &mut ErrorList) {
    let policy = object(template, "spec").map_or("", |pod| text(pod, "restartPolicy"));
    let path = path.child("template").child("spec").child("restartPolicy");
    match policy {
        "" | "Always" => {
            errors.push(FieldError::required(&path, "valid values: \"OnFailure\", \"Never\""));
        }
        "OnFailure" if get(spec, "podFailurePolicy").is_some() => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(FieldError::invalid(&path, policy, detail));
        }
        "OnFailure" | "Never" => {}
        _ => errors.push(FieldError::not_supported(&path, policy, &["OnFailure", "Never"])),
    }
}

fn completion_mode(spec: &Object, path: &Path, errors: &mut ErrorList) {
    let number = |key: &str| int(spec, key);
    match text(spec, "completionMode") {
        "" | "NonIndexed" => {
            for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(value) = number(key) {
                    errors.push(FieldError::invalid(&path.child(key), value, "requires indexed completion mode"));
                }
            }
        }
        "Indexed" => {
            if number("completions").is_none() {
                let detail = "when completion mode is Indexed";
                errors.push(FieldError::required(&path.child("completions"), detail));
            }
            if let Some(value) = number("parallelism").filter(|p| *p > MAX_PARALLELISM) {
                let detail = format!("must be less than or equal to {MAX_PARALLELISM} when completion mode is Indexed");
                errors.push(FieldError::invalid(&path.child("parallelism"), value, detail));
            }
            let (failed, completions) = (number("maxFailedIndexes"), number("completions"));
            if let (Some(failed), Some(_)) = (failed, completions.filter(|c| failed.is_some_and(|f| f > *c))) {
                let detail = "must be less than or equal to completions";
                errors.push(FieldError::invalid(&path.child("maxFailedIndexes"), failed, detail));
            }
        }
        other => {
            let path = path.child("completionMode");
            errors.push(FieldError::not_supported(&path, other, &["NonIndexed", "Indexed"]));
        }
    }
}

fn failure_policy(spec: &Object, policy: &Object, path: &Path, errors: &mut ErrorList) {
    const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
    let path = path.child("rules");
    let count = list(policy, "rules").len();
    if count > 20 {
        errors.push(FieldError::too_many(&path, count, 20));
    }
    for (i, rule) in objects(policy, "rules") {
        let path = path.index(i);
        match text(rule, "action") {
            "" => {
                let detail = "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]";
                errors.push(FieldError::required(&path.child("action"), detail));
            }
            "FailIndex" if get(spec, "backoffLimitPerIndex").is_none() => {
                let detail = "requires the backoffLimitPerIndex to be set";
                errors.push(FieldError::invalid(&path.child("action"), "FailIndex", detail));
            }
            action if !ACTIONS.contains(&action) => {
                errors.push(FieldError::not_supported(&path.child("action"), action, &ACTIONS));
            }
            _ => {}
        }
        let codes = object(rule, "onExitCodes");
        if let Some(codes) = codes {
            exit_codes(spec, codes, &path.child("onExitCodes"), errors);
        }
        for (j, pattern) in objects(rule, "onPodConditions") {
            let path = path.child("onPodConditions").index(j);
            let kind = text(pattern, "type");
            crate::kinds::check::messages(kind, &path.child("type"), names::qualified_name(kind), errors);
            one_of(pattern, "status", &["False", "True", "Unknown"], &path, errors);
        }
        let detail = match (codes.is_some(), list(rule, "onPodConditions").is_empty()) {
            (true, false) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, true) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        errors.push(FieldError::invalid_without_value(&path, detail));
    }
}

fn exit_codes(spec: &Object, codes: &Object, path: &Path, errors: &mut ErrorList) {
    match text(codes, "operator") {
        "" => {
            errors.push(FieldError::required(&path.child("operator"), "valid values: [\"In\" \"NotIn\"]"));
        }
        "In" | "NotIn" => {}
        other => errors.push(FieldError::not_supported(&path.child("operator"), other, &["In", "NotIn"])),
    }
    let pod = object(spec, "template").and_then(|t| object(t, "spec"));
    let has = |name: &str| {
        let lists = ["containers", "initContainers"].into_iter();
        lists.flat_map(|key| pod.into_iter().flat_map(move |p| objects(p, key))).any(|(_, c)| text(c, "name") == name)
    };
    if let Some(name) = get(codes, "containerName").and_then(Value::as_str).filter(|name| !has(name)) {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.push(FieldError::invalid(&path.child("containerName"), name, detail));
    }
    let path = path.child("values");
    let values: Vec<i64> = list(codes, "values").iter().filter_map(Value::as_i64).collect();
    if values.is_empty() {
        errors.push(FieldError::invalid(&path, values.clone(), "at least one value is required"));
    } else if values.len() > 255 {
        errors.push(FieldError::too_many(&path, values.len(), 255));
    }
    for (i, value) in values.iter().enumerate() {
        if *value == 0 && text(codes, "operator") == "In" {
            errors.push(FieldError::invalid(&path.index(i), 0, "must not be 0 for the In operator"));
        }
        if values[..i].contains(value) {
            errors.push(FieldError::duplicate(&path.index(i), *value));
        }
    }
    if !values.is_sorted() {
        errors.push(FieldError::invalid(&path, values, "must be ordered"));
    }
}

fn success_policy(spec: &Object, policy: &Object, path: &Path, errors: &mut ErrorList) {
    if text(spec, "completionMode") != "Indexed" {
        let error = FieldError::invalid(path, policy.clone(), "requires indexed completion mode");
        errors.push(error.shown_as(internal(policy, &["rules"])));
        return;
    }
    let path = path.child("rules");
    let count = list(policy, "rules").len();
    if count == 0 {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(&path, detail));
    } else if count > 20 {
        errors.push(FieldError::too_many(&path, count, 20));
    }
    for (i, rule) in objects(policy, "rules") {
        let path = path.index(i);
        let succeeded = int(rule, "succeededCount");
        if succeeded.is_none() && get(rule, "succeededIndexes").is_none() {
            let detail = "at least one of succeededCount or succeededIndexes must be specified";
            errors.push(FieldError::required(&path, detail));
        }
        non_negative(rule, "succeededCount", &path, errors);
        let completions = int(spec, "completions").unwrap_or(0);
        if let Some(count) = succeeded.filter(|count| *count > completions) {
            let detail = format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.push(FieldError::invalid(&path.child("succeededCount"), count, detail));
        }
    }
}

pub fn cron_job(new: &Object, old: Option<&Object>, subresource: &str, errors: &mut ErrorList) {
    if subresource == "status" {
        return;
    }
    let empty = Object::new();
    let spec = object(new, "spec").unwrap_or(&empty);
    let path = Path::new("spec");
    let schedule = text(spec, "schedule");
    if schedule.is_empty() {
        errors.push(FieldError::required(&path.child("schedule"), ""));
    } else if let Err(message) = schedule::check(schedule) {
        errors.push(FieldError::invalid(&path.child("schedule"), schedule, message));
    }
    non_negative(spec, "startingDeadlineSeconds", &path, errors);
    one_of(spec, "concurrencyPolicy", &["Allow", "Forbid", "Replace"], &path, errors);
    time_zone(spec, old, &path, errors);
    let job = object(spec, "jobTemplate").and_then(|job| object(job, "spec")).unwrap_or(&empty);
    let template = path.child("jobTemplate").child("spec");
    if is_true(job, "manualSelector") {
        errors.push(FieldError::not_supported(&template.child("manualSelector"), true, &["nil", "false"]));
    }
    job_spec(job, &template, errors);
    for key in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        non_negative(spec, key, &path, errors);
    }
    let name = meta::name(new);
    if old.is_none() && name.len() > CRON_NAME_MAX {
        let detail = format!("must be no more than {CRON_NAME_MAX} characters");
        errors.push(FieldError::invalid(&Path::new("metadata").child("name"), name, detail));
    }
}

fn time_zone(spec: &Object, old: Option<&Object>, path: &Path, errors: &mut ErrorList) {
    let Some(zone) = get(spec, "timeZone").and_then(Value::as_str) else { return };
    let stored = old.and_then(|old| object(old, "spec"));
    if stored.is_some_and(|stored| text(stored, "timeZone") == zone) {
        return;
    }
    let path = path.child("timeZone");
    if zone.is_empty() {
        errors.push(FieldError::invalid(&path, zone, "timeZone must be nil or non-empty string"));
    } else if zone.eq_ignore_ascii_case("local") {
        errors.push(FieldError::invalid(
            &path,
            zone,
            "timeZone must be an explicit time zone as defined in \
                                                      https://www.iana.org/time-zones",
        ));
    } else if !crate::time_zones::is_known(zone) {
        errors.push(FieldError::invalid(&path, zone, format!("unknown time zone {zone}")));
    }
}
