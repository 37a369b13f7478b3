//! JSON patch (RFC 6902), with the tolerances of upstream's library: a missing member reads as null, negative indexes
//! count from the end.

use std::io;

use serde_json::Value;

use super::inapplicable;
use crate::status::Status;

/// Most operations of one patch.
pub const MAX_OPERATIONS: usize = 10_000;
/// Most bytes that all `copy` operations of a patch may add.
const MAX_COPIED: u64 = 3 * 1024 * 1024;

/// Applies a list of operations, all or none.
///
/// # Errors
/// 422 for the first operation that cannot be applied, also a `test` that fails; upstream does not say which.
pub fn apply(mut document: Value, patch: &Value) -> Result<Value, Status> {
    let mut copied = 0;
    for operation in patch.as_array().into_iter().flatten() {
        operate(&mut document, operation, &mut copied).ok_or_else(inapplicable)?;
    }
    Ok(document)
}

/// One operation; `None` when it cannot be applied.
fn operate(document: &mut Value, operation: &Value, copied: &mut u64) -> Option<()> {
    let path = || operation.get("path").and_then(Value::as_str);
    let from = || operation.get("from").and_then(Value::as_str);
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    match operation.get("op").and_then(Value::as_str)? {
        "add" => add(document, path()?, value()),
        "remove" => remove(document, path()?).map(drop),
        "replace" => replace(document, path()?, value()),
        "move" => {
            let moved = remove(document, from()?)?;
            add(document, path()?, moved)
        }
        "copy" => {
            let copy = read(document, from()?)?;
            *copied += size(&copy);
            if *copied > MAX_COPIED {
                return None;
            }
            add(document, path()?, copy)
        }
        "test" => {
            let found = if path()?.is_empty() { document.clone() } else { read(document, path()?)? };
            (found == value()).then_some(())
        }
        _ => None,
    }
}

/// The value's length in bytes.
fn size(value: &Value) -> u64 {
    struct Count(u64);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => unreachable!("counting never fails"),
    }
}

/// The container that a pointer leads into, and the last part of the pointer.
fn locate<'a>(document: &'a mut Value, pointer: &str) -> Option<(&'a mut Value, String)> {
    let (parents, last) = pointer.rsplit_once('/')?;
    let mut here = document;
    for part in parents.split('/').skip(1) {
        let key = unescape(part);
        here = match here {
            Value::Object(map) => map.get_mut(&key)?,
            Value::Array(list) => {
                let at = index(&key, list.len())?;
                list.get_mut(at)?
            }
            _ => return None,
        };
    }
    (here.is_object() || here.is_array()).then(|| (here, unescape(last)))
}

