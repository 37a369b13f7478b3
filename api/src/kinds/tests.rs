#![allow(clippy::unwrap_used)]

use serde_json::Value;

use super::hooks;
use crate::{Object, meta, object};

/// Objects and what a reference API server makes of them on create: one line each, `given` and `stored`. What the server
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
