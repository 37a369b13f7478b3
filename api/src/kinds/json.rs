//! Short ways to read and default fields of decoded objects. A field that is null reads as missing, as in upstream's Go
//! types.

use serde_json::{Map, Value};

use crate::Object;

/// The field, unless it is missing or null.
pub fn get<'a>(object: &'a Object, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|v| !v.is_null())
}

pub fn object<'a>(object: &'a Object, key: &str) -> Option<&'a Object> {
    object.get(key).and_then(Value::as_object)
}

/// The items of an array; none when it is missing.
pub fn list<'a>(object: &'a Object, key: &str) -> &'a [Value] {
    object.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The objects in an array, with their indexes.
pub fn objects<'a>(object: &'a Object, key: &str) -> impl Iterator<Item = (usize, &'a Object)> + use<'a> {
    list(object, key).iter().enumerate().filter_map(|(i, v)| v.as_object().map(|o| (i, o)))
}

/// The texts in an array, with their indexes.
pub fn texts<'a>(object: &'a Object, key: &str) -> impl Iterator<Item = (usize, &'a str)> + use<'a> {
    list(object, key).iter().enumerate().filter_map(|(i, v)| v.as_str().map(|s| (i, s)))
}

/// The text; empty when it is missing.
pub fn text<'a>(object: &'a Object, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or("")
}

pub fn int(object: &Object, key: &str) -> Option<i64> {
    object.get(key).and_then(Value::as_i64)
}

/// Whether the field is `true`.
pub fn is_true(object: &Object, key: &str) -> bool {
    object.get(key) == Some(&Value::Bool(true))
}

pub fn object_mut<'a>(object: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    object.get_mut(key).and_then(Value::as_object_mut)
}

/// The object under `key`, put there when it is missing or null.
pub fn ensure<'a>(object: &'a mut Object, key: &str) -> &'a mut Object {
    crate::object::child_mut(object, key)
}

/// Calls `change` on every object in an array.
pub fn each_mut(object: &mut Object, key: &str, change: impl FnMut(&mut Object)) {
    let items = object.get_mut(key).and_then(Value::as_array_mut);
    items.into_iter().flatten().filter_map(Value::as_object_mut).for_each(change);
}

/// Sets the field if it is missing or null.
pub fn default(object: &mut Object, key: &str, value: impl Into<Value>) {
    if get(object, key).is_none() {
        object.insert(key.to_owned(), value.into());
    }
}

/// Sets the text if it is missing, null or empty.
pub fn default_text(object: &mut Object, key: &str, value: &str) {
    if text(object, key).is_empty() {
        object.insert(key.to_owned(), value.into());
    }
}

/// Sets the number if it is missing, null or zero.
pub fn default_number(object: &mut Object, key: &str, value: i64) {
    if int(object, key).unwrap_or(0) == 0 {
        object.insert(key.to_owned(), value.into());
    }
}

/// Sets an empty object if the field is missing or null.
pub fn default_object(object: &mut Object, key: &str) {
    default(object, key, Map::new());
}

/// Takes over the field of another object, also its absence.
pub fn keep(new: &mut Object, old: &Object, key: &str) {
    match old.get(key) {
        Some(value) => {
            new.insert(key.to_owned(), value.clone());
        }
        None => {
            new.remove(key);
        }
    }
}

/// Whether both objects have the same value in the field; null is as missing.
pub fn same(a: &Object, b: &Object, key: &str) -> bool {
    get(a, key) == get(b, key)
}
