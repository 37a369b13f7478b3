//! The default limits and requests of a LimitRange, for containers that say none.

use api::{Object, object};
use serde_json::{Map, Value};

use crate::read::{list_mut, spec_list, text};

/// Says what was set.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub fn apply(range: &Object, pod: &mut Object) {
    let mut limits = Map::new();
    let mut requests = Map::new();
    for limit in spec_list(range, "limits").iter().filter(|l| text(l, "/type") == "Container") {
        let entries = |key: &str| limit.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
        limits.extend(entries("default"));
        requests.extend(entries("defaultRequest"));
    }
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    let mut said = Vec::new();
    for (key, called) in [("containers", "container"), ("initContainers", "init container")] {
        let spec = object::child_mut(pod, "spec");
        if !spec.get(key).is_some_and(Value::is_array) {
            continue;
        }
        for container in list_mut(spec, key).iter_mut().filter_map(Value::as_object_mut) {
            let name = container.get("name").and_then(Value::as_str).unwrap_or("").to_owned();
            let resources = object::child_mut(container, "resources");
            for (kind, defaults, word) in [("requests", &requests, "request"), ("limits", &limits, "limit")] {
                let set = fill(resources, kind, defaults);
                if !set.is_empty() {
                    said.push(format!("{} {word} for {called} {name}", set.join(", ")));
                }
            }
        }
    }
    if !said.is_empty() {
        let annotations = object::child_mut(object::metadata_mut(pod), "annotations");
        annotations.insert(ANNOTATION.to_owned(), format!("LimitRanger plugin set: {}", said.join("; ")).into());
    }
}

/// Adds the defaults that are missing; their names, sorted.
fn fill(resources: &mut Object, kind: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let has = |name: &str| resources.get(kind).is_some_and(|amounts| amounts.get(name).is_some());
    let mut missing: Vec<String> = defaults.keys().filter(|name| !has(name)).cloned().collect();
    missing.sort();
    if !missing.is_empty() {
        let amounts = object::child_mut(resources, kind);
        for name in &missing {
            amounts.insert(name.clone(), defaults.get(name).cloned().unwrap_or(Value::Null));
        }
    }
    missing
}
