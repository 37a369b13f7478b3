//! Volumes of Pods, and how containers mount them.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use super::env::{VOLUME_FIELDS, field_ref, resource_field_ref};
use super::validate::PodScope;
use crate::Object;
use crate::field::{ErrorList, FieldError, Path};
use crate::kinds::check::{
    descending_path, messages, named, no_backsteps, one_of, optional_one_of, required, unreserved_path,
};
use crate::kinds::json::{get, int, is_true, object, objects, text};
use crate::kinds::storage;
use crate::names;
use crate::quantity::Quantity;

/// Sources in the order in which upstream looks at them.
const SOURCES: [&str; 30] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];
const MODE_WORDS: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// All volumes. Returns those without errors by name; mounts may only name these.
pub fn volumes<'a>(
    spec: &'a Object,
    pod_name: &str,
    is_pod: bool,
    path: &Path,
    errors: &mut ErrorList,
) -> BTreeMap<&'a str, &'a Object> {
    let created: Vec<String> = objects(spec, "volumes")
        .filter(|(_, v)| !pod_name.is_empty() && object(v, "ephemeral").is_some())
        .map(|(_, v)| format!("{pod_name}-{}", text(v, "name")))
        .collect();
    let mut valid = BTreeMap::new();
    for (i, volume) in objects(spec, "volumes") {
        let path = path.child("volumes").index(i);
        let before = errors.len();
        source(volume, pod_name, is_pod, &path, errors);
        let name = named(volume, "name", &path, names::dns1123_label, errors);
        if valid.contains_key(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        if errors.len() == before {
            valid.insert(name, volume);
        }
        let claim = object(volume, "persistentVolumeClaim").map_or("", |claim| text(claim, "claimName"));
        if created.iter().any(|c| c == claim) {
            let path = path.child("persistentVolumeClaim").child("claimName");
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            errors.push(FieldError::invalid(&path, claim, detail));
        }
    }
    valid
}

fn source(volume: &Object, pod_name: &str, is_pod: bool, path: &Path, errors: &mut ErrorList) {
    let mut found = sources(volume).into_iter();
    let Some((key, source)) = found.next() else {
        return errors.push(FieldError::required(path, "must specify a volume type"));
    };
    let own = path.child(key);
    match key {
        "ephemeral" => ephemeral(source, volume, pod_name, &own, errors),
        "image" => {
            if is_pod {
                required(source, "reference", &own, errors);
            }
            one_of(source, "pullPolicy", &["Always", "IfNotPresent", "Never"], &own, errors);
        }
        _ => local_source(key, source, &own, errors),
    }
    for (key, _) in found {
        errors.push(FieldError::forbidden(&path.child(key), "may not specify more than 1 volume type"));
    }
}

/// The sources that a volume names, in upstream's order. It has few fields, and one of them is its source.
fn sources(volume: &Object) -> SmallVec<[(&'static str, &Object); 1]> {
    let place = |name: &str| SOURCES.iter().position(|source| *source == name);
    let named = volume.iter().filter_map(|(name, value)| Some((place(name)?, value.as_object()?)));
    let mut places: SmallVec<[(usize, &Object); 1]> = named.collect();
    places.sort_unstable_by_key(|(place, _)| *place);
    places.into_iter().map(|(place, source)| (SOURCES[place], source)).collect()
}

fn local_source(key: &str, source: &Object, path: &Path, errors: &mut ErrorList) {
    match key {
        "emptyDir" => {
            let limit = get(source, "sizeLimit").and_then(|v| Quantity::from_value(v).ok());
            if limit.is_some_and(|q| q.is_negative()) {
                let detail = "SizeLimit field must be a valid resource quantity";
                errors.push(FieldError::forbidden(&path.child("sizeLimit"), detail));
            }
        }
        "hostPath" => host_path(source, path, errors),
        "gitRepo" => {
            required(source, "repository", path, errors);
            descending_path(text(source, "directory"), &path.child("directory"), errors);
        }
        "secret" => {
            required(source, "secretName", path, errors);
            mode(source, "defaultMode", path, errors);
            key_paths(source, path, errors);
        }
        "configMap" => {
            required(source, "name", path, errors);
            mode(source, "defaultMode", path, errors);
            key_paths(source, path, errors);
        }
        "nfs" => {
            required(source, "server", path, errors);
            let directory = required(source, "path", path, errors);
            if !directory.starts_with('/') {
                errors.push(FieldError::invalid(&path.child("path"), directory, "must be an absolute path"));
            }
        }
        "persistentVolumeClaim" => {
            required(source, "claimName", path, errors);
        }
        "downwardAPI" => {
            mode(source, "defaultMode", path, errors);
            for (_, file) in objects(source, "items") {
                downward_file(file, path, errors);
            }
        }
        "projected" => projected(source, path, errors),
        "csi" => csi(source, path, errors),
        _ => storage::remote_source(key, source, path, errors),
    }
}

pub fn host_path(source: &Object, path: &Path, errors: &mut ErrorList) {
    const TYPES: [&str; 8] =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let directory = required(source, "path", path, errors);
    if !directory.is_empty() {
        no_backsteps(directory, &path.child("path"), errors);
        optional_one_of(source, "type", &TYPES, path, errors);
    }
}

fn csi(source: &Object, path: &Path, errors: &mut ErrorList) {
    let driver = required(source, "driver", path, errors);
    if driver.len() > 63 {
        errors.push(FieldError::too_long(&path.child("driver"), 63));
    }
    let lower = driver.to_lowercase();
    if !driver.is_empty() {
        messages(driver, &path.child("driver"), names::dns1123_subdomain(&lower), errors);
    }
    if let Some(secret) = object(source, "nodePublishSecretRef") {
        let name = required(secret, "name", &path.child("nodePublishSecretRef"), errors);
        if !name.is_empty() {
            messages(name, &path.child("name"), names::dns1123_subdomain(name), errors);
        }
    }
}

fn ephemeral(source: &Object, volume: &Object, pod_name: &str, path: &Path, errors: &mut ErrorList) {
    match object(source, "volumeClaimTemplate") {
        None => errors.push(FieldError::required(&path.child("volumeClaimTemplate"), "")),
        Some(template) => storage::claim_template(template, &path.child("volumeClaimTemplate"), errors),
    }
    let name = text(volume, "name");
    if !pod_name.is_empty() && !name.is_empty() {
        let claim = format!("{pod_name}-{name}");
        for message in names::dns1123_subdomain(&claim) {
            errors.push(FieldError::invalid(&path.child("name"), name, format!("PVC name {claim:?}: {message}")));
        }
    }
}

fn mode(owner: &Object, key: &str, path: &Path, errors: &mut ErrorList) {
    if let Some(mode) = int(owner, key).filter(|mode| !(0..=0o777).contains(mode)) {
        errors.push(FieldError::invalid(&path.child(key), mode, MODE_WORDS));
    }
}

fn key_paths(source: &Object, path: &Path, errors: &mut ErrorList) {
    for (i, item) in objects(source, "items") {
        let path = path.child("items").index(i);
        required(item, "key", &path, errors);
        let file = required(item, "path", &path, errors);
        unreserved_path(file, &path.child("path"), errors);
        mode(item, "mode", &path, errors);
    }
}

fn downward_file(file: &Object, path: &Path, errors: &mut ErrorList) {
    let name = required(file, "path", path, errors);
    unreserved_path(name, &path.child("path"), errors);
    match (object(file, "fieldRef"), object(file, "resourceFieldRef")) {
        (Some(field), resource) => {
            field_ref(field, &VOLUME_FIELDS, &path.child("fieldRef"), errors);
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(path, "resource", detail));
            }
        }
        (None, Some(resource)) => resource_field_ref(resource, true, &path.child("resourceFieldRef"), errors),
        (None, None) => {
            errors.push(FieldError::required(path, "one of fieldRef and resourceFieldRef is required"));
        }
    }
    mode(file, "mode", path, errors);
}

