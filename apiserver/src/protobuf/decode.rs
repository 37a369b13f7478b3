//! Protobuf wire format to JSON, led by the table of messages.

use api::Object;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::messages::{self, Field, Kind, Message, Shape};

/// Bytes that are no such message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

/// Messages are not nested deeper than this.
const DEEPEST: usize = 64;

/// A field's value on the wire.
#[derive(Clone, Copy, Debug)]
enum Wire<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or_else(short)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error("proto: integer overflow".to_owned()))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next field, or `None` at the end.
    fn field(&mut self) -> Result<Option<(u64, Wire<'a>)>, Error> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed(little_endian(self.take(8)?)),
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.take(usize::try_from(length).map_err(|_| short())?)?)
            }
            5 => Wire::Fixed(little_endian(self.take(4)?)),
            other => return Err(Error(format!("proto: illegal wireType {other}"))),
        };
        Ok(Some((tag >> 3, wire)))
    }
}

fn short() -> Error {
    Error("unexpected EOF".to_owned())
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn bytes(wire: Wire<'_>) -> Result<&[u8], Error> {
    match wire {
        Wire::Bytes(bytes) => Ok(bytes),
        _ => Err(Error("proto: wrong wireType".to_owned())),
    }
}

fn number(wire: Wire<'_>) -> Result<u64, Error> {
    match wire {
        Wire::Varint(value) | Wire::Fixed(value) => Ok(value),
        Wire::Bytes(_) => Err(Error("proto: wrong wireType".to_owned())),
    }
}

fn text(bytes: &[u8]) -> Result<String, Error> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Error("proto: text is no UTF-8".to_owned()))
}

/// The envelope of a body.
pub struct Envelope<'a> {
    pub api_version: String,
    pub kind: String,
    pub raw: &'a [u8],
}

pub fn envelope(body: &[u8]) -> Result<Envelope<'_>, Error> {
    let mut envelope = Envelope { api_version: String::new(), kind: String::new(), raw: &[] };
    let mut reader = Reader(body);
    while let Some((number, wire)) = reader.field()? {
        match number {
            1 => {
                let mut types = Reader(bytes(wire)?);
                while let Some((number, wire)) = types.field()? {
                    match number {
                        1 => envelope.api_version = text(bytes(wire)?)?,
                        2 => envelope.kind = text(bytes(wire)?)?,
                        _ => {}
                    }
                }
            }
            2 => envelope.raw = bytes(wire)?,
            _ => {}
        }
    }
    if envelope.kind.is_empty() {
        return Err(Error("Object 'Kind' is missing".to_owned()));
    }
    Ok(envelope)
}

/// A message as an object. Unknown fields are skipped, as upstream does.
pub fn message(of: &Message, body: &[u8], depth: usize) -> Result<Object, Error> {
    let mut object = Object::new();
    fill(&mut object, of, body, depth)?;
    Ok(object)
}

fn fill(object: &mut Object, of: &Message, body: &[u8], depth: usize) -> Result<(), Error> {
    if depth > DEEPEST {
        return Err(Error("messages are nested too deep".to_owned()));
    }
    let mut reader = Reader(body);
    while let Some((number, wire)) = reader.field()? {
        let Ok(at) = of.binary_search_by_key(&number, |f| f.number) else { continue };
        put(object, &of[at], wire, depth)?;
    }
    Ok(())
}

fn put(object: &mut Object, field: &Field, wire: Wire<'_>, depth: usize) -> Result<(), Error> {
    if let (Kind::Message(name), "^") = (field.kind, field.name) {
        return match messages::get(name) {
            Some(of) => fill(object, of, bytes(wire)?, depth + 1),
            None => Ok(()),
        };
    }
    match field.shape {
        Shape::One => {
            let value = value(field.kind, wire, depth)?;
            if !says_nothing(field.kind, &value) {
                object.insert(field.name.to_owned(), value);
            }
        }
        Shape::Pointer => {
            object.insert(field.name.to_owned(), value(field.kind, wire, depth)?);
        }
        Shape::List => {
            let list = object.entry(field.name).or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.push(value(field.kind, wire, depth)?);
            }
        }
        Shape::Map => {
            let (key, entry) = entry(field.kind, bytes(wire)?, depth)?;
            let map = object.entry(field.name).or_insert_with(|| json!({}));
            if let Value::Object(map) = map {
                map.insert(key, entry);
            }
        }
    }
    Ok(())
}

