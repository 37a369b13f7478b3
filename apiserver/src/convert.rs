//! Between a row's form and the stored form of the same resource.
//!
//! Versions that differ only in their name differ in `apiVersion` and `kind`. The others have an entry in [`RENAMED`],
//! or the hook `convert`.

use api::Object;
use bytes::Bytes;
use serde_json::Value;

use crate::rows::Row;
use crate::storage;

/// A row's own name of a field, and the stored one.
type Renamed = (&'static str, &'static str);

/// Fields that a group's kind calls otherwise than the group in whose form its objects are stored.
const RENAMED: &[(&str, &str, &[Renamed])] = &[(
    "events.k8s.io",
    "Event",
    &[
        ("regarding", "involvedObject"),
        ("note", "message"),
        ("reportingController", "reportingComponent"),
        ("deprecatedSource", "source"),
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
    ],
)];

fn renamed(row: &Row) -> &'static [Renamed] {
    let own = RENAMED.iter().find(|(group, kind, _)| *group == row.resource.group && *kind == row.resource.kind);
    own.map_or(&[], |(_, _, pairs)| *pairs)
}

/// The stored name of a selectable field of a row.
pub fn stored_field(row: &Row, own: &str) -> String {
    let (first, rest) = own.split_once('.').unwrap_or((own, ""));
    let stored = renamed(row).iter().find(|(name, _)| *name == first).map_or(first, |(_, stored)| *stored);
    if rest.is_empty() { stored.to_owned() } else { format!("{stored}.{rest}") }
}

/// Stored wire bytes in the form of a row.
pub fn from_storage(row: &Row, wire: &Bytes) -> Result<Bytes, serde_json::Error> {
    let object = storage::decode(wire)?;
    let revision = api::object::resource_version(&object).parse().unwrap_or(0);
    let object = object_from_storage(row, object);
    storage::wire(&storage::encode(&object), revision)
}

/// A stored object in the form of a row.
pub fn object_from_storage(row: &Row, mut object: Object) -> Object {
    for (own, stored) in renamed(row) {
        rename(&mut object, stored, own);
    }
    if let Some(convert) = row.resource.hooks.convert {
        (convert.from_stored)(&mut object);
    }
    named(object, &row.resource.api_version(), &row.resource.kind)
}

/// An object in the form of a row as it is stored.
pub fn object_to_storage(row: &Row, mut object: Object) -> Object {
    for (own, stored) in renamed(row) {
        rename(&mut object, own, stored);
    }
    if let Some(convert) = row.resource.hooks.convert {
        (convert.to_stored)(&mut object);
    }
    named(object, &row.storage.api_version(), &row.storage.kind)
}

fn rename(object: &mut Object, from: &str, to: &str) {
    if let Some(value) = object.remove(from) {
        object.insert(to.to_owned(), value);
    }
}

fn named(mut object: Object, api_version: &str, kind: &str) -> Object {
    object.insert("apiVersion".to_owned(), Value::from(api_version));
    object.insert("kind".to_owned(), Value::from(kind));
    object
}
