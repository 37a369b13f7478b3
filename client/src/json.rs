//! Reading and writing the JSON of the kinds that our components use. It is compiled here, once: serde's code for a
//! kind like Pod is large, and each crate that asks for it by the generic way gets a copy of its own.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController,
    Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::api::storage::v1::StorageClass;

use crate::Lean;

/// A kind that can be read from JSON.
pub trait FromJson: Sized + Send + 'static {
    /// # Errors
    /// The text is no JSON, or not that of an object of this kind.
    fn from_json(text: &str) -> serde_json::Result<Self>;
}

/// A kind that can be written as JSON.
pub trait ToJson {
    /// # Errors
    /// A field has no JSON: none of Kubernetes' own kinds has such.
    fn to_json(&self) -> serde_json::Result<Vec<u8>>;
}

macro_rules! kinds {
    ($($kind:ty),+ $(,)?) => {$(
        impl FromJson for $kind {
            // Inlined elsewhere, it would bring all of its code with it.
            #[inline(never)]
            fn from_json(text: &str) -> serde_json::Result<Self> {
                serde_json::from_str(text)
            }
        }

        impl ToJson for $kind {
            #[inline(never)]
            fn to_json(&self) -> serde_json::Result<Vec<u8>> {
                serde_json::to_vec(self)
            }
        }
    )+};
}

kinds!(
    CertificateSigningRequest,
    ClusterRole,
    ConfigMap,
    Deployment,
    EndpointSlice,
    Endpoints,
    Event,
    Lease,
    Namespace,
    Node,
    PersistentVolume,
    PersistentVolumeClaim,
    Pod,
    PodDisruptionBudget,
    ReplicaSet,
    ReplicationController,
    Secret,
    Service,
    ServiceAccount,
    StatefulSet,
    StorageClass,
    SubjectAccessReview,
    TokenReview,
);

impl FromJson for Lean {
    #[inline(never)]
    fn from_json(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }
}
