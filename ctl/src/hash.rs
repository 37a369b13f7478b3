//! The hash that ConfigMaps and Secrets get at the end of their names: another content is another name. It is kubectl's
//! and kustomize's.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// The hash of a ConfigMap or Secret.
pub(crate) fn of(object: &Value) -> String {
    let field = |name: &str| object.get(name).filter(|value| !value.is_null());
    let is_secret = field("kind").is_some_and(|kind| kind == "Secret");
    let data = field("data").cloned().unwrap_or_else(|| json!({}));
    // Members in the order of their names.
    let mut hashed = Map::new();
    if let Some(binary) = field("binaryData").filter(|_| !is_secret) {
        hashed.insert("binaryData".into(), sorted(binary));
    }
    hashed.insert("data".into(), sorted(&data));
    if let Some(immutable) = field("immutable") {
        hashed.insert("immutable".into(), immutable.clone());
    }
    hashed.insert("kind".into(), field("kind").cloned().unwrap_or_default());
    let name = object.pointer("/metadata/name").cloned().unwrap_or_else(|| "".into());
    hashed.insert("name".into(), name);
    if is_secret {
        hashed.insert("type".into(), field("type").cloned().unwrap_or_else(|| "".into()));
    }
    encode(&Sha256::digest(as_go_writes(&Value::Object(hashed))))
}

/// The members in the order of their names, as Go writes maps.
fn sorted(value: &Value) -> Value {
    let mut members: Vec<_> = value.as_object().into_iter().flatten().collect();
    members.sort_by(|left, right| left.0.cmp(right.0));
    Value::Object(members.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// JSON as Go's encoder writes it: what HTML gives a meaning to is escaped.
fn as_go_writes(value: &Value) -> String {
    let mut text = String::new();
    for letter in value.to_string().chars() {
        match letter {
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            other => text.push(other),
        }
    }
    text
}

/// The first ten digits, with letters in the place of those that could make a word.
fn encode(digest: &[u8]) -> String {
    let text: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    let other = |digit| match digit {
        '0' => 'g',
        '1' => 'h',
        '3' => 'k',
        'a' => 'm',
        'e' => 't',
        digit => digit,
    };
    text.chars().map(other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What kubectl makes of the same.
    #[test]
    fn hashes_are_kubectls() {
        let map = |data: Value| json!({"kind": "ConfigMap", "metadata": {"name": "x"}, "data": data});
        for (object, hash) in [
            (json!({"kind": "ConfigMap", "metadata": {"name": "x"}}), "62ctbmbfd2"),
            (map(json!({"b": "1", "a": "<&>\n"})), "m999kftgk9"),
            (json!({"kind": "Secret", "metadata": {"name": "x"}, "data": {"a": "MQ=="}}), "hbhk6tkb4h"),
            (json!({"kind": "Secret", "metadata": {"name": "x"}, "type": "t", "data": {"a": "MQ=="}}), "5gkd6kmkhc"),
        ] {
            assert_eq!(of(&object), hash, "{object}");
        }
    }
}
