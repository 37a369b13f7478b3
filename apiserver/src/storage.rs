//! The stored form of an object and the wire form made from it.
//!
//! Stored bytes are JSON without `resourceVersion`, beginning `{"apiVersion":…,"kind":…,"metadata":{`, so that the
//! wire form is the same bytes with `"resourceVersion":"N",` spliced in behind that brace: no decoding, one copy.

use std::ops::Range;

use api::Object;
use bytes::Bytes;
use serde_json::Value;

const METADATA: &[u8] = b"\"metadata\":{";
const MANAGED_FIELDS: &[u8] = b"\"managedFields\":";
const RESOURCE_VERSION: &[u8] = b"\"resourceVersion\":\"";

/// The stored form. `resourceVersion` and `selfLink` are left out; they are not part of what is stored.
pub fn encode(object: &Object) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(b"{\"apiVersion\":");
    put(&mut out, object.get("apiVersion").unwrap_or(&Value::Null));
    out.extend_from_slice(b",\"kind\":");
    put(&mut out, object.get("kind").unwrap_or(&Value::Null));
    out.extend_from_slice(b",\"metadata\":{");
    if let Some(Value::Object(metadata)) = object.get("metadata") {
        let mut first = true;
        for (key, value) in metadata {
            if key == "resourceVersion" || key == "selfLink" {
                continue;
            }
            put_field(&mut out, &mut first, key, value);
        }
    }
    out.push(b'}');
    let mut first = false;
    for (key, value) in object {
        if !matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            put_field(&mut out, &mut first, key, value);
        }
    }
    out.push(b'}');
    out
}

fn put_field(out: &mut Vec<u8>, first: &mut bool, key: &str, value: &Value) {
    if !std::mem::take(first) {
        out.push(b',');
    }
    put(out, key);
    out.push(b':');
    put(out, value);
}

fn put<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).unwrap_or_else(|_| unreachable!("JSON values with text keys always serialize"));
}

/// Where the wire form of an object has its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Offset just behind `"metadata":{`.
    pub metadata: usize,
}

/// The layout of stored bytes, or `None` when something else than [`encode`] wrote them.
pub fn layout(stored: &[u8]) -> Option<Layout> {
    if !stored.starts_with(b"{\"apiVersion\":\"") {
        return None;
    }
    let head = &stored[..stored.len().min(512)];
    let at = memchr::memmem::find(head, METADATA)? + METADATA.len();
    let before = &head[..at - METADATA.len()];
    let flat =
        !before[1..].iter().any(|b| matches!(b, b'{' | b'[')) && memchr::memmem::find(before, b"\"kind\":").is_some();
    let spliced = stored[at..].starts_with(RESOURCE_VERSION);
    (flat && !spliced).then_some(Layout { metadata: at })
}

/// Appends the wire form to `out`; the bytes are normalized first when a foreign writer laid them out otherwise.
pub fn splice_into(out: &mut Vec<u8>, stored: &[u8], revision: i64) -> Result<Layout, serde_json::Error> {
    match layout(stored) {
        Some(found) => {
            append(out, stored, found, revision);
            Ok(found)
        }
        None => {
            let object: Object = serde_json::from_slice(stored)?;
            let normal = encode(&object);
            let found =
                layout(&normal).ok_or_else(|| serde::de::Error::custom("the object has no apiVersion or kind"))?;
            append(out, &normal, found, revision);
            Ok(found)
        }
    }
}

fn append(out: &mut Vec<u8>, stored: &[u8], layout: Layout, revision: i64) {
    let (head, tail) = stored.split_at(layout.metadata);
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(revision);
    out.reserve(stored.len() + RESOURCE_VERSION.len() + digits.len() + 2);
    out.extend_from_slice(head);
    out.extend_from_slice(RESOURCE_VERSION);
    out.extend_from_slice(digits.as_bytes());
    out.push(b'"');
    if tail.first() != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(tail);
}

/// The wire form of freshly committed bytes.
pub fn wire(stored: &[u8], revision: i64) -> Result<Bytes, serde_json::Error> {
    let mut out = Vec::new();
    splice_into(&mut out, stored, revision)?;
    Ok(Bytes::from(out))
}

/// Wire bytes with another resource version: what a DELETED event shows.
pub fn with_revision(out: &mut Vec<u8>, wire: &[u8], metadata: usize, revision: i64) {
    let digits_at = metadata + RESOURCE_VERSION.len();
    let digits_end = wire[digits_at..].iter().position(|b| *b == b'"').map_or(wire.len(), |n| digits_at + n);
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(&wire[..digits_at]);
    out.extend_from_slice(digits.format(revision).as_bytes());
    out.extend_from_slice(&wire[digits_end..]);
}

