//! PersistentVolumes, claims and StorageClasses.

pub mod validate;

use serde_json::{Value, json};

use super::json::{default, default_object, default_text, ensure, get, keep, object, object_mut, text};
use super::pod::defaults::{remote_volume, round_resources};
use super::prepare;
use crate::table::Hooks;
use crate::{Object, object};

pub use validate::{claim_template, remote_source, stateful_claim};

pub fn claim_hooks() -> Hooks {
    Hooks { default: Some(claim), prepare: Some(prepare_claim), validate: Some(validate::claim), ..Hooks::default() }
}

pub fn volume_hooks() -> Hooks {
    Hooks {
        default: Some(default_volume),
        prepare: Some(prepare_volume),
        validate: Some(validate::volume),
        ..Hooks::default()
    }
}

pub fn class_hooks() -> Hooks {
    Hooks {
        default: Some(default_class),
        prepare: Some(prepare::nothing),
        validate: Some(validate::class),
        ..Hooks::default()
    }
}

/// Defaults of a claim, also of one in a StatefulSet.
pub fn claim(claim: &mut Object) {
    default_text(ensure(claim, "status"), "phase", "Pending");
    claim_spec(ensure(claim, "spec"));
}

/// Defaults of a claim's spec, also in an ephemeral volume.
pub fn claim_spec(spec: &mut Object) {
    default(spec, "volumeMode", "Filesystem");
    for key in ["dataSource", "dataSourceRef"] {
        if let Some(source) = object_mut(spec, key) {
            source.entry("apiGroup").or_insert(Value::Null);
        }
    }
    let resources = ensure(spec, "resources");
    for key in ["limits", "requests"] {
        object_mut(resources, key).into_iter().for_each(round_resources);
    }
}

/// `dataSource` and `dataSourceRef` are two spellings of one thing where both can express it.
fn prepare_claim(new: &mut Object, old: Option<&Object>, subresource: &str) {
    prepare::with_status(new, old, subresource, || json!({"phase": "Pending"}));
    if subresource == "status" {
        return;
    }
    let spec = ensure(new, "spec");
    // Old clients could write anything here; it was always ignored.
    if old.is_none() && object(spec, "dataSource").is_some_and(|source| !is_known_source(source)) {
        spec.remove("dataSource");
    }
    if let (Some(source), None) = (object(spec, "dataSource"), get(spec, "dataSourceRef")) {
        let source = source.clone();
        spec.insert("dataSourceRef".to_owned(), source.into());
    } else if let (None, Some(reference)) = (get(spec, "dataSource"), object(spec, "dataSourceRef"))
        && get(reference, "namespace").is_none()
    {
        let reference = reference.clone();
        spec.insert("dataSource".to_owned(), reference.into());
    }
}

fn is_known_source(source: &Object) -> bool {
    matches!(
        (text(source, "apiGroup"), text(source, "kind")),
        ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
    )
}

fn default_volume(volume: &mut Object) {
    default_text(ensure(volume, "status"), "phase", "Pending");
    let spec = ensure(volume, "spec");
    default_text(spec, "persistentVolumeReclaimPolicy", "Retain");
    default(spec, "volumeMode", "Filesystem");
    if let Some(path) = object_mut(spec, "hostPath") {
        default(path, "type", "");
    }
    remote_volume(spec);
    object_mut(spec, "capacity").into_iter().for_each(round_resources);
}

fn prepare_volume(new: &mut Object, old: Option<&Object>, subresource: &str) {
    // The phase begins when the object does; hooks have no clock.
    let created = object::meta_str(new, "creationTimestamp").to_owned();
    prepare::with_status(new, old, subresource, || json!({"phase": "Pending", "lastPhaseTransitionTime": created}));
    if let (Some(old), "status") = (old, subresource)
        && let Some(old) = object(old, "status")
    {
        let status = ensure(new, "status");
        if get(status, "lastPhaseTransitionTime").is_none() {
            keep(status, old, "lastPhaseTransitionTime");
        }
    }
}

fn default_class(class: &mut Object) {
    default(class, "reclaimPolicy", "Delete");
    default(class, "volumeBindingMode", "Immediate");
    default_object(class, "metadata");
}
