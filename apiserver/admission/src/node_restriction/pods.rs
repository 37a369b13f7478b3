//! A node's Pods: it makes mirror Pods, deletes and evicts its own, and reports their status and that of their claims.

use std::sync::Arc;

use api::{Object, Status, object};
use apiserver_auth::Objects;
use apiserver_auth::node::references::{self, MIRROR_ANNOTATION};
use apiserver_auth::objects::{NODES, PODS};
use serde_json::Value;

use super::Refusal;
use crate::read::{list, same, spec_list, text};
use crate::{Operation, Request};

fn find(request: &Request<'_>, name: &str, objects: &dyn Objects) -> Result<Arc<Object>, Refusal> {
    let found = objects.get(&PODS, request.namespace, name);
    found.ok_or_else(|| Status::not_found("", "pods", name).into())
}

fn is_on(pod: &Object, node: &str) -> bool {
    object::str_at(pod, &["spec", "nodeName"]) == node
}

pub fn pod(node: &str, request: &Request<'_>, objects: &dyn Objects) -> Result<(), Refusal> {
    match (request.operation, &request.object) {
        (Operation::Create, Some(pod)) => create(node, pod, objects),
        (Operation::Delete, _) => {
            if !is_on(&*find(request, request.name, objects)?, node) {
                return Err(format!("node {node:?} can only delete pods with spec.nodeName set to itself").into());
            }
            Ok(())
        }
        (operation, _) => {
            let operation = operation.as_str();
            let why =
                format!("unexpected operation {operation:?}, node {node:?} can only create and delete mirror pods");
            Err(why.into())
        }
    }
}

fn create(node: &str, pod: &Object, objects: &dyn Objects) -> Result<(), Refusal> {
    if !references::is_mirror(pod) {
        return Err(format!(
            "pod does not have {MIRROR_ANNOTATION:?} annotation, node {node:?} can only create mirror pods"
        )
        .into());
    }
    if !is_on(pod, node) {
        return Err(format!("node {node:?} can only create pods with spec.nodeName set to itself").into());
    }
    owner(node, pod, objects)?;
    if let Some(resource) = reaches(pod)? {
        return Err(format!("node {node:?} can not create pods that reference {resource}").into());
    }
    Ok(())
}

/// A mirror Pod has one owner, its node.
fn owner(node: &str, pod: &Object, objects: &dyn Objects) -> Result<(), Refusal> {
    let owners = object::metadata(pod).and_then(|m| m.get("ownerReferences")).and_then(Value::as_array);
    let owner = match owners.map(Vec::as_slice).unwrap_or_default() {
        [owner] => owner,
        [] => return Err(format!("node {node:?} can only create pods with an owner reference set to itself").into()),
        _ => {
            let why = format!("node {node:?} can only create pods with a single owner reference set to itself");
            return Err(why.into());
        }
    };
    let flag = |key: &str| owner.get(key).and_then(Value::as_bool).unwrap_or(false);
    if (text(owner, "/apiVersion"), text(owner, "/kind"), text(owner, "/name")) != ("v1", "Node", node) {
        return Err(format!("node {node:?} can only create pods with an owner reference set to itself").into());
    }
    if !flag("controller") {
        return Err(
            format!("node {node:?} can only create pods with a controller owner reference set to itself").into()
        );
    }
    if flag("blockOwnerDeletion") {
        return Err(format!("node {node:?} must not set blockOwnerDeletion on an owner reference").into());
    }
    let found = objects.get(&NODES, "", node).ok_or_else(|| Status::not_found("", "nodes", node))?;
    let (claimed, uid) = (text(owner, "/uid"), object::uid(&found));
    if claimed != uid {
        return Err(format!("node {node} UID mismatch: expected {claimed} got {uid}").into());
    }
    Ok(())
}

/// Volumes that reach nothing of the API, and the fields beside them; projected ones are looked into.
const PLAIN_VOLUMES: [&str; 24] = [
    "awsElasticBlockStore",
    "azureDisk",
    "cephfs",
    "cinder",
    "downwardAPI",
    "emptyDir",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
    "name",
    "projected",
];

/// Volumes that reach something of the API, and what.
const REACHING_VOLUMES: [(&str, &str); 7] = [
    ("configMap", "configmaps (via configmap volumes)"),
    ("secret", "secrets (via secret volumes)"),
    ("csi", "csidrivers (via CSI volumes)"),
    ("glusterfs", "endpoints (via glusterFS volumes)"),
    ("persistentVolumeClaim", "persistentvolumeclaims"),
    ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
    ("azureFile", "secrets (via azureFile volumes)"),
];

