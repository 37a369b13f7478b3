//! Checks an applied configuration against its kind's schema, in the words of upstream's typed values.

use std::collections::HashSet;

use serde_json::Value;

use super::walk::{self, Shape};
use super::{Write, set};
use crate::schema::Type;
use crate::{Object, Schema, Status, object};

/// Refuses a configuration with fields that the kind does not have, of other types, or with repeated list items.
pub fn check(write: &Write<'_>, config: &Object) -> Result<(), Status> {
    let mut errors = Vec::new();
    fields(write.schema, config, "", &mut errors);
    let what = match errors.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("errors:\n{}", many.iter().map(|e| format!("  {e}")).collect::<Vec<_>>().join("\n")),
    };
    let (namespace, name) = (object::namespace(config), object::name(config));
    let kind = object::str_at(config, &["kind"]);
    let version = if write.api_version.contains('/') { String::new() } else { "/".to_owned() } + write.api_version;
    let message = format!("failed to create typed patch object ({namespace}/{name}; {version}, Kind={kind}): {what}");
    Err(super::untyped_failure(message))
}

fn fields(schema: &Schema, map: &Object, path: &str, errors: &mut Vec<String>) {
    let open = schema.preserve_unknown || schema.ty == Type::Any || schema.properties.is_empty();
    for (name, value) in map {
        let inner = format!("{path}.{name}");
        match schema.field(name) {
            Some(field) => check_value(field, value, &inner, errors),
            None if open || (path.is_empty() && ["apiVersion", "kind", "metadata"].contains(&name.as_str())) => {}
            None => errors.push(format!("{inner}: field not declared in schema")),
        }
    }
}

fn check_value(schema: &Schema, value: &Value, path: &str, errors: &mut Vec<String>) {
    let wrong = |what: &str| format!("{path}: expected {what}");
    match (schema.ty, value) {
        (_, Value::Null) | (Type::Any | Type::IntOrString, _) => {}
        (Type::Object, Value::Object(map)) => fields(schema, map, path, errors),
        (Type::Object, _) => errors.push(wrong(&format!("map, got &{{{}}}", go_text(value)))),
        (Type::Array, Value::Array(list)) => items(schema, list, path, errors),
        (Type::Array, _) => errors.push(wrong(&format!("list, got &{{{}}}", go_text(value)))),
        (Type::String, Value::String(_)) | (Type::Boolean, Value::Bool(_)) => {}
        (Type::String, _) => {
            errors.push(wrong(&format!("string, got &value.valueUnstructured{{Value:{}}}", go_value(value))));
        }
        (Type::Boolean, _) => errors.push(wrong(&format!("boolean, got &{{{}}}", go_text(value)))),
        (Type::Integer | Type::Number, Value::Number(_)) => {}
        (Type::Integer | Type::Number, _) => {
            errors.push(wrong(&format!("numeric (int or float), got {}", go_type(value))));
        }
    }
}

fn items(schema: &Schema, list: &[Value], path: &str, errors: &mut Vec<String>) {
    let shape = match &schema.list_type {
        crate::schema::ListType::Atomic => Shape::Leaf,
        crate::schema::ListType::Set => Shape::Set,
        crate::schema::ListType::Map(keys) => Shape::Keyed(keys),
    };
    let mut seen = HashSet::new();
    for (at, item) in list.iter().enumerate() {
        let mut inner = format!("{path}[{at}]");
        if shape != Shape::Leaf {
            match walk::element(schema, shape, item) {
                Err(why) => {
                    errors.push(format!("{path}: element {at}: {why}"));
                    continue;
                }
                Ok(key) if seen.contains(&key) => {
                    errors.push(format!("{path}: duplicate entries for key {}", set::element_text(&key)));
                    continue;
                }
                Ok(key) => {
                    inner = format!("{path}{}", set::element_text(&key));
                    seen.insert(key);
                }
            }
        }
        check_value(walk::item(schema), item, &inner, errors);
    }
}

/// A value as Go prints it with `%v`.
fn go_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        Value::Array(list) => format!("[{}]", list.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let fields: Vec<String> = map.iter().map(|(name, value)| format!("{name}:{}", go_text(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

/// A value as Go prints it with `%#v`.
fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => crate::field::go_quote(text),
        Value::Array(list) => {
            format!("[]interface {{}}{{{}}}", list.iter().map(go_value).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let fields: Vec<String> = map
                .iter()
                .map(|(name, value)| format!("{}:{}", crate::field::go_quote(name), go_value(value)))
                .collect();
            format!("map[string]interface {{}}{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        Value::Number(_) => "int64",
        Value::Null => "<nil>",
    }
}
