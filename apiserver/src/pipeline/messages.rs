//! Answers in protobuf. An object's message is made once for all who read it; what stands around it is made here.

use std::sync::Arc;

use api::protobuf::{self, Message, envelope};
use api::{Object, Status, object};
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::Call;
use super::list::Page;
use super::render::{raw_metadata, wire_of};
use crate::cache::{Cached, Change};
use crate::http::negotiate::{Format, Shape};
use crate::http::{Response, response};
use crate::rows::Row;

/// The protobuf form of a request's answers.
pub struct Messages {
    row: Arc<Row>,
    /// `None` when only metadata is asked for.
    message: Option<&'static Message>,
    api_version: String,
    kind: String,
    list_kind: String,
}

impl Messages {
    /// The form, if the request is to be answered in it.
    pub fn new(call: &Call<'_>) -> Option<Self> {
        let (row, resource) = (call.row.clone(), &call.row.resource);
        if call.accept.format != Format::Protobuf {
            return None;
        }
        let metadata = |version: &str| Self {
            row: call.row.clone(),
            message: None,
            api_version: format!("meta.k8s.io/{version}"),
            kind: "PartialObjectMetadata".to_owned(),
            list_kind: "PartialObjectMetadataList".to_owned(),
        };
        match call.accept.shape {
            Shape::Whole => Some(Self {
                message: Some(protobuf::message_of(&resource.schema)?),
                api_version: resource.api_version(),
                kind: resource.kind.clone(),
                list_kind: resource.list_kind.clone(),
                row,
            }),
            Shape::Metadata { beta } => Some(metadata(if beta { "v1beta1" } else { "v1" })),
            Shape::Table { .. } => None,
        }
    }

    /// An object's message.
    fn of(&self, object: &Cached) -> Bytes {
        let encode = |wire: &[u8], encode: &dyn Fn(&Object) -> Vec<u8>| match serde_json::from_slice(wire) {
            Ok(decoded) => Bytes::from(encode(&decoded)),
            Err(error) => {
                tracing::error!(key = &*object.key, %error, "a cached object is no JSON object");
                Bytes::new()
            }
        };
        match self.message {
            Some(message) if self.row.is_storage() => {
                object.message(|wire| encode(wire, &|o| protobuf::encode_message(message, o)))
            }
            Some(message) => encode(&wire_of(&self.row, object), &|o| protobuf::encode_message(message, o)),
            None => encode(raw_metadata(&object.wire, object.layout.metadata), &protobuf::encode_metadata),
        }
    }

    /// One object as the answer.
    pub fn one(&self, code: StatusCode, object: &Cached) -> Response {
        let sealed = envelope::seal(&self.api_version, &self.kind, &self.of(object));
        response::full(code, protobuf::CONTENT_TYPE, sealed)
    }

    /// A page of a list as the answer.
    pub fn list(&self, call: &Call<'_>, page: &Page) -> Response {
        let mut metadata = Object::new();
        metadata.insert("resourceVersion".to_owned(), json!(page.revision.to_string()));
        if !page.continues.is_empty() {
            metadata.insert("continue".to_owned(), json!(page.continues));
        }
        if let Some(remaining) = page.remaining {
            metadata.insert("remainingItemCount".to_owned(), json!(remaining));
        }
        let items: Vec<_> = page.items.iter().map(|item| self.of(item)).collect();
        let lengths = items.iter().map(Bytes::len);
        let mut pieces = Vec::with_capacity(items.len() * 2 + 2);
        pieces.push(envelope::list_head(&self.api_version, &self.list_kind, &metadata, lengths).into());
        for item in items {
            let mut head = Vec::with_capacity(6);
            envelope::item_head(&mut head, item.len());
            pieces.extend([head.into(), item]);
        }
        pieces.push(Bytes::from_static(envelope::TAIL));
        response::pieces(protobuf::CONTENT_TYPE, call.gzip, pieces)
    }

    /// Appends a watch event.
    pub fn event(&self, out: &mut Vec<u8>, change: Change, object: &Cached) {
        envelope::frame(out, change.name(), &self.api_version, &self.kind, &self.of(object));
    }

    /// Appends the ERROR event.
    pub fn error(&self, out: &mut Vec<u8>, status: &Status) {
        let sealed = sealed(&status.to_json()).unwrap_or_default();
        if let Ok(parts) = envelope::open(&sealed) {
            envelope::frame(out, "ERROR", parts.api_version, parts.kind, parts.raw);
        }
    }

    /// Appends a bookmark.
    pub fn bookmark(&self, out: &mut Vec<u8>, revision: i64, initial_end: bool) {
        let mut bookmark = Object::new();
        let metadata = object::metadata_mut(&mut bookmark);
        metadata.insert("resourceVersion".to_owned(), json!(revision.to_string()));
        if initial_end {
            metadata.insert("annotations".to_owned(), json!({"k8s.io/initial-events-end": "true"}));
        }
        let message = match self.message {
            Some(message) => protobuf::encode_message(message, &bookmark),
            None => protobuf::encode_metadata(metadata),
        };
        envelope::frame(out, "BOOKMARK", &self.api_version, &self.kind, &message);
    }
}

/// The answer to a watch, as its frames are written.
pub fn stream_type(call: &Call<'_>, renderer: &super::render::Renderer) -> HeaderValue {
    match call.accept.format {
        Format::Protobuf if renderer.is_protobuf() => HeaderValue::from_static(protobuf::STREAM_TYPE),
        Format::Yaml => HeaderValue::from_static(Format::Yaml.content_type()),
        _ => HeaderValue::from_static(Format::Json.content_type()),
    }
}

/// Any object that has a protobuf form, from its JSON, in its envelope.
pub fn sealed(json: &[u8]) -> Option<Vec<u8>> {
    let object: Object = serde_json::from_slice(json).ok()?;
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = api::meta::split_api_version(text("apiVersion"))?;
    let schema = api::builtin::schema_of_kind(&api::Gvk::new(group, version, text("kind")))?;
    Some(protobuf::encode(protobuf::message_of(&schema)?, &object))
}
