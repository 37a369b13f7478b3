//! The JSON form to messages, byte for byte as gogoproto writes them: fields by number, maps by key, everything that is
//! no pointer also when it is not set.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::messages::{Field, Kind, Message, Shape, json_schema};
use super::wire::{put_bytes, put_double, put_head, put_int, put_nested};
use crate::{Object, time};

/// Appends an object's fields.
pub(super) fn object(out: &mut Vec<u8>, message: &'static Message, object: &Object) {
    fields(out, message.fields(), object);
}

fn fields(out: &mut Vec<u8>, fields: &'static [Field], object: &Object) {
    for field in fields {
        put_field(out, field, object);
    }
}

fn put_field(out: &mut Vec<u8>, field: &'static Field, object: &Object) {
    if let Kind::Embedded(inner) = field.kind {
        return put_nested(out, field.number, |out| fields(out, inner, object));
    }
    let value = object.get(field.name).filter(|v| !v.is_null());
    match (field.shape, value) {
        (Shape::One, Some(value)) => put(out, field.number, field.kind, value),
        (Shape::One, None) if !field.is_pointer => put_zero(out, field.number, field.kind),
        (Shape::List, Some(Value::Array(list))) => {
            for value in list {
                put(out, field.number, field.kind, value);
            }
        }
        (Shape::Map, Some(Value::Object(map))) => {
            for (key, value) in map {
                put_nested(out, field.number, |out| {
                    put_bytes(out, 1, key.as_bytes());
                    put(out, 2, field.kind, value);
                });
            }
        }
        _ => {}
    }
}

/// A field that is no pointer and not set.
fn put_zero(out: &mut Vec<u8>, number: u32, kind: Kind) {
    match kind {
        Kind::Text => put_head(out, number, 0),
        Kind::Bool | Kind::Int32 | Kind::Int64 => put_int(out, number, 0),
        Kind::Double => put_double(out, number, 0.0),
        Kind::Quantity => put_nested(out, number, |out| put_bytes(out, 1, b"0")),
        Kind::IntOrString => put_nested(out, number, |out| put_int_or_string(out, &Value::from(0))),
        Kind::Message(message) => put_nested(out, number, |out| fields(out, message.fields(), &Object::new())),
        Kind::Time | Kind::MicroTime | Kind::Json => put_head(out, number, 0),
        // Slices and what is a pointer always.
        Kind::Bytes | Kind::Texts | Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrTexts => {}
        Kind::Embedded(_) => {}
    }
}

fn put(out: &mut Vec<u8>, number: u32, kind: Kind, value: &Value) {
    let text = || value.as_str().unwrap_or_default();
    match kind {
        Kind::Text => put_bytes(out, number, text().as_bytes()),
        // Decoding has checked it.
        Kind::Bytes => put_bytes(out, number, &STANDARD.decode(text()).unwrap_or_default()),
        Kind::Bool => put_int(out, number, u64::from(value.as_bool().unwrap_or(false))),
        Kind::Int32 | Kind::Int64 => put_int(out, number, value.as_i64().unwrap_or(0) as u64),
        Kind::Double => put_double(out, number, value.as_f64().unwrap_or(0.0)),
        Kind::Quantity => put_nested(out, number, |out| put_bytes(out, 1, text().as_bytes())),
        Kind::Time | Kind::MicroTime => put_nested(out, number, |out| put_moment(out, text(), kind)),
        Kind::IntOrString => put_nested(out, number, |out| put_int_or_string(out, value)),
        Kind::Json => put_nested(out, number, |out| put_bytes(out, 1, value.to_string().as_bytes())),
        Kind::Texts => put_nested(out, number, |out| put_texts(out, 1, value)),
        Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrTexts => {
            put_nested(out, number, |out| put_schema_or(out, kind, value));
        }
        Kind::Message(message) => put_nested(out, number, |out| {
            if let Some(object) = value.as_object() {
                fields(out, message.fields(), object);
            }
        }),
        Kind::Embedded(_) => {}
    }
}

fn put_texts(out: &mut Vec<u8>, number: u32, value: &Value) {
    for text in value.as_array().into_iter().flatten().filter_map(Value::as_str) {
        put_bytes(out, number, text.as_bytes());
    }
}

fn put_moment(out: &mut Vec<u8>, text: &str, kind: Kind) {
    let Ok(micros) = time::parse_micro(text) else { return };
    let nanos = micros.rem_euclid(1_000_000) * 1000;
    put_int(out, 1, micros.div_euclid(1_000_000) as u64);
    put_int(out, 2, if matches!(kind, Kind::MicroTime) { nanos as u64 } else { 0 });
}

fn put_int_or_string(out: &mut Vec<u8>, value: &Value) {
    put_int(out, 1, u64::from(value.is_string()));
    put_int(out, 2, value.as_i64().unwrap_or(0) as u64);
    put_bytes(out, 3, value.as_str().unwrap_or_default().as_bytes());
}

fn put_schema_or(out: &mut Vec<u8>, kind: Kind, value: &Value) {
    let schema = |out: &mut Vec<u8>, number: u32, value: &Value| {
        if let Some(object) = value.as_object() {
            put_nested(out, number, |out| fields(out, json_schema().fields(), object));
        }
    };
    match kind {
        Kind::SchemaOrBool => {
            put_int(out, 1, u64::from(value.as_bool().unwrap_or(true)));
            schema(out, 2, value);
        }
        Kind::SchemaOrTexts => {
            schema(out, 1, value);
            put_texts(out, 2, value);
        }
        _ => {
            schema(out, 1, value);
            for item in value.as_array().into_iter().flatten() {
                schema(out, 2, item);
            }
        }
    }
}
