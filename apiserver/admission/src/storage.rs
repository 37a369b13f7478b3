//! StorageObjectInUseProtection and PersistentVolumeClaimResize.

use api::quantity::Quantity;
use api::{Gvr, Object, Status, object};
use apiserver_auth::Objects;
use apiserver_auth::objects::STORAGE_CLASSES;
use serde_json::Value;

use crate::read::{annotation, list_mut};
use crate::{Operation, Plugin, Request};

/// Finalizers that a controller takes away once the object is in use no more.
const PROTECTED: [(&str, &str, &str); 3] = [
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("storage.k8s.io", "volumeattributesclasses", "kubernetes.io/vac-protection"),
];

fn finalizer(gvr: &Gvr) -> Option<&'static str> {
    PROTECTED.iter().find(|(group, resource, _)| gvr.group == *group && gvr.resource == *resource).map(|row| row.2)
}

pub struct StorageObjectInUseProtection;

impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, operation: Operation, gvr: &Gvr, subresource: &str) -> bool {
        operation == Operation::Create && subresource.is_empty() && finalizer(gvr).is_some()
    }

    fn admit(&self, request: &mut Request<'_>, _: &dyn Objects) -> Result<(), Status> {
        if let (Some(object), Some(finalizer)) = (&mut request.object, finalizer(request.gvr)) {
            let finalizers = list_mut(object::metadata_mut(object), "finalizers");
            if !finalizers.iter().any(|f| f == finalizer) {
                finalizers.push(finalizer.into());
            }
        }
        Ok(())
    }
}

pub struct PersistentVolumeClaimResize;

impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, operation: Operation, gvr: &Gvr, subresource: &str) -> bool {
        operation == Operation::Update
            && gvr.group.is_empty()
            && gvr.resource == "persistentvolumeclaims"
            && subresource.is_empty()
    }

    fn validate(&self, request: &Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
        let (Some(new), Some(old)) = (&request.object, request.old) else { return Ok(()) };
        if size(new) <= size(old) {
            return Ok(());
        }
        if object::str_at(old, &["status", "phase"]) != "Bound" {
            return Err(request.forbidden("Only bound persistent volume claims can be expanded"));
        }
        let (class, before) = (storage_class(new), storage_class(old));
        let expands = !class.is_empty()
            && class == before
            && objects
                .get(&STORAGE_CLASSES, "", class)
                .is_some_and(|c| c.get("allowVolumeExpansion").and_then(Value::as_bool).unwrap_or(false));
        if expands {
            return Ok(());
        }
        Err(request.forbidden(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support \
             resize",
        ))
    }
}

fn size(claim: &Object) -> Quantity {
    let asked = object::at(claim, &["spec", "resources", "requests", "storage"]);
    asked.and_then(|value| Quantity::from_value(value).ok()).unwrap_or_default()
}

fn storage_class(claim: &Object) -> &str {
    annotation(claim, "volume.beta.kubernetes.io/storage-class")
        .unwrap_or_else(|| object::str_at(claim, &["spec", "storageClassName"]))
}
