//! Texts with a form: base64, times, quantities; and the names that Go gives to types, which stand in messages.

use serde_json::Value;

use crate::quantity::{Quantity, QuantityError};
use crate::schema::{Schema, Type};
use crate::time::{rfc3339, rfc3339_micro};

/// What `resource.Quantity` answers to a value of another type.
pub(super) fn bad_quantity() -> String {
    QuantityError::Format.to_string()
}

/// `IntOrString`; the other definition of this type is `Quantity`.
pub(super) fn is_int_or_string(schema: &Schema) -> bool {
    schema.format == "int-or-string"
}

/// Go's name of a JSON value's type.
pub(super) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A definition's last part: `Pod`.
pub(super) fn short_name(definition: &str) -> &str {
    definition.rsplit('.').next().unwrap_or_default()
}

/// Go's name of the type that a schema describes.
pub(super) fn go_type(schema: &Schema) -> String {
    match schema.ty {
        Type::Boolean => "bool".to_owned(),
        Type::Integer if schema.format == "int32" => "int32".to_owned(),
        Type::Integer => "int64".to_owned(),
        Type::Number => "float64".to_owned(),
        Type::IntOrString => "int32".to_owned(),
        Type::String if schema.format == "byte" => "[]uint8".to_owned(),
        Type::String => "string".to_owned(),
        Type::Array => format!("[]{}", schema.items.as_deref().map(go_type).unwrap_or_default()),
        Type::Object if !schema.definition.is_empty() => {
            let mut parts = schema.definition.rsplit('.');
            let (name, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            format!("{version}.{name}")
        }
        Type::Object => format!("map[string]{}", schema.additional.as_deref().map(go_type).unwrap_or_default()),
        Type::Any => "interface {}".to_owned(),
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

/// Checks padded base64 as Go does, which skips line ends; gives the text without them if there were any.
pub(super) fn base64(text: &str) -> Result<Option<String>, String> {
    let illegal = |at: usize| Err(format!("illegal base64 data at input byte {at}"));
    let bytes = text.as_bytes();
    if bytes.iter().any(|b| matches!(b, b'\r' | b'\n')) {
        let joined: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        return base64(&joined).map(|_| Some(joined));
    }
    let digits = bytes.iter().position(|b| !is_base64(*b)).unwrap_or(bytes.len());
    let padding = &bytes[digits..];
    match (digits % 4, padding) {
        (0, []) | (2, b"==") | (3, b"=") => Ok(None),
        (2 | 3, [b'=', ..]) => illegal(digits + padding.iter().take_while(|b| **b == b'=').count().min(4 - digits % 4)),
        (_, []) => illegal(digits - digits % 4),
        _ => illegal(digits),
    }
}

/// Go's layouts of times, which stand in messages.
const LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
const MICRO_LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";

/// Checks an RFC 3339 time; gives it in the form in which it is written if it is in another one: UTC, whole seconds,
/// microseconds for `MicroTime`.
pub(super) fn time(text: &str, definition: &str) -> Result<Option<String>, String> {
    let is_micro = definition.ends_with(".MicroTime");
    let micros = crate::time::parse_micro(text).map_err(|error| match is_micro {
        true => error.replace(LAYOUT, MICRO_LAYOUT),
        false => error,
    })?;
    let is_written_so = text.len() == if is_micro { 27 } else { 20 } && text.ends_with('Z');
    if is_written_so {
        return Ok(None);
    }
    let written = if is_micro { rfc3339_micro(micros) } else { rfc3339(micros.div_euclid(1_000_000)) };
    Ok(Some(written))
}

/// The canonical form of a quantity.
pub(super) fn quantity(text: &str) -> Result<String, String> {
    Quantity::parse(text.trim()).map(|quantity| quantity.to_string()).map_err(|error| error.to_string())
}
