//! What may change in a Pod once it exists.

use serde_json::Value;

use super::diff::diff;
use super::resources::qos_class;
use super::{scheduling, validate};
use crate::field::{ErrorList, FieldError, Path};
use crate::kinds::check::{IMMUTABLE, messages};
use crate::kinds::json::{each_mut, get, int, keep, list, object, objects, same, text};
use crate::{Object, names, object as meta};

const MIRROR: &str = "kubernetes.io/config.mirror";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
                         `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions \
                         to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it \
                         was previously negative)";
const CONTAINERS: [&str; 2] = ["containers", "initContainers"];

fn annotations(pod: &Object) -> Option<&Object> {
    meta::metadata(pod).and_then(|m| object(m, "annotations"))
}

/// Some annotations are fixed when the Pod is created.
fn fixed_annotations(new: &Object, old: &Object, errors: &mut ErrorList) {
    let path = Path::new("metadata").child("annotations");
    let value = |pod, key: &str| annotations(pod).and_then(|a| a.get(key));
    let keys = [old, new].into_iter().flat_map(|pod| annotations(pod).into_iter().flatten());
    let mut seen = Vec::new();
    for (key, _) in keys.filter(|(key, _)| *key == MIRROR || key.starts_with(APP_ARMOR)) {
        if value(new, key) == value(old, key) || seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let what = if key == MIRROR { "mirror pod annotation" } else { "AppArmor annotations" };
        let verb = if value(old, key).is_some() { "remove or update" } else { "add" };
        errors.push(FieldError::forbidden(&path.key(key), format!("may not {verb} {what}")));
    }
}

/// An update of the Pod itself.
pub fn main(new: &Object, old: &Object, errors: &mut ErrorList) {
    fixed_annotations(new, old, errors);
    let (Some(new), Some(old)) = (object(new, "spec"), object(old, "spec")) else { return };
    let path = Path::new("spec");
    for key in CONTAINERS {
        if !same_containers(new, old, key, &path, errors) {
            return;
        }
    }
    if !deadline(new, old, &path.child("activeDeadlineSeconds"), errors) {
        return;
    }
    added_tolerations(new, old, &path, errors);
    removed_gates(new, old, &path, errors);
    if new == old {
        return;
    }
    let mut munged = new.clone();
    for key in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        keep(&mut munged, old, key);
    }
    for key in CONTAINERS {
        let mut stored = objects(old, key);
        each_mut(&mut munged, key, |container| {
            if let Some((_, stored)) = stored.next() {
                keep(container, stored, "image");
            }
        });
    }
    let grace = |spec: &Object| int(spec, "terminationGracePeriodSeconds");
    if grace(old).is_some_and(|g| g < 0) && grace(&munged) == Some(1) {
        keep(&mut munged, old, "terminationGracePeriodSeconds");
    }
    if !list(old, "schedulingGates").is_empty() {
        gated(&mut munged, old, &path, errors);
    }
    if munged != *old {
        let detail = format!("{UPDATABLE}\n{}", diff(&old.clone().into(), &munged.into()));
        errors.push(FieldError::forbidden(&path, detail));
    }
}

fn same_containers(new: &Object, old: &Object, key: &str, path: &Path, errors: &mut ErrorList) -> bool {
    let path = path.child(key);
    if list(new, key).len() != list(old, key).len() {
        errors.push(FieldError::forbidden(&path, "pod updates may not add or remove containers"));
        return false;
    }
    for (i, container) in objects(new, key) {
        let path = path.index(i);
        if text(container, "image").is_empty() {
            errors.push(FieldError::required(&path.child("image"), ""));
        }
        validate::trimmed_image(container, &path, errors);
    }
    true
}

/// A deadline may be set and shortened. Returns whether to look further.
fn deadline(new: &Object, old: &Object, path: &Path, errors: &mut ErrorList) -> bool {
    let (new, old) = (int(new, "activeDeadlineSeconds"), int(old, "activeDeadlineSeconds"));
    match (new, old) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            errors.push(FieldError::invalid(path, new, names::range_error(0, i64::from(i32::MAX))));
            false
        }
        (Some(new), Some(old)) if old < new => {
            errors.push(FieldError::invalid(path, new, "must be less than or equal to previous value"));
            false
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(path, Value::Null, detail));
            true
        }
        _ => true,
    }
}

fn added_tolerations(new: &Object, old: &Object, path: &Path, errors: &mut ErrorList) {
    let without_seconds = |toleration: &Object| {
        let mut toleration = toleration.clone();
        toleration.remove("tolerationSeconds");
        toleration
    };
    let kept: Vec<Object> = objects(new, "tolerations").map(|(_, t)| without_seconds(t)).collect();
    if objects(old, "tolerations").any(|(_, t)| !kept.contains(&without_seconds(t))) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(&path.child("tolerations"), detail));
    } else {
        scheduling::tolerations(new, path, errors);
    }
}

fn removed_gates(new: &Object, old: &Object, path: &Path, errors: &mut ErrorList) {
    for (i, gate) in objects(new, "schedulingGates") {
        let name = text(gate, "name");
        if !objects(old, "schedulingGates").any(|(_, g)| text(g, "name") == name) {
            let path = path.child("schedulingGates").index(i).child("name");
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(FieldError::forbidden(&path, detail));
        }
    }
}

/// While a Pod is held back, its node selector and node affinity may be narrowed (KEP-3838).
fn gated(munged: &mut Object, old: &Object, path: &Path, errors: &mut ErrorList) {
    if !same(munged, old, "nodeSelector") {
        let missing =
            |(key, value): (&String, &Value)| object(munged, "nodeSelector").and_then(|s| s.get(key)) != Some(value);
        if object(old, "nodeSelector").into_iter().flatten().any(missing) {
            let path = path.child("nodeSelector");
            let value = munged.get("nodeSelector").cloned().unwrap_or(Value::Null);
            let detail = "only additions are allowed (no mutations or deletions)";
            errors.push(FieldError::invalid(&path, value, detail));
        }
        keep(munged, old, "nodeSelector");
    }
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let node = |spec: &Object| object(spec, "affinity").and_then(|a| get(a, "nodeAffinity")).cloned();
    let (new_node, old_node) = (node(munged), node(old));
    if new_node == old_node {
        return;
    }
    let terms = |affinity: &Option<Value>| {
        affinity.as_ref().and_then(|a| a.get(REQUIRED)).and_then(|r| r.get("nodeSelectorTerms")).cloned()
    };
    if let Some(Value::Array(old_terms)) = terms(&old_node) {
        let path = path.child("affinity").child("nodeAffinity").child(REQUIRED).child("nodeSelectorTerms");
        let new_terms = terms(&new_node).and_then(|t| t.as_array().cloned()).unwrap_or_default();
        if old_terms.len() != new_terms.len() {
            let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
            errors.push(FieldError::invalid(&path, new_terms.clone(), detail));
        }
        let narrower = |new: &Value, old: &Value| {
            ["matchExpressions", "matchFields"].iter().all(|key| {
                let items = |term: &Value| term.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
                let new = items(new);
                items(old).iter().all(|item| new.contains(item))
            })
        };
        for (i, (new, old)) in new_terms.iter().zip(&old_terms).enumerate() {
            if !narrower(new, old) {
                let detail = "only additions are allowed (no mutations or deletions)";
                errors.push(FieldError::invalid(&path.index(i), new.clone(), detail));
            }
        }
    }
    restore_node_affinity(munged, old, old_node);
}

fn restore_node_affinity(munged: &mut Object, old: &Object, old_node: Option<Value>) {
    let affinity = crate::kinds::json::ensure(munged, "affinity");
    match old_node {
        Some(node) => {
            affinity.insert("nodeAffinity".to_owned(), node);
        }
        None => {
            affinity.remove("nodeAffinity");
        }
    }
    if affinity.is_empty() && get(old, "affinity").is_none() {
        munged.remove("affinity");
    }
}

/// A write of `status`.
pub fn status(new: &Object, old: &Object, errors: &mut ErrorList) {
    fixed_annotations(new, old, errors);
    let empty = Object::new();
    let status = object(new, "status").unwrap_or(&empty);
    let stored = object(old, "status").unwrap_or(&empty);
    let path = Path::new("status");
    for (i, condition) in objects(status, "conditions") {
        let kind = text(condition, "type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            let path = path.child("conditions").index(i).child("Type");
            messages(kind, &path, names::qualified_name(kind), errors);
        }
    }
    let nominated = text(status, "nominatedNodeName");
    if !nominated.is_empty() && nominated != text(stored, "nominatedNodeName") {
        let path = path.child("nominatedNodeName");
        messages(nominated, &path, names::dns1123_subdomain(nominated), errors);
        if object(old, "spec").is_some_and(|spec| !text(spec, "nodeName").is_empty()) {
            let detail = "may not be set on pods that are already bound to a node";
            errors.push(FieldError::forbidden(&path, detail));
        }
    }
    if text(status, "qosClass") != text(stored, "qosClass") {
        let class = text(status, "qosClass");
        errors.push(FieldError::invalid(&path.child("qosClass"), class, IMMUTABLE));
    }
    transitions(new, old, &path, errors);
    addresses(status, stored, &path, errors);
}

/// A container that ended for good does not run again.
fn transitions(new: &Object, old: &Object, path: &Path, errors: &mut ErrorList) {
    let empty = Object::new();
    let part = |pod, key| object(pod, key).unwrap_or(&empty);
    let (spec, new, old) = (part(old, "spec"), part(new, "status"), part(old, "status"));
    for (statuses, containers) in [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
        ("ephemeralContainerStatuses", "ephemeralContainers"),
    ] {
        for (i, before) in objects(old, statuses) {
            let name = text(before, "name");
            let ended = object(before, "state").and_then(|state| object(state, "terminated"));
            let Some(exit_code) = ended.map(|t| int(t, "exitCode").unwrap_or(0)) else { continue };
            let after = objects(new, statuses).find(|(_, s)| text(s, "name") == name);
            let runs =
                after.is_some_and(|(_, s)| object(s, "state").and_then(|state| object(state, "terminated")).is_none());
            let container = objects(spec, containers).find(|(_, c)| text(c, "name") == name).map(|(_, c)| c);
            if runs && !may_restart(spec, container, containers, exit_code) {
                let path = path.child(statuses).index(i).child("state");
                errors.push(FieldError::forbidden(&path, "may not be transitioned to non-terminated state"));
            }
        }
    }
}

fn may_restart(spec: &Object, container: Option<&Object>, list_key: &str, exit_code: i64) -> bool {
    let Some(container) = container.filter(|_| list_key != "ephemeralContainers") else { return false };
    for (_, rule) in objects(container, "restartPolicyRules") {
        let Some(codes) = object(rule, "exitCodes") else { continue };
        let listed = list(codes, "values").iter().any(|v| v.as_i64() == Some(exit_code));
        if listed == (text(codes, "operator") == "In") {
            return true;
        }
    }
    let own = text(container, "restartPolicy");
    match if own.is_empty() { text(spec, "restartPolicy") } else { own } {
        "Always" => true,
        "OnFailure" => exit_code != 0,
        _ => false,
    }
}

fn addresses(status: &Object, stored: &Object, path: &Path, errors: &mut ErrorList) {
    let address = |entry: &Object| text(entry, "ip").to_owned();
    if let Some((_, first)) = objects(status, "hostIPs").next()
        && address(first) != text(status, "hostIP")
    {
        let path = path.child("hostIPs").index(0).child("ip");
        errors.push(FieldError::invalid(&path, address(first), "must be equal to `hostIP`"));
    }
    for key in ["podIPs", "hostIPs"] {
        let known: Vec<String> = objects(stored, key).map(|(_, e)| address(e)).collect();
        let path = path.child(key);
        let mut families = Vec::new();
        for (i, entry) in objects(status, key) {
            let ip = address(entry);
            if !known.contains(&ip) {
                messages(&ip, &path.index(i), names::ip_legacy(&ip), errors);
            }
            families.push(names::parse_ip(&ip).is_some_and(|ip| ip.is_ipv6()));
        }
        if families.len() > 2 || matches!(families.as_slice(), [a, b] if a == b) {
            let detail = "may specify no more than one IP for each IP family";
            errors.push(FieldError::invalid(&path, list(status, key).to_vec(), detail));
        }
    }
}

/// Ephemeral containers are only ever added.
pub fn ephemeral_containers(new: &Object, old: &Object, errors: &mut ErrorList) {
    if annotations(old).is_some_and(|a| a.contains_key(MIRROR)) {
        errors.clear();
        errors.push(FieldError::forbidden(&Path::root(), "static pods do not support ephemeral containers"));
        return;
    }
    fixed_annotations(new, old, errors);
    let (Some(new), Some(old)) = (object(new, "spec"), object(old, "spec")) else { return };
    let path = Path::new("spec").child("ephemeralContainers");
    for (_, stored) in objects(old, "ephemeralContainers") {
        let name = text(stored, "name");
        match objects(new, "ephemeralContainers").find(|(_, c)| text(c, "name") == name) {
            None => {
                let detail = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.push(FieldError::forbidden(&path, detail));
            }
            Some((_, container)) if container != stored => {
                let changes = diff(&stored.clone().into(), &container.clone().into());
                let detail = format!("existing ephemeral containers {name:?} may not be changed\n{changes}");
                errors.push(FieldError::forbidden(&path, detail));
            }
            Some(_) => {}
        }
    }
}

/// Only CPU and memory may be resized, and the quality of service must stay (KEP-1287).
pub fn resize(new: &Object, old: &Object, errors: &mut ErrorList) {
    let (Some(new), Some(stored)) = (object(new, "spec"), object(old, "spec")) else { return };
    let path = Path::new("spec");
    let class = object(old, "status").map_or("", |s| text(s, "qosClass"));
    if qos_class(new) != class && !class.is_empty() {
        errors.push(FieldError::invalid(&path, class, "Pod QOS Class may not change as a result of resizing"));
    }
    let without_resources = |spec: &Object| {
        let mut spec = spec.clone();
        for key in ["containers", "initContainers"] {
            each_mut(&mut spec, key, |container| {
                container.remove("resizePolicy");
                let resources = crate::kinds::json::ensure(container, "resources");
                for list in ["limits", "requests"] {
                    if let Some(list) = crate::kinds::json::object_mut(resources, list) {
                        list.retain(|name, _| !matches!(name.as_str(), "cpu" | "memory"));
                    }
                }
                resources.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
            });
        }
        spec.remove("resources");
        spec
    };
    let (new, stored) = (without_resources(new), without_resources(stored));
    if new != stored {
        let changes = diff(&stored.into(), &new.into());
        let detail = format!("only cpu and memory resources are mutable\n{changes}");
        errors.push(FieldError::forbidden(&path, detail));
    }
}
