//! How objects leave the server: whole, as metadata only, or as rows of a Table. One for each request.

use std::sync::Arc;

use api::Status;
use bytes::Bytes;
use http::StatusCode;
use serde_json::value::RawValue;

use super::Call;
use super::list::Page;
use super::messages::Messages;
use super::table::Tabular;
use crate::cache::{Cached, Change};
use crate::http::negotiate::Shape;
use crate::http::{Response, response};
use crate::rows::Row;
use crate::storage;

/// The form of a request's answers.
pub struct Renderer {
    row: Arc<Row>,
    form: Form,
    /// Answers go out in protobuf instead.
    messages: Option<Messages>,
    /// Without managedFields.
    lean: bool,
}

enum Form {
    Whole,
    Metadata { version: &'static str },
    Table(Box<Tabular>),
}

fn meta_version(beta: bool) -> &'static str {
    if beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" }
}

impl Renderer {
    pub fn new(call: &Call<'_>) -> Self {
        let form = match call.accept.shape {
            Shape::Whole => Form::Whole,
            Shape::Metadata { beta } => Form::Metadata { version: meta_version(beta) },
            Shape::Table { beta } => {
                Form::Table(Box::new(Tabular::new(call.row, meta_version(beta), &call.params.include_object)))
            }
        };
        Self { row: call.row.clone(), form, messages: Messages::new(call), lean: call.is_lean() }
    }

    pub fn is_protobuf(&self) -> bool {
        self.messages.is_some()
    }

    /// Whether objects go out as the bytes that were committed.
    pub fn is_whole(&self) -> bool {
        matches!(self.form, Form::Whole) && self.row.is_storage() && self.messages.is_none() && !self.lean
    }

    /// Appends one object in the form.
    fn put(&self, out: &mut Vec<u8>, object: &Cached) {
        match &self.form {
            Form::Whole if self.lean && self.row.is_storage() => {
                let cut = object.managed_fields();
                out.extend_from_slice(&object.wire[..cut.start]);
                out.extend_from_slice(&object.wire[cut.end..]);
            }
            Form::Whole => out.extend_from_slice(&wire_of(&self.row, object)),
            Form::Metadata { version } => put_metadata(out, version, object, self.lean),
            Form::Table(table) => {
                table.put_head(out, &object.revision.to_string(), "");
                table.put_row(out, object);
                out.extend_from_slice(b"]}");
            }
        }
    }

    /// One object as the answer.
    pub fn one(&self, call: &Call<'_>, code: StatusCode, object: &Cached) -> Response {
        if let Some(messages) = &self.messages {
            return messages.one(code, object);
        }
        let bytes = match &self.form {
            Form::Whole if !self.lean || !self.row.is_storage() => wire_of(&self.row, object),
            _ => {
                let mut out = Vec::new();
                self.put(&mut out, object);
                out.into()
            }
        };
        response::json(code, call.accept, bytes)
    }

    /// A page of a list as the answer.
    pub fn list(&self, call: &Call<'_>, page: Page) -> Response {
        if let Some(messages) = &self.messages {
            return messages.list(call, &page);
        }
        match &self.form {
            Form::Whole => super::list::whole(call, &page, self.lean),
            Form::Metadata { version } => {
                let mut out = super::list::head("PartialObjectMetadataList", version, &page).to_vec();
                out.extend_from_slice(b"\"items\":[");
                for (n, item) in page.items.iter().enumerate() {
                    if n > 0 {
                        out.push(b',');
                    }
                    put_metadata(&mut out, version, item, self.lean);
                }
                out.extend_from_slice(b"]}\n");
                response::json_pieces(call.accept, call.gzip, vec![out.into()])
            }
            Form::Table(table) => {
                let mut out = Vec::with_capacity(page.items.len() * 600);
                let mut more = String::new();
                if !page.continues.is_empty() {
                    more.push_str(&format!(",\"continue\":\"{}\"", page.continues));
                }
                if let Some(remaining) = page.remaining {
                    more.push_str(&format!(",\"remainingItemCount\":{remaining}"));
                }
                table.put_head(&mut out, &page.revision.to_string(), &more);
                for (n, item) in page.items.iter().enumerate() {
                    if n > 0 {
                        out.push(b',');
                    }
                    table.put_row(&mut out, item);
                }
                out.extend_from_slice(b"]}\n");
                response::json_pieces(call.accept, call.gzip, vec![out.into()])
            }
        }
    }

