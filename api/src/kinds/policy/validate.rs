//! Validation of quotas, limits, budgets, priorities, runtime classes and leases.

use serde_json::Value;

use crate::field::{ErrorList, FieldError, Path};
use crate::kinds::check::{IMMUTABLE, immutable, internal, messages, named, non_negative, one_of, optional_one_of};
use crate::kinds::json::{get, int, list, object, objects, same, text, texts};
use crate::kinds::pod::resources::Amounts;
use crate::kinds::pod::{limits, scheduling};
use crate::kinds::workload::validate::{count_or_percent, not_above_all};
use crate::quantity::Quantity;
use crate::validate::labels;
use crate::{Object, names, object as meta};

fn amounts(owner: &Object, key: &str) -> Amounts {
    let parsed = |(name, value): (&String, &Value)| Some((name.clone(), Quantity::from_value(value).ok()?));
    object(owner, key).into_iter().flatten().filter_map(parsed).collect()
}

/// The `validate` hook of ResourceQuotas.
pub fn quota(new: &Object, old: Option<&Object>, _subresource: &str, errors: &mut ErrorList) {
    let empty = Object::new();
    let spec = object(new, "spec").unwrap_or(&empty);
    let path = Path::new("spec");
    quota_amounts(spec, "hard", &path, errors);
    if let Some(status) = object(new, "status") {
        for key in ["hard", "used"] {
            quota_amounts(status, key, &Path::new("status"), errors);
        }
    }
    scopes(spec, &path, errors);
    let fixed = |spec: &Object| {
        let mut scopes: Vec<String> = texts(spec, "scopes").map(|(_, scope)| scope.to_owned()).collect();
        scopes.sort();
        scopes
    };
    if old.and_then(|old| object(old, "spec")).is_some_and(|old| fixed(old) != fixed(spec)) {
        let value = spec.get("scopes").cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(&path.child("scopes"), value, IMMUTABLE));
    }
}

fn quota_amounts(owner: &Object, key: &str, path: &Path, errors: &mut ErrorList) {
    for (name, quantity) in amounts(owner, key) {
        let path = path.child(key).key(&name);
        limits::resource_name(&name, &path, errors);
        let counts = name.starts_with("count/") || name.starts_with("requests.") || name.starts_with("limits.");
        if !name.contains('/') && !counts && !is_quota_resource(&name) {
            let detail = "must be a standard resource for quota";
            errors.push(FieldError::invalid(&path, name.as_str(), detail));
        }
        limits::amount(&name, &quantity, &path, errors);
    }
}

fn is_quota_resource(name: &str) -> bool {
    !matches!(name, "storage") && limits::is_standard(name)
}

fn scopes(spec: &Object, path: &Path, errors: &mut ErrorList) {
    const KNOWN: [&str; 7] = [
        "Terminating",
        "NotTerminating",
        "BestEffort",
        "NotBestEffort",
        "PriorityClass",
        "CrossNamespacePodAffinity",
        "VolumeAttributesClass",
    ];
    let path = path.child("scopes");
    let all = list(spec, "scopes");
    let mut wrong = |detail: &str| errors.push(FieldError::invalid(&path, all.to_vec(), detail));
    let has = |scope: &str| all.iter().any(|s| s == scope);
    for (_, scope) in texts(spec, "scopes") {
        if !KNOWN.contains(&scope) {
            wrong("unsupported scope");
        }
        let pods_only = scope == "BestEffort";
        let unsupported = |name: &String| {
            let of_pods = name == "pods" || name.contains("cpu") || name.contains("memory");
            limits::is_standard(name) && if pods_only { name != "pods" } else { !of_pods }
        };
        for _ in object(spec, "hard").into_iter().flatten().filter(|(name, _)| unsupported(name)) {
            wrong("unsupported scope applied to resource");
        }
    }
    for (a, b) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if has(a) && has(b) {
            wrong("conflicting scopes");
        }
    }
}