/// Zero values of fields that are no pointers are written always and mean that nothing was set.
fn says_nothing(kind: Kind, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::Bool(b) => !b,
        Value::Array(list) => list.is_empty() && kind == Kind::Texts,
        Value::Object(_) => false,
    }
}

fn entry(kind: Kind, body: &[u8], depth: usize) -> Result<(String, Value), Error> {
    let mut key = String::new();
    let mut found = None;
    let mut reader = Reader(body);
    while let Some((number, wire)) = reader.field()? {
        match number {
            1 => key = text(bytes(wire)?)?,
            2 => found = Some(value(kind, wire, depth)?),
            _ => {}
        }
    }
    let empty = || match kind {
        Kind::Text | Kind::Bytes | Kind::Quantity => json!(""),
        Kind::Texts => json!([]),
        _ => json!({}),
    };
    Ok((key, found.unwrap_or_else(empty)))
}

fn value(kind: Kind, wire: Wire<'_>, depth: usize) -> Result<Value, Error> {
    Ok(match kind {
        Kind::Text => Value::String(text(bytes(wire)?)?),
        Kind::Bytes => Value::String(STANDARD.encode(bytes(wire)?)),
        Kind::Bool => Value::Bool(number(wire)? != 0),
        Kind::Int => json!(number(wire)? as i64),
        Kind::Double => json!(f64::from_bits(number(wire)?)),
        Kind::Quantity => Value::String(first_text(bytes(wire)?)?),
        Kind::Time => time(bytes(wire)?, false)?,
        Kind::MicroTime => time(bytes(wire)?, true)?,
        Kind::IntOrString => int_or_string(bytes(wire)?)?,
        Kind::Raw => raw(bytes(wire)?)?,
        Kind::Duration => duration(bytes(wire)?)?,
        Kind::Texts => texts(bytes(wire)?)?,
        Kind::Message(name) => match messages::get(name) {
            Some(of) => Value::Object(message(of, bytes(wire)?, depth + 1)?),
            None => Value::Null,
        },
    })
}

/// The first two integer fields of a message.
fn numbers(body: &[u8]) -> Result<(i64, i64), Error> {
    let mut found = (0, 0);
    let mut reader = Reader(body);
    while let Some((field, wire)) = reader.field()? {
        match field {
            1 => found.0 = number(wire)? as i64,
            2 => found.1 = number(wire)? as i64,
            _ => {}
        }
    }
    Ok(found)
}

fn first_text(body: &[u8]) -> Result<String, Error> {
    let mut reader = Reader(body);
    while let Some((field, wire)) = reader.field()? {
        if field == 1 {
            return text(bytes(wire)?);
        }
    }
    Ok(String::new())
}

fn texts(body: &[u8]) -> Result<Value, Error> {
    let mut list = Vec::new();
    let mut reader = Reader(body);
    while let Some((field, wire)) = reader.field()? {
        if field == 1 {
            list.push(Value::String(text(bytes(wire)?)?));
        }
    }
    Ok(Value::Array(list))
}

fn time(body: &[u8], micro: bool) -> Result<Value, Error> {
    let (seconds, nanos) = numbers(body)?;
    Ok(match (seconds, micro) {
        // Go's zero time.
        (0 | -62_135_596_800, _) => Value::Null,
        (_, false) => json!(api::time::rfc3339(seconds)),
        (_, true) => json!(api::time::rfc3339_micro(seconds.saturating_mul(1_000_000) + nanos / 1000)),
    })
}

fn int_or_string(body: &[u8]) -> Result<Value, Error> {
    let (mut is_text, mut int, mut string) = (false, 0i64, String::new());
    let mut reader = Reader(body);
    while let Some((field, wire)) = reader.field()? {
        match field {
            1 => is_text = number(wire)? == 1,
            2 => int = number(wire)? as i64,
            3 => string = text(bytes(wire)?)?,
            _ => {}
        }
    }
    Ok(if is_text { json!(string) } else { json!(int) })
}

fn raw(body: &[u8]) -> Result<Value, Error> {
    let mut reader = Reader(body);
    while let Some((field, wire)) = reader.field()? {
        let inner = bytes(wire)?;
        if field == 1 && !inner.is_empty() {
            return serde_json::from_slice(inner).map_err(|e| Error(format!("embedded JSON: {e}")));
        }
    }
    Ok(Value::Null)
}

/// A duration in Go's form; only whole seconds and their fractions occur in the API.
fn duration(body: &[u8]) -> Result<Value, Error> {
    let (nanos, _) = numbers(body)?;
    Ok(json!(format!("{}s", nanos as f64 / 1e9)))
}