    /// Appends a watch event.
    pub fn event(&self, out: &mut Vec<u8>, change: Change, object: &Cached) {
        if let Some(messages) = &self.messages {
            return messages.event(out, change, object);
        }
        out.extend_from_slice(change.head());
        self.put(out, object);
        out.extend_from_slice(b"}\n");
    }

    /// Appends the DELETED event of an object that left the selection: its last selected state, at the revision of the
    /// change that took it away.
    pub fn left(&self, out: &mut Vec<u8>, previous: &Arc<Cached>, revision: i64) {
        let mut wire = Vec::with_capacity(previous.wire.len() + 8);
        storage::with_revision(&mut wire, &previous.wire, previous.layout.metadata, revision);
        self.event(out, Change::Deleted, &previous.at_revision(wire.into(), revision));
    }

    /// Appends the ERROR event.
    pub fn error(&self, out: &mut Vec<u8>, status: &Status) {
        if let Some(messages) = &self.messages {
            return messages.error(out, status);
        }
        out.extend_from_slice(b"{\"type\":\"ERROR\",\"object\":");
        out.extend_from_slice(&status.to_json());
        out.extend_from_slice(b"}\n");
    }

    /// Appends a bookmark; `head` is [`Self::bookmark_head`].
    pub fn bookmark(&self, out: &mut Vec<u8>, head: &[u8], revision: i64, initial_end: bool) {
        if let Some(messages) = &self.messages {
            return messages.bookmark(out, revision, initial_end);
        }
        out.extend_from_slice(head);
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(digits.format(revision).as_bytes());
        out.push(b'"');
        if initial_end {
            out.extend_from_slice(b",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}");
        }
        out.extend_from_slice(self.bookmark_tail());
    }

    /// A bookmark event up to its resource version's digits.
    pub fn bookmark_head(&self) -> Bytes {
        let own = self.row.resource.api_version();
        let (kind, version) = match &self.form {
            Form::Whole => (self.row.resource.kind.as_str(), own.as_str()),
            Form::Metadata { version } => ("PartialObjectMetadata", *version),
            Form::Table(table) => ("Table", table.version),
        };
        let object =
            format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{{\"resourceVersion\":\"");
        Bytes::from(format!("{{\"type\":\"BOOKMARK\",\"object\":{object}"))
    }

    /// The rest of a bookmark event behind its metadata's last field.
    fn bookmark_tail(&self) -> &'static [u8] {
        match &self.form {
            Form::Table(_) => b"},\"columnDefinitions\":null,\"rows\":[]}}\n",
            _ => b"}}}\n",
        }
    }
}

/// An object's bytes as a row serves them: those that were committed, with another `apiVersion` and `kind` when the row
/// is not the one in whose form they are stored.
pub fn wire_of(row: &Row, object: &Cached) -> Bytes {
    if row.is_storage() {
        return object.wire.clone();
    }
    match crate::convert::from_storage(row, &object.wire) {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::error!(key = &*object.key, %error, "cached object cannot be converted");
            object.wire.clone()
        }
    }
}

fn put_metadata(out: &mut Vec<u8>, version: &str, object: &Cached, lean: bool) {
    out.extend_from_slice(b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"");
    out.extend_from_slice(version.as_bytes());
    out.extend_from_slice(b"\",\"metadata\":");
    let raw = raw_metadata(&object.wire, object.layout.metadata);
    if lean {
        let (cut, begin) = (object.managed_fields(), object.layout.metadata - 1);
        out.extend_from_slice(&raw[..cut.start - begin]);
        out.extend_from_slice(&raw[cut.end - begin..]);
    } else {
        out.extend_from_slice(raw);
    }
    out.push(b'}');
}

/// The bytes of an object's metadata; `at` is just behind its opening brace.
pub fn raw_metadata(wire: &[u8], at: usize) -> &[u8] {
    let from = &wire[at.saturating_sub(1)..];
    match serde_json::Deserializer::from_slice(from).into_iter::<&RawValue>().next() {
        Some(Ok(raw)) => raw.get().as_bytes(),
        _ => b"{}",
    }
}
