//! Volumes, claims, classes and drivers.

use serde_json::Value;

use super::shown::Shown;
use super::view::{NONE, UNSET, age, boolean, joined, list, named, objects, plain, size, text, text_or, texts};
use crate::Object;
use crate::object::{at, is_terminating, meta_str, str_at};

/// The name of a class, marked when it is the default one.
pub(super) fn with_default(name: &str, is_default: bool) -> String {
    if is_default { format!("{name} (default)") } else { name.to_owned() }
}

fn access_modes(object: &Object, path: &[&str]) -> String {
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let has = |mode: &str| texts(object, path).any(|found| found == mode);
    joined(short.into_iter().filter(|(mode, _)| has(mode)).map(|(_, short)| short), ",")
}

/// The beta annotation counts before the field.
fn class(object: &Object) -> Shown {
    match at(object, &["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]) {
        Some(class) => Shown::from(class.clone()),
        None => text(object, &["spec", "storageClassName"]),
    }
}

fn phase(object: &Object) -> Shown {
    if is_terminating(object) { Shown::from("Terminating") } else { text(object, &["status", "phase"]) }
}

pub(super) fn persistent_volume(object: &Object) -> Vec<Shown> {
    let claim = at(object, &["spec", "claimRef"]).and_then(Value::as_object);
    let claim = claim.map(|claim| format!("{}/{}", str_at(claim, &["namespace"]), str_at(claim, &["name"])));
    vec![
        named(object),
        Shown::from(plain(at(object, &["spec", "capacity", "storage"])).unwrap_or_else(|| "0".to_owned())),
        Shown::from(access_modes(object, &["spec", "accessModes"])),
        text(object, &["spec", "persistentVolumeReclaimPolicy"]),
        phase(object),
        Shown::from(claim.unwrap_or_default()),
        class(object),
        text_or(object, &["spec", "volumeAttributesClassName"], UNSET),
        text(object, &["status", "reason"]),
        age(object),
        text_or(object, &["spec", "volumeMode"], UNSET),
    ]
}

pub(super) fn persistent_volume_claim(object: &Object) -> Vec<Shown> {
    let (mut capacity, mut modes) = (String::new(), String::new());
    if !str_at(object, &["spec", "volumeName"]).is_empty() {
        capacity = plain(at(object, &["status", "capacity", "storage"])).unwrap_or_else(|| "0".to_owned());
        modes = access_modes(object, &["status", "accessModes"]);
    }
    vec![
        named(object),
        phase(object),
        text(object, &["spec", "volumeName"]),
        Shown::from(capacity),
        Shown::from(modes),
        class(object),
        text_or(object, &["spec", "volumeAttributesClassName"], UNSET),
        age(object),
        text_or(object, &["spec", "volumeMode"], UNSET),
    ]
}

pub(super) fn storage_class(object: &Object) -> Vec<Shown> {
    let annotations =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    let is_default = annotations.iter().any(|key| str_at(object, &["metadata", "annotations", key]) == "true");
    vec![
        Shown::from(with_default(meta_str(object, "name"), is_default)),
        text(object, &["provisioner"]),
        text_or(object, &["reclaimPolicy"], "Delete"),
        text_or(object, &["volumeBindingMode"], "Immediate"),
        Shown::from(boolean(object, &["allowVolumeExpansion"])),
        age(object),
    ]
}

pub(super) fn volume_attributes_class(object: &Object) -> Vec<Shown> {
    vec![named(object), text(object, &["driverName"]), age(object)]
}

pub(super) fn volume_attachment(object: &Object) -> Vec<Shown> {
    vec![
        named(object),
        text(object, &["spec", "attacher"]),
        text(object, &["spec", "source", "persistentVolumeName"]),
        text(object, &["spec", "nodeName"]),
        Shown::from(boolean(object, &["status", "attached"])),
        age(object),
    ]
}

pub(super) fn csi_node(object: &Object) -> Vec<Shown> {
    vec![named(object), size(object, &["spec", "drivers"]), age(object)]
}

pub(super) fn csi_driver(object: &Object) -> Vec<Shown> {
    let requests = list(object, &["spec", "tokenRequests"]);
    let audiences = joined(objects(object, &["spec", "tokenRequests"]).map(|r| str_at(r, &["audience"])), ",");
    let modes = joined(texts(object, &["spec", "volumeLifecycleModes"]), ",");
    vec![
        named(object),
        Shown::from(at(object, &["spec", "attachRequired"]).and_then(Value::as_bool).unwrap_or(true)),
        Shown::from(boolean(object, &["spec", "podInfoOnMount"])),
        Shown::from(boolean(object, &["spec", "storageCapacity"])),
        Shown::from(if requests.is_empty() { UNSET.to_owned() } else { audiences }),
        Shown::from(boolean(object, &["spec", "requiresRepublish"])),
        Shown::from(if modes.is_empty() { NONE.to_owned() } else { modes }),
        age(object),
    ]
}
