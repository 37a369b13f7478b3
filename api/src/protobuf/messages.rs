//! Messages by definition: `data/protobuf.txt` (its form is explained in `xtask/src/generate/protobuf.rs`) has names
//! and numbers of fields, their types are the schema's. A message's fields are made when it is first looked at.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use crate::builtin;
use crate::schema::{Schema, Type};

static TEXT: &str = include_str!("../../data/protobuf.txt");

static MESSAGES: LazyLock<HashMap<&'static str, Message>> = LazyLock::new(|| {
    let lines = TEXT.lines().map(|line| line.split_once(' ').unwrap_or((line, "")));
    lines.map(|(name, words)| (name, Message { name, words, fields: OnceLock::new() })).collect()
});

/// How the message of a definition is written.
pub struct Message {
    name: &'static str,
    words: &'static str,
    fields: OnceLock<Vec<Field>>,
}

/// A field of a message.
pub(super) struct Field {
    pub number: u32,
    /// The name in JSON; empty for embedded messages.
    pub name: &'static str,
    pub kind: Kind,
    pub shape: Shape,
    /// Whether it is written only when it is set.
    pub is_pointer: bool,
    /// Whether its zero value is the same as none.
    pub omit_empty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    List,
    /// From text.
    Map,
}

/// The type of a value.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    Bytes,
    Bool,
    Int32,
    Int64,
    Double,
    Quantity,
    Time,
    MicroTime,
    IntOrString,
    /// Any JSON, as bytes in a message of one field: `RawExtension`, `FieldsV1`, `JSON`.
    Json,
    /// A list of text in a message of one field.
    Texts,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrTexts,
    Message(&'static Message),
    /// A message whose fields are the outer object's.
    Embedded(&'static [Field]),
}

impl Message {
    /// `io.k8s.api.core.v1.Pod`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// By number.
    pub(super) fn fields(&'static self) -> &'static [Field] {
        self.fields.get_or_init(|| match builtin::definition(self.name) {
            Some(definition) => fields(self.words, definition.schema()),
            None => Vec::new(),
        })
    }
}

/// The message of a definition.
pub fn message(definition: &str) -> Option<&'static Message> {
    MESSAGES.get(definition)
}

/// The names of all messages.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    MESSAGES.keys().copied()
}

fn fields(words: &'static str, schema: &Schema) -> Vec<Field> {
    words.split(' ').filter_map(|word| field(word, schema)).collect()
}

fn field(word: &'static str, schema: &Schema) -> Option<Field> {
    let (name, rest) = word.split_once('=')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, marks) = rest.split_at(digits);
    let (number, is_pointer) = (number.parse().ok()?, marks.contains('*'));
    if let Some(embedded) = name.strip_prefix('^') {
        let inner = message(&format!("io.k8s.{embedded}"))?;
        // Kept for ever, as the outer message is.
        let inner: &'static [Field] = Vec::leak(fields(inner.words, schema));
        let kind = Kind::Embedded(inner);
        return Some(Field { number, name: "", kind, shape: Shape::One, is_pointer, omit_empty: false });
    }
    let of = schema.properties.get(name)?;
    let (element, shape) = match (of.ty, &of.items, &of.additional) {
        (Type::Array, Some(items), _) if !marks.contains('e') => (items, Shape::List),
        (Type::Object, _, Some(values)) if of.properties.is_empty() => (values, Shape::Map),
        _ => (of, Shape::One),
    };
    let kind = kind(element)?;
    Some(Field { number, name, kind, shape, is_pointer, omit_empty: of.omit_empty })
}

fn kind(schema: &Schema) -> Option<Kind> {
    let last = schema.definition.rsplit('.').next().unwrap_or_default();
    Some(match (schema.ty, schema.format.as_ref()) {
        (Type::String, "byte") => Kind::Bytes,
        (Type::String, "date-time") if last == "MicroTime" => Kind::MicroTime,
        (Type::String, "date-time") => Kind::Time,
        (Type::String, _) => Kind::Text,
        (Type::Boolean, _) => Kind::Bool,
        (Type::Integer, "int32") => Kind::Int32,
        (Type::Integer, _) => Kind::Int64,
        (Type::Number, _) => Kind::Double,
        (Type::IntOrString, "int-or-string") => Kind::IntOrString,
        (Type::IntOrString, _) => Kind::Quantity,
        (Type::Array, _) => Kind::Texts,
        (Type::Object, _) => Kind::Message(message(&schema.definition)?),
        (Type::Any, _) => match last {
            "JSONSchemaPropsOrArray" => Kind::SchemaOrArray,
            "JSONSchemaPropsOrBool" => Kind::SchemaOrBool,
            "JSONSchemaPropsOrStringArray" => Kind::SchemaOrTexts,
            _ => Kind::Json,
        },
    })
}

/// The message of a schema within a schema.
pub(super) fn json_schema() -> &'static Message {
    match message("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps") {
        Some(message) => message,
        None => unreachable!("the table has it"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    /// Fields that are in messages and not in the published definitions.
    const UNPUBLISHED: [&str; 0] = [];

    #[test]
    fn every_word_is_a_field_and_every_field_of_a_definition_has_a_number() {
        let mut lost = Vec::new();
        for message in MESSAGES.values().filter(|m| builtin::definition(m.name).is_some()) {
            let words = message.words.split(' ').filter(|w| !w.is_empty()).count();
            if words != message.fields().len() {
                let missing = message.words.split(' ').filter(|word| {
                    let name = word.split('=').next().unwrap_or_default();
                    !name.starts_with('^') && !message.fields().iter().any(|f| f.name == name)
                });
                lost.extend(missing.map(|word| format!("{}: {word}", message.name)));
            }
            let numbers: Vec<_> = message.fields().iter().map(|f| f.number).collect();
            assert!(numbers.is_sorted(), "{}", message.name);
            let schema = builtin::definition(message.name).unwrap().schema();
            for name in schema.properties.keys().filter(|n| !matches!(*n, "apiVersion" | "kind")) {
                if !has(message.fields(), name) {
                    lost.push(format!("{}: no number of {name}", message.name));
                }
            }
        }
        lost.retain(|l| !UNPUBLISHED.contains(&l.as_str()));
        assert!(lost.is_empty(), "{}", lost.join("\n"));
    }

    fn has(fields: &[Field], name: &str) -> bool {
        fields.iter().any(|f| f.name == name || matches!(f.kind, Kind::Embedded(inner) if has(inner, name)))
    }
}