/// The `validate` hook of LimitRanges.
pub fn limit_range(new: &Object, _old: Option<&Object>, _subresource: &str, errors: &mut ErrorList) {
    let mut seen = Vec::new();
    for (i, item) in object(new, "spec").into_iter().flat_map(|spec| objects(spec, "limits")) {
        let path = Path::new("spec").child("limits").index(i);
        let kind = text(item, "type");
        let found = names::qualified_name(kind);
        if !found.is_empty() {
            messages(kind, &path.child("type"), found, errors);
        } else if !kind.contains('/') && !matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim") {
            let detail = "must be a standard limit type or fully qualified";
            errors.push(FieldError::invalid(&path.child("type"), kind, detail));
        }
        if seen.contains(&kind) {
            errors.push(FieldError::duplicate(&path.child("type"), kind));
        }
        seen.push(kind);
        limit_item(item, kind, &path, errors);
    }
}

fn limit_item(item: &Object, kind: &str, path: &Path, errors: &mut ErrorList) {
    for key in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let path = path.child(key);
        if kind == "Pod" && key.starts_with("default") {
            if object(item, key).is_some_and(|o| !o.is_empty()) {
                errors.push(FieldError::forbidden(&path, "may not be specified when `type` is 'Pod'"));
            }
            continue;
        }
        for name in object(item, key).into_iter().flatten().map(|(name, _)| name) {
            if matches!(kind, "Pod" | "Container") {
                limits::container_resource_name(name, &path.key(name), errors);
            } else {
                limits::resource_name(name, &path.key(name), errors);
            }
        }
    }
    if kind == "PersistentVolumeClaim" {
        let has = |key: &str| object(item, key).is_some_and(|o| o.contains_key("storage"));
        if !has("min") && !has("max") {
            let detail = "either minimum or maximum storage value is required, but neither was provided";
            errors.push(FieldError::required(&path.child("limits"), detail));
        }
    }
    limit_order(item, kind, path, errors);
}

/// Minimum, default request, default limit and maximum are in this order.
fn limit_order(item: &Object, kind: &str, path: &Path, errors: &mut ErrorList) {
    let of = |key: &str| if kind == "Pod" && key.starts_with("default") { Amounts::new() } else { amounts(item, key) };
    let (min, max, default, request) = (of("min"), of("max"), of("default"), of("defaultRequest"));
    let rules: [(&Amounts, &Amounts, &str, bool, &str, &str); 6] = [
        (&min, &max, "min", false, "min value", "max value"),
        (&min, &request, "defaultRequest", true, "min value", "default request value"),
        (&request, &max, "defaultRequest", false, "default request value", "max value"),
        (&request, &default, "defaultRequest", false, "default request value", "default limit value"),
        (&min, &default, "default", false, "min value", "default value"),
        (&default, &max, "default", true, "default value", "max value"),
    ];
    for (lower, upper, key, shows_upper, lower_name, upper_name) in rules {
        for (name, low) in lower {
            let Some(high) = upper.get(name).filter(|high| low > *high) else { continue };
            let detail = format!("{lower_name} {low} is greater than {upper_name} {high}");
            let shown = if shows_upper { high } else { low };
            errors.push(FieldError::invalid(&path.child(key).key(name), shown.to_string(), detail));
        }
    }
    for (name, ratio) in amounts(item, "maxLimitRequestRatio") {
        if ratio < Quantity::new(1, crate::quantity::Format::DecimalSi) {
            let path = path.child("maxLimitRequestRatio").key(&name);
            errors.push(FieldError::invalid(&path, ratio.to_string(), format!("ratio {ratio} is less than 1")));
        }
    }
}

