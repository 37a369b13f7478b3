//! What auth and admission may read: objects of the watch caches, and the resources that they read.

use std::sync::{Arc, LazyLock};

use api::{Gvr, Object};

/// Objects as this API server's watch caches hold them. Calls are cheap, never block on IO, and see at least every
/// write that this server has answered.
pub trait Objects: Send + Sync {
    /// One object; `namespace` is empty for cluster-scoped resources.
    fn get(&self, gvr: &Gvr, namespace: &str, name: &str) -> Option<Arc<Object>>;

    /// All objects of a resource in a namespace, or in all when it is empty, in storage-key order.
    fn list(&self, gvr: &Gvr, namespace: &str) -> Vec<Arc<Object>>;

    /// As [`Objects::list`], those whose selectable field (`spec.nodeName`) has this value.
    fn list_by_field(&self, gvr: &Gvr, namespace: &str, field: &str, value: &str) -> Vec<Arc<Object>>;

    /// Changes whenever an object of the resource does (the revision of the newest change serves).
    fn generation(&self, gvr: &Gvr) -> u64;
}

/// A change of one object, told to those who keep an index. The API server tells it when its watch cache takes the
/// event in, before the writer is answered.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub gvr: &'a Gvr,
    pub namespace: &'a str,
    pub name: &'a str,
    /// `None` when it was deleted.
    pub object: Option<&'a Object>,
}

macro_rules! resources {
    ($($(#[$doc:meta])* $name:ident = $group:literal, $version:literal, $resource:literal;)*) => {
        $($(#[$doc])* pub static $name: LazyLock<Gvr> = LazyLock::new(|| Gvr::new($group, $version, $resource));)*
    };
}

resources! {
    NAMESPACES = "", "v1", "namespaces";
    NODES = "", "v1", "nodes";
    PODS = "", "v1", "pods";
    SECRETS = "", "v1", "secrets";
    CONFIG_MAPS = "", "v1", "configmaps";
    SERVICE_ACCOUNTS = "", "v1", "serviceaccounts";
    LIMIT_RANGES = "", "v1", "limitranges";
    PERSISTENT_VOLUMES = "", "v1", "persistentvolumes";
    PERSISTENT_VOLUME_CLAIMS = "", "v1", "persistentvolumeclaims";
    ROLES = "rbac.authorization.k8s.io", "v1", "roles";
    ROLE_BINDINGS = "rbac.authorization.k8s.io", "v1", "rolebindings";
    CLUSTER_ROLES = "rbac.authorization.k8s.io", "v1", "clusterroles";
    CLUSTER_ROLE_BINDINGS = "rbac.authorization.k8s.io", "v1", "clusterrolebindings";
    PRIORITY_CLASSES = "scheduling.k8s.io", "v1", "priorityclasses";
    STORAGE_CLASSES = "storage.k8s.io", "v1", "storageclasses";
    VOLUME_ATTACHMENTS = "storage.k8s.io", "v1", "volumeattachments";
    CSI_DRIVERS = "storage.k8s.io", "v1", "csidrivers";
    RUNTIME_CLASSES = "node.k8s.io", "v1", "runtimeclasses";
    INGRESS_CLASSES = "networking.k8s.io", "v1", "ingressclasses";
    INGRESSES = "networking.k8s.io", "v1", "ingresses";
    RESOURCE_CLAIMS = "resource.k8s.io", "v1", "resourceclaims";
    RESOURCE_SLICES = "resource.k8s.io", "v1", "resourceslices";
    LEASES = "coordination.k8s.io", "v1", "leases";
    CSI_NODES = "storage.k8s.io", "v1", "csinodes";
    CERTIFICATE_SIGNING_REQUESTS = "certificates.k8s.io", "v1", "certificatesigningrequests";
    CLUSTER_TRUST_BUNDLES = "certificates.k8s.io", "v1beta1", "clustertrustbundles";
    POD_CERTIFICATE_REQUESTS = "certificates.k8s.io", "v1beta1", "podcertificaterequests";
}
