//! Reading and writing the metadata of a decoded object without a typed model of its kind.

use serde_json::{Map, Value};

use crate::Object;

/// `metadata` of an object, if it is there and is an object.
pub fn metadata(object: &Object) -> Option<&Object> {
    object.get("metadata").and_then(Value::as_object)
}

/// `metadata` of an object, put there when it is missing or null or of another type.
pub fn metadata_mut(object: &mut Object) -> &mut Object {
    child_mut(object, "metadata")
}

/// The object under `key`, put there when it is missing or null or of another type.
pub fn child_mut<'a>(object: &'a mut Object, key: &str) -> &'a mut Object {
    let slot = object.entry(key).or_insert_with(|| Value::Object(Map::new()));
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    match slot {
        Value::Object(map) => map,
        _ => unreachable!("made an object just above"),
    }
}

/// A text field of `metadata`; empty when it is missing.
pub fn meta_str<'a>(object: &'a Object, key: &str) -> &'a str {
    metadata(object).and_then(|m| m.get(key)).and_then(Value::as_str).unwrap_or("")
}

pub fn name(object: &Object) -> &str {
    meta_str(object, "name")
}

pub fn namespace(object: &Object) -> &str {
    meta_str(object, "namespace")
}

pub fn uid(object: &Object) -> &str {
    meta_str(object, "uid")
}

pub fn resource_version(object: &Object) -> &str {
    meta_str(object, "resourceVersion")
}

/// Whether `metadata.deletionTimestamp` is set.
pub fn is_terminating(object: &Object) -> bool {
    !meta_str(object, "deletionTimestamp").is_empty()
}

/// The value at a path of object keys.
pub fn at<'a>(object: &'a Object, path: &[&str]) -> Option<&'a Value> {
    let (last, parents) = path.split_last()?;
    let mut here = object;
    for key in parents {
        here = here.get(*key)?.as_object()?;
    }
    here.get(*last)
}

/// The text at a path of object keys; empty when it is missing or no text.
pub fn str_at<'a>(object: &'a Object, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or("")
}
