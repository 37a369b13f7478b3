//! Round trips of every kind, and the reference server's own bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};

use super::*;
use crate::codec::{self, FieldValidation};
use crate::meta::{Gvk, split_api_version};
use crate::schema::Type;
use crate::{builtin, status::Status};

/// Name, JSON and protobuf (in hexadecimal) of what a reference server answered.
static GOLDEN: &str = include_str!("golden.txt");

fn golden() -> impl Iterator<Item = (&'static str, Object, Vec<u8>)> {
    let lines: Vec<_> = GOLDEN.lines().collect();
    lines
        .chunks_exact(3)
        .map(|c| (c[0], serde_json::from_str(c[1]).unwrap(), unhex(c[2])))
        .collect::<Vec<_>>()
        .into_iter()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap()).collect()
}

fn text<'a>(object: &'a Object, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap()
}

fn gvk_of(object: &Object) -> Gvk {
    let (group, version) = split_api_version(text(object, "apiVersion")).unwrap();
    Gvk::new(group, version, text(object, "kind"))
}

/// The raw bytes of `FieldsV1` have their order from the writer.
fn without_managed_fields(object: &Object) -> Object {
    let mut object = object.clone();
    for object in crate::object::child_mut(&mut object, "metadata").remove("managedFields").into_iter() {
        assert!(object.is_array());
    }
    object
}

#[test]
fn the_reference_server_s_bytes_are_read_as_its_json() {
    for (name, object, bytes) in golden().filter(|(name, ..)| *name != "watch") {
        let schema = builtin::schema_of_kind(&gvk_of(&object)).unwrap();
        let decoded = codec::decode_protobuf(&bytes, &gvk_of(&object), &schema).unwrap().object;
        let expected = codec::decode_value(Value::Object(object), &gvk_of(&decoded), &schema, FieldValidation::Strict);
        assert_eq!(Value::Object(decoded), Value::Object(expected.unwrap().object), "{name}");
    }
}

#[test]
fn objects_are_written_as_the_reference_server_writes_them() {
    for (name, object, bytes) in golden().filter(|(name, ..)| *name != "watch") {
        let message = message_of(&builtin::schema_of_kind(&gvk_of(&object)).unwrap()).unwrap();
        let written = encode(message, &object);
        if written == bytes {
            continue;
        }
        // The embedded JSON may be in another order, of the same length then.
        assert_eq!(written.len(), bytes.len(), "{name}");
        let again = decode(&bytes).unwrap();
        assert_eq!(encode(message, &again).len(), bytes.len(), "{name}");
        assert_eq!(encode(message, &without_managed_fields(&again)), encode(message, &without_managed_fields(&object)));
    }
}

#[test]
fn lists_of_messages_are_what_one_message_would_be() {
    let (_, list, bytes) = golden().find(|(name, ..)| *name == "list").unwrap();
    let message = message("io.k8s.api.core.v1.ConfigMap").unwrap();
    let items: Vec<_> = list["items"].as_array().unwrap().iter().filter_map(Value::as_object).collect();
    let items: Vec<_> = items.into_iter().map(|item| encode_message(message, item)).collect();
    let metadata = list["metadata"].as_object().unwrap();
    let mut written = envelope::list_head("v1", "ConfigMapList", metadata, items.iter().map(Vec::len));
    for item in &items {
        envelope::item_head(&mut written, item.len());
        written.extend_from_slice(item);
    }
    written.extend_from_slice(envelope::TAIL);
    let whole = encode(super::message("io.k8s.api.core.v1.ConfigMapList").unwrap(), &list);
    assert_eq!(written, whole);
    assert_eq!(written.len(), bytes.len());
}

#[test]
fn frames_are_the_reference_server_s() {
    let (_, event, bytes) = golden().find(|(name, ..)| *name == "watch").unwrap();
    let status = event["object"].as_object().unwrap();
    let message = message("io.k8s.apimachinery.pkg.apis.meta.v1.Status").unwrap();
    let mut frame = Vec::new();
    envelope::frame(&mut frame, "ERROR", "v1", "Status", &encode_message(message, status));
    assert_eq!(frame, bytes);
}

/// Numbers of values, and whether some objects were left empty.
#[derive(Default)]
struct Seed {
    n: u64,
    is_cut: bool,
}

