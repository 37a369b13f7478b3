//! The OpenAPI v2 document in protobuf, as kubectl asks for it (`application/com.github.proto-openapi.spec.v2…`): the
//! messages of gnostic's `openapi.v2`, as a table.

use serde_json::{Map, Value};

/// Wire types of fields.
const VARINT: u8 = 0;
const DOUBLE: u8 = 1;
const BYTES: u8 = 2;

/// How a member of the JSON document is written.
#[derive(Clone, Copy)]
enum As {
    Text,
    Texts,
    Bool,
    Integer,
    Double,
    /// YAML in an `Any`; JSON is YAML.
    Any,
    Anys,
    Message(Kind),
    Messages(Kind),
    /// A message that holds a map: entries of name and value in its field 1.
    Map(Kind),
}

/// A message whose JSON form is an object, or one that wraps others.
#[derive(Clone, Copy)]
enum Kind {
    Document,
    Info,
    PathItem,
    Operation,
    /// A parameter of an operation, or a reference to one.
    ParametersItem,
    Parameter,
    BodyParameter,
    /// Path and header parameters have the same fields.
    PathParameter,
    QueryParameter,
    Responses,
    ResponseValue,
    Response,
    SchemaItem,
    Schema,
    AdditionalProperties,
    Items,
    /// One type, or several.
    Type,
    Strings,
    Requirement,
    SecurityDefinition,
    ApiKey,
    Reference,
}

