//! Three-way JSON merge patches (RFC 7386), for kinds whose lists have no merge keys: custom resources.

use serde_json::{Map, Value};

/// The merge patch that makes `current` what `modified` says, and takes away what only `original` said.
pub(crate) fn three_way(original: Option<&Value>, modified: &Value, current: &Value) -> Value {
    let mut patch = changes(current, modified);
    if let Some(original) = original {
        merge(&mut patch, deletions(original, modified));
    }
    Value::Object(patch)
}

/// The merge patch from one object to another.
pub(crate) fn two_way(from: &Value, to: &Value) -> Value {
    three_way(Some(from), to, from)
}

/// What is new or other in `to`.
fn changes(from: &Value, to: &Value) -> Map<String, Value> {
    let mut patch = Map::new();
    for (key, value) in to.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        match from.get(key) {
            Some(old) if old == value => {}
            Some(old) if old.is_object() && value.is_object() => {
                let inner = changes(old, value);
                if !inner.is_empty() {
                    patch.insert(key.clone(), inner.into());
                }
            }
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    patch
}

/// A null for what is only in `from`.
fn deletions(from: &Value, to: &Value) -> Map<String, Value> {
    let mut patch = Map::new();
    for (key, old) in from.as_object().into_iter().flatten() {
        match to.get(key) {
            None | Some(Value::Null) => {
                patch.insert(key.clone(), Value::Null);
            }
            Some(value) if old.is_object() && value.is_object() => {
                let inner = deletions(old, value);
                if !inner.is_empty() {
                    patch.insert(key.clone(), inner.into());
                }
            }
            Some(_) => {}
        }
    }
    patch
}

fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(into)), Value::Object(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_applied_and_is_no_longer_wanted_goes() {
        let original = json!({"a": 1, "b": {"c": 1, "d": 2}, "gone": {"x": 1}});
        let modified = json!({"a": 2, "b": {"c": 1}, "new": [1]});
        let current = json!({"a": 1, "b": {"c": 1, "d": 2, "server": true}, "gone": {"x": 1}, "other": 1});
        let expected = json!({"a": 2, "b": {"d": null}, "gone": null, "new": [1]});
        assert_eq!(three_way(Some(&original), &modified, &current), expected);
        assert_eq!(three_way(None, &modified, &modified), json!({}));
        assert_eq!(two_way(&json!({"a": 1, "b": 1}), &json!({"b": 2})), json!({"a": null, "b": 2}));
    }
}
