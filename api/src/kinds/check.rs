//! The checks that validation is made of. `path` is the path of the object that has the field.

use serde_json::Value;

use super::json::{get, int, text};
use crate::Object;
use crate::field::{ErrorList, FieldError, Path};
use crate::names;

pub const IMMUTABLE: &str = "field is immutable";

/// One `Invalid` for each message of a validator from [`names`].
pub fn messages(value: &str, path: &Path, found: Vec<String>, errors: &mut ErrorList) {
    errors.extend(found.into_iter().map(|message| FieldError::invalid(path, value, message)));
}

/// The text must not be empty. Returns it.
pub fn required<'a>(object: &'a Object, key: &str, path: &Path, errors: &mut ErrorList) -> &'a str {
    let value = text(object, key);
    if value.is_empty() {
        errors.push(FieldError::required(&path.child(key), ""));
    }
    value
}

/// If the text is set, `rule` must find nothing.
pub fn optional(object: &Object, key: &str, path: &Path, rule: fn(&str) -> Vec<String>, errors: &mut ErrorList) {
    let value = text(object, key);
    if !value.is_empty() {
        messages(value, &path.child(key), rule(value), errors);
    }
}

/// The text must be set, and `rule` must find nothing.
pub fn named<'a>(
    object: &'a Object,
    key: &str,
    path: &Path,
    rule: fn(&str) -> Vec<String>,
    errors: &mut ErrorList,
) -> &'a str {
    let value = required(object, key, path, errors);
    optional(object, key, path, rule, errors);
    value
}

/// The text must be one of these; an empty one is missing.
pub fn one_of(object: &Object, key: &str, allowed: &[&str], path: &Path, errors: &mut ErrorList) {
    if !required(object, key, path, errors).is_empty() {
        optional_one_of(object, key, allowed, path, errors);
    }
}

/// If the field is set, it must be one of these.
pub fn optional_one_of(object: &Object, key: &str, allowed: &[&str], path: &Path, errors: &mut ErrorList) {
    if get(object, key).is_some() && !allowed.contains(&text(object, key)) {
        errors.push(FieldError::not_supported(&path.child(key), text(object, key), allowed));
    }
}

/// The number must not be negative.
pub fn non_negative(object: &Object, key: &str, path: &Path, errors: &mut ErrorList) {
    if let Some(value) = int(object, key).filter(|v| *v < 0) {
        errors.push(FieldError::invalid(&path.child(key), value, "must be greater than or equal to 0"));
    }
}

/// If the number is set, it must be in this range.
pub fn in_range(object: &Object, key: &str, low: i64, high: i64, path: &Path, errors: &mut ErrorList) {
    if let Some(value) = int(object, key).filter(|v| !(low..=high).contains(v)) {
        errors.push(FieldError::invalid(&path.child(key), value, names::range_error(low, high)));
    }
}

/// A value as upstream shows it where it has no published form: all fields in order, named with a capital.
pub fn internal(value: &Object, fields: &[&str]) -> String {
    let shown = fields.iter().map(|field| {
        let (first, rest) = field.split_at(1);
        format!("\"{}{rest}\":{}", first.to_uppercase(), value.get(*field).unwrap_or(&Value::Null))
    });
    format!("{{{}}}", shown.collect::<Vec<_>>().join(","))
}

/// A port by number or by name.
pub fn port(object: &Object, key: &str, path: &Path, errors: &mut ErrorList) {
    let path = path.child(key);
    match get(object, key) {
        Some(Value::String(name)) => messages(name, &path, names::port_name(name), errors),
        other => {
            let number = other.and_then(Value::as_i64).unwrap_or(0);
            let found = names::port_number(number).into_iter();
            errors.extend(found.map(|message| FieldError::invalid(&path, number, message)));
        }
    }
}

/// The field must not differ from the stored one.
pub fn immutable(new: &Object, old: &Object, key: &str, path: &Path, errors: &mut ErrorList) {
    if get(new, key) != get(old, key) {
        let value = new.get(key).cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(&path.child(key), value, IMMUTABLE));
    }
}

/// The text must not be absolute nor climb out.
pub fn descending_path(value: &str, path: &Path, errors: &mut ErrorList) {
    if value.starts_with('/') {
        errors.push(FieldError::invalid(path, value, "must be a relative path"));
    }
    no_backsteps(value, path, errors);
}

/// As [`descending_path`], and its name is none that volumes reserve.
pub fn unreserved_path(value: &str, path: &Path, errors: &mut ErrorList) {
    descending_path(value, path, errors);
    if value.starts_with("..") && !value.starts_with("../") {
        errors.push(FieldError::invalid(path, value, "must not start with '..'"));
    }
}

pub fn no_backsteps(value: &str, path: &Path, errors: &mut ErrorList) {
    if value.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, value, "must not contain '..'"));
    }
}
