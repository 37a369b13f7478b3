//! Events of Pods, containers and the node, through the recorder that all components share.

use client::events::reference;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};

use crate::spec;

pub use client::EventType as Type;

/// A way to say what happened. Saying it never waits.
#[derive(Clone)]
pub struct Recorder {
    inner: client::Recorder,
}

impl Recorder {
    /// Starts the task that writes.
    pub fn start(client: kube::Client, node_name: &str) -> Self {
        Self { inner: client::Recorder::new(client, "kubelet", node_name) }
    }

    pub fn pod(&self, pod: &Pod, kind: Type, reason: &str, message: impl Into<String>) {
        self.inner.about(pod, kind, reason, message);
    }

    /// An event of one of the Pod's containers.
    pub fn container(&self, pod: &Pod, name: &str, kind: Type, reason: &str, message: impl Into<String>) {
        let mut about = reference(pod);
        about.field_path = spec::slot_of(pod, name).map(|slot| spec::field_path(slot, name));
        self.inner.record(about, kind, reason, message);
    }

    /// An event of the node; its UID is its name, as upstream's kubelet has it.
    pub fn node(&self, name: &str, kind: Type, reason: &str, message: impl Into<String>) {
        let about = ObjectReference {
            kind: Some("Node".to_owned()),
            api_version: Some("v1".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        self.inner.record(about, kind, reason, message);
    }
}
