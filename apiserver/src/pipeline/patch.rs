//! PATCH: JSON patch, merge patch, strategic merge patch and server-side apply.

use api::codec::{self, FieldValidation};
use api::{Object, Status, object};
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::{Call, decode, update};
use crate::http::Response;
use crate::http::negotiate;

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const APPLY_JSON: &str = "application/apply-patch+json";

/// A patch, parsed.
enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
}

/// Answers a patch request.
pub async fn patch(call: &Call<'_>, body: &Bytes) -> Result<Response, Status> {
    let patch = match negotiate::content_type(call.headers) {
        JSON => Patch::Json(parse(body)?),
        MERGE => Patch::Merge(parse(body)?),
        STRATEGIC if call.row.resource.hooks_only() => return Err(negotiate::unsupported(&[JSON, MERGE, APPLY])),
        STRATEGIC => Patch::Strategic(parse(body)?),
        APPLY | APPLY_JSON => return super::apply::apply(call, body).await,
        _ => return Err(negotiate::unsupported(&[JSON, MERGE, STRATEGIC, APPLY])),
    };
    if call.params.force.is_some() {
        return Err(super::list::invalid_options("force: Forbidden: may not be specified for non-apply patch"));
    }
    let asked = named_version(&patch);
    let mode = decode::field_validation(call)?;
    let change = |old: &Object| patched(call, &patch, old, mode);
    let stored = update::apply_change(call, &asked, &change, "PatchOptions").await?;
    Ok(call.answer(StatusCode::OK, &stored))
}

fn parse(body: &Bytes) -> Result<Value, Status> {
    serde_json::from_slice(body).map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))
}

/// The resource version that a patch names: then it is for that version only.
fn named_version(patch: &Patch) -> String {
    match patch {
        Patch::Merge(value) | Patch::Strategic(value) => {
            value.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or("").to_owned()
        }
        Patch::Json(_) => String::new(),
    }
}

/// The stored object with the patch applied, decoded anew as its kind.
fn patched(call: &Call<'_>, patch: &Patch, old: &Object, mode: FieldValidation) -> Result<Object, Status> {
    let before = Value::Object(old.clone());
    let after = match patch {
        Patch::Json(patch) => api::patch::json::apply(before, patch)?,
        Patch::Merge(patch) => api::patch::merge::apply(before, patch),
        Patch::Strategic(patch) => api::patch::strategic::apply(before, patch, &call.row.resource.schema)?,
    };
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
    Ok(new)
}
