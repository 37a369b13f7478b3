//! Replays writes that were recorded from the reference API server, and compares the owners and refusals.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::Gvk;
use crate::schema::{ListType, Text, Type};

fn object(value: &Value) -> Object {
    value.as_object().cloned().unwrap()
}

fn step(schema: Option<&Schema>, live: Option<&Object>, step: &Value) -> Result<Object, Status> {
    let result = step.get("result").or(step.get("body")).unwrap();
    let (api_version, kind) = (result["apiVersion"].as_str().unwrap(), result["kind"].as_str().unwrap());
    let (group, version) = crate::meta::split_api_version(api_version).unwrap();
    let builtin = crate::builtin::schema_of_kind(&Gvk::new(group, version, kind));
    let schema = schema.or(builtin.as_deref()).unwrap();
    let entries = result["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let latest = entries.iter().filter_map(|entry| entry["time"].as_str()).max().unwrap_or("2030-01-01T00:00:00Z");
    let write = Write {
        schema,
        api_version,
        kind,
        subresource: step["subresource"].as_str().unwrap(),
        manager: step["manager"].as_str().unwrap(),
        status_apart: true,
        now: time::parse_rfc3339(latest).unwrap(),
    };
    let sent = step["body"]["metadata"].get("managedFields").cloned();
    if step["op"] == "apply" {
        return write.apply(live, &object(&step["body"]), step["force"] == true);
    }
    let mut new = object(result);
    take_managed_fields(&mut new);
    if kind == "Service" {
        let spec = object::child_mut(&mut new, "spec");
        for allocated in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            spec.remove(allocated);
        }
    }
    if let Some(sent) = sent {
        object::metadata_mut(&mut new).insert(MANAGED_FIELDS.to_owned(), sent);
    }
    write.update(live, &mut new);
    Ok(new)
}

fn sorted(entries: Option<&Value>) -> Vec<String> {
    entries.and_then(Value::as_array).into_iter().flatten().map(Value::to_string).collect()
}

/// What else than the owners differs, once the merged object has its defaults.
fn difference(
    schema: Option<&Schema>,
    mut got: Object,
    expected: &Object,
    recorded: &Value,
    name: &str,
) -> Option<String> {
    let (group, version) = crate::meta::split_api_version(expected["apiVersion"].as_str().unwrap()).unwrap();
    let gvk = Gvk::new(group, version, expected["kind"].as_str().unwrap());
    let builtin = crate::builtin::schema_of_kind(&gvk);
    crate::defaults::apply(&mut got, schema.or(builtin.as_deref()).unwrap());
    crate::kinds::hooks(group, version, &gvk.kind).default.into_iter().for_each(|default| default(&mut got));
    let ignored = if recorded["subresource"] == "" { "status" } else { "spec" };
    let clean = |object: &Object| {
        let mut object = object.clone();
        take_managed_fields(&mut object);
        object.remove(ignored);
        let mut text = Value::Object(object).to_string();
        for time in ["lastTransitionTime", "lastUpdateTime"] {
            text = text.replace(&format!("\"{time}\":null,"), "");
        }
        text
    };
    let (got, expected) = (clean(&got), clean(expected));
    (got != expected).then(|| format!("{name}:\n   {got}\n   {expected}"))
}

/// Replays recorded writes of one object; what comes out otherwise than recorded.
fn replay(schema: Option<&Schema>, name: &Value, steps: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut live: Option<Object> = None;
    for (at, recorded) in steps.iter().enumerate() {
        let name = format!("{name} {at} ({} by {})", recorded["op"], recorded["manager"]);
        if let Some(stored) = recorded.get("live") {
            live = Some(object(stored));
        }
        match (step(schema, live.as_ref(), recorded), recorded.get("error")) {
            (Err(status), Some(error)) => wrong.extend(other_refusal(&status, error, &name)),
            // Refused by validation, after the merge.
            (Ok(_), Some(error)) if error["reason"] == "Invalid" => {}
            (Ok(_), Some(error)) => wrong.push(format!("{name}: not refused: {error}")),
            (Err(status), None) => wrong.push(format!("{name}: refused: {status}")),
            (Ok(got), None) => {
                let expected = object(&recorded["result"]);
                let (a, b) = (sorted(managed_fields(&got)), sorted(managed_fields(&expected)));
                if a != b {
                    wrong.push(format!("{name}:\n   {}\n   {}", a.join("\n   "), b.join("\n   ")));
                }
                if live.is_some() && recorded["op"] == "apply" {
                    wrong.extend(difference(schema, got, &expected, recorded, &name));
                }
                live = Some(expected);
            }
        }
    }
    wrong
}

/// How a refusal differs from the recorded one; causes come in any order.
fn other_refusal(status: &Status, error: &Value, name: &str) -> Option<String> {
    let got: Value = serde_json::from_slice(&status.to_json()).unwrap();
    let parts = |status: &Value| {
        let mut causes = sorted(status["details"].get("causes"));
        causes.sort();
        format!("{} {} {} {causes:?}", status["message"], status["reason"], status["code"])
    };
    (parts(&got) != parts(error)).then(|| format!("{name}:\n   {}\n   {}", parts(&got), parts(error)))
}

