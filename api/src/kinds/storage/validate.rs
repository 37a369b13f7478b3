//! Validation of PersistentVolumes, claims and StorageClasses.

use serde_json::Value;

use crate::field::{ErrorList, FieldError, Path};
use crate::kinds::check::{IMMUTABLE, immutable, messages, named, one_of, optional, optional_one_of, required};
use crate::kinds::json::{get, list, object, objects, same, text};
use crate::kinds::pod::diff::diff;
use crate::kinds::pod::{scheduling, volumes};
use crate::quantity::Quantity;
use crate::validate::labels;
use crate::{Object, names};

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// What a PersistentVolume can be backed by.
const SOURCES: [&str; 23] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
    "configMap",
];

fn quantity(amounts: &Object, name: &str) -> Option<Quantity> {
    get(amounts, name).and_then(|v| Quantity::from_value(v).ok())
}

/// The `validate` hook of claims.
pub fn claim(new: &Object, old: Option<&Object>, subresource: &str, errors: &mut ErrorList) {
    let empty = Object::new();
    let spec = object(new, "spec").unwrap_or(&empty);
    if subresource == "status" {
        return;
    }
    claim_spec(spec, &Path::new("spec"), errors);
    if let Some(old) = old {
        claim_update(new, spec, old, errors);
    }
}

fn claim_update(new: &Object, spec: &Object, old: &Object, errors: &mut ErrorList) {
    let empty = Object::new();
    let old_spec = object(old, "spec").unwrap_or(&empty);
    let (mut clone, mut stored) = (spec.clone(), old_spec.clone());
    if text(&stored, "volumeName").is_empty() {
        crate::kinds::json::keep(&mut stored, spec, "volumeName");
    }
    if get(&stored, "storageClassName").is_none() {
        crate::kinds::json::keep(&mut clone, old_spec, "storageClassName");
    }
    let storage = |spec: &Object| object(spec, "resources").and_then(|r| object(r, "requests")).cloned();
    let bound = object(new, "status").is_some_and(|status| text(status, "phase") == "Bound");
    if bound {
        let requests = crate::kinds::json::ensure(crate::kinds::json::ensure(&mut clone, "resources"), "requests");
        crate::kinds::json::keep(requests, &storage(old_spec).unwrap_or_default(), "storage");
        crate::kinds::json::keep(&mut clone, old_spec, "volumeAttributesClassName");
    }
    if clone != stored {
        let changes = diff(&stored.into(), &clone.into());
        let detail = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
             claims\n{changes}"
        );
        errors.push(FieldError::forbidden(&Path::new("spec"), detail));
    }
    let size = |spec: &Object| storage(spec).and_then(|r| quantity(&r, "storage")).unwrap_or_default();
    let capacity = object(old, "status").and_then(|s| object(s, "capacity")).and_then(|c| quantity(c, "storage"));
    if size(spec) < size(old_spec) && size(spec) <= capacity.unwrap_or_default() {
        let path = Path::new("spec").child("resources").child("requests").child("storage");
        errors.push(FieldError::forbidden(&path, "field can not be less than status.capacity"));
    }
    if !same(spec, old_spec, "volumeMode") {
        let value = spec.get("volumeMode").cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(&Path::new("volumeMode"), value, IMMUTABLE));
    }
}

fn access_modes(spec: &Object, path: &Path, errors: &mut ErrorList) {
    let modes = list(spec, "accessModes");
    let path = path.child("accessModes");
    for mode in modes.iter().filter_map(Value::as_str).filter(|mode| !MODES.contains(mode)) {
        errors.push(FieldError::not_supported(&path, mode, &MODES));
    }
    let single = |mode: &Value| mode == "ReadWriteOncePod";
    let other = |mode: &Value| mode.as_str().is_some_and(|m| MODES[..3].contains(&m));
    if modes.iter().any(single) && modes.iter().any(other) {
        errors.push(FieldError::forbidden(&path, "may not use ReadWriteOncePod with other access modes"));
    }
}

fn claim_spec(spec: &Object, path: &Path, errors: &mut ErrorList) {
    if list(spec, "accessModes").is_empty() {
        errors.push(FieldError::required(&path.child("accessModes"), "at least 1 access mode is required"));
    }
    labels::selector(get(spec, "selector"), &path.child("selector"), errors);
    access_modes(spec, path, errors);
    let requests = object(spec, "resources").and_then(|r| object(r, "requests"));
    let size_path = path.child("resources").key("storage");
    match requests.and_then(|r| quantity(r, "storage")) {
        None => errors.push(FieldError::required(&size_path, "")),
        Some(size) if size.is_zero() || size.is_negative() => {
            errors.push(FieldError::invalid(&size_path, size.to_string(), "must be greater than zero"));
        }
        Some(_) => {}
    }
    optional(spec, "storageClassName", path, names::dns1123_subdomain, errors);
    optional_one_of(spec, "volumeMode", &["Block", "Filesystem"], path, errors);
    for key in ["dataSource", "dataSourceRef"] {
        if let Some(source) = object(spec, key) {
            data_source(source, &path.child(key), errors);
        }
    }
    optional(spec, "volumeAttributesClassName", path, names::dns1123_subdomain, errors);
}

