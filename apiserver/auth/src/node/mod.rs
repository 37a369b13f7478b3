//! The Node authorizer: a kubelet reaches its own Node, the Pods bound to it, and what these Pods refer to.
//!
//! What each verb of each resource needs is decided here; whether an object belongs to a node is in [`relations`]; that
//! a node writes only its own objects is the admission plugin NodeRestriction's job.

pub mod references;
mod relations;

use std::sync::Arc;

use crate::authorize::{Attributes, Authorizer, Decision};
use crate::objects::Objects;
use crate::policy::node_rules;
use crate::rbac::Rule;
use relations::{Kind, Relations};

const LEASE_NAMESPACE: &str = "kube-node-lease";

/// The Node authorizer. It has an opinion on users `system:node:NAME` of group `system:nodes` only.
pub struct NodeAuthorizer {
    /// For resources where all nodes may do the same: the rules of ClusterRole `system:node`.
    rules: Vec<Rule>,
    relations: Relations,
    granted: Arc<str>,
}

impl Default for NodeAuthorizer {
    fn default() -> Self {
        Self { rules: node_rules(), relations: Relations::default(), granted: "".into() }
    }
}

/// Why a node may not; empty when there is nothing to say.
type Refusal = String;

impl Authorizer for NodeAuthorizer {
    fn authorize(&self, attributes: &Attributes<'_>, objects: &dyn Objects) -> Decision {
        let Some(node) = attributes.user.node_name() else { return Decision::NoOpinion(String::new()) };
        if node.is_empty() {
            return Decision::NoOpinion(format!("unknown node for user {:?}", attributes.user.name));
        }
        match self.decide(node, attributes, objects) {
            Ok(()) => Decision::Allow(self.granted.clone()),
            Err(why) => Decision::NoOpinion(why),
        }
    }
}

impl NodeAuthorizer {
    fn decide(&self, node: &str, a: &Attributes<'_>, objects: &dyn Objects) -> Result<(), Refusal> {
        if !a.is_resource {
            return self.by_rules(a);
        }
        let related = |kind: Kind| self.related(node, kind, a, objects);
        match (a.group, a.resource) {
            ("", "secrets") => readable(a).and_then(|()| related(Kind::Secret)),
            ("", "configmaps") => readable(a).and_then(|()| related(Kind::ConfigMap)),
            ("", "persistentvolumeclaims") if a.subresource == "status" => {
                among(a, &["update", "patch"], "can only get/update/patch this type")?;
                related(Kind::Claim)
            }
            ("", "persistentvolumeclaims") => gettable(a).and_then(|()| related(Kind::Claim)),
            ("", "persistentvolumes") => gettable(a).and_then(|()| related(Kind::Volume)),
            ("resource.k8s.io", "resourceclaims") => gettable(a).and_then(|()| related(Kind::ResourceClaim)),
            ("storage.k8s.io", "volumeattachments") => gettable(a).and_then(|()| related(Kind::Attachment)),
            ("", "serviceaccounts") => service_account(a).and_then(|()| related(Kind::ServiceAccount)),
            ("coordination.k8s.io", "leases") => lease(node, a),
            ("storage.k8s.io", "csinodes") => csi_node(node, a),
            ("resource.k8s.io", "resourceslices") => self.slice(node, a, objects),
            ("", "nodes") => own_node(node, a),
            ("", "pods") => self.pod(node, a, objects),
            ("certificates.k8s.io", "podcertificaterequests") => self.pod_certificate(node, a, objects),
            _ => self.by_rules(a),
        }
    }

    fn by_rules(&self, a: &Attributes<'_>) -> Result<(), Refusal> {
        if self.rules.iter().any(|rule| rule.allows(a)) { Ok(()) } else { Err(String::new()) }
    }

    fn related(&self, node: &str, kind: Kind, a: &Attributes<'_>, objects: &dyn Objects) -> Result<(), Refusal> {
        if a.name.is_empty() {
            return Err("No Object name found".to_owned());
        }
        if self.relations.related(node, kind, a.namespace, a.name, objects) {
            return Ok(());
        }
        Err(format!("no relationship found between node '{node}' and this object"))
    }

    fn slice(&self, node: &str, a: &Attributes<'_>, objects: &dyn Objects) -> Result<(), Refusal> {
        no_subresource(a, "cannot authorize ResourceSlice subresources")?;
        match a.verb {
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => self.related(node, Kind::Slice, a, objects),
            "watch" | "list" | "deletecollection" if selects(a.field_selector, "spec.nodeName", node) => Ok(()),
            "watch" | "list" | "deletecollection" => {
                Err("can only list/watch/deletecollection resourceslices with nodeName field selector".to_owned())
            }
            _ => Err("only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, \
                      patch, delete, deletecollection"
                .to_owned()),
        }
    }

