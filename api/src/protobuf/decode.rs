//! Messages to the JSON form. Unknown fields are skipped; zero values that Go's JSON would omit are left out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Number, Value, json};

use super::messages::{Field, Kind, Message, Shape, json_schema};
use super::wire::{Reader, Wire};
use super::{Error, envelope};
use crate::{Object, time};

/// Messages are not nested deeper than this.
const DEEPEST: usize = 100;

/// A message as an object.
pub(super) fn object(message: &'static Message, body: &[u8], depth: usize) -> Result<Object, Error> {
    let mut object = Object::new();
    fill(&mut object, message.fields(), body, depth)?;
    Ok(object)
}

fn fill(object: &mut Object, fields: &'static [Field], body: &[u8], depth: usize) -> Result<(), Error> {
    if depth > DEEPEST {
        return Err(Error::new("exceeded max depth"));
    }
    let mut reader = Reader(body);
    while let Some((number, wire)) = reader.field()? {
        if let Ok(at) = fields.binary_search_by_key(&number, |f| f.number) {
            put(object, &fields[at], wire, depth)?;
        }
    }
    Ok(())
}

fn put(object: &mut Object, field: &'static Field, wire: Wire<'_>, depth: usize) -> Result<(), Error> {
    match (field.shape, field.kind) {
        (_, Kind::Embedded(inner)) => return fill(object, inner, wire.bytes()?, depth + 1),
        (Shape::One, Kind::Message(message)) => {
            // A field that stands twice is merged.
            let slot = object.entry(field.name).or_insert_with(|| Value::Object(Object::new()));
            if let Value::Object(inner) = slot {
                fill(inner, message.fields(), wire.bytes()?, depth + 1)?;
            }
        }
        (Shape::One, kind) => {
            match value(kind, wire, depth)?.filter(|v| field.is_pointer || !(field.omit_empty && is_zero(v))) {
                Some(value) => object.insert(field.name.to_owned(), value),
                None => object.remove(field.name),
            };
        }
        (Shape::List, kind) => {
            let slot = object.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(list) = slot else { return Ok(()) };
            match (kind, wire) {
                (Kind::Int32 | Kind::Int64 | Kind::Bool, Wire::Bytes(packed)) => {
                    let mut packed = Reader(packed);
                    while !packed.is_empty() {
                        list.extend(value(kind, Wire::Varint(packed.varint()?), depth)?);
                    }
                }
                _ => list.push(value(kind, wire, depth)?.unwrap_or_default()),
            }
        }
        (Shape::Map, kind) => {
            let (key, found) = entry(kind, wire.bytes()?, depth)?;
            let slot = object.entry(field.name).or_insert_with(|| Value::Object(Object::new()));
            if let Value::Object(map) = slot {
                map.insert(key, found);
            }
        }
    }
    Ok(())
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(value) => !value,
        Value::Array(items) => items.is_empty(),
        Value::Object(_) => false,
    }
}

/// An entry of a map; a value that is missing is the zero one.
fn entry(kind: Kind, body: &[u8], depth: usize) -> Result<(String, Value), Error> {
    let (mut key, mut found) = (String::new(), None);
    let mut reader = Reader(body);
    while let Some((number, wire)) = reader.field()? {
        match number {
            1 => key = wire.text()?.to_owned(),
            2 => found = value(kind, wire, depth)?,
            _ => {}
        }
    }
    let found = match found {
        Some(found) => found,
        None if matches!(kind, Kind::Text) => Value::from(""),
        None => value(kind, Wire::Bytes(&[]), depth)?.unwrap_or_default(),
    };
    Ok((key, found))
}

/// One value; `None` stands for JSON's null.
fn value(kind: Kind, wire: Wire<'_>, depth: usize) -> Result<Option<Value>, Error> {
    Ok(Some(match kind {
        Kind::Text => Value::from(wire.text()?),
        Kind::Bytes => Value::String(STANDARD.encode(wire.bytes()?)),
        Kind::Bool => Value::Bool(wire.varint()? != 0),
        // Go keeps the low half, too.
        Kind::Int32 => Value::from(wire.varint()? as i32),
        Kind::Int64 => Value::from(wire.varint()? as i64),
        Kind::Double => return Ok(number(wire.double()?)),
        Kind::Quantity => match first(wire.bytes()?)? {
            Some(quantity) => Value::from(quantity.text()?),
            None => Value::from("0"),
        },
        Kind::Time | Kind::MicroTime => return moment(wire.bytes()?, matches!(kind, Kind::MicroTime)),
        Kind::IntOrString => int_or_string(wire.bytes()?)?,
        Kind::Json => return json(wire.bytes()?, depth),
        Kind::Texts => texts(wire.bytes()?)?,
        Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrTexts => return schema_or(kind, wire.bytes()?, depth),
        Kind::Message(message) => Value::Object(object(message, wire.bytes()?, depth + 1)?),
        Kind::Embedded(fields) => {
            let mut object = Object::new();
            fill(&mut object, fields, wire.bytes()?, depth + 1)?;
            Value::Object(object)
        }
    }))
}

