//! TaintNodesByCondition: a new node is not ready until its controller says so.

use api::{Gvr, Status, object};
use apiserver_auth::Objects;
use serde_json::json;

use crate::read::{list_mut, spec_list, text};
use crate::{Operation, Plugin, Request};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub struct TaintNodesByCondition;

impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, operation: Operation, gvr: &Gvr, subresource: &str) -> bool {
        operation == Operation::Create && gvr.group.is_empty() && gvr.resource == "nodes" && subresource.is_empty()
    }

    fn admit(&self, request: &mut Request<'_>, _: &dyn Objects) -> Result<(), Status> {
        let Some(node) = &mut request.object else { return Ok(()) };
        let is_there =
            |taint: &serde_json::Value| text(taint, "/key") == NOT_READY && text(taint, "/effect") == "NoSchedule";
        if !spec_list(node, "taints").iter().any(is_there) {
            list_mut(object::child_mut(node, "spec"), "taints").push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        }
        Ok(())
    }
}