fn projected(source: &Object, path: &Path, errors: &mut ErrorList) {
    mode(source, "defaultMode", path, errors);
    let mut taken = BTreeSet::new();
    let mut take = |file: &str, shown: &str, errors: &mut ErrorList| {
        if !file.is_empty() && !taken.insert(file.to_owned()) {
            errors.push(FieldError::invalid(path, shown, "conflicting duplicate paths"));
        }
    };
    for (i, item) in objects(source, "sources") {
        let item_path = path.child("sources").index(i);
        let mut kinds = 0;
        for key in ["secret", "configMap"] {
            let Some(projection) = object(item, key) else { continue };
            kinds += 1;
            let name = required(projection, "name", &item_path.child(key), errors);
            key_paths(projection, &item_path.child(key), errors);
            for (_, item) in objects(projection, "items") {
                take(text(item, "path"), name, errors);
            }
        }
        if let Some(projection) = object(item, "downwardAPI") {
            kinds += 1;
            for (_, file) in objects(projection, "items") {
                downward_file(file, &item_path.child("downwardAPI"), errors);
                take(text(file, "path"), text(file, "path"), errors);
            }
        }
        if let Some(token) = object(item, "serviceAccountToken") {
            kinds += 1;
            projected_token(token, path, &item_path.child("serviceAccountToken"), errors);
        }
        kinds += usize::from(object(item, "clusterTrustBundle").is_some());
        kinds += usize::from(object(item, "podCertificate").is_some());
        if kinds > 1 {
            errors.push(FieldError::forbidden(&item_path, "may not specify more than 1 volume type per source"));
        }
    }
}

