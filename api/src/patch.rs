//! The three kinds of patch that describe a change: JSON patch, merge patch, strategic merge patch. Server-side apply,
//! which describes a wish, is in [`crate::apply`].
//!
//! A patched value is not yet an object of its kind: it must be decoded, which may refuse it ([`refused`]).

pub mod json;
pub mod merge;
pub mod strategic;

use serde_json::Value;

use crate::codec;
use crate::field::{FieldError, Path};
use crate::meta::Gvk;
use crate::status::{Reason, Status};

/// Reads the body of a merge patch or strategic merge patch, which must be an object, and what stands twice in it.
/// `prefix` is what messages begin with.
///
/// # Errors
/// `BadRequest` with upstream's words for bytes that are no JSON or no object.
pub fn parse_object(body: &[u8], prefix: &str) -> Result<(Value, Vec<String>), Status> {
    let (value, duplicates) = parse(body, prefix)?;
    match value {
        Value::Object(_) => Ok((value, duplicates)),
        Value::Null => Err(Status::bad_request("Invalid JSON Patch")),
        other => Err(wrong_type(prefix, kind_of(&other), "map[string]interface {}")),
    }
}

/// Reads the body of a JSON patch, which must be a list of operations, and what is unknown or stands twice in it.
///
/// # Errors
/// `BadRequest` with upstream's words for bytes that are no JSON or no list of objects; `RequestEntityTooLarge` for
/// more
/// operations than are allowed.
pub fn parse_operations(body: &[u8]) -> Result<(Value, Vec<String>), Status> {
    const PREFIX: &str = "error decoding patch: ";
    let (value, duplicates) = parse(body, PREFIX)?;
    let Value::Array(operations) = &value else {
        return match value {
            Value::Null => Ok((Value::Array(Vec::new()), Vec::new())),
            other => Err(wrong_type(PREFIX, kind_of(&other), "[]handlers.jsonPatchOp")),
        };
    };
    if let Some(other) = operations.iter().find(|op| !op.is_object() && !op.is_null()) {
        return Err(wrong_type(PREFIX, kind_of(other), "handlers.jsonPatchOp"));
    }
    if operations.len() > json::MAX_OPERATIONS {
        let message = format!(
            "Request entity too large: The allowed maximum operations in a JSON patch is {}, got {}",
            json::MAX_OPERATIONS,
            operations.len()
        );
        return Err(Status::failure(Reason::RequestEntityTooLarge, message));
    }
    let mut problems: Vec<String> = duplicates.iter().map(|problem| format!("json patch {problem}")).collect();
    for (at, operation) in operations.iter().enumerate() {
        let members = operation.as_object().into_iter().flat_map(|members| members.keys());
        let unknown = members.filter(|key| !["op", "path", "from", "value"].contains(&key.as_str()));
        problems.extend(unknown.map(|key| format!("json patch unknown field \"[{at}].{key}\"")));
    }
    Ok((value, problems))
}

fn parse(body: &[u8], prefix: &str) -> Result<(Value, Vec<String>), Status> {
    codec::parse_json(body).map_err(|error| {
        let why = codec::syntax_error(body).unwrap_or_else(|| error.to_string());
        Status::bad_request(format!("{prefix}{why}"))
    })
}

/// A type's name as Go's JSON decoder says it.
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn wrong_type(prefix: &str, kind: &str, wanted: &str) -> Status {
    Status::bad_request(format!("{prefix}json: cannot unmarshal {kind} into Go value of type {wanted}"))
}

/// The answer to a patch that makes something which is no object of its kind: 422 with one cause, the field `patch`.
pub fn refused(patched: &Value, why: &str) -> Status {
    let error = FieldError::invalid(&Path::new("patch"), patched.to_string(), why);
    Status::invalid(&Gvk::new("", "", ""), "", &[error])
}

/// The patch cannot be applied to this object; upstream says no more.
fn inapplicable() -> Status {
    let mut status = Status::failure(Reason::Invalid, "the server rejected our request due to an error in our request");
    status.details = Some(Box::default());
    status
}
