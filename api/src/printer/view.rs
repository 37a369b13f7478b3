//! Short reading of untyped objects, and the pieces that several kinds print alike.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::shown::Shown;
use crate::Object;
use crate::object::{at, meta_str, name, str_at};

/// What stands for a text that is not set.
pub(super) const NONE: &str = "<none>";
pub(super) const UNSET: &str = "<unset>";
pub(super) const UNKNOWN: &str = "<unknown>";

pub(super) fn text(object: &Object, path: &[&str]) -> Shown {
    Shown::from(str_at(object, path))
}

/// A text, or what stands for it when it is empty.
pub(super) fn text_or(object: &Object, path: &[&str], otherwise: &str) -> Shown {
    let found = str_at(object, path);
    Shown::from(if found.is_empty() { otherwise } else { found })
}

pub(super) fn number(object: &Object, path: &[&str]) -> i64 {
    at(object, path).and_then(Value::as_i64).unwrap_or(0)
}

pub(super) fn number_if_set(object: &Object, path: &[&str]) -> Option<i64> {
    at(object, path).and_then(Value::as_i64)
}

pub(super) fn boolean(object: &Object, path: &[&str]) -> bool {
    at(object, path).and_then(Value::as_bool).unwrap_or(false)
}

pub(super) fn list<'a>(object: &'a Object, path: &[&str]) -> &'a [Value] {
    at(object, path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The items of a list that are objects.
pub(super) fn objects<'a>(object: &'a Object, path: &[&str]) -> impl Iterator<Item = &'a Object> {
    list(object, path).iter().filter_map(Value::as_object)
}

/// The texts of a list.
pub(super) fn texts<'a>(object: &'a Object, path: &[&str]) -> impl Iterator<Item = &'a str> {
    list(object, path).iter().filter_map(Value::as_str)
}

pub(super) fn map<'a>(object: &'a Object, path: &[&str]) -> Option<&'a Map<String, Value>> {
    at(object, path).and_then(Value::as_object)
}

pub(super) fn size(object: &Object, path: &[&str]) -> Shown {
    match at(object, path) {
        Some(Value::Array(items)) => Shown::from(items.len()),
        Some(Value::Object(entries)) => Shown::from(entries.len()),
        _ => Shown::from(0),
    }
}

/// A number or a text as it is written.
pub(super) fn plain(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

pub(super) fn joined<'a>(parts: impl Iterator<Item = &'a str>, separator: &str) -> String {
    parts.collect::<Vec<_>>().join(separator)
}

pub(super) fn named(object: &Object) -> Shown {
    Shown::from(name(object))
}

pub(super) fn age(object: &Object) -> Shown {
    Shown::since(meta_str(object, "creationTimestamp"))
}

/// The condition of a type.
pub(super) fn condition<'a>(object: &'a Object, ty: &str) -> Option<&'a Object> {
    objects(object, &["status", "conditions"]).find(|condition| str_at(condition, &["type"]) == ty)
}

pub(super) fn is_true(object: &Object, ty: &str) -> bool {
    condition(object, ty).is_some_and(|condition| str_at(condition, &["status"]) == "True")
}

/// Names and images of a list of containers.
pub(super) fn containers(object: &Object, path: &[&str]) -> [Shown; 2] {
    ["name", "image"].map(|key| Shown::from(joined(objects(object, path).map(|c| str_at(c, &[key])), ",")))
}

/// Labels as `a=b,c=d`, sorted; `<none>` when there are none.
pub(super) fn labels(found: Option<&Map<String, Value>>) -> String {
    let mut pairs: Vec<_> = found.into_iter().flatten().collect();
    pairs.sort_by(|a, b| a.0.cmp(b.0));
    let listed: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or(""))).collect();
    if listed.is_empty() { NONE.to_owned() } else { listed.join(",") }
}

/// A label selector as `a=b,c in (d,e)`, sorted by key; empty when it selects everything.
fn requirements(selector: &Object) -> String {
    let mut found: Vec<(String, String)> = Vec::new();
    for (key, value) in map(selector, &["matchLabels"]).into_iter().flatten() {
        found.push((key.clone(), format!("{key}={}", value.as_str().unwrap_or(""))));
    }
    for expression in objects(selector, &["matchExpressions"]) {
        let key = str_at(expression, &["key"]);
        let mut values: Vec<_> = texts(expression, &["values"]).collect();
        values.sort_unstable();
        let values = values.join(",");
        let shown = match str_at(expression, &["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        found.push((key.to_owned(), shown));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    joined(found.iter().map(|(_, shown)| shown.as_str()), ",")
}

/// A label selector; `<none>` when it is missing or selects everything.
pub(super) fn selector(object: &Object, path: &[&str]) -> Shown {
    match map(object, path).map(requirements) {
        Some(shown) if !shown.is_empty() => Shown::from(shown),
        _ => Shown::from(NONE),
    }
}

/// A label selector, empty when it selects everything (Deployments show it so).
pub(super) fn selector_or_empty(object: &Object, path: &[&str]) -> Shown {
    Shown::from(map(object, path).map(requirements).unwrap_or_default())
}

/// The first of many, and how many more there are.
pub(super) fn first_of(parts: &[String], most: usize, empty: &str) -> String {
    if parts.is_empty() {
        return empty.to_owned();
    }
    let mut shown = parts[..parts.len().min(most)].join(",");
    if parts.len() > most {
        write!(shown, " + {} more...", parts.len() - most)
            .unwrap_or_else(|_| unreachable!("writing to a String cannot fail"));
    }
    shown
}
