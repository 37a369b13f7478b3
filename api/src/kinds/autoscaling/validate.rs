//! Validation of HorizontalPodAutoscalers.

use crate::field::{ErrorList, FieldError, Path};
use crate::kinds::check::{named, non_negative, optional_one_of};
use crate::kinds::json::{get, int, list, object, objects, text};
use crate::meta::split_api_version;
use crate::{Object, names};

/// The metric types, each with the field that has its source.
const METRICS: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];
const WINDOW_MAX: i64 = 3600;
const PERIOD_MAX: i64 = 1800;

/// The `validate` hook, for versions 1 and 2.
pub fn autoscaler(new: &Object, old: Option<&Object>, subresource: &str, errors: &mut ErrorList) {
    let empty = Object::new();
    if subresource == "status" {
        let status = object(new, "status").unwrap_or(&empty);
        for key in ["currentReplicas", "desiredReplicas"] {
            non_negative(status, key, &Path::new("status"), errors);
        }
        return;
    }
    let spec = object(new, "spec").unwrap_or(&empty);
    let path = Path::new("spec");
    let (low, high) = (int(spec, "minReplicas"), int(spec, "maxReplicas").unwrap_or(0));
    if let Some(low) = low.filter(|low| *low < 1) {
        let detail = "must be greater than or equal to 1";
        errors.push(FieldError::invalid(&path.child("minReplicas"), low, detail));
    }
    let high_path = path.child("maxReplicas");
    match high {
        0 => errors.push(FieldError::required(&high_path, "must be set and greater than 0")),
        1.. => {}
        _ => errors.push(FieldError::invalid(&high_path, high, "must be greater than or equal to 1")),
    }
    if low.is_some_and(|low| high < low) {
        errors.push(FieldError::invalid(&high_path, high, "must be greater than or equal to `minReplicas`"));
    }
    let target = object(spec, "scaleTargetRef").unwrap_or(&empty);
    let path_ = path.child("scaleTargetRef");
    named(target, "kind", &path_, names::path_segment, errors);
    named(target, "name", &path_, names::path_segment, errors);
    api_version(target, old, &path_.child("apiVersion"), errors);
    let to_zero = |metric: &Object| matches!(text(metric, "type"), "Object" | "External");
    if low == Some(0) && !objects(spec, "metrics").any(|(_, metric)| to_zero(metric)) {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(FieldError::forbidden(&path.child("metrics"), detail));
    }
    for (i, metric) in objects(spec, "metrics") {
        check_metric(metric, &path.child("metrics").index(i), errors);
    }
    if let Some(behavior) = object(spec, "behavior") {
        for key in ["scaleUp", "scaleDown"] {
            if let Some(rules) = object(behavior, key) {
                scaling_rules(rules, &path.child("behavior").child(key), errors);
            }
        }
    }
}

/// The group must be named; what was stored without one may stay so.
fn api_version(target: &Object, old: Option<&Object>, path: &Path, errors: &mut ErrorList) {
    let version = text(target, "apiVersion");
    let stored = old.and_then(|old| object(old, "spec")).and_then(|spec| object(spec, "scaleTargetRef"));
    if stored.is_some_and(|stored| text(stored, "apiVersion") == version) {
        return;
    }
    let detail = match split_api_version(version) {
        Some((group, _)) if !group.is_empty() => return,
        None if !version.is_empty() => format!("unexpected GroupVersion string: {version}"),
        _ => "apiVersion must specify API group".to_owned(),
    };
    errors.push(FieldError::invalid(path, version, detail));
}

fn check_metric(metric: &Object, path: &Path, errors: &mut ErrorList) {
    let kind = text(metric, "type");
    if kind.is_empty() {
        errors.push(FieldError::required(&path.child("type"), "must specify a metric source type"));
    }
    let Some((_, field)) = METRICS.iter().find(|(name, _)| *name == kind) else {
        let known: Vec<&str> = METRICS.iter().map(|(name, _)| *name).collect();
        errors.push(FieldError::not_supported(&path.child("type"), kind, &known));
        return;
    };
    if get(metric, field).is_none() {
        let detail = "must populate information for the given metric source";
        errors.push(FieldError::required(&path.child(field), detail));
    }
    for (_, other) in METRICS.iter().filter(|(_, other)| other != field && get(metric, other).is_some()) {
        let detail = "must populate the given metric source only";
        errors.push(FieldError::forbidden(&path.child(other), detail));
    }
}

fn scaling_rules(rules: &Object, path: &Path, errors: &mut ErrorList) {
    let window_path = path.child("stabilizationWindowSeconds");
    match int(rules, "stabilizationWindowSeconds") {
        Some(window) if window < 0 => {
            errors.push(FieldError::invalid(&window_path, window, "must be greater than or equal to zero"));
        }
        Some(window) if window > WINDOW_MAX => {
            let detail = format!("must be less than or equal to {WINDOW_MAX}");
            errors.push(FieldError::invalid(&window_path, window, detail));
        }
        _ => {}
    }
    optional_one_of(rules, "selectPolicy", &["Disabled", "Max", "Min"], path, errors);
    let path = path.child("policies");
    if list(rules, "policies").is_empty() {
        errors.push(FieldError::required(&path, "must specify at least one Policy"));
    }
    for (i, policy) in objects(rules, "policies") {
        let path = path.index(i);
        let kind = text(policy, "type");
        if !matches!(kind, "Pods" | "Percent") {
            errors.push(FieldError::not_supported(&path.child("type"), kind, &["Percent", "Pods"]));
        }
        for key in ["value", "periodSeconds"] {
            let number = int(policy, key).unwrap_or(0);
            if number <= 0 {
                errors.push(FieldError::invalid(&path.child(key), number, "must be greater than zero"));
            }
        }
        if let Some(period) = int(policy, "periodSeconds").filter(|p| *p > PERIOD_MAX) {
            let detail = format!("must be less than or equal to {PERIOD_MAX}");
            errors.push(FieldError::invalid(&path.child("periodSeconds"), period, detail));
        }
    }
}