fn data_source(source: &Object, path: &Path, errors: &mut ErrorList) {
    required(source, "name", path, errors);
    let kind = required(source, "kind", path, errors);
    if text(source, "apiGroup").is_empty() && kind != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(FieldError::invalid(path, kind, detail));
    }
    optional(source, "apiGroup", path, names::dns1123_subdomain, errors);
    optional(source, "namespace", path, names::dns1123_label, errors);
}

/// A claim template in an ephemeral volume: labels and annotations only, and a spec.
pub fn claim_template(template: &Object, path: &Path, errors: &mut ErrorList) {
    let empty = Object::new();
    let metadata = object(template, "metadata").unwrap_or(&empty);
    let meta_path = path.child("metadata");
    labels::annotations(object(metadata, "annotations"), &meta_path.child("annotations"), errors);
    labels::labels(object(metadata, "labels"), &meta_path.child("labels"), errors);
    for (key, value) in metadata.iter().filter(|(key, _)| !matches!(key.as_str(), "annotations" | "labels")) {
        if !value.is_null() {
            errors.push(FieldError::forbidden(&meta_path.child(key), "cannot be set"));
        }
    }
    claim_spec(object(template, "spec").unwrap_or(&empty), &path.child("spec"), errors);
}

/// A claim template of a StatefulSet. Its name is checked as the name of the volume that Pods get for it.
pub fn stateful_claim(template: &Object, path: &Path, errors: &mut ErrorList) {
    let empty = Object::new();
    claim_spec(object(template, "spec").unwrap_or(&empty), &path.child("spec"), errors);
}

/// The `validate` hook of volumes.
pub fn volume(new: &Object, old: Option<&Object>, subresource: &str, errors: &mut ErrorList) {
    if subresource == "status" {
        return;
    }
    let empty = Object::new();
    let spec = object(new, "spec").unwrap_or(&empty);
    let path = Path::new("spec");
    if list(spec, "accessModes").is_empty() {
        errors.push(FieldError::required(&path.child("accessModes"), ""));
    }
    access_modes(spec, &path, errors);
    capacity(spec, &path.child("capacity"), errors);
    if get(spec, "persistentVolumeReclaimPolicy").is_some() {
        one_of(spec, "persistentVolumeReclaimPolicy", &["Delete", "Recycle", "Retain"], &path, errors);
    }
    let affinity = object(spec, "nodeAffinity");
    if let Some(affinity) = affinity {
        let path = path.child("nodeAffinity").child("required");
        match object(affinity, "required") {
            None => errors.push(FieldError::required(&path, "must specify required node constraints")),
            Some(selector) => scheduling::node_selector(selector, &path, errors),
        }
    }
    volume_source(spec, affinity.is_some(), &path, errors);
    optional(spec, "storageClassName", &path, names::dns1123_subdomain, errors);
    optional_one_of(spec, "volumeMode", &["Block", "Filesystem"], &path, errors);
    if let Some(old) = old.and_then(|old| object(old, "spec")) {
        volume_update(spec, old, errors);
    }
}

fn capacity(spec: &Object, path: &Path, errors: &mut ErrorList) {
    let empty = Object::new();
    let capacity = object(spec, "capacity").unwrap_or(&empty);
    if capacity.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    if get(capacity, "storage").is_none() || capacity.len() > 1 {
        let value = if capacity.is_empty() { Value::Null } else { capacity.clone().into() };
        errors.push(FieldError::not_supported(path, value, &["storage"]));
    }
    for name in capacity.keys() {
        let path = path.key(name);
        if let Some(amount) = quantity(capacity, name) {
            if amount.is_zero() || amount.is_negative() {
                errors.push(FieldError::invalid(&path, amount.to_string(), "must be greater than zero"));
            }
            if amount.is_negative() {
                errors.push(FieldError::invalid(&path, amount.value(), "must be a valid resource quantity"));
            }
        }
    }
}