/// A value with every field set, as the codec keeps it.
fn full(schema: &Schema, depth: usize, seed: &mut Seed) -> Value {
    seed.n += 1;
    let last = schema.definition.rsplit('.').next().unwrap_or_default();
    match (schema.ty, schema.format.as_ref()) {
        (Type::String, "byte") => json!("AP8="),
        (Type::String, "date-time") if last == "MicroTime" => json!("2024-01-02T03:04:05.000006Z"),
        (Type::String, "date-time") => json!("2024-01-02T03:04:05Z"),
        (Type::String, _) => json!(format!("text {}", seed.n)),
        (Type::Boolean, _) => json!(true),
        (Type::Integer, "int32") => json!(-(seed.n as i32)),
        (Type::Integer, _) => json!(seed.n as i64 * 5_000_000_000),
        (Type::Number, _) => json!(1.5),
        (Type::IntOrString, "int-or-string") => [json!(5), json!("50%")][seed.n as usize % 2].clone(),
        (Type::IntOrString, _) => json!("1500m"),
        (Type::Array, _) => match &schema.items {
            Some(items) => json!([full(items, depth, seed), full(items, depth, seed)]),
            None => json!([]),
        },
        (Type::Object, _) => match &schema.additional {
            Some(values) if schema.properties.is_empty() => {
                json!({"a": full(values, depth, seed), "b/c": full(values, depth, seed)})
            }
            _ => full_object(schema, depth + 1, seed),
        },
        (Type::Any, _) => match last {
            "JSONSchemaPropsOrArray" => [json!({"type": "a"}), json!([{"type": "b"}])][seed.n as usize % 2].clone(),
            "JSONSchemaPropsOrBool" => [json!({"type": "a"}), json!(false)][seed.n as usize % 2].clone(),
            "JSONSchemaPropsOrStringArray" => [json!({"type": "a"}), json!(["b"])][seed.n as usize % 2].clone(),
            _ => json!({"any": [1, null, {"x": "y"}]}),
        },
    }
}

fn full_object(schema: &Schema, depth: usize, seed: &mut Seed) -> Value {
    // `JSONSchemaProps` and the like refer to themselves.
    if depth > 9 {
        seed.is_cut = true;
        return json!({});
    }
    let recursive = |field: &Schema| {
        let of = |s: &Schema| s.definition == schema.definition && !s.definition.is_empty();
        of(field) || field.items.as_deref().is_some_and(of) || field.additional.as_deref().is_some_and(of)
    };
    // A kind is in the envelope; references to others have one, too.
    let is_in_message = |name: &str| {
        !matches!(name, "apiVersion" | "kind")
            || message(&schema.definition).is_some_and(|m| m.fields().iter().any(|f| f.name == name))
    };
    let fields = schema.properties.iter().filter(|(name, field)| is_in_message(name) && !recursive(field));
    Value::Object(fields.map(|(name, field)| (name.to_owned(), full(field, depth, seed))).collect())
}

#[test]
fn every_message_comes_back_from_protobuf() {
    for name in messages::names() {
        let Some(definition) = builtin::definition(name) else { continue };
        let message = message(name).unwrap();
        let mut seed = Seed::default();
        let Value::Object(object) = full_object(definition.schema(), 0, &mut seed) else { panic!("{name}") };
        let bytes = encode_message(message, &object);
        let back = decode_message(message, &bytes).unwrap();
        // What is no pointer comes back where it was left out.
        if !seed.is_cut {
            assert_eq!(Value::Object(back.clone()), Value::Object(object), "{name}");
        }
        assert_eq!(encode_message(message, &back), bytes, "{name}");
        let nothing = encode_message(message, &Object::new());
        let back = decode_message(message, &nothing).unwrap();
        assert_eq!(encode_message(message, &back), nothing, "{name}");
    }
}

#[test]
fn every_list_has_its_metadata_and_items_where_lists_are_written() {
    for name in messages::names().filter(|n| n.ends_with("List") && builtin::definition(n).is_some()) {
        let fields: Vec<_> = message(name).unwrap().fields().iter().map(|f| (f.number, f.name)).collect();
        if fields.iter().any(|(_, name)| *name == "metadata") {
            assert_eq!(fields, [(1, "metadata"), (2, "items")], "{name}");
        }
    }
}

#[test]
fn damaged_bodies_are_refused_and_never_panic() {
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for (_, object, bytes) in golden().filter(|(name, ..)| *name != "watch") {
        let schema = builtin::schema_of_kind(&gvk_of(&object)).unwrap();
        for round in 0..60 {
            let mut damaged = bytes.clone();
            for _ in 0..=round % 4 {
                let at = random() % damaged.len();
                damaged[at] = random() as u8;
            }
            if round % 3 == 0 {
                damaged.truncate(random() % damaged.len());
            }
            let result: Result<_, Status> = codec::decode_protobuf(&damaged, &gvk_of(&object), &schema);
            drop(result);
        }
    }
    let gvk = Gvk::new("", "v1", "ConfigMap");
    let schema = builtin::schema_of_kind(&gvk).unwrap();
    let refused = |bytes: &[u8]| codec::decode_protobuf(bytes, &gvk, &schema).unwrap_err();
    assert!(refused(b"{}").message.contains("does not appear to be a protobuf message"));
    assert_eq!(refused(&envelope::seal("v1", "Secret", b"")).code, 400);
    assert_eq!(refused(&envelope::seal("v1", "ConfigMap", &[0x0a, 0xff])).code, 400);
    let props = message("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps").unwrap();
    let number = props.fields().iter().find(|f| f.name == "not").unwrap().number;
    let nested = |levels: usize| {
        (0..levels).fold(Vec::new(), |inner, _| {
            let mut outer = Vec::new();
            wire::put_bytes(&mut outer, number, &inner);
            outer
        })
    };
    assert!(decode_message(props, &nested(90)).is_ok());
    assert_eq!(decode_message(props, &nested(2000)).unwrap_err().to_string(), "exceeded max depth");
}
