//! NamespaceLifecycle: nothing is written into a namespace that does not exist, nothing new into one that is going.

use api::status::Cause;
use api::{Gvr, Status, object};
use apiserver_auth::Objects;
use apiserver_auth::objects::NAMESPACES;

use crate::{Operation, Plugin, Request};

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub struct NamespaceLifecycle;

impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, operation: Operation, gvr: &Gvr, _: &str) -> bool {
        match operation {
            Operation::Create | Operation::Update => !is_namespaces(gvr),
            Operation::Delete => is_namespaces(gvr),
            Operation::Connect => false,
        }
    }

    fn admit(&self, request: &mut Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
        if request.operation == Operation::Delete {
            if IMMORTAL.contains(&request.name) {
                let why = "this namespace may not be deleted";
                return Err(Status::forbidden("", &request.gvr.resource, request.name, why));
            }
            return Ok(());
        }
        // Whether a namespace exists is not said to those who ask what they may do in it.
        if request.namespace.is_empty() || request.gvr.resource == "localsubjectaccessreviews" {
            return Ok(());
        }
        let namespace = objects
            .get(&NAMESPACES, "", request.namespace)
            .ok_or_else(|| Status::not_found("", "namespaces", request.namespace))?;
        let terminating = object::str_at(&namespace, &["status", "phase"]) == "Terminating";
        if request.operation == Operation::Create && terminating {
            return Err(being_terminated(request));
        }
        Ok(())
    }
}

fn is_namespaces(gvr: &Gvr) -> bool {
    gvr.group.is_empty() && gvr.resource == "namespaces"
}

fn being_terminated(request: &Request<'_>) -> Status {
    let namespace = request.namespace;
    let mut status = request
        .forbidden(&format!("unable to create new content in namespace {namespace} because it is being terminated"));
    status.details.get_or_insert_default().causes.push(Cause {
        reason: "NamespaceTerminating".to_owned(),
        message: format!("namespace {namespace} is being terminated"),
        field: "metadata.namespace".to_owned(),
    });
    status
}
