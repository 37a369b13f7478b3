//! Namespaces, nodes, configuration, events, leases and quotas.

use std::collections::BTreeSet;

use serde_json::Value;

use super::human;
use super::view::{NONE, UNKNOWN, age, boolean, condition, map, named, number, objects, plain, size, text, text_or};
use crate::Object;
use crate::object::{at, meta_str, str_at};

pub(super) fn namespace(object: &Object, now: i64) -> Vec<Value> {
    vec![named(object), text(object, &["status", "phase"]), age(object, now)]
}

pub(super) fn config_map(object: &Object, now: i64) -> Vec<Value> {
    let entries = |key: &str| map(object, &[key]).map_or(0, |map| map.len());
    vec![named(object), Value::from(entries("data") + entries("binaryData")), age(object, now)]
}

pub(super) fn secret(object: &Object, now: i64) -> Vec<Value> {
    vec![named(object), text(object, &["type"]), size(object, &["data"]), age(object, now)]
}

/// Kinds that show their name and age only.
pub(super) fn name_and_age(object: &Object, now: i64) -> Vec<Value> {
    vec![named(object), age(object, now)]
}

fn node_status(node: &Object) -> String {
    let ready = match condition(node, "Ready").map(|condition| str_at(condition, &["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let is_closed = boolean(node, &["spec", "unschedulable"]);
    if is_closed { format!("{ready},SchedulingDisabled") } else { ready.to_owned() }
}

fn node_roles(node: &Object) -> String {
    let labels = map(node, &["metadata", "labels"]).into_iter().flatten();
    let role = |(key, value): (&String, &Value)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) => Some(role.to_owned()),
        None if key == "kubernetes.io/role" => value.as_str().map(str::to_owned),
        None => None,
    };
    let roles: BTreeSet<String> = labels.filter_map(role).filter(|role| !role.is_empty()).collect();
    if roles.is_empty() { NONE.to_owned() } else { roles.into_iter().collect::<Vec<_>>().join(",") }
}

fn node_address(node: &Object, ty: &str) -> Value {
    let mut addresses = objects(node, &["status", "addresses"]);
    let found = addresses.find(|address| str_at(address, &["type"]) == ty);
    Value::from(found.map_or(NONE, |address| str_at(address, &["address"])))
}

pub(super) fn node(object: &Object, now: i64) -> Vec<Value> {
    let info = |key: &str| str_at(object, &["status", "nodeInfo", key]);
    let or_unknown = |text: &str| if text.is_empty() { UNKNOWN.to_owned() } else { text.to_owned() };
    let kernel = match info("architecture") {
        "" => or_unknown(info("kernelVersion")),
        architecture => format!("{} ({architecture})", or_unknown(info("kernelVersion"))),
    };
    vec![
        named(object),
        Value::from(node_status(object)),
        Value::from(node_roles(object)),
        age(object, now),
        Value::from(info("kubeletVersion")),
        node_address(object, "InternalIP"),
        node_address(object, "ExternalIP"),
        Value::from(or_unknown(info("osImage"))),
        Value::from(kernel),
        Value::from(or_unknown(info("containerRuntimeVersion"))),
    ]
}

/// The first of some fields that is a text which is not empty: core and events.k8s.io Events name things differently.
fn first<'a>(object: &'a Object, paths: &[&[&str]]) -> &'a str {
    paths.iter().map(|path| str_at(object, path)).find(|text| !text.is_empty()).unwrap_or("")
}

