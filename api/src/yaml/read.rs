//! YAML 1.1 to JSON values.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Options, Spanned};

/// A text is no YAML.
#[derive(Debug, thiserror::Error)]
#[error("yaml: {0}")]
pub struct Error(String);

/// One document.
#[derive(Debug, Default)]
pub struct Document {
    pub value: Value,
    /// One text for each key that stands twice in a mapping: `line 3: key "name" already set in map`. The last wins.
    pub duplicates: Vec<String>,
}

/// As deep as JSON may be nested.
const MAX_DEPTH: usize = 128;
/// The largest published manifests of custom resource definitions have some 200,000.
const MAX_NODES: usize = 2_000_000;
const MAX_DOCUMENTS: usize = 10_000;
/// The stack that a text is read on, in bytes: the parser goes down by recursion, and so deep a text needs more than
/// the 2 MiB of a server's thread. Pages that are not needed are never there.
const STACK: usize = 32 << 20;

fn options() -> Options {
    let mut options = Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    options.legacy_octal_numbers = true;
    options.strict_booleans = false;
    options.emit_comments = false;
    options.budget = serde_saphyr::budget! {
        max_depth: MAX_DEPTH,
        max_nodes: MAX_NODES,
        max_events: 2 * MAX_NODES,
        max_documents: MAX_DOCUMENTS,
    };
    options
}

fn error(error: &serde_saphyr::Error) -> Error {
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    Error(match error.location() {
        Some(location) => {
            let plain = text.split(" at line ").next().unwrap_or(text);
            let plain = plain.split_once(": line ").map_or(plain, |(before, _)| before);
            // What the parser was at, which it adds in brackets, is nobody's concern.
            let plain = plain.split_once(" (").map_or(plain, |(before, _)| before);
            format!("line {}: {}", location.line(), plain.trim_start_matches("error: "))
        }
        None => text.to_owned(),
    })
}

/// Reads the one document of a text; an empty text is null.
///
/// # Errors
/// The text is no YAML, or holds more than one document.
pub fn parse(bytes: &[u8]) -> Result<Document, Error> {
    let mut documents = parse_all(bytes)?;
    match documents.len() {
        0 => Ok(Document::default()),
        1 => Ok(documents.remove(0)),
        _ => Err(Error("expected a single document in the stream".to_owned())),
    }
}

/// Reads all documents of a text, without the empty ones.
///
/// # Errors
/// The text is no YAML.
pub fn parse_all(bytes: &[u8]) -> Result<Vec<Document>, Error> {
    let documents: Vec<Document> =
        stacker::grow(STACK, || serde_saphyr::from_slice_multiple_with_options(bytes, options()))
            .map_err(|e| error(&e))?;
    Ok(documents.into_iter().filter(|document| !document.value.is_null()).collect())
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut duplicates = Vec::new();
        let value = Node { duplicates: &mut duplicates }.deserialize(from)?;
        Ok(Self { value, duplicates })
    }
}

/// A key. JSON has only texts: a plain `on` becomes "true".
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match (Node { duplicates: &mut Vec::new() }).deserialize(from)? {
            Value::String(text) => Ok(Self(text)),
            Value::Array(_) | Value::Object(_) => Err(serde::de::Error::custom("a key must be a scalar")),
            other => Ok(Self(other.to_string())),
        }
    }
}

/// One node of a document.
struct Node<'d> {
    duplicates: &'d mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

/// A whole float is an integer in JSON as Go writes it.
fn float(value: f64) -> Option<Number> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        return Some(Number::from(value as i64));
    }
    Number::from_f64(value)
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML node")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        self.deserialize(from)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        float(value).map(Value::Number).ok_or_else(|| E::custom("json: unsupported value: a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element_seed(Node { duplicates: self.duplicates })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = from.next_key::<Spanned<Key>>()? {
            let value = from.next_value_seed(Node { duplicates: self.duplicates })?;
            let (Key(name), line) = (key.value, key.referenced.line());
            if object.contains_key(&name) {
                self.duplicates.push(format!("line {line}: key {name:?} already set in map"));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}