#[test]
fn owners_and_conflicts_are_as_upstream_finds_them() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("cases.json")).unwrap();
    let wrong: Vec<String> =
        cases.iter().flat_map(|case| replay(None, &case["name"], case["steps"].as_array().unwrap())).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The schema that a custom resource definition states, as far as the recorded one goes.
fn custom(json: &Value) -> Schema {
    let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut schema = Schema::of(match text("type") {
        "object" => Type::Object,
        "array" => Type::Array,
        "integer" => Type::Integer,
        _ => Type::String,
    });
    for (name, field) in json["properties"].as_object().into_iter().flatten() {
        schema.properties.insert(name.clone(), Arc::new(custom(field)));
    }
    schema.default = json.get("default").cloned();
    schema.preserve_unknown = json["x-kubernetes-preserve-unknown-fields"] == true;
    schema.additional = json.get("additionalProperties").map(|values| Arc::new(custom(values)));
    schema.items = json.get("items").map(|items| Arc::new(custom(items)));
    schema.atomic_map = text("x-kubernetes-map-type") == "atomic";
    let keys = || serde_json::from_value::<Vec<Text>>(json["x-kubernetes-list-map-keys"].clone()).unwrap();
    schema.list_type = match text("x-kubernetes-list-type") {
        "set" => ListType::Set,
        "map" => ListType::Map(keys()),
        _ => ListType::Atomic,
    };
    schema
}

#[test]
fn custom_resources_are_owned_as_upstream_has_it() {
    let case: Value = serde_json::from_str(include_str!("custom.json")).unwrap();
    let mut schema = custom(&case["schema"]);
    let metadata = crate::builtin::schema("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").unwrap();
    schema.properties.insert("metadata", metadata);
    let wrong = replay(Some(&schema), &json!("custom"), case["steps"].as_array().unwrap());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn configurations_of_another_form_are_refused() {
    let schema = crate::builtin::schema("io.k8s.api.apps.v1.Deployment").unwrap();
    let write = Write {
        schema: &schema,
        api_version: "apps/v1",
        kind: "Deployment",
        subresource: "",
        manager: "z",
        status_apart: true,
        now: 0,
    };
    let cases = [
        (json!({"apiVersion": "apps/v2", "kind": "Deployment"}), 400, "invalid object type: apps/v2, Kind=Deployment"),
        (
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"managedFields": []}}),
            400,
            "metadata.managedFields must be nil",
        ),
        (
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"foo": 1}}),
            500,
            "failed to create typed patch object (/; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema",
        ),
        (
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": {
                "containers": [{"name": "c"}, {"name": "c"}, {"image": "s"}], "dnsPolicy": {}, "volumes": "x"}}}}),
            500,
            "failed to create typed patch object (/; apps/v1, Kind=Deployment): errors:\n  \
             .spec.template.spec.containers: duplicate entries for key [name=\"c\"]\n  \
             .spec.template.spec.dnsPolicy: expected string, got &value.valueUnstructured{Value:map[string]interface {}{}}\n  \
             .spec.template.spec.volumes: expected list, got &{x}",
        ),
    ];
    for (config, code, message) in cases {
        let status = write.apply(None, &object(&config), false).unwrap_err();
        assert_eq!((status.code, status.message.as_str()), (code, message));
    }
}

#[test]
fn managers_are_named_by_the_request_or_the_client() {
    let cases =
        [("m", "kubectl/v1", "m"), ("", "kubectl/v1.36 (linux/amd64)", "kubectl"), ("", "a\u{7}b", "ab"), ("", "", "")];
    for (manager, agent, name) in cases {
        assert_eq!(manager_name(manager, agent), name);
    }
    assert_eq!(manager_name("", &"ä".repeat(100)).len(), 128);
}

/// Items that bear the same key are owned as one, and what is in them by nobody else.
#[test]
fn new_items_with_one_key_are_owned_as_one() {
    let schema = crate::builtin::schema_of_kind(&Gvk::new("", "v1", "Pod")).unwrap();
    let pod = |env: Value| object(&json!({"spec": {"containers": [{"name": "c", "env": env}]}}));
    let twice = pod(json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "A", "value": "3"}]));
    let of = |left: &Object| Value::Object(compare::Comparison::of(&schema, left, &twice).added);
    let env = "/f:spec/f:containers/k:{\"name\":\"c\"}/f:env";
    let expected =
        json!({".": {}, r#"k:{"name":"A"}"#: {}, r#"k:{"name":"B"}"#: {".": {}, "f:name": {}, "f:value": {}}});
    assert_eq!(of(&Object::new()).pointer(env), Some(&expected), "all of it is new");
    let added = of(&pod(json!([])));
    assert_eq!(
        added.pointer(env).map(|env| &env[r#"k:{"name":"A"}"#]),
        Some(&json!({})),
        "the list was there: {added}"
    );
}
