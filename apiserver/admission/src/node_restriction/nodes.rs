//! A node's own Node, Lease, CSINode and ResourceSlices.

use std::collections::BTreeSet;

use api::{Object, object};

use super::Refusal;
use crate::read::{has_spec, meta_map, same};
use crate::{Operation, Request};

/// The namespace of the Leases that nodes renew.
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// Labels of kubernetes.io that a node may set on itself; others could steer workloads to it.
const ALLOWED_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
const ALLOWED_LABEL_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
const RESTRICTED_DOMAIN: &str = "node-restriction.kubernetes.io";

/// The name that the request is about: that of the path, or of the new object.
fn name<'r>(request: &'r Request<'_>) -> &'r str {
    match (&request.object, request.operation) {
        (Some(object), Operation::Create) => object::name(object),
        _ => request.name,
    }
}

pub fn node(node: &str, request: &Request<'_>) -> Result<(), Refusal> {
    let requested = name(request);
    if requested != node {
        return Err(format!("node {node:?} is not allowed to modify node {requested:?}").into());
    }
    match (request.operation, &request.object, request.old) {
        (Operation::Create, Some(new), _) => create(node, new),
        (Operation::Update, Some(new), Some(old)) => update(node, new, old),
        _ => Ok(()),
    }
}

fn create(node: &str, new: &Object) -> Result<(), Refusal> {
    if has_spec(new, "configSource") {
        return Err(format!("node {node:?} is not allowed to create pods with a non-nil configSource").into());
    }
    let nothing = Object::new();
    let forbidden = forbidden_labels(new, &nothing);
    if !forbidden.is_empty() {
        let labels = forbidden.into_iter().collect::<Vec<_>>().join(", ");
        return Err(format!("node {node:?} is not allowed to set the following labels: {labels}").into());
    }
    Ok(())
}

fn update(node: &str, new: &Object, old: &Object) -> Result<(), Refusal> {
    let spec = |object, key| object::at(object, &["spec", key]);
    if has_spec(new, "configSource") && !same(spec(new, "configSource"), spec(old, "configSource")) {
        return Err(format!("node {node:?} is not allowed to update configSource to a new non-nil configSource").into());
    }
    if !same(spec(new, "taints"), spec(old, "taints")) {
        return Err(format!("node {node:?} is not allowed to modify taints").into());
    }
    let owners = |object| object::at(object, &["metadata", "ownerReferences"]);
    if !same(owners(new), owners(old)) {
        return Err(format!("node {node:?} is not allowed to modify ownerReferences").into());
    }
    let forbidden = forbidden_labels(new, old);
    if !forbidden.is_empty() {
        let labels = forbidden.into_iter().collect::<Vec<_>>().join(", ");
        return Err(format!("is not allowed to modify labels: {labels}").into());
    }
    Ok(())
}

/// The labels that differ and that a node may not touch, sorted.
fn forbidden_labels<'a>(new: &'a Object, old: &'a Object) -> BTreeSet<&'a str> {
    let (new, old) = (meta_map(new, "labels"), meta_map(old, "labels"));
    let keys = new.into_iter().chain(old).flat_map(|labels| labels.keys());
    let changed = keys.filter(|key| new.and_then(|l| l.get(*key)) != old.and_then(|l| l.get(*key)));
    changed.map(String::as_str).filter(|key| is_forbidden(key)).collect()
}

fn is_forbidden(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let within = |parent: &str| domain == parent || domain.strip_suffix(parent).is_some_and(|head| head.ends_with('.'));
    let allowed = ALLOWED_LABELS.contains(&label) || ALLOWED_LABEL_DOMAINS.iter().any(|d| within(d));
    within(RESTRICTED_DOMAIN) || ((within("kubernetes.io") || within("k8s.io")) && !allowed)
}

pub fn lease(node: &str, request: &Request<'_>) -> Result<(), Refusal> {
    if request.namespace != LEASE_NAMESPACE {
        return Err(format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace").into());
    }
    if name(request) != node {
        return Err("can only access node lease with the same name as the requesting node".into());
    }
    Ok(())
}

pub fn csi_node(node: &str, request: &Request<'_>) -> Result<(), Refusal> {
    if name(request) != node {
        return Err("can only access CSINode with the same name as the requesting node".into());
    }
    Ok(())
}

pub fn slice(node: &str, request: &Request<'_>) -> Result<(), Refusal> {
    let (slice, verb) = match request.operation {
        Operation::Create => (request.object.as_ref(), "create"),
        Operation::Delete => (request.old, "delete"),
        _ => return Ok(()),
    };
    if slice.is_some_and(|slice| object::str_at(slice, &["spec", "nodeName"]) == node) {
        return Ok(());
    }
    Err(format!("can only {verb} ResourceSlice with the same NodeName as the requesting node").into())
}
