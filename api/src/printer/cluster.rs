//! Namespaces, nodes, configuration, events, leases and quotas.

use std::collections::BTreeSet;

use serde_json::Value;

use super::shown::Shown;
use super::view::{NONE, UNKNOWN, age, boolean, condition, map, named, number, objects, plain, size, text, text_or};
use crate::Object;
use crate::object::{at, meta_str, str_at};

pub(super) fn namespace(object: &Object) -> Vec<Shown> {
    vec![named(object), text(object, &["status", "phase"]), age(object)]
}

pub(super) fn config_map(object: &Object) -> Vec<Shown> {
    let entries = |key: &str| map(object, &[key]).map_or(0, |map| map.len());
    vec![named(object), Shown::from(entries("data") + entries("binaryData")), age(object)]
}

pub(super) fn secret(object: &Object) -> Vec<Shown> {
    vec![named(object), text(object, &["type"]), size(object, &["data"]), age(object)]
}

/// Kinds that show their name and age only.
pub(super) fn name_and_age(object: &Object) -> Vec<Shown> {
    vec![named(object), age(object)]
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

fn node_address(node: &Object, ty: &str) -> Shown {
    let mut addresses = objects(node, &["status", "addresses"]);
    let found = addresses.find(|address| str_at(address, &["type"]) == ty);
    Shown::from(found.map_or(NONE, |address| str_at(address, &["address"])))
}

pub(super) fn node(object: &Object) -> Vec<Shown> {
    let info = |key: &str| str_at(object, &["status", "nodeInfo", key]);
    let or_unknown = |text: &str| if text.is_empty() { UNKNOWN.to_owned() } else { text.to_owned() };
    let kernel = match info("architecture") {
        "" => or_unknown(info("kernelVersion")),
        architecture => format!("{} ({architecture})", or_unknown(info("kernelVersion"))),
    };
    vec![
        named(object),
        Shown::from(node_status(object)),
        Shown::from(node_roles(object)),
        age(object),
        Shown::from(info("kubeletVersion")),
        node_address(object, "InternalIP"),
        node_address(object, "ExternalIP"),
        Shown::from(or_unknown(info("osImage"))),
        Shown::from(kernel),
        Shown::from(or_unknown(info("containerRuntimeVersion"))),
    ]
}

/// The first of some fields that is a text which is not empty: core and events.k8s.io Events name things differently.
fn first<'a>(object: &'a Object, paths: &[&[&str]]) -> &'a str {
    paths.iter().map(|path| str_at(object, path)).find(|text| !text.is_empty()).unwrap_or("")
}

pub(super) fn event(object: &Object) -> Vec<Shown> {
    let about = |key: &str| first(object, &[&["involvedObject", key], &["regarding", key]]);
    let first_seen = Shown::since(first(object, &[&["firstTimestamp"], &["deprecatedFirstTimestamp"], &["eventTime"]]));
    let last = first(object, &[&["lastTimestamp"], &["deprecatedLastTimestamp"]]);
    let count = number(object, &["count"]).max(number(object, &["deprecatedCount"]));
    let (last_seen, count) = match map(object, &["series"]) {
        Some(series) => (Shown::since(str_at(series, &["lastObservedTime"])), number(series, &["count"])),
        None if last.is_empty() => (first_seen.clone(), count.max(1)),
        None => (Shown::since(last), count.max(1)),
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
        last_seen,
        text(object, &["type"]),
        text(object, &["reason"]),
        Shown::from(target),
        Shown::from(about("fieldPath")),
        Shown::from(source),
        Shown::from(first(object, &[&["message"], &["note"]]).trim()),
        first_seen,
        Shown::from(count),
        Shown::from(meta_str(object, "name")),
    ]
}

pub(super) fn lease(object: &Object) -> Vec<Shown> {
    vec![named(object), text(object, &["spec", "holderIdentity"]), age(object)]
}

pub(super) fn lease_candidate(object: &Object) -> Vec<Shown> {
    let mut cells = vec![named(object)];
    cells.extend(["leaseName", "binaryVersion", "emulationVersion"].map(|key| text(object, &["spec", key])));
    cells.push(age(object));
    cells
}

pub(super) fn component_status(object: &Object) -> Vec<Shown> {
    let mut conditions = objects(object, &["conditions"]);
    let healthy = conditions.find(|condition| str_at(condition, &["type"]) == "Healthy");
    let status = match healthy.map(|condition| str_at(condition, &["status"])) {
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
        None => "Unknown",
    };
    let said = |key: &str| Shown::from(healthy.map_or("", |condition| str_at(condition, &[key])));
    vec![named(object), Shown::from(status), said("message"), said("error")]
}

pub(super) fn resource_quota(object: &Object) -> Vec<Shown> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let mut hard: Vec<_> = map(object, &["status", "hard"]).into_iter().flatten().collect();
    hard.sort_by(|a, b| a.0.cmp(b.0));
    for (resource, hard) in hard {
        let used = plain(at(object, &["status", "used", resource])).unwrap_or_else(|| "0".to_owned());
        let shown = format!("{resource}: {used}/{}", plain(Some(hard)).unwrap_or_default());
        if resource.starts_with("limits.") { limits.push(shown) } else { requests.push(shown) }
    }
    vec![named(object), Shown::from(requests.join(", ")), Shown::from(limits.join(", ")), age(object)]
}

pub(super) fn priority_class(object: &Object) -> Vec<Shown> {
    vec![
        named(object),
        Shown::from(number(object, &["value"])),
        Shown::from(boolean(object, &["globalDefault"])),
        age(object),
        text(object, &["preemptionPolicy"]),
    ]
}

pub(super) fn runtime_class(object: &Object) -> Vec<Shown> {
    vec![named(object), text(object, &["handler"]), age(object)]
}

pub(super) fn pod_group(object: &Object) -> Vec<Shown> {
    let is_gang = map(object, &["spec", "schedulingPolicy", "gang"]).is_some();
    let status = match (condition(object, "DisruptionTarget"), condition(object, "PodGroupScheduled")) {
        (Some(disrupted), _) => str_at(disrupted, &["reason"]),
        (None, Some(scheduled)) if str_at(scheduled, &["status"]) == "True" => "Scheduled",
        (None, Some(_)) => "Unschedulable",
        (None, None) => "Pending",
    };
    vec![
        named(object),
        Shown::from(if is_gang { "Gang" } else { "Basic" }),
        text_or(object, &["spec", "podGroupTemplateRef", "workload", "workloadName"], NONE),
        Shown::from(status),
        age(object),
    ]
}