const REACHING_PROJECTIONS: [(&str, &str); 5] = [
    ("configMap", "configmaps (via projected volumes)"),
    ("secret", "secrets (via projected volumes)"),
    ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
    ("clusterTrustBundle", "clustertrustbundles"),
    ("podCertificate", "podcertificates"),
];

/// What of the API the Pod reaches; a node must not give itself access by a Pod of its own making.
fn reaches(pod: &Object) -> Result<Option<&'static str>, Refusal> {
    if !object::str_at(pod, &["spec", "serviceAccountName"]).is_empty() {
        return Ok(Some("serviceaccounts"));
    }
    if references::any_secret(pod, |_| true) {
        return Ok(Some("secrets"));
    }
    if references::any_config_map(pod, |_| true) {
        return Ok(Some("configmaps"));
    }
    if !spec_list(pod, "resourceClaims").is_empty() {
        return Ok(Some("resourceclaims"));
    }
    for volume in spec_list(pod, "volumes") {
        let is_set = |value: &Value, key: &str| value.get(key).is_some_and(|v| !v.is_null());
        if let Some((_, what)) = REACHING_VOLUMES.iter().find(|(key, _)| is_set(volume, key)) {
            return Ok(Some(what));
        }
        let keys = volume.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null());
        if keys.into_iter().any(|(key, _)| !PLAIN_VOLUMES.contains(&key.as_str())) {
            let name = text(volume, "/name");
            let why = format!("error checking mirror pod for API references: unknown volume type for volume  {name:?}");
            return Err(why.into());
        }
        for source in list(volume.get("projected"), "sources") {
            if let Some((_, what)) = REACHING_PROJECTIONS.iter().find(|(key, _)| is_set(source, key)) {
                return Ok(Some(what));
            }
        }
    }
    Ok(None)
}

pub fn status(node: &str, request: &Request<'_>) -> Result<(), Refusal> {
    let (Operation::Update, Some(new), Some(old)) = (request.operation, &request.object, request.old) else {
        return Err(format!("unexpected operation {:?}", request.operation.as_str()).into());
    };
    if !is_on(old, node) {
        let why = format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself");
        return Err(why.into());
    }
    let unchanged = |path: &[&str]| same(object::at(new, path), object::at(old, path));
    if !unchanged(&["metadata", "labels"]) {
        return Err(format!("node {node:?} cannot update labels through pod status").into());
    }
    if !unchanged(&["status", "resourceClaimStatuses"]) {
        return Err(format!("node {node:?} cannot update resource claim statues").into());
    }
    if !unchanged(&["status", "extendedResourceClaimStatus"]) {
        return Err(format!("node {node:?} cannot update extended resource claim status").into());
    }
    Ok(())
}

pub fn eviction(node: &str, request: &Request<'_>, objects: &dyn Objects) -> Result<(), Refusal> {
    if request.operation != Operation::Create {
        return Err(format!("unexpected operation {}", request.operation.as_str()).into());
    }
    let name = if request.name.is_empty() { request.object.as_ref().map_or("", object::name) } else { request.name };
    if name.is_empty() {
        return Err("could not determine pod from request data".into());
    }
    if !is_on(&*find(request, name, objects)?, node) {
        return Err(format!("node {node} can only evict pods with spec.nodeName set to itself").into());
    }
    Ok(())
}

/// Of a claim's status a node reports sizes and conditions, and it changes nothing else.
pub fn claim_status(node: &str, request: &Request<'_>) -> Result<(), Refusal> {
    let (Operation::Update, Some(new), Some(old)) = (request.operation, &request.object, request.old) else {
        return Err(format!("unexpected operation {:?}", request.operation.as_str()).into());
    };
    let rest = |claim: &Object| {
        let mut claim = claim.clone();
        let metadata = object::metadata_mut(&mut claim);
        for key in ["resourceVersion", "managedFields"] {
            metadata.remove(key);
        }
        let status = object::child_mut(&mut claim, "status");
        for key in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
            status.remove(key);
        }
        claim
    };
    if rest(new) == rest(old) {
        return Ok(());
    }
    let why = format!("node {node:?} is not allowed to update fields other than status.quantity and status.conditions");
    Err(why.into())
}
