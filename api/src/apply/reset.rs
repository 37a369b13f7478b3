//! The fields that writes of a resource or subresource do not change, and so do not own.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::Write;
use crate::Object;

fn set(value: Value) -> Object {
    match value {
        Value::Object(set) => set,
        _ => Object::new(),
    }
}

macro_rules! fields {
    ($name:ident, $json:tt) => {
        static $name: LazyLock<Object> = LazyLock::new(|| set(json!($json)));
    };
}

fields!(NONE, {});
fields!(STATUS, {"f:status": {}});
fields!(SPEC, {"f:spec": {}});
fields!(SPEC_STATUS, {"f:spec": {}, "f:status": {}});
fields!(SPEC_METADATA, {"f:spec": {}, "f:metadata": {}});
fields!(POD_STATUS, {"f:spec": {}, "f:metadata": {"f:deletionTimestamp": {}, "f:ownerReferences": {}}});
fields!(DEPLOYMENT_STATUS, {"f:spec": {}, "f:metadata": {"f:labels": {}}});
fields!(CSR_STATUS, {"f:spec": {}, "f:status": {"f:conditions": {}}});
fields!(CSR_APPROVAL, {"f:spec": {}, "f:status": {"f:certificate": {}}});

/// What a write leaves alone.
pub fn fields(write: &Write<'_>) -> &'static Object {
    let group = write.api_version.split_once('/').map_or("", |(group, _)| group);
    match (write.subresource, group, write.kind) {
        ("", "certificates.k8s.io", "CertificateSigningRequest") => &SPEC_STATUS,
        ("status", "certificates.k8s.io", "CertificateSigningRequest") => &CSR_STATUS,
        ("approval", ..) => &CSR_APPROVAL,
        ("", ..) if write.status_apart => &STATUS,
        ("finalize", ..) => &STATUS,
        ("status", "", "Pod") => &POD_STATUS,
        ("status", "apps", "Deployment") => &DEPLOYMENT_STATUS,
        ("status", "" | "apps" | "batch" | "autoscaling" | "policy", _) => &SPEC,
        ("status", "networking.k8s.io", "Ingress") => &SPEC,
        ("status", ..) => &SPEC_METADATA,
        _ => &NONE,
    }
}
