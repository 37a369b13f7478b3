//! Does this object belong to that node: it is a Pod bound to it, or something that such a Pod uses.

use std::sync::Arc;

use api::{Gvr, NamespacedName, Object, object};

use super::references;
use crate::cache::Cache;
use crate::objects::{
    Objects, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, POD_CERTIFICATE_REQUESTS, PODS, RESOURCE_SLICES,
    VOLUME_ATTACHMENTS,
};

/// At most this many relations are remembered.
const CACHED_RELATIONS: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Pod,
    Secret,
    ConfigMap,
    ServiceAccount,
    Claim,
    Volume,
    ResourceClaim,
    Attachment,
    Slice,
    PodCertificate,
}

/// Remembers by which Pod an object belonged to a node, so that the next question looks at that Pod first.
pub struct Relations(Cache<(Kind, String, String, String), Arc<NamespacedName>>);

impl Default for Relations {
    fn default() -> Self {
        Self(Cache::new(CACHED_RELATIONS))
    }
}

impl Relations {
    pub fn related(&self, node: &str, kind: Kind, namespace: &str, name: &str, objects: &dyn Objects) -> bool {
        let bound_to = |gvr: &Gvr, namespace: &str| {
            objects.get(gvr, namespace, name).is_some_and(|o| object::str_at(&o, &["spec", "nodeName"]) == node)
        };
        match kind {
            Kind::Pod => bound_to(&PODS, namespace),
            Kind::Attachment => bound_to(&VOLUME_ATTACHMENTS, ""),
            Kind::Slice => bound_to(&RESOURCE_SLICES, ""),
            Kind::PodCertificate => bound_to(&POD_CERTIFICATE_REQUESTS, namespace),
            Kind::Volume => {
                let Some(volume) = objects.get(&PERSISTENT_VOLUMES, "", name) else { return false };
                let claim = |key| object::str_at(&volume, &["spec", "claimRef", key]);
                let (namespace, claim) = (claim("namespace"), claim("name"));
                !claim.is_empty() && self.by_pod(node, Kind::Claim, namespace, claim, objects)
            }
            Kind::Secret | Kind::ConfigMap | Kind::ServiceAccount | Kind::Claim | Kind::ResourceClaim => {
                self.by_pod(node, kind, namespace, name, objects)
            }
        }
    }

    fn by_pod(&self, node: &str, kind: Kind, namespace: &str, name: &str, objects: &dyn Objects) -> bool {
        let key = (kind, node.to_owned(), namespace.to_owned(), name.to_owned());
        let uses = |pod: &Object| uses(pod, node, kind, namespace, name, objects);
        if let Some(hint) = self.0.get(&key)
            && objects.get(&PODS, &hint.namespace, &hint.name).is_some_and(|pod| uses(&pod))
        {
            return true;
        }
        // A volume may name a Secret of another namespace than the Pod's.
        let scopes: &[&str] = if kind == Kind::Secret { &[namespace, ""] } else { &[namespace] };
        let pod = scopes.iter().find_map(|scope| {
            objects.list_by_field(&PODS, scope, "spec.nodeName", node).into_iter().find(|pod| uses(pod))
        });
        let Some(pod) = pod else { return false };
        self.0.insert(key, Arc::new(NamespacedName::new(object::namespace(&pod), object::name(&pod))));
        true
    }
}

/// Whether the Pod is bound to the node and uses the object, itself or through its volumes.
fn uses(pod: &Object, node: &str, kind: Kind, namespace: &str, name: &str, objects: &dyn Objects) -> bool {
    if object::str_at(pod, &["spec", "nodeName"]) != node || references::is_mirror(pod) {
        return false;
    }
    let here = object::namespace(pod) == namespace;
    match kind {
        Kind::Secret if here && references::any_secret(pod, |s| s == name) => true,
        Kind::Secret => volume_uses_secret(pod, namespace, name, objects),
        _ if !here => false,
        Kind::ConfigMap => references::any_config_map(pod, |m| m == name),
        Kind::ServiceAccount => object::str_at(pod, &["spec", "serviceAccountName"]) == name,
        Kind::Claim => references::claims(pod).any(|claim| claim == name),
        Kind::ResourceClaim => references::resource_claims(pod).any(|claim| claim == name),
        Kind::Pod | Kind::Volume | Kind::Attachment | Kind::Slice | Kind::PodCertificate => false,
    }
}

/// Whether a volume that is bound to one of the Pod's claims names the Secret.
fn volume_uses_secret(pod: &Object, namespace: &str, name: &str, objects: &dyn Objects) -> bool {
    let of = object::namespace(pod);
    references::claims(pod).any(|claim| {
        let Some(found) = objects.get(&PERSISTENT_VOLUME_CLAIMS, of, &claim) else { return false };
        let volume = object::str_at(&found, &["spec", "volumeName"]);
        let Some(volume) = objects.get(&PERSISTENT_VOLUMES, "", volume) else { return false };
        let bound = |key| object::str_at(&volume, &["spec", "claimRef", key]);
        bound("namespace") == of && bound("name") == claim && references::volume_names_secret(&volume, namespace, name)
    })
}