/// The `validate` hook of PodDisruptionBudgets.
pub fn budget(new: &Object, _old: Option<&Object>, subresource: &str, errors: &mut ErrorList) {
    let empty = Object::new();
    if subresource == "status" {
        let status = object(new, "status").unwrap_or(&empty);
        for key in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            non_negative(status, key, &Path::new("status"), errors);
        }
        return;
    }
    let spec = object(new, "spec").unwrap_or(&empty);
    let path = Path::new("spec");
    if get(spec, "minAvailable").is_some() && get(spec, "maxUnavailable").is_some() {
        let fields = ["minAvailable", "selector", "maxUnavailable", "unhealthyPodEvictionPolicy"];
        let error = FieldError::invalid(&path, spec.clone(), "minAvailable and maxUnavailable cannot be both set");
        errors.push(error.shown_as(internal(spec, &fields)));
    }
    for key in ["minAvailable", "maxUnavailable"] {
        count_or_percent(spec, key, &path, errors);
        not_above_all(spec, key, &path, errors);
    }
    labels::selector(get(spec, "selector"), &path.child("selector"), errors);
    let policies = ["AlwaysAllow", "IfHealthyBudget"];
    optional_one_of(spec, "unhealthyPodEvictionPolicy", &policies, &path, errors);
}

/// The `validate` hook of PriorityClasses.
pub fn priority(new: &Object, old: Option<&Object>, _subresource: &str, errors: &mut ErrorList) {
    const HIGHEST: i64 = 1_000_000_000;
    let root = Path::root();
    let value = int(new, "value").unwrap_or(0);
    if let Some(old) = old {
        if !same(new, old, "value") {
            errors.push(FieldError::forbidden(&Path::new("value"), "may not be changed in an update."));
        }
        immutable(new, old, "preemptionPolicy", &root, errors);
        return;
    }
    let name = meta::name(new);
    let known =
        matches!((name, value), ("system-node-critical", 2_000_001_000) | ("system-cluster-critical", 2_000_000_000));
    if name.starts_with("system-") {
        if !known {
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {name} is not a \
                 known system priority class"
            );
            errors.push(FieldError::forbidden(&Path::new("metadata").child("name"), detail));
        }
    } else if value > HIGHEST {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        errors.push(FieldError::forbidden(&Path::new("value"), detail));
    }
    if get(new, "preemptionPolicy").is_some() {
        one_of(new, "preemptionPolicy", &["PreemptLowerPriority", "Never"], &root, errors);
    }
}

/// The `validate` hook of RuntimeClasses.
pub fn runtime_class(new: &Object, old: Option<&Object>, _subresource: &str, errors: &mut ErrorList) {
    let root = Path::root();
    if let Some(old) = old {
        immutable(new, old, "handler", &root, errors);
        return;
    }
    named(new, "handler", &root, names::dns1123_label, errors);
    if let Some(fixed) = object(new, "overhead").and_then(|o| object(o, "podFixed")) {
        limits::overhead(fixed, &Path::new("overhead"), errors);
    }
    if let Some(rules) = object(new, "scheduling") {
        let path = Path::new("scheduling");
        labels::labels(object(rules, "nodeSelector"), &path.child("nodeSelector"), errors);
        for (i, toleration) in objects(rules, "tolerations") {
            scheduling::check_toleration(toleration, &path.child("tolerations").index(i), errors);
        }
    }
}

/// The `validate` hook of Leases.
pub fn lease(new: &Object, _old: Option<&Object>, _subresource: &str, errors: &mut ErrorList) {
    let Some(spec) = object(new, "spec") else { return };
    let path = Path::new("spec");
    if let Some(seconds) = int(spec, "leaseDurationSeconds").filter(|s| *s <= 0) {
        let path = path.child("leaseDurationSeconds");
        errors.push(FieldError::invalid(&path, seconds, "must be greater than 0"));
    }
    non_negative(spec, "leaseTransitions", &path, errors);
    if !text(spec, "preferredHolder").is_empty() && text(spec, "strategy").is_empty() {
        let detail = "may only be specified if `strategy` is defined";
        errors.push(FieldError::forbidden(&path.child("preferredHolder"), detail));
    }
}
