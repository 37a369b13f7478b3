//! Labels, annotations and `metav1.LabelSelector` (apimachinery `meta/v1/validation`).

use serde_json::Value;

use crate::field::{ErrorList, FieldError, Path};
use crate::{Object, names};

/// Most bytes that all annotations of an object may have together.
const ANNOTATIONS_MAX: usize = 256 * 1024;

/// A label's key.
pub fn label_name(name: &str, path: &Path, errors: &mut ErrorList) {
    errors.extend(names::qualified_name(name).into_iter().map(|m| FieldError::invalid(path, name, m)));
}

/// A map of labels; errors stand at the map's path, as upstream has it.
pub fn labels(labels: Option<&Object>, path: &Path, errors: &mut ErrorList) {
    for (key, value) in labels.into_iter().flatten() {
        label_name(key, path, errors);
        let value = value.as_str().unwrap_or_default();
        errors.extend(names::label_value(value).into_iter().map(|m| FieldError::invalid(path, value, m)));
    }
}

/// A map of annotations: keys as labels' without regard to case, and a bound on their size.
pub fn annotations(annotations: Option<&Object>, path: &Path, errors: &mut ErrorList) {
    let mut size = 0;
    for (key, value) in annotations.into_iter().flatten() {
        let lower = key.to_lowercase();
        let wrong = names::qualified_name(&lower);
        errors.extend(wrong.into_iter().map(|m| FieldError::invalid(path, key.as_str(), m)));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_MAX {
        errors.push(FieldError::too_long(path, ANNOTATIONS_MAX));
    }
}

/// A `metav1.LabelSelector`; a missing one is no error.
pub fn selector(selector: Option<&Value>, path: &Path, errors: &mut ErrorList) {
    let Some(selector) = selector.and_then(Value::as_object) else { return };
    labels(selector.get("matchLabels").and_then(Value::as_object), &path.child("matchLabels"), errors);
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    for (i, expression) in expressions.into_iter().flatten().enumerate() {
        requirement(expression, &path.child("matchExpressions").index(i), errors);
    }
}

fn requirement(expression: &Value, path: &Path, errors: &mut ErrorList) {
    let text = |key: &str| expression.get(key).and_then(Value::as_str).unwrap_or_default();
    let values = expression.get("values").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    match text("operator") {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(&path.child("values"), detail));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&path.child("values"), detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.push(FieldError::invalid(&path.child("operator"), other, "not a valid selector operator")),
    }
    label_name(text("key"), &path.child("key"), errors);
    for (i, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or_default();
        let wrong = names::label_value(value).into_iter();
        errors.extend(wrong.map(|m| FieldError::invalid(&path.child("values").index(i), value, m)));
    }
}
