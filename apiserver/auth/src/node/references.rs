//! What a Pod's specification refers to by name (upstream's `podutil.VisitPodSecretNames` and its siblings).

use api::{Object, object};
use serde_json::Value;

/// Marks a Pod that a node made for a static Pod; it gives the node no access to anything.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

pub fn is_mirror(pod: &Object) -> bool {
    object::at(pod, &["metadata", "annotations", MIRROR_ANNOTATION]).is_some()
}

fn list<'a>(value: Option<&'a Value>, key: &str) -> &'a [Value] {
    value.and_then(|v| v.get(key)).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// All containers: init, regular and ephemeral ones.
fn containers(spec: Option<&Value>) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |key| list(spec, key))
}

/// Where a volume names a Secret of the Pod's namespace.
const SECRET_VOLUMES: [&str; 10] = [
    "/secret/secretName",
    "/azureFile/secretName",
    "/cephfs/secretRef/name",
    "/cinder/secretRef/name",
    "/flexVolume/secretRef/name",
    "/rbd/secretRef/name",
    "/scaleIO/secretRef/name",
    "/iscsi/secretRef/name",
    "/storageos/secretRef/name",
    "/csi/nodePublishSecretRef/name",
];

/// Whether any name of a Secret that the Pod refers to, so that its node must read it, satisfies `test`.
pub fn any_secret(pod: &Object, mut test: impl FnMut(&str) -> bool) -> bool {
    let spec = pod.get("spec");
    let mut test = |name: &str| !name.is_empty() && test(name);
    list(spec, "imagePullSecrets").iter().any(|s| test(text(s, "/name")))
        || containers(spec).any(|c| in_environment(c, "/secretRef/name", "/valueFrom/secretKeyRef/name", &mut test))
        || list(spec, "volumes").iter().any(|volume| {
            SECRET_VOLUMES.iter().any(|pointer| test(text(volume, pointer)))
                || projects(volume, "/secret/name", &mut test)
        })
}

/// Whether any name of a ConfigMap that the Pod refers to satisfies `test`.
pub fn any_config_map(pod: &Object, mut test: impl FnMut(&str) -> bool) -> bool {
    let spec = pod.get("spec");
    let mut test = |name: &str| !name.is_empty() && test(name);
    containers(spec).any(|c| in_environment(c, "/configMapRef/name", "/valueFrom/configMapKeyRef/name", &mut test))
        || list(spec, "volumes")
            .iter()
            .any(|volume| test(text(volume, "/configMap/name")) || projects(volume, "/configMap/name", &mut test))
}

fn in_environment(container: &Value, from: &str, value_from: &str, test: &mut impl FnMut(&str) -> bool) -> bool {
    list(Some(container), "envFrom").iter().any(|e| test(text(e, from)))
        || list(Some(container), "env").iter().any(|e| test(text(e, value_from)))
}

fn projects(volume: &Value, pointer: &str, test: &mut impl FnMut(&str) -> bool) -> bool {
    list(volume.get("projected"), "sources").iter().any(|source| test(text(source, pointer)))
}

/// Names of the PersistentVolumeClaims that the Pod uses, those of its ephemeral volumes included.
pub fn claims(pod: &Object) -> impl Iterator<Item = String> {
    let owner = object::name(pod);
    list(pod.get("spec"), "volumes").iter().filter_map(move |volume| {
        let claim = text(volume, "/persistentVolumeClaim/claimName");
        if !claim.is_empty() {
            return Some(claim.to_owned());
        }
        volume.get("ephemeral").filter(|e| !e.is_null()).map(|_| format!("{owner}-{}", text(volume, "/name")))
    })
}

/// Names of the ResourceClaims that the Pod uses, made for it or not.
pub fn resource_claims(pod: &Object) -> impl Iterator<Item = &str> {
    let named = list(pod.get("spec"), "resourceClaims").iter().map(|c| text(c, "/resourceClaimName"));
    let made = list(pod.get("status"), "resourceClaimStatuses").iter().map(|c| text(c, "/resourceClaimName"));
    let extended = object::str_at(pod, &["status", "extendedResourceClaimStatus", "resourceClaimName"]);
    named.chain(made).chain([extended]).filter(|name| !name.is_empty())
}

/// Where a PersistentVolume names a Secret that a node needs.
const VOLUME_SECRETS: [&str; 10] = [
    "/cephfs/secretRef",
    "/cinder/secretRef",
    "/flexVolume/secretRef",
    "/rbd/secretRef",
    "/scaleIO/secretRef",
    "/iscsi/secretRef",
    "/storageos/secretRef",
    "/csi/nodePublishSecretRef",
    "/csi/nodeStageSecretRef",
    "/csi/nodeExpandSecretRef",
];

/// Whether the PersistentVolume names the Secret for the use of nodes; without a namespace it is the claim's.
pub fn volume_names_secret(volume: &Object, namespace: &str, name: &str) -> bool {
    let Some(spec) = volume.get("spec") else { return false };
    let of_claim = text(spec, "/claimRef/namespace");
    let or_claim = |found: &str| if found.is_empty() { of_claim == namespace } else { found == namespace };
    let azure = text(spec, "/azureFile/secretName") == name && or_claim(text(spec, "/azureFile/secretNamespace"));
    azure
        || VOLUME_SECRETS.iter().any(|place| {
            let reference = spec.pointer(place);
            reference.is_some_and(|r| text(r, "/name") == name && or_claim(text(r, "/namespace")))
        })
}