fn projected_token(token: &Object, volume_path: &Path, path: &Path, errors: &mut ErrorList) {
    let seconds = int(token, "expirationSeconds").unwrap_or(0);
    let lifetime = path.child("expirationSeconds");
    if seconds < 600 {
        errors.push(FieldError::invalid(&lifetime, seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > 1 << 32 {
        errors.push(FieldError::invalid(&lifetime, seconds, "may not specify a duration larger than 2^32 seconds"));
    }
    // Upstream reports these at the volume, not at the source.
    let file = required(token, "path", volume_path, errors);
    unreserved_path(file, &volume_path.child("path"), errors);
}

/// `volumeMounts` of a container.
pub fn mounts(container: &Object, scope: &PodScope<'_>, path: &Path, errors: &mut ErrorList) {
    let list = path.child("volumeMounts");
    let devices: Vec<&Object> = objects(container, "volumeDevices").map(|(_, d)| d).collect();
    let mut points = Vec::new();
    for (i, mount) in objects(container, "volumeMounts") {
        let path = list.index(i);
        let name = required(mount, "name", &path, errors);
        if !scope.volumes.contains_key(name) {
            errors.push(FieldError::not_found(&path.child("name"), name));
        }
        let point = required(mount, "mountPath", &path, errors);
        if points.contains(&point) {
            errors.push(FieldError::invalid(&path.child("mountPath"), point, "must be unique"));
        }
        points.push(point);
        if devices.iter().any(|d| text(d, "name") == name) {
            let detail = "must not already exist in volumeDevices";
            errors.push(FieldError::invalid(&path.child("name"), name, detail));
        }
        if devices.iter().any(|d| text(d, "devicePath") == point) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.push(FieldError::invalid(&path.child("mountPath"), point, detail));
        }
        sub_path(mount, &list, &path, errors);
        propagation(mount, container, &list, errors);
    }
}

fn sub_path(mount: &Object, list: &Path, path: &Path, errors: &mut ErrorList) {
    let (plain, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
    descending_path(plain, &list.child("subPath"), errors);
    if !expression.is_empty() {
        if !plain.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(&path.child("subPathExpr"), expression, detail));
        }
        descending_path(expression, &list.child("subPathExpr"), errors);
    }
}

fn propagation(mount: &Object, container: &Object, list: &Path, errors: &mut ErrorList) {
    const MODES: [&str; 3] = ["Bidirectional", "HostToContainer", "None"];
    optional_one_of(mount, "mountPropagation", &MODES, list, errors);
    let mode = text(mount, "mountPropagation");
    let privileged = object(container, "securityContext").is_some_and(|c| is_true(c, "privileged"));
    if mode == "Bidirectional" && !privileged {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(FieldError::forbidden(&list.child("mountPropagation"), detail));
    }
    let path = list.child("recursiveReadOnly");
    match text(mount, "recursiveReadOnly") {
        "Enabled" | "IfPossible" => {
            if !is_true(mount, "readOnly") {
                errors.push(FieldError::forbidden(&path, "may only be specified when readOnly is true"));
            }
            if !matches!(mode, "" | "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.push(FieldError::forbidden(&path, detail));
            }
        }
        _ => optional_one_of(mount, "recursiveReadOnly", &["Disabled", "Enabled", "IfPossible"], list, errors),
    }
}

/// `volumeDevices` of a container.
pub fn devices(container: &Object, scope: &PodScope<'_>, path: &Path, errors: &mut ErrorList) {
    let mounts: Vec<&Object> = objects(container, "volumeMounts").map(|(_, m)| m).collect();
    let (mut names, mut paths) = (Vec::new(), Vec::new());
    for (i, device) in objects(container, "volumeDevices") {
        let path = path.child("volumeDevices").index(i);
        let (name_path, file_path) = (path.child("name"), path.child("devicePath"));
        let name = required(device, "name", &path, errors);
        if names.contains(&name) {
            errors.push(FieldError::invalid(&name_path, name, "must be unique"));
        }
        let is_claim = |v: &&Object| object(v, "persistentVolumeClaim").or_else(|| object(v, "ephemeral")).is_some();
        match scope.volumes.get(name) {
            None => errors.push(FieldError::not_found(&name_path, name)),
            Some(volume) if !is_claim(volume) => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(FieldError::invalid(&name_path, name, detail));
            }
            Some(_) => {}
        }
        let file = required(device, "devicePath", &path, errors);
        if paths.contains(&file) {
            errors.push(FieldError::invalid(&file_path, file, "must be unique"));
        }
        if file.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid(&file_path, file, "can not contain backsteps ('..')"));
        } else {
            paths.push(file);
        }
        if mounts.iter().any(|m| text(m, "name") == name) {
            errors.push(FieldError::invalid(&name_path, name, "must not already exist in volumeMounts"));
        }
        // Of several mounts of one volume upstream looks at the last one only.
        let last = |m: &&&Object| mounts.iter().rfind(|o| text(o, "name") == text(m, "name")).is_some_and(|o| o == *m);
        if mounts.iter().filter(last).any(|m| text(m, "mountPath") == file) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.push(FieldError::invalid(&file_path, file, detail));
        }
        names.push(name);
    }
}
