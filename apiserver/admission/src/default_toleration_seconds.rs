//! DefaultTolerationSeconds: a Pod stays for five minutes on a node that is not ready or unreachable, unless it says
//! otherwise.

use api::{Gvr, Status, object};
use apiserver_auth::Objects;
use serde_json::{Value, json};

use crate::read::{list_mut, spec_list, text};
use crate::{Operation, Plugin, Request};

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const SECONDS: i64 = 300;

pub struct DefaultTolerationSeconds;

impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, operation: Operation, gvr: &Gvr, subresource: &str) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
            && gvr.group.is_empty()
            && gvr.resource == "pods"
            && subresource.is_empty()
    }

    fn admit(&self, request: &mut Request<'_>, _: &dyn Objects) -> Result<(), Status> {
        let Some(pod) = &mut request.object else { return Ok(()) };
        for taint in TAINTS {
            if !spec_list(pod, "tolerations").iter().any(|t| tolerates(t, taint)) {
                list_mut(object::child_mut(pod, "spec"), "tolerations").push(json!({
                    "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS,
                }));
            }
        }
        Ok(())
    }
}

fn tolerates(toleration: &Value, taint: &str) -> bool {
    let (key, effect) = (text(toleration, "/key"), text(toleration, "/effect"));
    (key.is_empty() || key == taint) && (effect.is_empty() || effect == "NoExecute")
}
