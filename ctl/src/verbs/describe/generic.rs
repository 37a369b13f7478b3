//! Every kind that has no layout of its own: all fields, with titles made from their names.

use serde_json::Value;

use super::parts::labels_and_annotations;
use super::text::Text;
use crate::verbs::pods::text;

/// Fields that the head shows already, and the server's bookkeeping.
const SKIPPED: [&str; 5] =
    [".metadata.managedFields", ".metadata.name", ".metadata.namespace", ".metadata.labels", ".metadata.annotations"];

pub(super) fn object(out: &mut Text, object: &Value) {
    out.field(0, "Name", text(object, "/metadata/name"));
    out.field(0, "Namespace", text(object, "/metadata/namespace"));
    labels_and_annotations(out, object);
    members(out, 0, object, "");
}

fn members(out: &mut Text, depth: usize, object: &Value, path: &str) {
    for (key, value) in object.as_object().into_iter().flatten() {
        let here = format!("{path}.{key}");
        if SKIPPED.contains(&here.as_str()) {
            continue;
        }
        let title = title(key);
        match value {
            Value::Object(_) => {
                out.line(depth, format!("{title}:"));
                members(out, depth + 1, value, &here);
            }
            Value::Array(items) => {
                out.line(depth, format!("{title}:"));
                for item in items {
                    match item {
                        Value::Object(_) => members(out, depth + 1, item, &here),
                        Value::String(text) => out.line(depth + 1, text),
                        other => out.line(depth + 1, other.to_string()),
                    }
                }
            }
            Value::String(text) => out.field(depth, &title, text),
            Value::Null => out.field(depth, &title, "<nil>"),
            other => out.field(depth, &title, other.to_string()),
        }
    }
}

/// `apiVersion` is `API Version`.
fn title(field: &str) -> String {
    const ACRONYMS: [&str; 4] = ["API", "URL", "UID", "GUID"];
    if !field.chars().all(|c| c.is_alphabetic() || c == '-') {
        return field.to_owned();
    }
    let mut words: Vec<String> = Vec::new();
    let letters: Vec<char> = field.chars().collect();
    for (at, c) in letters.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|before| letters.get(before));
        let starts = match before {
            None => true,
            Some(before) if before.is_lowercase() && c.is_uppercase() => true,
            // The last capital of several begins the next word: `podIPs` keeps `IPs`, `URLPath` is two words.
            Some(before) if before.is_uppercase() && c.is_uppercase() => {
                letters.get(at + 1).is_some_and(|next| next.is_lowercase()) && letters.len() > at + 2
            }
            Some(_) => false,
        };
        match words.last_mut() {
            Some(word) if !starts => word.push(*c),
            _ => words.push(c.to_string()),
        }
    }
    let shown = words.into_iter().map(|word| {
        let upper = word.to_uppercase();
        if ACRONYMS.contains(&upper.as_str()) {
            return upper;
        }
        if word.chars().any(char::is_uppercase) {
            return word;
        }
        let mut letters = word.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
    });
    shown.collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_words() {
        for (field, expected) in [
            ("apiVersion", "API Version"),
            ("uid", "UID"),
            ("resourceVersion", "Resource Version"),
            ("spec", "Spec"),
            ("clusterIP", "Cluster IP"),
            ("podIPs", "Pod IPs"),
            ("a.b/c", "a.b/c"),
        ] {
            assert_eq!(title(field), expected);
        }
    }
}