    fn pod(&self, node: &str, a: &Attributes<'_>, objects: &dyn Objects) -> Result<(), Refusal> {
        match (a.subresource, a.verb) {
            ("", "get") => self.related(node, Kind::Pod, a, objects),
            ("", "list" | "watch") if selects(a.field_selector, "spec.nodeName", node) => Ok(()),
            ("", "list" | "watch") if !a.name.is_empty() => self.related(node, Kind::Pod, a, objects),
            ("", "list" | "watch") => Err("can only list/watch pods with spec.nodeName field selector".to_owned()),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => Err(String::new()),
        }
    }

    fn pod_certificate(&self, node: &str, a: &Attributes<'_>, objects: &dyn Objects) -> Result<(), Refusal> {
        no_subresource(a, "nodes may not access the status subresource of PodCertificateRequests")?;
        match a.verb {
            "create" => Ok(()),
            "get" => self.related(node, Kind::PodCertificate, a, objects),
            "list" | "watch" if selects(a.field_selector, "spec.nodeName", node) => Ok(()),
            "list" | "watch" => {
                Err("can only list/watch podcertificaterequests with nodeName field selector".to_owned())
            }
            verb => Err(format!("nodes may not {verb} podcertificaterequests")),
        }
    }
}

fn among(a: &Attributes<'_>, verbs: &[&str], why: &str) -> Result<(), Refusal> {
    if verbs.contains(&a.verb) { Ok(()) } else { Err(why.to_owned()) }
}

fn no_subresource(a: &Attributes<'_>, why: &str) -> Result<(), Refusal> {
    if a.subresource.is_empty() { Ok(()) } else { Err(why.to_owned()) }
}

fn gettable(a: &Attributes<'_>) -> Result<(), Refusal> {
    among(a, &["get"], "can only get individual resources of this type")?;
    no_subresource(a, "cannot get subresource")
}

fn readable(a: &Attributes<'_>) -> Result<(), Refusal> {
    among(a, &["get", "list", "watch"], "can only read resources of this type")?;
    no_subresource(a, "cannot read subresource")?;
    if a.namespace.is_empty() {
        return Err("can only read namespaced object of this type".to_owned());
    }
    Ok(())
}

fn service_account(a: &Attributes<'_>) -> Result<(), Refusal> {
    if a.verb == "get" && a.subresource.is_empty() {
        return readable(a);
    }
    if a.verb != "create" || a.name.is_empty() {
        return Err("can only create tokens for individual service accounts".to_owned());
    }
    if a.subresource != "token" {
        return Err("can only create token subresource of serviceaccount".to_owned());
    }
    Ok(())
}

const OWN_VERBS: [&str; 5] = ["get", "create", "update", "patch", "delete"];

fn lease(node: &str, a: &Attributes<'_>) -> Result<(), Refusal> {
    among(a, &OWN_VERBS, "can only get, create, update, patch, or delete a node lease")?;
    if a.namespace != LEASE_NAMESPACE {
        return Err(format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace"));
    }
    if a.verb != "create" && a.name != node {
        return Err("can only access node lease with the same name as the requesting node".to_owned());
    }
    Ok(())
}

fn csi_node(node: &str, a: &Attributes<'_>) -> Result<(), Refusal> {
    among(a, &OWN_VERBS, "can only get, create, update, patch, or delete a CSINode")?;
    no_subresource(a, "cannot authorize CSINode subresources")?;
    if a.verb != "create" && a.name != node {
        return Err("can only access CSINode with the same name as the requesting node".to_owned());
    }
    Ok(())
}

fn own_node(node: &str, a: &Attributes<'_>) -> Result<(), Refusal> {
    match (a.subresource, a.verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") if a.name == node => Ok(()),
        ("", "get" | "list" | "watch") if a.name.is_empty() => {
            Err(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch") => {
            Err(format!("node '{node}' cannot read '{}', only its own Node object", a.name))
        }
        _ => Err(String::new()),
    }
}

/// Whether a field selector demands that the field has the value.
fn selects(selector: &str, field: &str, value: &str) -> bool {
    selector.split(',').any(|term| {
        let Some((found, wanted)) = term.split_once('=') else { return false };
        !found.ends_with('!') && found.trim() == field && wanted.strip_prefix('=').unwrap_or(wanted).trim() == value
    })
}

#[cfg(test)]
mod tests;
