//! Patches of each type, and server-side apply, on an object of the golden data.

use std::sync::LazyLock;

use api::codec::{self, FieldValidation};
use api::{Object, Resource, patch};
use serde_json::{Value, json};

use super::objects::row_of;
use super::{Target, seen};
use crate::corpus;
use crate::mutate::Shape;

pub const TARGETS: &[Target] = &[
    Target { name: "json-patch", shape: Shape::Json, inputs: 3000, corpus: operations, run: json_patch },
    Target { name: "merge-patch", shape: Shape::Json, inputs: 2000, corpus: objects, run: merge },
    Target { name: "strategic-patch", shape: Shape::Json, inputs: 3000, corpus: strategic_patches, run: strategic },
    Target { name: "apply", shape: Shape::Json, inputs: 1500, corpus: objects, run: apply },
];

static OLD: LazyLock<Object> = LazyLock::new(|| {
    let value = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "default",
        "labels": {"a": "b"}, "finalizers": ["a/b"]}, "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [
            {"name": "c", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}], "env": [{"name": "x", "value": "y"}]},
            {"name": "e", "image": "j"}], "tolerations": [{"key": "k", "operator": "Exists"}]}}}});
    match value {
        Value::Object(object) => object,
        _ => unreachable!("written as an object"),
    }
});

fn row() -> &'static Resource {
    row_of(&Value::Object(OLD.clone()))
}

fn objects() -> Vec<Vec<u8>> {
    let mut all = vec![serde_json::to_vec(&*OLD).unwrap_or_default()];
    all.extend(corpus::json().into_iter().take(40));
    all
}

fn operations() -> Vec<Vec<u8>> {
    corpus::texts(&[
        r#"[{"op":"add","path":"/spec/template/spec/containers/-","value":{"name":"n"}},{"op":"test","path":"/spec/replicas","value":1}]"#,
        r#"[{"op":"move","from":"/spec/template","path":"/spec/x"},{"op":"copy","from":"/metadata","path":"/metadata/labels/c"}]"#,
        r#"[{"op":"remove","path":"/metadata/finalizers/-1"},{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"k"}]"#,
        r#"[{"op":"copy","from":"","path":"/a"},{"op":"copy","from":"","path":"/b~1c"}]"#,
    ])
}

fn strategic_patches() -> Vec<Vec<u8>> {
    let mut all = corpus::texts(&[
        r#"{"spec":{"template":{"spec":{"$setElementOrder/containers":[{"name":"e"},{"name":"c"}],"containers":[{"name":"c","$patch":"delete"}]}}}}"#,
        r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["a/b"],"labels":null},"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}}"#,
        r#"{"spec":{"$patch":"replace","replicas":2},"metadata":{"$setElementOrder/finalizers":["x","a/b"],"finalizers":["x"]}}"#,
    ]);
    all.extend(objects());
    all
}

fn decoded(value: Value) {
    let row = row();
    if let Err(refusal) = codec::decode_patched(value, Vec::new(), &row.gvk(), &row.schema, FieldValidation::Strict) {
        seen((refusal.of_converter(), refusal.of_decoder()));
    }
}

fn json_patch(input: &[u8]) {
    let Ok((operations, _)) = patch::parse_operations(input) else { return };
    if let Ok(after) = patch::json::apply(Value::Object(OLD.clone()), &operations) {
        decoded(after);
    }
}

fn merge(input: &[u8]) {
    if let Ok((patch, _)) = patch::parse_object(input, "") {
        decoded(patch::merge::apply(Value::Object(OLD.clone()), &patch));
    }
}

fn strategic(input: &[u8]) {
    let Ok((patch, _)) = patch::parse_object(input, "") else { return };
    if let Ok(after) = patch::strategic::apply(Value::Object(OLD.clone()), &patch, &row().schema) {
        decoded(after);
    }
}

fn apply(input: &[u8]) {
    let Ok(Value::Object(config)) = serde_json::from_slice(input) else { return };
    let row = row_of(&Value::Object(config.clone()));
    let api_version = row.api_version();
    let write = |manager| api::apply::Write {
        schema: &row.schema,
        api_version: &api_version,
        kind: &row.kind,
        subresource: "",
        manager,
        status_apart: true,
        now: 1_700_000_000,
    };
    let Ok(live) = write("one").apply(None, &config, false) else { return };
    let mut changed = config.clone();
    changed.retain(|key, _| key != "data" && key != "spec");
    for force in [false, true] {
        seen(write("two").apply(Some(&live), &config, force));
        seen(write("one").apply(Some(&live), &changed, force));
    }
    write("three").update(Some(&live), &mut changed);
}
