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

/// Reads the body of a merge patch or strategic merge patch, which must be an object.
///
/// # Errors
/// `BadRequest` with upstream's words for bytes that are no JSON or no object.
pub fn parse_object(body: &[u8]) -> Result<Value, Status> {
    let value = parse(body)?;
    match value {
        Value::Object(_) => Ok(value),
        Value::Null => Err(Status::bad_request("Invalid JSON Patch")),
        other => Err(wrong_type(kind_of(&other), "map[string]interface {}")),
    }
}

/// Reads the body of a JSON patch, which must be a list of operations.
///
/// # Errors
/// `BadRequest` with upstream's words for bytes that are no JSON or no list of objects; `RequestEntityTooLarge` for
/// more
/// operations than are allowed.
pub fn parse_operations(body: &[u8]) -> Result<Value, Status> {
    let value = parse(body)?;
    let Value::Array(operations) = &value else {
        return match value {
            Value::Null => Ok(Value::Array(Vec::new())),
            other => Err(wrong_type(kind_of(&other), "[]handlers.jsonPatchOp")),
        };
    };
    if let Some(other) = operations.iter().find(|op| !op.is_object() && !op.is_null()) {
        return Err(wrong_type(kind_of(other), "handlers.jsonPatchOp"));
    }
    if operations.len() > json::MAX_OPERATIONS {
        let message = format!(
            "The allowed maximum operations in a JSON patch is {}, got {}",
            json::MAX_OPERATIONS,
            operations.len()
        );
        return Err(Status::failure(Reason::RequestEntityTooLarge, message));
    }
    Ok(value)
}

fn parse(body: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(body).map_err(|error| {
        let why = codec::syntax_error(body).unwrap_or_else(|| error.to_string());
        Status::bad_request(format!("error decoding patch: {why}"))
    })
}

/// A type's name as Go's JSON decoder says it.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn wrong_type(kind: &str, wanted: &str) -> Status {
    Status::bad_request(format!("error decoding patch: json: cannot unmarshal {kind} into Go value of type {wanted}"))
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

/// A failure that upstream did not foresee as an answer: code 500 without a reason.
fn unexpected(message: impl Into<String>) -> Status {
    let mut status = Status::failure(Reason::InternalError, message);
    status.reason = None;
    status
}