pub(super) fn event(object: &Object, now: i64) -> Vec<Value> {
    let about = |key: &str| first(object, &[&["involvedObject", key], &["regarding", key]]);
    let first_seen =
        human::since(first(object, &[&["firstTimestamp"], &["deprecatedFirstTimestamp"], &["eventTime"]]), now);
    let last = first(object, &[&["lastTimestamp"], &["deprecatedLastTimestamp"]]);
    let count = number(object, &["count"]).max(number(object, &["deprecatedCount"]));
    let (last_seen, count) = match map(object, &["series"]) {
        Some(series) => (human::since(str_at(series, &["lastObservedTime"]), now), number(series, &["count"])),
        None if last.is_empty() => (first_seen.clone(), count.max(1)),
        None => (human::since(last, now), count.max(1)),
    };
    let kind = about("kind").to_lowercase();
    let target = if about("name").is_empty() { kind } else { format!("{kind}/{}", about("name")) };
    let component = first(
        object,
        &[
            &["source", "component"],
            &["deprecatedSource", "component"],
            &["reportingComponent"],
            &["reportingController"],
        ],
    );
    let instance = first(object, &[&["source", "host"], &["deprecatedSource", "host"], &["reportingInstance"]]);
    let source = if instance.is_empty() { component.to_owned() } else { format!("{component}, {instance}") };
    vec![
        Value::from(last_seen),
        text(object, &["type"]),
        text(object, &["reason"]),
        Value::from(target),
        Value::from(about("fieldPath")),
        Value::from(source),
        Value::from(first(object, &[&["message"], &["note"]]).trim()),
        Value::from(first_seen),
        Value::from(count),
        Value::from(meta_str(object, "name")),
    ]
}

pub(super) fn lease(object: &Object, now: i64) -> Vec<Value> {
    vec![named(object), text(object, &["spec", "holderIdentity"]), age(object, now)]
}

pub(super) fn lease_candidate(object: &Object, now: i64) -> Vec<Value> {
    let mut cells = vec![named(object)];
    cells.extend(["leaseName", "binaryVersion", "emulationVersion"].map(|key| text(object, &["spec", key])));
    cells.push(age(object, now));
    cells
}

pub(super) fn component_status(object: &Object, _now: i64) -> Vec<Value> {
    let mut conditions = objects(object, &["conditions"]);
    let healthy = conditions.find(|condition| str_at(condition, &["type"]) == "Healthy");
    let status = match healthy.map(|condition| str_at(condition, &["status"])) {
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
        None => "Unknown",
    };
    let said = |key: &str| Value::from(healthy.map_or("", |condition| str_at(condition, &[key])));
    vec![named(object), Value::from(status), said("message"), said("error")]
}

pub(super) fn resource_quota(object: &Object, now: i64) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let mut hard: Vec<_> = map(object, &["status", "hard"]).into_iter().flatten().collect();
    hard.sort_by(|a, b| a.0.cmp(b.0));
    for (resource, hard) in hard {
        let used = plain(at(object, &["status", "used", resource])).unwrap_or_else(|| "0".to_owned());
        let shown = format!("{resource}: {used}/{}", plain(Some(hard)).unwrap_or_default());
        if resource.starts_with("limits.") { limits.push(shown) } else { requests.push(shown) }
    }
    vec![named(object), Value::from(requests.join(", ")), Value::from(limits.join(", ")), age(object, now)]
}

pub(super) fn priority_class(object: &Object, now: i64) -> Vec<Value> {
    vec![
        named(object),
        Value::from(number(object, &["value"])),
        Value::from(boolean(object, &["globalDefault"])),
        age(object, now),
        text(object, &["preemptionPolicy"]),
    ]
}

pub(super) fn runtime_class(object: &Object, now: i64) -> Vec<Value> {
    vec![named(object), text(object, &["handler"]), age(object, now)]
}

pub(super) fn pod_group(object: &Object, now: i64) -> Vec<Value> {
    let is_gang = map(object, &["spec", "schedulingPolicy", "gang"]).is_some();
    let status = match (condition(object, "DisruptionTarget"), condition(object, "PodGroupScheduled")) {
        (Some(disrupted), _) => str_at(disrupted, &["reason"]),
        (None, Some(scheduled)) if str_at(scheduled, &["status"]) == "True" => "Scheduled",
        (None, Some(_)) => "Unschedulable",
        (None, None) => "Pending",
    };
    vec![
        named(object),
        Value::from(if is_gang { "Gang" } else { "Basic" }),
        text_or(object, &["spec", "podGroupTemplateRef", "workload", "workloadName"], NONE),
        Value::from(status),
        age(object, now),
    ]
}
