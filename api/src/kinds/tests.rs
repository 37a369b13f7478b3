//! Tests of defaults and validation against what the reference stores and refuses.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use serde_json::Value;

use super::{hooks, name_rule};
use crate::{Object, meta, object, validate};

/// Objects and what a reference API server makes of them on create: one line each, `given` and `stored`. What the
/// server
/// itself sets (uid, times, allocated addresses) is left out.
const DEFAULTS: &str = include_str!("tests/defaults.json");

fn hooks_of(object: &Object) -> crate::table::Hooks {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap();
    let (group, version) = meta::split_api_version(text("apiVersion")).unwrap();
    hooks(group, version, text("kind"))
}

/// Takes away what differs from one run to the next, or is allocated.
fn without_noise(object: &mut Object) {
    let metadata = object::metadata_mut(object);
    metadata.remove("creationTimestamp");
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            spec.remove(key);
        }
    }
    fn times(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.remove("lastTransitionTime");
                map.remove("lastPhaseTransitionTime");
                map.remove("lastProbeTime");
                // A Job's selector is its random uid.
                map.retain(|key, _| !key.ends_with("controller-uid"));
                map.values_mut().for_each(times);
            }
            Value::Array(list) => list.iter_mut().for_each(times),
            _ => {}
        }
    }
    object.values_mut().for_each(times);
}

#[test]
fn created_objects_are_stored_as_upstream_stores_them() {
    let cases: Vec<Value> = serde_json::from_str(DEFAULTS).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let mut object = case["given"].as_object().unwrap().clone();
        let hooks = hooks_of(&object);
        hooks.default.into_iter().for_each(|default| default(&mut object));
        let mut again = object.clone();
        hooks.default.into_iter().for_each(|default| default(&mut again));
        assert_eq!(again, object, "defaulting twice changes nothing");
        hooks.prepare.into_iter().for_each(|prepare| prepare(&mut object, None, ""));
        let mut expected = case["stored"].as_object().unwrap().clone();
        without_noise(&mut object);
        without_noise(&mut expected);
        if object != expected {
            let (ours, theirs) = (Value::Object(object), Value::Object(expected));
            wrong.push(format!("given    {}\nours     {ours}\nupstream {theirs}", case["given"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n\n"));
}

/// What a reference API server answers to wrong objects: one line each, `given`, the stored object `old` of an
/// update, and
/// the causes as field, reason and message.
const ERRORS: &str = include_str!("tests/errors.json");

/// What a refusal says: field, reason and message of each cause, sorted, each once.
type Causes = BTreeSet<(String, String, String)>;

fn causes_of(case: &Value) -> Causes {
    let mut object = case["given"].as_object().unwrap().clone();
    let old = case["old"].as_object();
    let subresource = case["subresource"].as_str().unwrap_or("");
    let hooks = hooks_of(&object);
    hooks.default.into_iter().for_each(|default| default(&mut object));
    let mut errors = Vec::new();
    let (api_version, kind) = (object["apiVersion"].as_str().unwrap().to_owned(), object["kind"].as_str().unwrap());
    let rule = name_rule(meta::split_api_version(&api_version).unwrap().0, kind);
    let namespaced = case["old"]["metadata"].get("namespace").is_some() || !CLUSTER_SCOPED.contains(&kind);
    match old {
        None => {
            let metadata = object::metadata_mut(&mut object);
            if namespaced {
                metadata.insert("namespace".to_owned(), "default".into());
            }
            metadata.insert("uid".to_owned(), "0b0e1a1c-0000-4000-8000-000000000000".into());
        }
        Some(old) => validate::meta::before_update(&mut object, old),
    }
    hooks.prepare.into_iter().for_each(|prepare| prepare(&mut object, old, subresource));
    match old {
        None => validate::meta::create(&object, namespaced, rule, &mut errors),
        Some(old) => validate::meta::update(&object, old, &mut errors),
    }
    hooks.validate.into_iter().for_each(|check| check(&object, old, subresource, &mut errors));
    errors.iter().map(|e| (e.path.clone(), e.kind.reason().to_owned(), e.body())).collect()
}

const CLUSTER_SCOPED: [&str; 16] = [
    "Namespace",
    "Node",
    "PersistentVolume",
    "StorageClass",
    "IngressClass",
    "PriorityClass",
    "RuntimeClass",
    "ClusterRole",
    "ClusterRoleBinding",
    "CertificateSigningRequest",
    "CustomResourceDefinition",
    "APIService",
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "CSIDriver",
    "CSINode",
];

#[test]
fn wrong_objects_are_refused_in_upstreams_words() {
    let cases: Vec<Value> = serde_json::from_str(ERRORS).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let expected: Causes = case["causes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|cause| (text(&cause[0]), text(&cause[1]), text(&cause[2])))
            .collect();
        let found = causes_of(case);
        if found != expected {
            let missing: Vec<_> = expected.difference(&found).collect();
            let extra: Vec<_> = found.difference(&expected).collect();
            let given = &case["given"];
            wrong.push(format!("given {}\nmissing {missing:#?}\nextra {extra:#?}", &given.to_string()));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n\n"));
}