fn unescape(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

/// A position in a list; negative ones count from `length`.
fn index(key: &str, length: usize) -> Option<usize> {
    let number: i64 = key.parse().ok()?;
    if number >= 0 {
        return usize::try_from(number).ok();
    }
    length.checked_sub(usize::try_from(number.unsigned_abs()).ok()?)
}

fn add(document: &mut Value, pointer: &str, value: Value) -> Option<()> {
    let (container, key) = locate(document, pointer)?;
    match container {
        Value::Object(map) => {
            map.insert(key, value);
        }
        Value::Array(list) if key == "-" => list.push(value),
        Value::Array(list) => {
            let at = index(&key, list.len() + 1).filter(|at| *at <= list.len())?;
            list.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(document: &mut Value, pointer: &str) -> Option<Value> {
    let (container, key) = locate(document, pointer)?;
    match container {
        Value::Object(map) => map.remove(&key),
        Value::Array(list) => {
            let at = index(&key, list.len()).filter(|at| *at < list.len())?;
            Some(list.remove(at))
        }
        _ => None,
    }
}

fn replace(document: &mut Value, pointer: &str, value: Value) -> Option<()> {
    if pointer.is_empty() {
        return (value.is_object() || value.is_array()).then(|| *document = value);
    }
    let (container, key) = locate(document, pointer)?;
    match container {
        Value::Object(map) => {
            map.insert(key, value);
        }
        Value::Array(list) => {
            let at = index(&key, list.len())?;
            *list.get_mut(at)? = value;
        }
        _ => return None,
    }
    Some(())
}

/// What stands at a pointer; a missing member of an object reads as null.
fn read(document: &mut Value, pointer: &str) -> Option<Value> {
    let (container, key) = locate(document, pointer)?;
    match container {
        Value::Object(map) => Some(map.get(&key).cloned().unwrap_or(Value::Null)),
        Value::Array(list) => list.get(index(&key, list.len())?).cloned(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn operations() {
        let document = || json!({"data": {"a": "b", "x/y": 1, "~": 2}, "list": [1, 2, 3]});
        for (patch, expected) in [
            (json!([{"op": "add", "path": "/data/c", "value": 1}]), "/data/c=1"),
            (json!([{"op": "add", "path": "/list/1", "value": 9}]), "/list=[1,9,2,3]"),
            (json!([{"op": "add", "path": "/list/-", "value": 9}]), "/list=[1,2,3,9]"),
            (json!([{"op": "add", "path": "/list/-1", "value": 9}]), "/list=[1,2,3,9]"),
            (json!([{"op": "add", "path": "/list/3", "value": 9}]), "/list=[1,2,3,9]"),
            (json!([{"op": "remove", "path": "/list/0"}]), "/list=[2,3]"),
            (json!([{"op": "replace", "path": "/list/-1", "value": 9}]), "/list=[1,2,9]"),
            (json!([{"op": "replace", "path": "/data/new", "value": 9}]), "/data/new=9"),
            (json!([{"op": "move", "from": "/data/a", "path": "/data/z"}]), "/data/z=\"b\""),
            (json!([{"op": "copy", "from": "/list", "path": "/data/z"}]), "/data/z=[1,2,3]"),
            (json!([{"op": "test", "path": "/data/x~1y", "value": 1}]), "/list/0=1"),
            (json!([{"op": "test", "path": "/data/~0", "value": 2}]), "/list/0=1"),
            (json!([{"op": "test", "path": "/data/nothing"}]), "/list/0=1"),
            (json!([{"op": "replace", "path": "", "value": {"q": 1}}]), "/q=1"),
        ] {
            let patched = apply(document(), &patch).unwrap();
            let (pointer, value) = expected.split_once('=').unwrap();
            assert_eq!(patched.pointer(pointer).map(ToString::to_string).as_deref(), Some(value), "{patch}");
        }
    }

    #[test]
    fn what_cannot_be_applied_changes_nothing() {
        let document = json!({"data": {"a": "b"}, "list": [1]});
        for patch in [
            json!([{"op": "test", "path": "/data/a", "value": "x"}]),
            json!([{"op": "remove", "path": "/data/zz"}]),
            json!([{"op": "replace", "path": "/nope/x", "value": "1"}]),
            json!([{"op": "foo", "path": "/a"}]),
            json!([{"op": "add", "path": "/list/5", "value": "a"}]),
            json!([{"op": "add", "path": "/list/x", "value": "a"}]),
            json!([{"op": "remove", "path": "/list/-2"}]),
            json!([{"op": "copy", "from": "/q/w", "path": "/x"}]),
            json!([{"op": "move", "from": "/data/nn", "path": "/x"}]),
            json!([{"op": "add", "value": 1}]),
            json!([{"op": "remove", "path": ""}]),
            json!([{"op": "replace", "path": "", "value": 5}]),
        ] {
            let error = apply(document.clone(), &patch).unwrap_err();
            assert_eq!((error.code, error.message.as_str()), (422, inapplicable().message.as_str()), "{patch}");
        }
    }

    #[test]
    fn copies_are_bounded() {
        let mut patch = vec![json!({"op": "add", "path": "/a", "value": "x".repeat(1024)})];
        for _ in 0..16 {
            patch.push(json!({"op": "copy", "from": "/a", "path": "/b"}));
            patch.push(json!({"op": "replace", "path": "/a", "value": {}}));
            patch.push(json!({"op": "move", "from": "/b", "path": "/a/x"}));
            patch.push(json!({"op": "copy", "from": "/a/x", "path": "/a/y"}));
        }
        assert_eq!(apply(json!({}), &patch.into()).unwrap_err().code, 422);
    }
}
