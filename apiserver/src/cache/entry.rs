//! One object as the watch cache holds it: its wire bytes, and what selectors look at.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use api::{Object, Resource};
use bytes::Bytes;
use serde_json::Value;

use crate::storage::{self, Layout};

/// An object at one revision. Immutable; a change makes another one.
#[derive(Debug)]
pub struct Cached {
    /// `namespace/name`, or `name` for cluster-scoped resources: the storage key behind the resource's prefix.
    pub key: Arc<str>,
    /// Length of the namespace in `key`; `None` for cluster-scoped objects.
    namespace_len: Option<u32>,
    pub uid: Box<str>,
    /// The store's revision of the last write: `metadata.resourceVersion`.
    pub revision: i64,
    /// The bytes that every reader gets.
    pub wire: Bytes,
    /// Where `wire` has its `metadata`.
    pub layout: Layout,
    /// Sorted by key.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// Values of the row's selectable fields, in the row's order.
    pub fields: Box<[Box<str>]>,
    /// The decoded object, when someone inside the server asked for it.
    decoded: OnceLock<Arc<Object>>,
    /// Its protobuf message in the form in which it is stored, when someone read it so.
    message: OnceLock<Bytes>,
    /// Where `wire` has managedFields, when someone read it without them.
    managed: OnceLock<Range<u32>>,
}

/// What is extracted of an object for selection.
pub struct Facts {
    pub uid: Box<str>,
    pub labels: Box<[(Box<str>, Box<str>)]>,
    pub fields: Box<[Box<str>]>,
}

impl Facts {
    /// Nothing to select by: for entries that are answered and not kept.
    pub fn none() -> Self {
        Self { uid: "".into(), labels: Box::default(), fields: Box::default() }
    }

    /// Reads uid, labels and selectable fields of a decoded object.
    pub fn of(resource: &Resource, object: &Object) -> Self {
        let metadata = api::object::metadata(object);
        let mut labels: Vec<(Box<str>, Box<str>)> = metadata
            .and_then(|m| m.get("labels"))
            .and_then(Value::as_object)
            .map(|l| l.iter().filter_map(|(k, v)| Some((k.as_str().into(), v.as_str()?.into()))).collect())
            .unwrap_or_default();
        labels.sort();
        let fields = match resource.hooks.fields {
            Some(fields) => fields(object).into_iter().map(String::into_boxed_str).collect(),
            None => resource.selectable.iter().map(|path| text_at(object, path)).collect(),
        };
        Self { uid: api::object::uid(object).into(), labels: labels.into(), fields }
    }
}

/// The value of a dotted path as field selectors compare it: text as it is, numbers and booleans in their JSON form.
fn text_at(object: &Object, path: &str) -> Box<str> {
    let mut here = None;
    for key in path.trim_start_matches('.').split('.') {
        here = match here {
            None => object.get(key),
            Some(value) => Value::get(value, key),
        };
        if here.is_none() {
            return "".into();
        }
    }
    match here {
        Some(Value::String(text)) => text.as_str().into(),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string().into(),
        _ => "".into(),
    }
}

impl Cached {
    pub fn new(key: &str, namespaced: bool, revision: i64, wire: Bytes, layout: Layout, facts: Facts) -> Self {
        let namespace_len = if namespaced { key.find('/').map(|n| n as u32) } else { None };
        Self {
            key: key.into(),
            namespace_len,
            uid: facts.uid,
            revision,
            wire,
            layout,
            labels: facts.labels,
            fields: facts.fields,
            decoded: OnceLock::new(),
            message: OnceLock::new(),
            managed: OnceLock::new(),
        }
    }

    /// The same object under other wire bytes, which differ in the resource version only.
    pub fn at_revision(&self, wire: Bytes, revision: i64) -> Self {
        let facts = Facts { uid: self.uid.clone(), labels: self.labels.clone(), fields: self.fields.clone() };
        Self::new(&self.key, self.namespace_len.is_some(), revision, wire, self.layout, facts)
    }

    /// The protobuf message, which `encode` makes of the wire bytes the first time.
    pub fn message(&self, encode: impl FnOnce(&[u8]) -> Bytes) -> Bytes {
        self.message.get_or_init(|| encode(&self.wire)).clone()
    }

    /// Where the wire bytes have `metadata.managedFields`; the rest on both sides is the object without them.
    pub fn managed_fields(&self) -> Range<usize> {
        let found = self.managed.get_or_init(|| {
            let range = storage::managed_fields(&self.wire, self.layout.metadata);
            range.start as u32..range.end as u32
        });
        found.start as usize..found.end as usize
    }

    pub fn namespace(&self) -> &str {
        self.namespace_len.map_or("", |n| &self.key[..n as usize])
    }

    pub fn name(&self) -> &str {
        self.namespace_len.map_or(&self.key, |n| &self.key[n as usize + 1..])
    }

    /// The decoded object, kept for the next who asks.
    pub fn decoded(&self) -> Result<&Arc<Object>, serde_json::Error> {
        if let Some(object) = self.decoded.get() {
            return Ok(object);
        }
        let object = Arc::new(storage::decode(&self.wire)?);
        Ok(self.decoded.get_or_init(|| object))
    }

    /// The decoded object for one use; nothing is kept.
    pub fn decode(&self) -> Result<Object, serde_json::Error> {
        match self.decoded.get() {
            Some(object) => Ok((**object).clone()),
            None => storage::decode(&self.wire),
        }
    }
}
