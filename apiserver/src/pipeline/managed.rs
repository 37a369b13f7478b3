//! managedFields: who set which field, kept up to date on every write.

use api::Object;
use api::apply::Write;

use super::{Call, prepare};

/// Runs `f` with the write that a request is, as far as ownership is concerned.
pub fn with<T>(call: &Call<'_>, f: impl FnOnce(&Write<'_>) -> T) -> T {
    let resource = &call.row.resource;
    let (api_version, manager) = (resource.api_version(), call.field_manager());
    f(&Write {
        schema: &resource.schema,
        api_version: &api_version,
        kind: &resource.kind,
        subresource: call.subresource,
        manager: &manager,
        status_apart: resource.subresource("status").is_some(),
        now: prepare::now(),
    })
}

/// Notes in a new or changed object who owns what; `old` is the stored one.
pub fn note(call: &Call<'_>, new: &mut Object, old: Option<&Object>) {
    with(call, |write| write.update(old, new));
}
