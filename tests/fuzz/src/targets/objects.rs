//! Objects: decoding of each form, and what is done with a decoded object before it is stored and shown.

use std::sync::LazyLock;

use api::codec::{self, FieldValidation};
use api::{Object, Resource, Table, defaults, printer, protobuf, validate};
use serde_json::Value;

use super::{Target, seen};
use crate::corpus;
use crate::mutate::Shape;

pub const TARGETS: &[Target] = &[
    Target { name: "json", shape: Shape::Json, inputs: 1500, corpus: corpus::json, run: json },
    Target { name: "yaml", shape: Shape::Text(YAML), inputs: 1500, corpus: corpus::yaml, run: yaml },
    Target { name: "protobuf", shape: Shape::Bytes, inputs: 3000, corpus: corpus::protobuf, run: proto },
    Target { name: "delete-options", shape: Shape::Json, inputs: 2000, corpus: options, run: delete_options },
];

const YAML: &[&str] = &[
    "- ",
    ": ",
    "\n",
    "  ",
    "&a ",
    "*a",
    "<<: *a",
    "!!binary ",
    "|",
    ">-",
    "? ",
    "---\n",
    "...\n",
    "{",
    "}",
    "[",
    "]",
    "'",
    "\"",
    "#",
    "0x",
    "0o17",
    ".inf",
    "~",
    "yes",
    "%TAG",
    "- - - - ",
    "\t",
    "{a: ",
    "&a [*a,",
];

static TABLE: LazyLock<Table> = LazyLock::new(api::builtin);

fn options() -> Vec<Vec<u8>> {
    corpus::texts(&[
        r#"{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0,"propagationPolicy":"Foreground"}"#,
        r#"{"preconditions":{"uid":"a","resourceVersion":"1"},"orphanDependents":true,"dryRun":["All"]}"#,
    ])
}

/// The row of what an object says that it is; ConfigMaps' when it says nothing that is known.
pub fn row_of(value: &Value) -> &'static Resource {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let gvk = api::meta::split_api_version(text("apiVersion"))
        .map(|(group, version)| api::Gvk::new(group, version, text("kind")));
    let found =
        gvk.and_then(|gvk| TABLE.by_kind(&gvk)).or_else(|| TABLE.by_kind(&api::Gvk::new("", "v1", "ConfigMap")));
    found.unwrap_or_else(|| unreachable!("ConfigMap is built in"))
}

fn json(input: &[u8]) {
    let row = row_of(&serde_json::from_slice(input).unwrap_or_default());
    for mode in [FieldValidation::Warn, FieldValidation::Strict] {
        if let Ok(decoded) = codec::decode(input, &row.gvk(), &row.schema, mode) {
            lives(row, decoded.object);
        }
    }
}

/// What happens to an object that was decoded: defaults, preparation, validation, encoding, printing.
fn lives(row: &Resource, mut object: Object) {
    defaults::apply(&mut object, &row.schema);
    if let Some(default) = row.hooks.default {
        default(&mut object);
    }
    let mut errors = Vec::new();
    let rule = api::kinds::name_rule(&row.group, &row.kind);
    validate::meta::create(&object, row.namespaced, rule, &mut errors);
    for (old, subresource) in [(None, ""), (Some(object.clone()), ""), (Some(object.clone()), "status")] {
        let mut new = object.clone();
        if let Some(old) = &old {
            validate::meta::before_update(&mut new, old);
            validate::meta::update(&new, old, &mut errors);
        }
        if let Some(prepare) = row.hooks.prepare {
            prepare(&mut new, old.as_ref(), subresource);
        }
        if let Some(check) = row.hooks.validate {
            check(&new, old.as_ref(), subresource, &mut errors);
        }
    }
    let status = api::Status::invalid(&row.gvk(), "x", &errors);
    seen(status.to_json());
    if let Some(grace) = row.hooks.grace {
        seen(grace(&mut object.clone(), Some(i64::MAX)));
    }
    seen(row.selectable_values(&object));
    seen(printer::row(row, &object));
    seen(api::yaml::to_string(&Value::Object(object.clone())));
    if let Some(message) = protobuf::message_of(&row.schema) {
        let bytes = protobuf::encode_message(message, &object);
        assert!(protobuf::decode_message(message, &bytes).is_ok(), "what was encoded is not read");
    }
}

fn yaml(input: &[u8]) {
    let Ok(documents) = api::yaml::parse_all(input) else { return };
    for document in documents {
        let written = api::yaml::to_string(&document.value);
        let again = api::yaml::parse(written.as_bytes()).map(|again| again.value);
        assert!(again.as_ref().is_ok_and(|again| *again == document.value), "what was written is read as {again:?}");
        let row = row_of(&document.value);
        seen(codec::decode_yaml(written.as_bytes(), &row.gvk(), &row.schema, FieldValidation::Strict));
    }
}

fn proto(input: &[u8]) {
    let Ok(object) = protobuf::decode(input) else { return };
    let row = row_of(&Value::Object(object));
    if let Ok(decoded) = codec::decode_protobuf(input, &row.gvk(), &row.schema) {
        lives(row, decoded.object);
    }
}

fn delete_options(input: &[u8]) {
    seen(codec::decode_options(input));
}
