//! Defaults of Pods and of every Pod template (upstream's `core/v1/defaults.go`).

use serde_json::Value;

use crate::Object;
use crate::kinds::json::{
    default, default_number, default_object, default_text, each_mut, ensure, int, is_true, object, object_mut, text,
};
use crate::quantity::Quantity;

/// 0644, the mode of files in volumes.
const FILE_MODE: i64 = 0o644;
/// The lists of containers in a Pod's spec.
pub const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Defaults of a whole Pod: those of its spec, and those that templates do not get.
pub fn pod(object: &mut Object) {
    default_object(object, "status");
    let spec = ensure(object, "spec");
    pod_spec(spec);
    for key in ["containers", "initContainers"] {
        each_mut(spec, key, requests_from_limits);
    }
    pod_level_requests(spec);
    default(spec, "enableServiceLinks", true);
    if is_true(spec, "hostNetwork") {
        for key in ["containers", "initContainers"] {
            each_mut(spec, key, |container| each_mut(container, "ports", host_port));
        }
    }
}

/// Defaults of a Pod template.
pub fn template(template: &mut Object) {
    default_object(template, "metadata");
    pod_spec(ensure(template, "spec"));
}

/// Defaults of a Pod's spec, in a Pod or in a template.
pub fn pod_spec(spec: &mut Object) {
    default_text(spec, "dnsPolicy", "ClusterFirst");
    default_text(spec, "restartPolicy", "Always");
    default_object(spec, "securityContext");
    default(spec, "terminationGracePeriodSeconds", 30);
    default_text(spec, "schedulerName", "default-scheduler");
    service_account(spec);
    each_mut(spec, "volumes", volume);
    for key in CONTAINER_LISTS {
        each_mut(spec, key, container);
    }
    for key in ["limits", "requests"] {
        object_mut(spec, "resources").and_then(|r| object_mut(r, key)).into_iter().for_each(round_resources);
    }
    if let Some(overhead) = object_mut(spec, "overhead") {
        round_resources(overhead);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both always say the same.
pub fn service_account(spec: &mut Object) {
    let key = if text(spec, "serviceAccountName").is_empty() { "serviceAccount" } else { "serviceAccountName" };
    let name = text(spec, key).to_owned();
    for key in ["serviceAccountName", "serviceAccount"] {
        if name.is_empty() {
            spec.remove(key);
        } else if text(spec, key) != name {
            spec.insert(key.to_owned(), name.as_str().into());
        }
    }
}

fn container(container: &mut Object) {
    if text(container, "imagePullPolicy").is_empty() {
        let policy = pull_policy(text(container, "image"));
        container.insert("imagePullPolicy".to_owned(), policy.into());
    }
    default_text(container, "terminationMessagePath", "/dev/termination-log");
    default_text(container, "terminationMessagePolicy", "File");
    each_mut(container, "ports", |port| default_text(port, "protocol", "TCP"));
    each_mut(container, "env", |env| {
        if let Some(source) = object_mut(env, "valueFrom") {
            field_ref(source);
            if let Some(file) = object_mut(source, "fileKeyRef") {
                default(file, "optional", false);
            }
            resource_field_ref(source);
        }
    });
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        object_mut(container, key).into_iter().for_each(probe);
    }
    for key in ["postStart", "preStop"] {
        object_mut(container, "lifecycle").and_then(|l| object_mut(l, key)).into_iter().for_each(http_get);
    }
    let resources = ensure(container, "resources");
    for key in ["limits", "requests"] {
        object_mut(resources, key).into_iter().for_each(round_resources);
    }
}

/// `Always` for images tagged `latest`, also by default; `IfNotPresent` for other tags and for digests.
pub fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or(image);
    let latest = match name.split_once(':') {
        _ if image.is_empty() || image.contains(|c: char| c == '@' || c.is_whitespace()) => false,
        Some((_, tag)) => tag == "latest",
        // An upper-case name is no image reference, and so has no tag.
        None => !image.bytes().any(|b| b.is_ascii_uppercase()),
    };
    if latest { "Always" } else { "IfNotPresent" }
}

fn probe(probe: &mut Object) {
    for (key, value) in [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        default_number(probe, key, value);
    }
    http_get(probe);
    if let Some(grpc) = object_mut(probe, "grpc") {
        default(grpc, "service", "");
    }
}

fn http_get(handler: &mut Object) {
    if let Some(action) = object_mut(handler, "httpGet") {
        default_text(action, "path", "/");
        default_text(action, "scheme", "HTTP");
    }
}