fn volume_source(spec: &Object, has_affinity: bool, path: &Path, errors: &mut ErrorList) {
    let mut found = false;
    for key in SOURCES {
        let Some(source) = object(spec, key) else { continue };
        let path_ = path.child(key);
        if found {
            errors.push(FieldError::forbidden(&path_, "may not specify more than 1 volume type"));
            continue;
        }
        found = true;
        match key {
            "hostPath" => volumes::host_path(source, &path_, errors),
            "local" => {
                let directory = required(source, "path", &path_, errors);
                crate::kinds::check::no_backsteps(directory, &path_.child("path"), errors);
                if !has_affinity {
                    let detail = "Local volume requires node affinity";
                    errors.push(FieldError::required(&path.child("nodeAffinity"), detail));
                }
            }
            "nfs" => {
                required(source, "server", &path_, errors);
                let directory = required(source, "path", &path_, errors);
                if !directory.starts_with('/') {
                    let detail = "must be an absolute path";
                    errors.push(FieldError::invalid(&path_.child("path"), directory, detail));
                }
            }
            "csi" => {
                named(source, "driver", &path_, |name| names::dns1123_subdomain(&name.to_lowercase()), errors);
                required(source, "volumeHandle", &path_, errors);
            }
            _ => remote_source(key, source, &path_, errors),
        }
    }
    if !found {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
}

fn volume_update(spec: &Object, old: &Object, errors: &mut ErrorList) {
    let sources = |spec: &Object| -> Object {
        let set = SOURCES.iter().filter_map(|key| get(spec, key).map(|value| ((*key).to_owned(), value.clone())));
        set.collect()
    };
    let (new_sources, old_sources) = (sources(spec), sources(old));
    if new_sources != old_sources {
        let changes = diff(&old_sources.into(), &new_sources.into());
        let detail = format!("spec.persistentvolumesource is immutable after creation\n{changes}");
        errors.push(FieldError::forbidden(&Path::new("spec").child("persistentvolumesource"), detail));
    }
    if !same(spec, old, "volumeMode") {
        let value = spec.get("volumeMode").cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(&Path::new("volumeMode"), value, IMMUTABLE));
    }
}

/// Required fields of the sources that name a remote disk.
pub fn remote_source(kind: &str, source: &Object, path: &Path, errors: &mut ErrorList) {
    let needed: &[&str] = match kind {
        "gcePersistentDisk" => &["pdName"],
        "awsElasticBlockStore" | "cinder" => &["volumeID"],
        "glusterfs" => &["endpoints", "path"],
        "rbd" => &["image"],
        "quobyte" => &["registry", "volume"],
        "flexVolume" => &["driver"],
        "azureFile" => &["secretName", "shareName"],
        "vsphereVolume" => &["volumePath"],
        "photonPersistentDisk" => &["pdID"],
        "portworxVolume" => &["volumeID"],
        "azureDisk" => &["diskName", "diskURI"],
        "scaleIO" => &["gateway", "system", "volumeName"],
        "iscsi" => &["targetPortal", "iqn"],
        _ => &[],
    };
    for key in needed {
        required(source, key, path, errors);
    }
    let listed = match kind {
        "rbd" | "cephfs" => "monitors",
        _ => return,
    };
    if list(source, listed).is_empty() {
        errors.push(FieldError::required(&path.child(listed), ""));
    }
}

/// The `validate` hook of StorageClasses.
pub fn class(new: &Object, old: Option<&Object>, _subresource: &str, errors: &mut ErrorList) {
    let root = Path::root();
    if let Some(old) = old {
        for key in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            immutable(new, old, key, &root, errors);
        }
        return;
    }
    let provisioner = text(new, "provisioner");
    let path = Path::new("provisioner");
    if provisioner.is_empty() {
        errors.push(FieldError::required(&path, ""));
    } else {
        let lower = provisioner.to_lowercase();
        messages(&lower, &path, names::qualified_name(&lower), errors);
    }
    let parameters = object(new, "parameters");
    for (key, _) in parameters.into_iter().flatten().filter(|(key, _)| key.is_empty()) {
        let detail = "field can not be empty.";
        errors.push(FieldError::invalid(&Path::new("parameters"), key.as_str(), detail));
    }
    if get(new, "reclaimPolicy").is_some() {
        one_of(new, "reclaimPolicy", &["Delete", "Retain"], &root, errors);
    }
    if get(new, "volumeBindingMode").is_some() {
        one_of(new, "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"], &root, errors);
    }
    for (i, term) in objects(new, "allowedTopologies") {
        for (j, expression) in objects(term, "matchLabelExpressions") {
            let path = Path::new("allowedTopologies").index(i).child("matchLabelExpressions").index(j);
            if list(expression, "values").is_empty() {
                errors.push(FieldError::required(&path.child("values"), ""));
            }
            labels::label_name(text(expression, "key"), &path.child("key"), errors);
        }
    }
}
