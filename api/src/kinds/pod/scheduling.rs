//! Where a Pod may run: affinity, tolerations, topology spread.

use super::validate::PodScope;
use crate::Object;
use crate::field::{ErrorList, FieldError, Path};
use crate::kinds::check::messages;
use crate::kinds::json::{get, int, list, object, objects, text, texts};
use crate::names;
use crate::validate::labels;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub fn affinity(spec: &Object, path: &Path, errors: &mut ErrorList) {
    let Some(affinity) = object(spec, "affinity") else { return };
    let path = path.child("affinity");
    if let Some(node) = object(affinity, "nodeAffinity") {
        node_affinity(node, &path.child("nodeAffinity"), errors);
    }
    for key in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = object(affinity, key) else { continue };
        let path = path.child(key);
        for (i, term) in objects(pods, REQUIRED) {
            pod_term(term, &path.child(REQUIRED).index(i), errors);
        }
        for (i, preferred) in objects(pods, PREFERRED) {
            let path = path.child(PREFERRED).index(i);
            weight(preferred, &path, errors);
            let empty = Object::new();
            pod_term(object(preferred, "podAffinityTerm").unwrap_or(&empty), &path.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &Object, path: &Path, errors: &mut ErrorList) {
    let weight = int(term, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(&path.child("weight"), weight, "must be in the range 1-100"));
    }
}

fn node_affinity(affinity: &Object, path: &Path, errors: &mut ErrorList) {
    if let Some(required) = object(affinity, REQUIRED) {
        node_selector(required, &path.child(REQUIRED), errors);
    }
    for (i, preferred) in objects(affinity, PREFERRED) {
        let path = path.child(PREFERRED).index(i);
        weight(preferred, &path, errors);
        if let Some(term) = object(preferred, "preference") {
            node_term(term, false, &path.child("preference"), errors);
        }
    }
}

/// A `NodeSelector`, also of a PersistentVolume.
pub fn node_selector(selector: &Object, path: &Path, errors: &mut ErrorList) {
    let path = path.child("nodeSelectorTerms");
    if list(selector, "nodeSelectorTerms").is_empty() {
        errors.push(FieldError::required(&path, "must have at least one node selector term"));
    }
    for (i, term) in objects(selector, "nodeSelectorTerms") {
        node_term(term, true, &path.index(i), errors);
    }
}

fn node_term(term: &Object, strict: bool, path: &Path, errors: &mut ErrorList) {
    for (i, expression) in objects(term, "matchExpressions") {
        node_expression(expression, strict, &path.child("matchExpressions").index(i), errors);
    }
    for (i, field) in objects(term, "matchFields") {
        node_field(field, &path.child("matchFields").index(i), errors);
    }
}

fn node_expression(expression: &Object, strict: bool, path: &Path, errors: &mut ErrorList) {
    let values = path.child("values");
    let count = list(expression, "values").len();
    match text(expression, "operator") {
        "In" | "NotIn" if count == 0 => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(&values, detail));
        }
        "Exists" | "DoesNotExist" if count > 0 => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&values, detail));
        }
        "Gt" | "Lt" if count != 1 => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(FieldError::required(&values, detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => {
            errors.push(FieldError::invalid(&path.child("operator"), other, "not a valid selector operator"));
        }
    }
    labels::label_name(text(expression, "key"), &path.child("key"), errors);
    if strict {
        for (i, value) in texts(expression, "values") {
            messages(value, &values.index(i), names::label_value(value), errors);
        }
    }
}

fn node_field(field: &Object, path: &Path, errors: &mut ErrorList) {
    match text(field, "operator") {
        "In" | "NotIn" => {
            if list(field, "values").len() != 1 {
                let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.push(FieldError::required(&path.child("values"), detail));
            }
        }
        other => {
            errors.push(FieldError::invalid(&path.child("operator"), other, "not a valid selector operator"));
        }
    }
    let key = text(field, "key");
    if key != "metadata.name" {
        errors.push(FieldError::invalid(&path.child("key"), key, "not a valid field selector key"));
        return;
    }
    for (i, value) in texts(field, "values") {
        messages(value, &path.child("values").index(i), names::dns1123_subdomain(value), errors);
    }
}

fn pod_term(term: &Object, path: &Path, errors: &mut ErrorList) {
    for key in ["labelSelector", "namespaceSelector"] {
        labels::selector(get(term, key), &path.child(key), errors);
    }
    for (_, namespace) in texts(term, "namespaces") {
        messages(namespace, &path.child("namespace"), names::dns1123_label(namespace), errors);
    }
    label_keys(term, path, errors);
    let key = text(term, "topologyKey");
    let key_path = path.child("topologyKey");
    if key.is_empty() {
        errors.push(FieldError::required(&key_path, "can not be empty"));
    }
    labels::label_name(key, &key_path, errors);
}

