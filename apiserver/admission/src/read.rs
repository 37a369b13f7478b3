//! Reading and changing decoded objects; what is missing or of another type reads as empty.

use api::{Object, object};
use serde_json::{Map, Value};

const NOTHING: &[Value] = &[];

/// The items of a list under `key`.
pub fn list<'a>(value: Option<&'a Value>, key: &str) -> &'a [Value] {
    value.and_then(|v| v.get(key)).and_then(Value::as_array).map_or(NOTHING, Vec::as_slice)
}

/// The text at a JSON pointer.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// The items of a list of the spec.
pub fn spec_list<'a>(object: &'a Object, key: &str) -> &'a [Value] {
    list(object.get("spec"), key)
}

/// The list under `key`, put there when it is missing or of another type.
pub fn list_mut<'a>(parent: &'a mut Object, key: &str) -> &'a mut Vec<Value> {
    let slot = parent.entry(key).or_insert_with(|| Value::Array(Vec::new()));
    if !slot.is_array() {
        *slot = Value::Array(Vec::new());
    }
    match slot {
        Value::Array(items) => items,
        _ => unreachable!("made a list just above"),
    }
}

/// Whether a field of the spec is there and not null.
pub fn has_spec(object: &Object, key: &str) -> bool {
    object::at(object, &["spec", key]).is_some_and(|v| !v.is_null())
}

/// A map of metadata: labels or annotations.
pub fn meta_map<'a>(object: &'a Object, key: &str) -> Option<&'a Map<String, Value>> {
    object::metadata(object)?.get(key)?.as_object()
}

/// The value of an annotation, when it is set.
pub fn annotation<'a>(object: &'a Object, key: &str) -> Option<&'a str> {
    meta_map(object, "annotations")?.get(key)?.as_str()
}

/// Whether two values are the same when null, missing and empty are.
pub fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    fn present(value: Option<&Value>) -> Option<&Value> {
        value.filter(|v| match v {
            Value::Null => false,
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            _ => true,
        })
    }
    present(a) == present(b)
}
