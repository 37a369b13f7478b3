//! Nobody grants what they do not have: upstream does this in the storage of roles and bindings; here it is a plugin
//! like others.

use std::sync::Arc;

use api::{Gvr, Status};
use apiserver_auth::rbac::escalation::{Write, check};
use apiserver_auth::{Authorizer, Objects, Rbac};

use crate::{Operation, Plugin, Request};

pub struct RbacEscalation {
    pub rbac: Arc<Rbac>,
    pub authorizer: Arc<dyn Authorizer>,
}

impl Plugin for RbacEscalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    fn handles(&self, operation: Operation, gvr: &Gvr, subresource: &str) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
            && gvr.group == "rbac.authorization.k8s.io"
            && subresource.is_empty()
    }

    fn validate(&self, request: &Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
        let Some(object) = &request.object else { return Ok(()) };
        let write = Write {
            user: request.user,
            resource: &request.gvr.resource,
            namespace: request.namespace,
            name: request.name,
            object,
            old: request.old,
        };
        check(&write, &self.rbac, &*self.authorizer, objects)
    }
}
