//! NodeRestriction: a kubelet writes its own Node, the status of its own Pods, and what belongs to them. What it may
//! read is the Node authorizer's matter.

mod audience;
mod nodes;
mod pods;
mod requests;

use std::sync::Arc;

use api::{Gvr, Status};
use apiserver_auth::{Authorizer, Objects};

use crate::{Operation, Plugin, Request};

pub struct NodeRestriction(pub Arc<dyn Authorizer>);

/// Why a node may not do what it asks for.
enum Refusal {
    /// 403 with this reason.
    Forbidden(String),
    /// Another answer, such as that something does not exist.
    Status(Box<Status>),
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self::Forbidden(why)
    }
}

impl From<&str> for Refusal {
    fn from(why: &str) -> Self {
        Self::Forbidden(why.to_owned())
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// The resources that are looked at.
const RESOURCES: [(&str, &str); 9] = [
    ("", "pods"),
    ("", "nodes"),
    ("", "persistentvolumeclaims"),
    ("", "serviceaccounts"),
    ("certificates.k8s.io", "podcertificaterequests"),
    ("certificates.k8s.io", "certificatesigningrequests"),
    ("coordination.k8s.io", "leases"),
    ("storage.k8s.io", "csinodes"),
    ("resource.k8s.io", "resourceslices"),
];

impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, operation: Operation, gvr: &Gvr, _: &str) -> bool {
        operation != Operation::Connect && RESOURCES.contains(&(gvr.group.as_str(), gvr.resource.as_str()))
    }

    fn admit(&self, request: &mut Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
        let Some(node) = request.user.node_name() else { return Ok(()) };
        if node.is_empty() {
            return Err(request.forbidden(&format!("could not determine node from user {:?}", request.user.name)));
        }
        self.check(node, request, objects).map_err(|refusal| match refusal {
            Refusal::Forbidden(why) => request.forbidden(&why),
            Refusal::Status(status) => *status,
        })
    }
}

impl NodeRestriction {
    fn check(&self, node: &str, request: &Request<'_>, objects: &dyn Objects) -> Result<(), Refusal> {
        match (request.gvr.resource.as_str(), request.subresource) {
            ("pods", "") => pods::pod(node, request, objects),
            ("pods", "status") => pods::status(node, request),
            ("pods", "eviction") => pods::eviction(node, request, objects),
            ("pods", other) => Err(Refusal::from(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            ))),
            ("nodes", _) => nodes::node(node, request),
            ("persistentvolumeclaims", "status") => pods::claim_status(node, request),
            ("persistentvolumeclaims", _) => Err("may only update PVC status".into()),
            ("serviceaccounts", "token") => requests::token(node, request, &*self.0, objects),
            ("podcertificaterequests", _) => requests::pod_certificate(node, request, objects),
            ("certificatesigningrequests", _) => requests::certificate(node, request),
            ("leases", _) => nodes::lease(node, request),
            ("csinodes", _) => nodes::csi_node(node, request),
            ("resourceslices", _) => nodes::slice(node, request),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