fn field_ref(source: &mut Object) {
    if let Some(reference) = object_mut(source, "fieldRef") {
        default_text(reference, "apiVersion", "v1");
    }
}

/// The divisor is always written, `0` when none was given.
fn resource_field_ref(source: &mut Object) {
    if let Some(reference) = object_mut(source, "resourceFieldRef") {
        default(reference, "divisor", "0");
    }
}

fn volume(volume: &mut Object) {
    if !volume.iter().any(|(key, value)| key != "name" && !value.is_null()) {
        default_object(volume, "emptyDir");
    }
    for key in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = object_mut(volume, key) {
            default(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(source) = object_mut(volume, "downwardAPI") {
        each_mut(source, "items", downward_item);
    }
    if let Some(source) = object_mut(volume, "projected") {
        each_mut(source, "sources", projection);
    }
    if let Some(source) = object_mut(volume, "hostPath") {
        default(source, "type", "");
    }
    if let Some(image) = object_mut(volume, "image")
        && text(image, "pullPolicy").is_empty()
    {
        let policy = pull_policy(text(image, "reference"));
        image.insert("pullPolicy".to_owned(), policy.into());
    }
    if let Some(template) = object_mut(volume, "ephemeral").and_then(|e| object_mut(e, "volumeClaimTemplate")) {
        default_object(template, "metadata");
        crate::kinds::storage::claim_spec(ensure(template, "spec"));
    }
    remote_volume(volume);
}

fn downward_item(item: &mut Object) {
    field_ref(item);
    resource_field_ref(item);
}

fn projection(source: &mut Object) {
    if let Some(token) = object_mut(source, "serviceAccountToken") {
        default(token, "expirationSeconds", 3600);
    }
    if let Some(downward) = object_mut(source, "downwardAPI") {
        each_mut(downward, "items", downward_item);
    }
}

/// Static defaults of the sources that name a remote disk.
pub fn remote_volume(volume: &mut Object) {
    const TEXTS: [(&str, &str, &str); 9] = [
        ("iscsi", "iscsiInterface", "default"),
        ("rbd", "pool", "rbd"),
        ("rbd", "user", "admin"),
        ("rbd", "keyring", "/etc/ceph/keyring"),
        ("scaleIO", "storageMode", "ThinProvisioned"),
        ("scaleIO", "fsType", "xfs"),
        ("azureDisk", "cachingMode", "ReadWrite"),
        ("azureDisk", "fsType", "ext4"),
        ("azureDisk", "kind", "Shared"),
    ];
    for (source, key, value) in TEXTS {
        if let Some(source) = object_mut(volume, source) {
            default_text(source, key, value);
        }
    }
    if let Some(disk) = object_mut(volume, "azureDisk") {
        default(disk, "readOnly", false);
    }
}

fn host_port(port: &mut Object) {
    if let Some(number) = int(port, "containerPort") {
        default_number(port, "hostPort", number);
    }
}

fn requests_from_limits(container: &mut Object) {
    let resources = ensure(container, "resources");
    let Some(limits) = object(resources, "limits").cloned() else { return };
    let requests = ensure(resources, "requests");
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

/// Pod-level requests follow from the containers' requests, then from the Pod's limits.
fn pod_level_requests(spec: &mut Object) {
    let Some(limits) = object(spec, "resources").and_then(|r| object(r, "limits")).filter(|l| !l.is_empty()) else {
        return;
    };
    let limits = limits.clone();
    let aggregated = super::resources::requests(spec);
    let requests = ensure(ensure(spec, "resources"), "requests");
    for (name, quantity) in aggregated {
        if matches!(name.as_str(), "cpu" | "memory") {
            requests.entry(name).or_insert_with(|| quantity.to_string().into());
        }
    }
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

/// Amounts are kept in thousandths, rounded up, and in canonical text.
pub fn round_resources(resources: &mut Object) {
    for value in resources.values_mut() {
        if let Ok(mut quantity) = Quantity::from_value(value) {
            quantity.round_up(-3);
            let text = quantity.to_string();
            if value.as_str() != Some(&text) {
                *value = Value::String(text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policy_follows_the_tag() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.2", "IfNotPresent"),
            ("localhost:5000/a/b", "Always"),
            ("localhost:5000/a/b:1", "IfNotPresent"),
            ("nginx@sha256:0123", "IfNotPresent"),
            ("nginx:latest@sha256:0123", "IfNotPresent"),
            ("", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
