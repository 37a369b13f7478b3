//! Nodes.

use super::check::messages;
use super::json::{ensure, get, is_true, keep, list, object, object_mut, objects, text, texts};
use super::pod::defaults::round_resources;
use super::pod::{limits, scheduling};
use crate::field::{ErrorList, FieldError, Path};
use crate::quantity::Quantity;
use crate::table::Hooks;
use crate::validate::labels;
use crate::{Object, names};

pub fn hooks() -> Hooks {
    Hooks {
        default: Some(defaults),
        prepare: Some(prepare),
        validate: Some(validate),
        fields: Some(fields),
        ..Hooks::default()
    }
}

fn defaults(node: &mut Object) {
    let spec = ensure(node, "spec");
    // One network is what older clients write; it is the first of the list (upstream's conversion).
    let one = text(spec, "podCIDR").to_owned();
    if !one.is_empty() && texts(spec, "podCIDRs").next().is_none_or(|(_, first)| first != one) {
        spec.insert("podCIDRs".to_owned(), vec![one].into());
    }
    let status = ensure(node, "status");
    for key in ["capacity", "allocatable"] {
        object_mut(status, key).into_iter().for_each(round_resources);
    }
    if get(status, "allocatable").is_none()
        && let Some(capacity) = get(status, "capacity").cloned()
    {
        status.insert("allocatable".to_owned(), capacity);
    }
    // These are structs upstream, and so always written.
    ensure(ensure(status, "daemonEndpoints"), "kubeletEndpoint").entry("Port").or_insert_with(|| 0.into());
    let info = ensure(status, "nodeInfo");
    for key in [
        "architecture",
        "bootID",
        "containerRuntimeVersion",
        "kernelVersion",
        "kubeProxyVersion",
        "kubeletVersion",
        "machineID",
        "operatingSystem",
        "osImage",
        "systemUUID",
    ] {
        info.entry(key).or_insert_with(|| "".into());
    }
}

/// A new node may bring its status.
fn prepare(new: &mut Object, old: Option<&Object>, subresource: &str) {
    match (old, subresource) {
        (Some(old), "status") => keep(new, old, "spec"),
        (Some(old), _) => keep(new, old, "status"),
        (None, _) => {}
    }
}

fn fields(node: &Object) -> Vec<String> {
    vec![object(node, "spec").is_some_and(|spec| is_true(spec, "unschedulable")).to_string()]
}

fn validate(new: &Object, old: Option<&Object>, _subresource: &str, errors: &mut ErrorList) {
    let empty = Object::new();
    let spec = object(new, "spec").unwrap_or(&empty);
    let status = object(new, "status").unwrap_or(&empty);
    // Upstream reports taints below the metadata.
    taints(spec, &Path::new("metadata").child("taints"), errors);
    for key in ["capacity", "allocatable"] {
        for (name, value) in object(status, key).into_iter().flatten() {
            if let Ok(quantity) = Quantity::from_value(value) {
                limits::amount(name, &quantity, &Path::new("status").child(key).child(name), errors);
            }
        }
    }
    match old.and_then(|old| object(old, "spec")) {
        None => pod_networks(spec, errors),
        Some(old) => update(spec, old, errors),
    }
    if old.is_some() {
        let mut seen = Vec::new();
        for (i, address) in objects(status, "addresses") {
            let key = (text(address, "type"), text(address, "address"));
            if seen.contains(&key) {
                let path = Path::new("status").child("addresses").index(i);
                let shown = format!("{{\"Type\":{:?},\"Address\":{:?}}}", key.0, key.1);
                errors.push(FieldError::duplicate(&path, key.1).shown_as(shown));
            }
            seen.push(key);
        }
    }
}

fn taints(spec: &Object, path: &Path, errors: &mut ErrorList) {
    let mut seen = Vec::new();
    for (i, taint) in objects(spec, "taints") {
        let path = path.index(i);
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        labels::label_name(key, &path.child("key"), errors);
        let found = names::label_value(value);
        if !found.is_empty() {
            errors.push(FieldError::invalid(&path.child("value"), value, found.join(";")));
        }
        if effect.is_empty() {
            errors.push(FieldError::required(&path.child("effect"), ""));
        } else {
            scheduling::taint_effect(effect, &path.child("effect"), errors);
        }
        if seen.contains(&(key, effect)) {
            let shown = format!("{{\"Key\":{key:?},\"Value\":{value:?},\"Effect\":{effect:?},\"TimeAdded\":null}}");
            let error = FieldError::duplicate(&path, key).shown_as(shown);
            errors.push(error.with_detail("taints must be unique by key and effect pair"));
        }
        seen.push((key, effect));
    }
}

fn pod_networks(spec: &Object, errors: &mut ErrorList) {
    let path = Path::new("spec").child("podCIDRs");
    let mut families = Vec::new();
    for (i, network) in texts(spec, "podCIDRs") {
        messages(network, &path.index(i), names::cidr_legacy(network), errors);
        families.push(names::parse_cidr(network).is_some_and(|(ip, _)| ip.is_ipv6()));
    }
    if families.len() > 2 || matches!(families.as_slice(), [a, b] if a == b) {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.push(FieldError::invalid(&path, list(spec, "podCIDRs").to_vec(), detail));
    }
}

fn update(spec: &Object, old: &Object, errors: &mut ErrorList) {
    let stored = list(old, "podCIDRs");
    if !stored.is_empty() && stored != list(spec, "podCIDRs") {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(FieldError::forbidden(&Path::new("spec").child("podCIDRs"), detail));
    }
    let provider = text(old, "providerID");
    if !provider.is_empty() && provider != text(spec, "providerID") {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.push(FieldError::forbidden(&Path::new("spec").child("providerID"), detail));
    }
}
