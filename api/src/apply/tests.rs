//! Replays writes that were recorded from the reference API server, and compares the owners and refusals.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::Gvk;

fn object(value: &Value) -> Object {
    value.as_object().cloned().unwrap()
}

fn step(live: Option<&Object>, step: &Value) -> Result<Object, Status> {
    let result = step.get("result").or(step.get("body")).unwrap();
    let (api_version, kind) = (result["apiVersion"].as_str().unwrap(), result["kind"].as_str().unwrap());
    let (group, version) = crate::meta::split_api_version(api_version).unwrap();
    let schema = crate::builtin::schema_of_kind(&Gvk::new(group, version, kind)).unwrap();
    let entries = result["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let latest = entries.iter().filter_map(|entry| entry["time"].as_str()).max().unwrap_or("2030-01-01T00:00:00Z");
    let write = Write {
        schema: &schema,
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
fn difference(mut got: Object, expected: &Object, recorded: &Value, name: &str) -> Option<String> {
    let (group, version) = crate::meta::split_api_version(expected["apiVersion"].as_str().unwrap()).unwrap();
    let gvk = Gvk::new(group, version, expected["kind"].as_str().unwrap());
    crate::defaults::apply(&mut got, &crate::builtin::schema_of_kind(&gvk).unwrap());
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

#[test]
fn owners_and_conflicts_are_as_upstream_finds_them() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("cases.json")).unwrap();
    let mut wrong = Vec::new();
    let mut steps = 0;
    for case in &cases {
        let mut live: Option<Object> = None;
        for (at, recorded) in case["steps"].as_array().unwrap().iter().enumerate() {
            steps += 1;
            let name = format!("{} {at} ({} by {})", case["name"], recorded["op"], recorded["manager"]);
            if let Some(stored) = recorded.get("live") {
                live = Some(object(stored));
            }
            match (step(live.as_ref(), recorded), recorded.get("error")) {
                (Err(status), Some(error)) => {
                    let got: Value = serde_json::from_slice(&status.to_json()).unwrap();
                    for key in ["message", "reason", "code", "details"] {
                        if key == "details" {
                            let causes = |status: &Value| {
                                let mut causes = sorted(status["details"].get("causes"));
                                causes.sort();
                                causes
                            };
                            assert_eq!(causes(&got), causes(error), "{name}");
                        } else if got.get(key).unwrap_or(&Value::Null) != &error[key] {
                            wrong.push(format!("{name}: {key}\n   {}\n   {}", got[key], error[key]));
                        }
                    }
                }
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
                        wrong.extend(difference(got, &expected, recorded, &name));
                    }
                    live = Some(expected);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {steps} wrong:\n{}", wrong.len(), wrong.join("\n"));
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
