//! PATCH: JSON patch, merge patch and strategic merge patch; server-side apply is in `super::apply`.

use api::codec::{self, FieldValidation};
use api::{Gvk, Object, Schema, Status, object};
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
pub struct Patch {
    change: Change,
    /// What strict validation has against the patch itself.
    problems: Vec<String>,
}

enum Change {
    Json(Value),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    /// Reads a body by its media type; 415 for others.
    pub fn parse(content_type: &str, body: &Bytes) -> Result<Self, Status> {
        let (change, problems) = match content_type {
            JSON => {
                let (value, problems) = api::patch::parse_operations(body)?;
                (Change::Json(value), problems)
            }
            MERGE => {
                let (value, problems) = api::patch::parse_object(body, "error decoding patch: ")?;
                (Change::Merge(value), problems)
            }
            STRATEGIC => {
                let (value, problems) = api::patch::parse_object(body, "")?;
                (Change::Strategic(value), problems)
            }
            _ => return Err(negotiate::not_taken()),
        };
        Ok(Self { change, problems })
    }

    /// The resource version that the patch names: then it is for that version only.
    pub fn named_version(&self) -> String {
        match &self.change {
            Change::Merge(value) | Change::Strategic(value) => {
                value.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or("").to_owned()
            }
            Change::Json(_) => String::new(),
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
    let asked = patch.named_version();
    let mode = decode::field_validation(call)?;
    let change = |old: &Object| patched(call, &patch, old, mode);
    let stored = update::apply_change(call, &asked, &change, "PatchOptions").await?;
    Ok(call.answer(StatusCode::OK, &stored))
}

/// An object with a patch applied, decoded anew as its kind; texts for warnings. 422 when the patch made something
/// else.
pub fn apply(
    patch: &Patch,
    old: &Object,
    gvk: &Gvk,
    schema: &Schema,
    mode: FieldValidation,
) -> Result<(Object, Vec<String>), Status> {
    let document = Value::Object(old.clone());
    let after = match &patch.change {
        Change::Json(patch) => api::patch::json::apply(document, patch)?,
        Change::Merge(patch) => api::patch::merge::apply(document, patch),
        Change::Strategic(patch) => api::patch::strategic::apply(document, patch, schema)?,
    };
    let shown = match &patch.change {
        Change::Strategic(patch) => patch.clone(),
        _ => after.clone(),
    };
    let problems = if mode == FieldValidation::Ignore { Vec::new() } else { patch.problems.clone() };
    codec::decode_patched(after, problems, gvk, schema, mode).map_err(|why| {
        let why = if matches!(patch.change, Change::Strategic(_)) { why.of_converter() } else { why.of_decoder() };
        api::patch::refused(&shown, &why)
    })
}

/// The stored object with the patch applied.
fn patched(call: &Call<'_>, patch: &Patch, old: &Object, mode: FieldValidation) -> Result<Object, Status> {
    let (mut new, warnings) = apply(patch, old, &call.row.gvk, &call.row.resource.schema, mode)?;
    call.warn(warnings);
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