/// A number as Go's JSON has it: whole ones without a fraction.
fn number(value: f64) -> Option<Value> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        return Some(Value::from(value as i64));
    }
    Number::from_f64(value).map(Value::Number)
}

/// The last value of field 1.
fn first(body: &[u8]) -> Result<Option<Wire<'_>>, Error> {
    let (mut reader, mut found) = (Reader(body), None);
    while let Some((number, wire)) = reader.field()? {
        if number == 1 {
            found = Some(wire);
        }
    }
    Ok(found)
}

fn texts(body: &[u8]) -> Result<Value, Error> {
    let (mut reader, mut list) = (Reader(body), Vec::new());
    while let Some((number, wire)) = reader.field()? {
        if number == 1 {
            list.push(Value::from(wire.text()?));
        }
    }
    Ok(Value::Array(list))
}

/// A time; an empty message is Go's zero time, which is null in JSON.
fn moment(body: &[u8], is_micro: bool) -> Result<Option<Value>, Error> {
    if body.is_empty() {
        return Ok(None);
    }
    let (mut reader, mut seconds, mut nanos) = (Reader(body), 0, 0);
    while let Some((number, wire)) = reader.field()? {
        match number {
            1 => seconds = wire.varint()? as i64,
            2 => nanos = wire.varint()? as i32,
            _ => {}
        }
    }
    // The years 0 to 9999, which is what JSON can say.
    if !(-62_167_219_200..253_402_300_800).contains(&seconds) {
        return Err(Error::new("Time: year outside of range [0,9999]"));
    }
    let text = match is_micro {
        true => time::rfc3339_micro(seconds * 1_000_000 + i64::from(nanos / 1000)),
        false => time::rfc3339(seconds),
    };
    Ok(Some(Value::String(text)))
}

fn int_or_string(body: &[u8]) -> Result<Value, Error> {
    let (mut reader, mut is_text, mut int, mut text) = (Reader(body), false, 0, "");
    while let Some((number, wire)) = reader.field()? {
        match number {
            1 => is_text = wire.varint()? == 1,
            2 => int = wire.varint()? as i32,
            3 => text = wire.text()?,
            _ => {}
        }
    }
    Ok(if is_text { json!(text) } else { json!(int) })
}

/// Embedded JSON, or an object in an envelope of its own.
fn json(body: &[u8], depth: usize) -> Result<Option<Value>, Error> {
    let raw = match first(body)? {
        Some(wire) => wire.bytes()?,
        None => return Ok(None),
    };
    if raw.is_empty() {
        return Ok(None);
    }
    if raw.starts_with(envelope::MAGIC) {
        if depth > DEEPEST {
            return Err(Error::new("exceeded max depth"));
        }
        return envelope::object(raw, depth + 1).map(|object| Some(Value::Object(object)));
    }
    let value: Value = serde_json::from_slice(raw).map_err(|e| Error(format!("embedded JSON: {e}")))?;
    Ok(Some(value).filter(|v| !v.is_null()))
}

/// A union with a schema in field 1 or 2 and something else in the other one.
fn schema_or(kind: Kind, body: &[u8], depth: usize) -> Result<Option<Value>, Error> {
    let (mut reader, mut schema, mut list, mut allows) = (Reader(body), None, Vec::new(), false);
    let parsed = |wire: Wire<'_>| object(json_schema(), wire.bytes()?, depth + 1).map(Value::Object);
    while let Some((number, wire)) = reader.field()? {
        match (kind, number) {
            (Kind::SchemaOrBool, 1) => allows = wire.varint()? != 0,
            (Kind::SchemaOrBool, 2) | (_, 1) => schema = Some(parsed(wire)?),
            (Kind::SchemaOrArray, 2) => list.push(parsed(wire)?),
            (Kind::SchemaOrTexts, 2) => list.push(Value::from(wire.text()?)),
            _ => {}
        }
    }
    Ok(match kind {
        Kind::SchemaOrBool => Some(schema.unwrap_or(Value::Bool(allows))),
        _ if !list.is_empty() => Some(Value::Array(list)),
        _ => schema,
    })
}
