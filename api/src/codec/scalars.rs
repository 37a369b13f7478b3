//! Texts with a form: base64, times, quantities; and the names that Go gives to types, which stand in messages.

use jiff::Timestamp;
use serde_json::Value;

use crate::schema::{Schema, Type};

/// What `resource.Quantity` answers to anything that is none.
pub(super) const BAD_QUANTITY: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

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

/// Checks an RFC 3339 time; gives it in the form in which it is written if it is in another one: UTC, whole seconds,
/// microseconds for `MicroTime`.
pub(super) fn time(text: &str, definition: &str) -> Result<Option<String>, String> {
    let is_micro = definition.ends_with(".MicroTime");
    let digits =
        |from: usize, to: usize| text.as_bytes().get(from..to).is_some_and(|d| d.iter().all(u8::is_ascii_digit));
    let parsed: Result<Timestamp, _> = text.parse();
    let Ok(time) = parsed else { return Err(bad_time(text, is_micro)) };
    let is_written_so = match text.len() {
        20 => !is_micro && digits(17, 19) && text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T'),
        27 => is_micro && digits(20, 26) && text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T'),
        _ => false,
    };
    if is_written_so {
        return Ok(None);
    }
    let form = if is_micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(Some(time.strftime(form).to_string()))
}

/// Go's message about a text that is no time: what it could not read as which part of its layout.
fn bad_time(text: &str, is_micro: bool) -> String {
    const PARTS: [(&str, usize); 11] = [
        ("2006", 4),
        ("-", 1),
        ("01", 2),
        ("-", 1),
        ("02", 2),
        ("T", 1),
        ("15", 2),
        (":", 1),
        ("04", 2),
        (":", 1),
        ("05", 2),
    ];
    let layout = if is_micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
    let mut rest = text;
    for (part, width) in PARTS {
        let reads = match (rest.get(..width), part.starts_with(|c: char| c.is_ascii_digit())) {
            (Some(found), true) => found.bytes().all(|b| b.is_ascii_digit()),
            (found, false) => found == Some(part),
            (None, _) => false,
        };
        if !reads {
            return format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}");
        }
        rest = &rest[width..];
    }
    format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as \"Z07:00\"")
}

/// The canonical form of a quantity.
pub(super) fn quantity(text: &str) -> Result<String, String> {
    let text = text.trim();
    let number = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = number.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let suffix = &number[digits..];
    let exponent = |s: &str| {
        let digits = s.strip_prefix(['+', '-']).unwrap_or(s);
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    };
    let is_suffix = matches!(
        suffix,
        "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" | "P" | "E" | "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei"
    ) || suffix.strip_prefix(['e', 'E']).is_some_and(exponent);
    let is_number = number[..digits].bytes().any(|b| b.is_ascii_digit()) && number[..digits].matches('.').count() < 2;
    if is_number && is_suffix { Ok(text.to_owned()) } else { Err(BAD_QUANTITY.to_owned()) }
}