type Field = (&'static str, u32, As);

const DOCUMENT: &[Field] = &[
    ("swagger", 1, As::Text),
    ("info", 2, As::Message(Kind::Info)),
    ("host", 3, As::Text),
    ("basePath", 4, As::Text),
    ("schemes", 5, As::Texts),
    ("consumes", 6, As::Texts),
    ("produces", 7, As::Texts),
    ("parameters", 10, As::Map(Kind::Parameter)),
    ("responses", 11, As::Map(Kind::Response)),
    ("security", 12, As::Messages(Kind::Requirement)),
    ("securityDefinitions", 13, As::Map(Kind::SecurityDefinition)),
];

const INFO: &[Field] = &[("title", 1, As::Text), ("version", 2, As::Text), ("description", 3, As::Text)];

const PATH_ITEM: &[Field] = &[
    ("get", 2, As::Message(Kind::Operation)),
    ("put", 3, As::Message(Kind::Operation)),
    ("post", 4, As::Message(Kind::Operation)),
    ("delete", 5, As::Message(Kind::Operation)),
    ("options", 6, As::Message(Kind::Operation)),
    ("head", 7, As::Message(Kind::Operation)),
    ("patch", 8, As::Message(Kind::Operation)),
    ("parameters", 9, As::Messages(Kind::ParametersItem)),
];

const OPERATION: &[Field] = &[
    ("tags", 1, As::Texts),
    ("summary", 2, As::Text),
    ("description", 3, As::Text),
    ("operationId", 5, As::Text),
    ("produces", 6, As::Texts),
    ("consumes", 7, As::Texts),
    ("parameters", 8, As::Messages(Kind::ParametersItem)),
    ("responses", 9, As::Message(Kind::Responses)),
    ("schemes", 10, As::Texts),
    ("deprecated", 11, As::Bool),
    ("security", 12, As::Messages(Kind::Requirement)),
];

const BODY: &[Field] = &[
    ("description", 1, As::Text),
    ("name", 2, As::Text),
    ("in", 3, As::Text),
    ("required", 4, As::Bool),
    ("schema", 5, As::Message(Kind::Schema)),
];

const PATH_PARAMETER: &[Field] = &[
    ("required", 1, As::Bool),
    ("in", 2, As::Text),
    ("description", 3, As::Text),
    ("name", 4, As::Text),
    ("type", 5, As::Text),
    ("format", 6, As::Text),
    ("default", 9, As::Any),
    ("pattern", 16, As::Text),
    ("uniqueItems", 19, As::Bool),
    ("enum", 20, As::Anys),
];

const QUERY_PARAMETER: &[Field] = &[
    ("required", 1, As::Bool),
    ("in", 2, As::Text),
    ("description", 3, As::Text),
    ("name", 4, As::Text),
    ("allowEmptyValue", 5, As::Bool),
    ("type", 6, As::Text),
    ("format", 7, As::Text),
    ("default", 10, As::Any),
    ("pattern", 17, As::Text),
    ("uniqueItems", 20, As::Bool),
    ("enum", 21, As::Anys),
];

const RESPONSE: &[Field] = &[("description", 1, As::Text), ("schema", 2, As::Message(Kind::SchemaItem))];

const SCHEMA: &[Field] = &[
    ("$ref", 1, As::Text),
    ("format", 2, As::Text),
    ("title", 3, As::Text),
    ("description", 4, As::Text),
    ("default", 5, As::Any),
    ("multipleOf", 6, As::Double),
    ("maximum", 7, As::Double),
    ("exclusiveMaximum", 8, As::Bool),
    ("minimum", 9, As::Double),
    ("exclusiveMinimum", 10, As::Bool),
    ("maxLength", 11, As::Integer),
    ("minLength", 12, As::Integer),
    ("pattern", 13, As::Text),
    ("maxItems", 14, As::Integer),
    ("minItems", 15, As::Integer),
    ("uniqueItems", 16, As::Bool),
    ("maxProperties", 17, As::Integer),
    ("minProperties", 18, As::Integer),
    ("required", 19, As::Texts),
    ("enum", 20, As::Anys),
    ("additionalProperties", 21, As::Message(Kind::AdditionalProperties)),
    ("type", 22, As::Message(Kind::Type)),
    ("items", 23, As::Message(Kind::Items)),
    ("allOf", 24, As::Messages(Kind::Schema)),
    ("properties", 25, As::Map(Kind::Schema)),
    ("discriminator", 26, As::Text),
    ("readOnly", 27, As::Bool),
    ("example", 30, As::Any),
];

const API_KEY: &[Field] =
    &[("type", 1, As::Text), ("name", 2, As::Text), ("in", 3, As::Text), ("description", 4, As::Text)];

const REFERENCE: &[Field] = &[("$ref", 1, As::Text), ("description", 2, As::Text)];

impl Kind {
    /// The fields of the object, and the number of its extensions (`x-…`; 0 where it has none).
    fn fields(self) -> (&'static [Field], u32) {
        match self {
            Self::Document => (DOCUMENT, 16),
            Self::Info => (INFO, 7),
            Self::PathItem => (PATH_ITEM, 10),
            Self::Operation => (OPERATION, 13),
            Self::BodyParameter => (BODY, 6),
            Self::PathParameter => (PATH_PARAMETER, 22),
            Self::QueryParameter => (QUERY_PARAMETER, 23),
            Self::Response => (RESPONSE, 5),
            Self::Schema => (SCHEMA, 31),
            Self::ApiKey => (API_KEY, 5),
            Self::Reference => (REFERENCE, 0),
            _ => (&[], 0),
        }
    }
}

/// The document: paths and definitions as [`path`] and [`definition`] wrote them, all else as JSON.
pub(super) fn document(rest: &Value, paths: &[u8], definitions: &[u8]) -> Vec<u8> {
    let mut out = message(Kind::Document, rest);
    bytes(&mut out, 8, paths);
    bytes(&mut out, 9, definitions);
    out
}

/// Adds a path to the document's.
pub(super) fn path(out: &mut Vec<u8>, name: &str, item: &Value) {
    entry(out, 2, name, &message(Kind::PathItem, item));
}

/// Adds a definition to the document's.
pub(super) fn definition(out: &mut Vec<u8>, name: &str, schema: &Value) {
    entry(out, 1, name, &message(Kind::Schema, schema));
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn key(out: &mut Vec<u8>, number: u32, wire: u8) {
    varint(out, u64::from(number) << 3 | u64::from(wire));
}

fn bytes(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    key(out, number, BYTES);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// An entry of a map: name and value.
fn entry(out: &mut Vec<u8>, number: u32, name: &str, value: &[u8]) {
    let mut pair = Vec::with_capacity(name.len() + value.len() + 8);
    bytes(&mut pair, 1, name.as_bytes());
    bytes(&mut pair, 2, value);
    bytes(out, number, &pair);
}

fn any(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(&mut out, 2, (value.to_string() + "\n").as_bytes());
    out
}

fn wrapped(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 8);
    bytes(&mut out, number, content);
    out
}

fn is_reference(value: &Value) -> bool {
    value.get("$ref").is_some()
}

fn message(kind: Kind, value: &Value) -> Vec<u8> {
    match kind {
        Kind::ParametersItem if is_reference(value) => wrapped(2, &message(Kind::Reference, value)),
        Kind::ParametersItem => wrapped(1, &message(Kind::Parameter, value)),
        Kind::Parameter => match value["in"].as_str() {
            Some("body") => wrapped(1, &message(Kind::BodyParameter, value)),
            Some("header") => wrapped(2, &wrapped(1, &message(Kind::PathParameter, value))),
            Some("query") => wrapped(2, &wrapped(3, &message(Kind::QueryParameter, value))),
            _ => wrapped(2, &wrapped(4, &message(Kind::PathParameter, value))),
        },
        Kind::ResponseValue if is_reference(value) => wrapped(2, &message(Kind::Reference, value)),
        Kind::ResponseValue => wrapped(1, &message(Kind::Response, value)),
        Kind::SchemaItem | Kind::Items => wrapped(1, &message(Kind::Schema, value)),
        Kind::AdditionalProperties => match value {
            Value::Bool(on) => vec![2 << 3 | VARINT, u8::from(*on)],
            schema => wrapped(1, &message(Kind::Schema, schema)),
        },
        Kind::SecurityDefinition => wrapped(2, &message(Kind::ApiKey, value)),
        Kind::Type | Kind::Strings => {
            let one = std::slice::from_ref(value);
            let all = value.as_array().map_or(one, Vec::as_slice);
            let mut out = Vec::new();
            all.iter().filter_map(Value::as_str).for_each(|text| bytes(&mut out, 1, text.as_bytes()));
            out
        }
        Kind::Requirement => named(value, |out, name, value| entry(out, 1, name, &message(Kind::Strings, value))),
        Kind::Responses => named(value, |out, name, value| match name.starts_with("x-") {
            true => entry(out, 2, name, &any(value)),
            false => entry(out, 1, name, &message(Kind::ResponseValue, value)),
        }),
        kind => fields(kind, value),
    }
}

/// All members of an object, each written by itself.
fn named(value: &Value, write: impl Fn(&mut Vec<u8>, &str, &Value)) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        write(&mut out, name, value);
    }
    out
}

