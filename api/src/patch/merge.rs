//! JSON merge patch (RFC 7386).

use serde_json::Value;
use serde_json::map::Entry;

/// Applies a merge patch: members of the patch replace, and null removes.
pub fn apply(mut document: Value, patch: &Value) -> Value {
    merge(&mut document, patch);
    document
}

fn merge(target: &mut Value, patch: &Value) {
    let (Value::Object(target), Value::Object(patch)) = (&mut *target, patch) else {
        *target = patch.clone();
        without_nulls(target);
        return;
    };
    for (key, change) in patch {
        if change.is_null() {
            target.remove(key);
            continue;
        }
        match target.entry(key.as_str()) {
            Entry::Occupied(mut found) if found.get().is_object() || !change.is_object() => {
                // A list that replaces a value is taken as it is, nulls and all.
                if change.is_object() { merge(found.get_mut(), change) } else { *found.get_mut() = change.clone() }
            }
            Entry::Occupied(mut found) => {
                *found.get_mut() = change.clone();
                without_nulls(found.get_mut());
            }
            Entry::Vacant(free) => without_nulls(free.insert(change.clone())),
        }
    }
}

/// In what is new, null members of objects mean absence, also inside lists.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, member| !member.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The cases of RFC 7386, appendix A, and those where upstream's library is particular.
    #[test]
    fn merges() {
        for (target, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({"a": "foo"}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (json!({}), json!({"a": [{"b": null}, null]}), json!({"a": [{}, null]})),
            (json!({"a": []}), json!({"a": [{"b": null}]}), json!({"a": [{"b": null}]})),
        ] {
            assert_eq!(apply(target, &patch), expected, "{patch}");
        }
    }
}