/// `matchLabelKeys` and `mismatchLabelKeys`. Keys that the server merged into the selector are there once.
fn label_keys(owner: &Object, path: &Path, errors: &mut ErrorList) {
    let selector = object(owner, "labelSelector");
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let path = path.child(field);
        if !list(owner, field).is_empty() && selector.is_none() {
            errors.push(FieldError::forbidden(&path, "must not be specified when labelSelector is not set"));
            continue;
        }
        for (i, key) in texts(owner, field) {
            labels::label_name(key, &path.index(i), errors);
        }
    }
    let keys: Vec<(usize, &str)> = texts(owner, "matchLabelKeys").collect();
    if let Some(selector) = selector {
        let mut seen: Vec<&str> =
            object(selector, "matchLabels").into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        for (_, expression) in objects(selector, "matchExpressions") {
            let key = text(expression, "key");
            if let Some((i, _)) = keys.iter().find(|(_, k)| *k == key && seen.contains(&key)) {
                let detail = "exists in both matchLabelKeys and labelSelector";
                errors.push(FieldError::invalid(&path.index(*i), key, detail));
            }
            seen.push(key);
        }
    }
    for (i, key) in keys {
        if texts(owner, "mismatchLabelKeys").any(|(_, other)| other == key) {
            let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.push(FieldError::invalid(&path.child("matchLabelKeys").index(i), key, detail));
        }
    }
}

pub fn tolerations(spec: &Object, path: &Path, errors: &mut ErrorList) {
    for (i, toleration) in objects(spec, "tolerations") {
        check_toleration(toleration, &path.child("tolerations").index(i), errors);
    }
}

/// One toleration, also of a RuntimeClass.
pub fn check_toleration(toleration: &Object, path: &Path, errors: &mut ErrorList) {
    let (key, value) = (text(toleration, "key"), text(toleration, "value"));
    let (operator, effect) = (text(toleration, "operator"), text(toleration, "effect"));
    let operator_path = path.child("operator");
    if !key.is_empty() {
        labels::label_name(key, &path.child("key"), errors);
    } else if operator != "Exists" {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.push(FieldError::invalid(&operator_path, operator, detail));
    }
    if get(toleration, "tolerationSeconds").is_some() && effect != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(FieldError::invalid(&path.child("effect"), effect, detail));
    }
    match operator {
        "" | "Equal" => {
            let found = names::label_value(value);
            if !found.is_empty() {
                errors.push(FieldError::invalid(&operator_path, value, found.join(";")));
            }
        }
        "Exists" => {
            if !value.is_empty() {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(&operator_path, value, detail));
            }
        }
        "Lt" | "Gt" => {
            errors.push(FieldError::not_supported(&operator_path, operator, &["Equal", "Exists", "Lt", "Gt"]));
        }
        _ => errors.push(FieldError::not_supported(&operator_path, operator, &["Equal", "Exists"])),
    }
    if !effect.is_empty() {
        taint_effect(effect, &path.child("effect"), errors);
    }
}

/// An effect of a taint that is set.
pub fn taint_effect(effect: &str, path: &Path, errors: &mut ErrorList) {
    const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    if !EFFECTS.contains(&effect) {
        errors.push(FieldError::not_supported(path, effect, &EFFECTS));
    }
}

pub fn topology_spread(spec: &Object, path: &Path, errors: &mut ErrorList) {
    let constraints: Vec<(usize, &Object)> = objects(spec, "topologySpreadConstraints").collect();
    for (at, (i, constraint)) in constraints.iter().enumerate() {
        let path = path.child("topologySpreadConstraints").index(*i);
        positive(constraint, "maxSkew", &path, errors);
        let key = text(constraint, "topologyKey");
        if key.is_empty() {
            errors.push(FieldError::required(&path.child("topologyKey"), "can not be empty"));
        }
        let action = text(constraint, "whenUnsatisfiable");
        if !matches!(action, "DoNotSchedule" | "ScheduleAnyway") {
            let path = path.child("whenUnsatisfiable");
            errors.push(FieldError::not_supported(&path, action, &["DoNotSchedule", "ScheduleAnyway"]));
        }
        let same = |other: &Object| text(other, "topologyKey") == key && text(other, "whenUnsatisfiable") == action;
        if constraints[at + 1..].iter().any(|(_, other)| same(other)) {
            let path = path.child("{topologyKey, whenUnsatisfiable}");
            errors.push(FieldError::duplicate(&path, format!("{{{key}, {action}}}")));
        }
        if let Some(domains) = int(constraint, "minDomains") {
            positive(constraint, "minDomains", &path, errors);
            if action != "DoNotSchedule" {
                let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.push(FieldError::invalid(&path.child("minDomains"), domains, detail));
            }
        }
        for key in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            crate::kinds::check::optional_one_of(constraint, key, &["Honor", "Ignore"], &path, errors);
        }
        label_keys(constraint, &path, errors);
        labels::selector(get(constraint, "labelSelector"), &path.child("labelSelector"), errors);
    }
}

fn positive(owner: &Object, key: &str, path: &Path, errors: &mut ErrorList) {
    let value = int(owner, key).unwrap_or(0);
    if value <= 0 {
        errors.push(FieldError::invalid(&path.child(key), value, "must be greater than zero"));
    }
}

/// `schedulingGates` and `readinessGates`.
pub fn gates(scope: &PodScope<'_>, path: &Path, errors: &mut ErrorList) {
    for (i, gate) in objects(scope.spec, "readinessGates") {
        let kind = text(gate, "conditionType");
        let path = path.child("readinessGates").index(i).child("conditionType");
        messages(kind, &path, names::qualified_name(kind), errors);
    }
    let mut seen = Vec::new();
    for (i, gate) in objects(scope.spec, "schedulingGates") {
        let name = text(gate, "name");
        let path = path.child("schedulingGates").index(i);
        messages(name, &path, names::qualified_name(name), errors);
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(&path, name));
        }
        seen.push(name);
    }
}
