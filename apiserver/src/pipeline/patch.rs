//! PATCH: JSON patch, merge patch and strategic merge patch; server-side apply is in `super::apply`.

use api::codec::{self, FieldValidation};
use api::{Object, Schema, Status, object};
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::{Call, decode, managed, update};
use crate::http::Response;
use crate::http::negotiate;

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub const APPLY: &str = "application/apply-patch+yaml";

/// A patch, parsed.
pub enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    /// Reads a body by its media type; 415 for others.
    pub fn parse(content_type: &str, body: &Bytes) -> Result<Self, Status> {
        match content_type {
            JSON => api::patch::parse_operations(body).map(Self::Json),
            MERGE => api::patch::parse_object(body).map(Self::Merge),
            STRATEGIC => api::patch::parse_object(body).map(Self::Strategic),
            _ => Err(negotiate::unsupported(&[JSON, MERGE, STRATEGIC, APPLY])),
        }
    }

    /// The resource version that the patch names: then it is for that version only.
    pub fn named_version(&self) -> String {
        match self {
            Self::Merge(value) | Self::Strategic(value) => {
                value.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or("").to_owned()
            }
            Self::Json(_) => String::new(),
        }
    }
}

/// Answers a patch request.
pub async fn patch(call: &Call<'_>, body: &Bytes) -> Result<Response, Status> {
    let content_type = negotiate::content_type(call.headers);
    if content_type == APPLY {
        return super::apply::apply(call, body).await;
    }
    let patch = Patch::parse(content_type, body)?;
    if call.params.force.is_some() {
        return Err(super::options::invalid(
            "PatchOptions",
            "force: Forbidden: may not be specified for non-apply patch",
        ));
    }
    let asked = patch.named_version();
    let mode = decode::field_validation(call)?;
    let change = |old: &Object| patched(call, &patch, old, mode);
    let stored = update::apply_change(call, &asked, &change, "PatchOptions").await?;
    Ok(call.answer(StatusCode::OK, &stored))
}

/// An object with a patch applied.
pub fn apply(patch: &Patch, old: &Object, schema: &Schema) -> Result<Value, Status> {
    let document = Value::Object(old.clone());
    match patch {
        Patch::Json(patch) => api::patch::json::apply(document, patch),
        Patch::Merge(patch) => Ok(api::patch::merge::apply(document, patch)),
        Patch::Strategic(patch) => api::patch::strategic::apply(document, patch, schema),
    }
}

/// The stored object with the patch applied, decoded anew as its kind.
fn patched(call: &Call<'_>, patch: &Patch, old: &Object, mode: FieldValidation) -> Result<Object, Status> {
    let after = apply(patch, old, &call.row.resource.schema)?;
    let decoded = codec::decode_value(after, &call.row.gvk, &call.row.resource.schema, mode)?;
    call.warn(decoded.warnings);
    let mut new = decoded.object;
    decode::settle_namespace(call, &mut new)?;
    let name = object::name(&new);
    if name != call.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name
        )));
    }
    decode::default(call, &mut new);
    managed::note(call, &mut new, Some(old));
    Ok(new)
}