/// Where the wire form has the metadata's member `managedFields`, with a comma that goes with it; empty when it has
/// none.
/// `metadata` is [`Layout::metadata`].
pub fn managed_fields(wire: &[u8], metadata: usize) -> Range<usize> {
    let mut at = metadata;
    while wire.get(at) == Some(&b'"') {
        let key = at;
        let value = end_of_value(wire, key) + 1;
        let end = end_of_value(wire, value);
        let last = wire.get(end) != Some(&b',');
        if &wire[key..value.min(wire.len())] == MANAGED_FIELDS {
            return match (last, key == metadata) {
                (false, _) => key..end + 1,
                (true, true) => key..end,
                (true, false) => key - 1..end,
            };
        }
        if last {
            break;
        }
        at = end + 1;
    }
    metadata..metadata
}

/// The offset behind the JSON value at `at`, of text without blanks.
fn end_of_value(json: &[u8], mut at: usize) -> usize {
    let mut depth = 0usize;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => {
                at = end_of_text(json, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return if depth == 0 { at } else { at + 1 },
            b'}' | b']' => depth -= 1,
            b',' | b':' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    json.len()
}

/// The offset behind the text whose opening quote is at `at`.
fn end_of_text(json: &[u8], at: usize) -> usize {
    let mut from = at + 1;
    while let Some(found) = json.get(from..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        let found = from + found;
        if json[found] == b'"' {
            return found + 1;
        }
        from = found + 2;
    }
    json.len()
}

/// Reads wire or stored bytes as an object.
pub fn decode(bytes: &[u8]) -> Result<Object, serde_json::Error> {
    serde_json::from_slice(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn object(text: &str) -> Object {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn stored_form_begins_with_type_and_metadata() {
        let stored = encode(&object(
            r#"{"binaryData":{},"kind":"ConfigMap","apiVersion":"v1","metadata":{"resourceVersion":"7","name":"a"}}"#,
        ));
        let text = String::from_utf8(stored).unwrap();
        assert_eq!(text, r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"binaryData":{}}"#);
    }

    #[test]
    fn splices_the_revision_and_replaces_it() {
        let stored =
            encode(&object(r#"{"kind":"K","apiVersion":"g/v1","metadata":{"name":"a"},"data":{"metadata":{}}}"#));
        let mut out = Vec::new();
        let at = splice_into(&mut out, &stored, 12).unwrap();
        let wire = String::from_utf8(out.clone()).unwrap();
        assert!(
            wire.starts_with(r#"{"apiVersion":"g/v1","kind":"K","metadata":{"resourceVersion":"12","name":"a"}"#),
            "{wire}"
        );
        let mut later = Vec::new();
        with_revision(&mut later, &out, at.metadata, 3456);
        assert!(String::from_utf8(later).unwrap().contains(r#""resourceVersion":"3456","name":"a""#));
    }

    #[test]
    fn finds_managed_fields_and_nothing_like_them() {
        for (metadata, without) in [
            (r#"{"managedFields":[{"f:a":{"k:{\"n\":\"]\"}":{}}}],"name":"a"}"#, r#"{"name":"a"}"#),
            (
                r#"{"labels":{"managedFields":"x"},"managedFields":[],"name":"a"}"#,
                r#"{"labels":{"managedFields":"x"},"name":"a"}"#,
            ),
            (r#"{"generation":1,"managedFields":[{}]}"#, r#"{"generation":1}"#),
            (r#"{"managedFields":[{}]}"#, "{}"),
            (r#"{"annotations":{"a":"\\\",\"managedFields\":[]"},"name":"managedFields"}"#, ""),
            ("{}", ""),
        ] {
            let wire = format!(r#"{{"kind":"K","metadata":{metadata},"data":{{"managedFields":[1]}}}}"#);
            let at = wire.find(r#""metadata":{"#).unwrap() + METADATA.len();
            let range = managed_fields(wire.as_bytes(), at);
            let cut = format!("{}{}", &wire[..range.start], &wire[range.end..]);
            let expected = if without.is_empty() { wire.clone() } else { wire.replace(metadata, without) };
            assert_eq!(cut, expected);
        }
        let torn = br#"{"metadata":{"managedFields":[{"a":"b"#;
        assert!(managed_fields(torn, 13).end <= torn.len());
    }

    #[test]
    fn normalizes_what_others_wrote() {
        let mut out = Vec::new();
        splice_into(&mut out, br#"{"metadata":{"name":"a"},"kind":"K","apiVersion":"v1"}"#, 5).unwrap();
        let expected = r#"{"apiVersion":"v1","kind":"K","metadata":{"resourceVersion":"5","name":"a"}}"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert!(splice_into(&mut Vec::new(), b"k8s\0", 5).is_err());
    }
}
