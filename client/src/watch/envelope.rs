//! What is around the objects: events' lines, pages of a list. The objects themselves stay text, whatever their kind.

use bytes::Bytes;
use kube::core::Status;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What a line of a watch says.
#[derive(Debug)]
pub enum Line {
    /// There is a new object, or an object is as this text has it.
    Applied(Bytes),
    /// An object was as this text has it, and is gone.
    Deleted(Bytes),
    /// Everything up to this version was sent.
    Bookmark(String),
    /// The watch ends, and why.
    Error(Box<Status>),
}

/// A page of a list.
#[derive(Debug)]
pub struct Page {
    /// The text of each object.
    pub items: std::vec::IntoIter<Bytes>,
    /// Version of the list as a whole.
    pub version: String,
    /// What to ask for the next page with; empty when this is the last.
    pub next: String,
}

/// As much of an object as says which it is, for one that its kind's reader refuses.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Identity {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    metadata: Identity,
}

/// Makes what a line says of its object.
type Said = fn(Bytes) -> Line;

/// An event as servers write it, whose object ends one byte before the line.
const LAYOUTS: [(&[u8], Said); 3] = [
    (b"{\"type\":\"MODIFIED\",\"object\":", Line::Applied),
    (b"{\"type\":\"ADDED\",\"object\":", Line::Applied),
    (b"{\"type\":\"DELETED\",\"object\":", Line::Deleted),
];

#[derive(Deserialize)]
struct Event<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// Reads an event's line. In the form that servers use the object is found without looking at it.
pub fn line(line: &Bytes) -> serde_json::Result<Line> {
    for (head, of) in LAYOUTS {
        if line.starts_with(head) && line.ends_with(b"}") {
            return Ok(of(line.slice(head.len()..line.len() - 1)));
        }
    }
    let event: Event<'_> = serde_json::from_slice(line)?;
    let object = || line.slice_ref(event.object.get().as_bytes());
    match event.r#type {
        "ADDED" | "MODIFIED" => Ok(Line::Applied(object())),
        "DELETED" => Ok(Line::Deleted(object())),
        "BOOKMARK" => {
            serde_json::from_str(event.object.get()).map(|mark: Object| Line::Bookmark(mark.metadata.resource_version))
        }
        "ERROR" => serde_json::from_str(event.object.get()).map(Line::Error),
        other => Err(serde::de::Error::unknown_variant(other, &["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"])),
    }
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    r#continue: String,
}

/// Reads a page of a list.
pub fn page(text: &Bytes) -> serde_json::Result<Page> {
    let list: List<'_> = serde_json::from_slice(text)?;
    let items = list.items.unwrap_or_default();
    let items: Vec<Bytes> = items.into_iter().map(|item| text.slice_ref(item.get().as_bytes())).collect();
    Ok(Page { items: items.into_iter(), version: list.metadata.resource_version, next: list.metadata.r#continue })
}

/// Which object this is.
pub fn identity(object: &[u8]) -> serde_json::Result<Identity> {
    serde_json::from_slice(object).map(|object: Object| object.metadata)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &'static str) -> String {
        match line(&Bytes::from_static(text.as_bytes())) {
            Ok(Line::Applied(object)) => format!("+{}", String::from_utf8_lossy(&object)),
            Ok(Line::Deleted(object)) => format!("-{}", String::from_utf8_lossy(&object)),
            Ok(Line::Bookmark(version)) => format!("at {version}"),
            Ok(Line::Error(status)) => format!("{} {}", status.code, status.message),
            Err(_) => "bad".to_owned(),
        }
    }

    #[test]
    fn events_are_read_however_they_are_laid_out() {
        for (text, wanted) in [
            (r#"{"type":"ADDED","object":{"a":1}}"#, r#"+{"a":1}"#),
            (r#"{"type":"MODIFIED","object":{"a":1}}"#, r#"+{"a":1}"#),
            (r#"{"type":"DELETED","object":{}}"#, "-{}"),
            (r#" { "object" : {"a": 1} , "type" : "DELETED" } "#, r#"-{"a": 1}"#),
            (r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"12"}}}"#, "at 12"),
            (r#"{"type":"ERROR","object":{"kind":"Status","code":410,"message":"old"}}"#, "410 old"),
            (r#"{"type":"OTHER","object":{}}"#, "bad"),
            (r#"{"type":"ADDED""#, "bad"),
            ("", "bad"),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }

    #[test]
    fn pages_come_apart_into_objects() {
        let text = r#"{"kind":"PodList","metadata":{"resourceVersion":"7","continue":"c"},"items":[{"a":1}, {} ]}"#;
        let found = page(&Bytes::from_static(text.as_bytes())).unwrap();
        assert_eq!((&*found.version, &*found.next), ("7", "c"));
        assert_eq!(found.items.collect::<Vec<_>>(), [r#"{"a":1}"#, "{}"]);
        let empty = page(&Bytes::from_static(br#"{"metadata":{"resourceVersion":"7"},"items":null}"#)).unwrap();
        assert_eq!((empty.items.len(), &*empty.next), (0, ""));
    }
}
