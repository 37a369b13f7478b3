//! How the values of a schema are taken apart for ownership: which are one value, which are owned by their parts.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde_json::Value;

use crate::schema::{ListType, Text, Type};
use crate::{Object, Schema};

static ANY: LazyLock<Schema> = LazyLock::new(Schema::default);

/// How ownership divides a value.
#[derive(Clone, Copy, PartialEq)]
pub enum Shape<'a> {
    /// It is owned as one.
    Leaf,
    /// By fields.
    Map,
    /// By items, which are scalars.
    Set,
    /// By items, which are told apart by these keys.
    Keyed(&'a [Text]),
}

/// How a value is divided.
pub fn shape<'a>(schema: &'a Schema, value: &Value) -> Shape<'a> {
    match (schema.ty, value) {
        (Type::Object, Value::Object(_) | Value::Null) if !schema.atomic_map => Shape::Map,
        (Type::Any, Value::Object(_)) if !schema.atomic_map => Shape::Map,
        (Type::Array, Value::Array(_) | Value::Null) => match &schema.list_type {
            ListType::Atomic => Shape::Leaf,
            ListType::Set => Shape::Set,
            ListType::Map(keys) => Shape::Keyed(keys),
        },
        _ => Shape::Leaf,
    }
}

/// The schema of an object's field; anything goes for one that is not known.
pub fn field<'a>(schema: &'a Schema, name: &str) -> &'a Schema {
    schema.field(name).map_or(&*ANY, |field| field.as_ref())
}

/// The schema of a list's items.
pub fn item(schema: &Schema) -> &Schema {
    schema.items.as_ref().map_or(&*ANY, |items| items.as_ref())
}

/// What a field of a built-in kind has while it is not set, where upstream's type has no way to leave it out: an empty
/// struct or text, zero, false; null for a list or map.
pub fn implied(schema: &Schema) -> Option<&Value> {
    if (schema.ty == Type::Array || schema.additional.is_some()) && !schema.omit_empty {
        return Some(&Value::Null);
    }
    let default = schema.default.as_ref()?;
    let zero = match default {
        Value::Object(map) => map.is_empty() && !schema.definition.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Bool(on) => !on,
        _ => false,
    };
    zero.then_some(default)
}

/// Whether a value has nothing to take apart: null, an empty object or an empty list.
pub fn is_hollow(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    }
}

/// The path element of a list's item, or why it has none.
pub fn element(schema: &Schema, shape: Shape<'_>, value: &Value) -> Result<String, String> {
    match (shape, value) {
        (Shape::Keyed(keys), Value::Object(map)) => key_element(item(schema), keys, map),
        (Shape::Keyed(_), Value::Null) => Err("associative list with keys may not have a null element".to_owned()),
        (Shape::Keyed(_), _) => Err("associative list with keys may not have non-map elements".to_owned()),
        (_, Value::Object(_)) => Err("associative list without keys has an element that's a map type".to_owned()),
        (_, Value::Array(_)) => Err("not supported: associative list with lists as elements".to_owned()),
        (_, Value::Null) => Err("associative list without keys has an element that's an explicit null".to_owned()),
        (_, scalar) => Ok(format!("v:{scalar}")),
    }
}

fn key_element(schema: &Schema, keys: &[Text], map: &Object) -> Result<String, String> {
    let mut parts: Vec<(&str, Cow<'_, Value>)> = Vec::with_capacity(keys.len());
    for key in keys {
        if let Some(value) = map.get(key.as_ref()) {
            parts.push((key, Cow::Borrowed(value)));
        } else if let Some(default) = key_default(schema, key) {
            parts.push((key, default));
        }
    }
    if parts.is_empty() && !keys.is_empty() {
        let keys: Vec<String> = keys.iter().map(|key| crate::field::go_quote(key)).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] \
             (and doesn't have default values for any key fields)",
            keys.join(" ")
        ));
    }
    parts.sort_by_key(|(name, _)| *name);
    let mut text = String::from("k:{");
    for (at, (name, value)) in parts.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        text.push_str(&format!("{comma}{}:{value}", Value::String((*name).to_owned())));
    }
    text.push('}');
    Ok(text)
}

/// What a missing key field stands for: its default, or an empty text where a built-in kind requires it.
fn key_default<'a>(schema: &'a Schema, key: &str) -> Option<Cow<'a, Value>> {
    let field = schema.properties.get(key)?;
    if let Some(default) = &field.default {
        return Some(Cow::Borrowed(default));
    }
    let empty = !schema.definition.is_empty() && field.ty == Type::String && !field.nullable;
    (empty && schema.required.iter().any(|required| required == key)).then(|| Cow::Owned(Value::String(String::new())))
}
