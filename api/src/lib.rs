//! The Kubernetes API as data: the resource table, schemas, object metadata, selectors, quantities, Status.
//!
//! No IO, no clock, no tokio. Everything here is a pure function of its arguments, so that the API server, the
//! command-line client and tests decide alike.

pub mod apply;
pub mod builtin;
pub mod codec;
pub mod defaults;
pub mod discovery;
pub mod field;
pub mod fields;
pub mod kinds;
pub mod labels;
pub mod meta;
pub mod names;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod printer;
pub mod protobuf;
pub mod prune;
#[cfg(test)]
mod published;
pub mod quantity;
pub mod schema;
pub mod status;
pub mod table;
pub mod time;
mod time_zones;
pub mod validate;
pub mod yaml;

pub use builtin::table as builtin;
pub use field::{ErrorList, FieldError, FieldErrorType, Path};
pub use meta::{Gvk, Gvr, NamespacedName, Uid};
pub use schema::Schema;
pub use status::{Reason, Status};
pub use table::{Resource, Table};

/// A decoded object. Keys that no schema knows were already handled by field validation when one of these exists.
pub type Object = serde_json::Map<String, serde_json::Value>;
