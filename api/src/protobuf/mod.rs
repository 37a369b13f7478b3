//! `application/vnd.kubernetes.protobuf`: messages of built-in kinds to and from the JSON form, led by a table of field
//! numbers and the schemas. What is written is what upstream writes, byte for byte.

mod decode;
mod encode;
pub mod envelope;
mod messages;
mod wire;

pub use messages::{Message, message};

use crate::Object;
use crate::schema::Schema;

/// The media type.
pub const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// The media type of a watch's frames.
pub const STREAM_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// Bytes that are no such message; the text is for clients.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Error {
    fn new(why: &str) -> Self {
        Self(why.to_owned())
    }
}

/// The message of a schema's kind; kinds of custom resources have none.
pub fn message_of(schema: &Schema) -> Option<&'static Message> {
    message(&schema.definition)
}

/// A body in its envelope as an object with `apiVersion` and `kind`. Defaults and checks are the JSON decoder's.
///
/// # Errors
/// Bytes that are no such message, and kinds that are not known.
pub fn decode(body: &[u8]) -> Result<Object, Error> {
    envelope::object(body, 0)
}

/// A message without envelope as an object without `apiVersion` and `kind`.
///
/// # Errors
/// Bytes that are no such message.
pub fn decode_message(message: &'static Message, bytes: &[u8]) -> Result<Object, Error> {
    decode::object(message, bytes, 0)
}

/// An object's message, without envelope.
pub fn encode_message(message: &'static Message, object: &Object) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    encode::object(&mut out, message, object);
    out
}

/// The message of a `PartialObjectMetadata` with this metadata.
pub fn encode_metadata(metadata: &Object) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    if let Some(message) = message("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta") {
        wire::put_nested(&mut out, 1, |out| encode::object(out, message, metadata));
    }
    out
}

/// An object in its envelope.
pub fn encode(message: &'static Message, object: &Object) -> Vec<u8> {
    let text = |key: &str| object.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
    envelope::seal(text("apiVersion"), text("kind"), &encode_message(message, object))
}

#[cfg(test)]
mod tests;
