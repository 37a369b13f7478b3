//! Strategic merge patch: a merge patch that knows from the schema which lists are merged item by item, and that
//! carries
//! directives (`$patch`, `$deleteFromPrimitiveList`, `$setElementOrder`, `$retainKeys`).

mod list;

use serde_json::Value;

use super::inapplicable;
use crate::Object;
use crate::schema::Schema;
use crate::status::Status;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_ITEMS: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

/// Applies a strategic merge patch to an object of a built-in kind.
///
/// # Errors
/// A directive in a wrong form (400), lists of lists (422), and items without their merge key or unknown directives,
/// for
/// which upstream answers 500.
pub fn apply(document: Value, patch: &Value, schema: &Schema) -> Result<Value, Status> {
    let original = match document {
        Value::Object(map) => map,
        _ => Object::new(),
    };
    let Value::Object(patch) = patch else { return Err(wrong_kind("map[string]interface {}", patch)) };
    merge_map(original, patch, Some(schema)).map(Value::Object)
}

fn merge_map(mut original: Object, patch: &Object, schema: Option<&Schema>) -> Result<Object, Status> {
    match patch.get(PATCH) {
        None => {}
        Some(directive) if directive == "replace" => {
            let mut replaced = patch.clone();
            replaced.remove(PATCH);
            return Ok(replaced);
        }
        Some(directive) if directive == "delete" => return Ok(Object::new()),
        Some(directive) => return Err(unknown_directive(directive, patch)),
    }
    retain_keys(&mut original, patch)?;
    let ordered = ordered_lists(&mut original, patch, schema)?;
    for (key, change) in patch {
        if key == RETAIN_KEYS || key.starts_with(ORDER) || ordered.contains(&key.as_str()) {
            continue;
        }
        if let Some(name) = key.strip_prefix(DELETE_ITEMS) {
            if let (Some(Value::Array(list)), Value::Array(gone)) = (original.get_mut(name), change) {
                list.retain(|item| !gone.contains(item));
            }
        } else if key.starts_with("$deleteFromPrimitiveList") {
            return Err(Status::bad_request("invalid patch format of primitive list"));
        } else {
            merge_member(&mut original, key, change, schema)?;
        }
    }
    Ok(original)
}

fn merge_member(original: &mut Object, key: &str, change: &Value, schema: Option<&Schema>) -> Result<(), Status> {
    let field = schema.and_then(|schema| schema.field(key)).map(AsRef::as_ref);
    let merged = match (original.remove(key), change) {
        (_, Value::Null) => return Ok(()),
        (Some(Value::Object(old)), Value::Object(change)) => Value::Object(merge_map(old, change, field)?),
        (Some(Value::Array(old)), Value::Array(change)) => Value::Array(list::merge(old, change, field)?),
        (_, change) => match without_directives(change) {
            Some(new) => new,
            None => return Ok(()),
        },
    };
    original.insert(key.to_owned(), merged);
    Ok(())
}

/// A new value as it is stored: without nulls and directives; `None` when it is only there to delete.
fn without_directives(value: &Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(PATCH) => None,
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, value)| !value.is_null() && !is_directive(key));
            let kept = kept.filter_map(|(key, value)| Some((key.clone(), without_directives(value)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(list) => Some(Value::Array(list.iter().filter_map(without_directives).collect())),
        other => Some(other.clone()),
    }
}

fn is_directive(key: &str) -> bool {
    key == RETAIN_KEYS || key.starts_with(ORDER) || key.starts_with(DELETE_ITEMS)
}

/// `$retainKeys`: members that are not listed go; the patch may set listed ones only.
fn retain_keys(original: &mut Object, patch: &Object) -> Result<(), Status> {
    let Some(listed) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let wrong = || Status::bad_request("invalid patch format of retainKeys");
    let listed = listed.as_array().ok_or_else(wrong)?;
    let is_listed = |key: &str| listed.iter().any(|k| k == key);
    let set = |(key, value): (&String, &Value)| !value.is_null() && !is_directive(key) && !is_listed(key);
    if patch.iter().any(set) {
        return Err(wrong());
    }
    original.retain(|key, _| is_listed(key));
    Ok(())
}

/// Merges and orders the lists that have a `$setElementOrder`; returns their names.
fn ordered_lists<'p>(
    original: &mut Object,
    patch: &'p Object,
    schema: Option<&Schema>,
) -> Result<Vec<&'p str>, Status> {
    let mut done = Vec::new();
    for (key, order) in patch {
        let Some(name) = key.strip_prefix(ORDER) else {
            if key.starts_with("$setElementOrder") {
                return Err(Status::bad_request("invalid patch format of setElementOrder list"));
            }
            continue;
        };
        let as_list = |value: &'p Value| value.as_array().ok_or_else(|| wrong_kind("[]interface {}", value));
        let order = as_list(order)?;
        let change = patch.get(name).map(as_list).transpose()?;
        let field = schema.and_then(|schema| schema.field(name)).map(AsRef::as_ref);
        let merge_key = field.map_or("", |field| field.patch_merge_key.as_ref());
        if let Some(change) = change {
            list::check_order(change, order, merge_key)?;
            done.push(name);
        }
        let before = match original.remove(name) {
            None => None,
            Some(Value::Array(list)) => Some(list),
            Some(other) => return Err(wrong_kind("[]interface {}", &other)),
        };
        let merged = match (before.clone(), change) {
            (None, None) => continue,
            (Some(before), None) => before,
            (None, Some(change)) => change.iter().filter_map(without_directives).collect(),
            (Some(before), Some(change)) => list::merge(before, change, field)?,
        };
        let sorted = list::in_order(merged, order, &before.unwrap_or_default(), merge_key)?;
        original.insert(name.to_owned(), Value::Array(sorted));
    }
    Ok(done)
}

fn unknown_directive(directive: &Value, map: &Object) -> Status {
    let map = Value::Object(map.clone());
    Status::unexpected(format!("unknown patch type: {} in map: {}", go_value(directive), go_value(&map)))
}

fn no_merge_key(item: &Object, key: &str) -> Status {
    let item = Value::Object(item.clone());
    Status::unexpected(format!("map: {} does not contain declared merge key: {key}", go_value(&item)))
}

fn wrong_kind(wanted: &str, value: &Value) -> Status {
    let kind = match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    Status::unexpected(format!("expected a {wanted}, but received a {kind}"))
}

/// A value as Go's `%v` prints it.
fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let members: Vec<_> = map.iter().map(|(key, value)| format!("{key}:{}", go_value(value))).collect();
            format!("map[{}]", members.join(" "))
        }
        other => other.to_string(),
    }
}

/// Lists in lists have no meaning in this kind of patch.
fn list_of_lists() -> Status {
    inapplicable()
}

#[cfg(test)]
mod tests;
