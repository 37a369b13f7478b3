//! Between a row's form and the stored form of the same resource. Versions of a built-in kind that differ only in their
//! name are told apart by `apiVersion` and `kind`; the others bring a conversion of their own.

use api::Object;
use bytes::Bytes;
use serde_json::Value;

use crate::rows::Row;
use crate::storage;

/// Stored wire bytes in the form of a row.
pub fn from_storage(row: &Row, wire: &Bytes) -> Result<Bytes, serde_json::Error> {
    let object = storage::decode(wire)?;
    let revision = api::object::resource_version(&object).parse().unwrap_or(0);
    let object = object_from_storage(row, object);
    storage::wire(&storage::encode(&object), revision)
}

/// A stored object in the form of a row.
pub fn object_from_storage(row: &Row, object: Object) -> Object {
    named(object, &row.resource.api_version(), &row.resource.kind)
}

/// An object in the form of a row as it is stored.
pub fn object_to_storage(row: &Row, object: Object) -> Object {
    named(object, &row.storage.api_version(), &row.storage.kind)
}

fn named(mut object: Object, api_version: &str, kind: &str) -> Object {
    object.insert("apiVersion".to_owned(), Value::from(api_version));
    object.insert("kind".to_owned(), Value::from(kind));
    object
}