/// An object by its table.
fn fields(kind: Kind, value: &Value) -> Vec<u8> {
    let (fields, extensions) = kind.fields();
    let mut out = Vec::new();
    let empty = Map::new();
    let object = value.as_object().unwrap_or(&empty);
    for (name, number, form) in fields {
        if let Some(value) = object.get(*name) {
            field(&mut out, *number, *form, value);
        }
    }
    for (name, value) in object.iter().filter(|(name, _)| extensions > 0 && name.starts_with("x-")) {
        entry(&mut out, extensions, name, &any(value));
    }
    out
}

fn field(out: &mut Vec<u8>, number: u32, form: As, value: &Value) {
    let list = value.as_array().map_or(&[][..], Vec::as_slice);
    match form {
        As::Text => bytes(out, number, value.as_str().unwrap_or_default().as_bytes()),
        As::Texts => list.iter().filter_map(Value::as_str).for_each(|text| bytes(out, number, text.as_bytes())),
        As::Bool => {
            key(out, number, VARINT);
            out.push(u8::from(value.as_bool().unwrap_or_default()));
        }
        As::Integer => {
            key(out, number, VARINT);
            varint(out, value.as_u64().unwrap_or_default());
        }
        As::Double => {
            key(out, number, DOUBLE);
            out.extend_from_slice(&value.as_f64().unwrap_or_default().to_le_bytes());
        }
        As::Any => bytes(out, number, &any(value)),
        As::Anys => list.iter().for_each(|item| bytes(out, number, &any(item))),
        As::Message(kind) => bytes(out, number, &message(kind, value)),
        As::Messages(kind) => list.iter().for_each(|item| bytes(out, number, &message(kind, item))),
        As::Map(kind) => {
            let map = named(value, |out, name, value| entry(out, 1, name, &message(kind, value)));
            bytes(out, number, &map);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_are_those_of_gnostic() {
        assert_eq!(message(Kind::Info, &json!({"title": "K", "version": "v"})), b"\x0a\x01K\x12\x01v");
        // A schema's type is a TypeItem, its properties are named Schemas, its extensions are YAML.
        let schema = json!({"type": "string", "properties": {"a": {"$ref": "r"}}, "x-b": true});
        let mut expected = b"\xb2\x01\x08\x0a\x06string".to_vec();
        expected.extend_from_slice(b"\xca\x01\x0a\x0a\x08\x0a\x01a\x12\x03\x0a\x01r");
        expected.extend_from_slice(b"\xfa\x01\x0e\x0a\x03x-b\x12\x07\x12\x05true\n");
        assert_eq!(message(Kind::Schema, &schema), expected);
        // A parameter is a ParametersItem of a Parameter of a NonBodyParameter of a query's.
        let query = message(Kind::ParametersItem, &json!({"in": "query", "name": "n"}));
        assert_eq!(query, b"\x0a\x0e\x12\x0c\x1a\x0a\x12\x05query\x22\x01n");
        let reference = message(Kind::ParametersItem, &json!({"$ref": "r"}));
        assert_eq!(reference, b"\x12\x03\x0a\x01r");
    }
}
