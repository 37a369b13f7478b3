//! What stands around messages: the envelope that names their kind, lists of items, frames of a watch.

use serde_json::Value;

use super::wire::{Reader, put_bytes, put_head, put_nested, varint_len};
use super::{Error, decode, encode, message};
use crate::meta::{Gvk, split_api_version};
use crate::{Object, builtin};

/// What every body begins with; an envelope (`runtime.Unknown`) follows.
pub(super) const MAGIC: &[u8] = b"k8s\0";

/// Where the kinds are whose definition does not tell their group: `DeleteOptions` and the like.
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// The content encoding and content type of an envelope, which are empty.
pub const TAIL: &[u8] = &[3 << 3 | 2, 0, 4 << 3 | 2, 0];

/// A body's parts.
pub struct Envelope<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub raw: &'a [u8],
    pub content_type: &'a str,
}

/// Takes a body's envelope off.
///
/// # Errors
/// Bytes that have none.
pub fn open(body: &[u8]) -> Result<Envelope<'_>, Error> {
    if body.is_empty() {
        return Err(Error("empty data".to_owned()));
    }
    let Some(inner) = body.strip_prefix(MAGIC) else {
        let expected = "[107 56 115 0]";
        let why = format!("provided data does not appear to be a protobuf message, expected prefix {expected}");
        return Err(Error(why));
    };
    let mut envelope = Envelope { api_version: "", kind: "", raw: &[], content_type: "" };
    let mut reader = Reader(inner);
    while let Some((number, wire)) = reader.field()? {
        match number {
            1 => {
                let mut types = Reader(wire.bytes()?);
                while let Some((number, wire)) = types.field()? {
                    match number {
                        1 => envelope.api_version = wire.text()?,
                        2 => envelope.kind = wire.text()?,
                        _ => {}
                    }
                }
            }
            2 => envelope.raw = wire.bytes()?,
            4 => envelope.content_type = wire.text()?,
            _ => {}
        }
    }
    Ok(envelope)
}

/// A body as an object with `apiVersion` and `kind`.
pub(super) fn object(body: &[u8], depth: usize) -> Result<Object, Error> {
    let envelope = open(body)?;
    if envelope.kind.is_empty() {
        return Err(Error::new("Object 'Kind' is missing in the envelope"));
    }
    let (group, version) = split_api_version(envelope.api_version).unwrap_or(("", ""));
    let schema = builtin::schema_of_kind(&Gvk::new(group, version, envelope.kind));
    let known = schema.and_then(|s| message(&s.definition));
    let message = known.or_else(|| message(&format!("{META}.{}", envelope.kind))).ok_or_else(|| {
        Error(format!("no kind {:?} is registered for version {:?}", envelope.kind, envelope.api_version))
    })?;
    let mut object = decode::object(message, envelope.raw, depth)?;
    object.insert("apiVersion".to_owned(), Value::from(envelope.api_version));
    object.insert("kind".to_owned(), Value::from(envelope.kind));
    Ok(object)
}

/// What stands before the bytes of an object's message in an answer; [`TAIL`] stands behind them.
pub fn head(api_version: &str, kind: &str, message_len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + api_version.len() + kind.len());
    out.extend_from_slice(MAGIC);
    put_nested(&mut out, 1, |out| {
        put_bytes(out, 1, api_version.as_bytes());
        put_bytes(out, 2, kind.as_bytes());
    });
    put_head(&mut out, 2, message_len);
    out
}

/// A message in its envelope.
pub fn seal(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let mut out = head(api_version, kind, message.len());
    out.reserve_exact(message.len() + TAIL.len());
    out.extend_from_slice(message);
    out.extend_from_slice(TAIL);
    out
}

/// What stands before the items of a list: the envelope's head and the list's metadata. [`item_head`] stands before
/// each item, [`TAIL`] behind the last one. `item_lens` are the lengths of the items' messages.
pub fn list_head(api_version: &str, kind: &str, metadata: &Object, item_lens: impl Iterator<Item = usize>) -> Vec<u8> {
    let mut meta = Vec::new();
    put_nested(&mut meta, 1, |out| {
        if let Some(message) = message(&format!("{META}.ListMeta")) {
            encode::object(out, message, metadata);
        }
    });
    let items: usize = item_lens.map(|length| 1 + varint_len(length as u64) + length).sum();
    let mut out = head(api_version, kind, meta.len() + items);
    out.extend_from_slice(&meta);
    out
}

/// What stands before an item of a list.
pub fn item_head(out: &mut Vec<u8>, message_len: usize) {
    put_head(out, 2, message_len);
}

/// Appends one frame of a watch: its length in four bytes, then the event, which has no envelope while its object has.
pub fn frame(out: &mut Vec<u8>, event: &str, api_version: &str, kind: &str, message: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    put_bytes(out, 1, event.as_bytes());
    let head = head(api_version, kind, message.len());
    let length = head.len() + message.len() + TAIL.len();
    put_head(out, 2, 1 + varint_len(length as u64) + length);
    put_head(out, 1, length);
    out.extend_from_slice(&head);
    out.extend_from_slice(message);
    out.extend_from_slice(TAIL);
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
