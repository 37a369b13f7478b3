//! LimitRanger: containers get a namespace's default limits and requests, and stay within its bounds.

mod amounts;
mod bounds;
mod defaults;

use std::sync::Arc;

use api::{Gvr, Object, Status, object};
use apiserver_auth::Objects;
use apiserver_auth::objects::LIMIT_RANGES;

use crate::{Operation, Plugin, Request};

pub struct LimitRanger;

impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, operation: Operation, gvr: &Gvr, subresource: &str) -> bool {
        let is_limited = matches!(
            (gvr.resource.as_str(), subresource, operation),
            ("pods", "", Operation::Create)
                | ("pods", "resize", Operation::Update)
                | ("persistentvolumeclaims", "", Operation::Create | Operation::Update)
        );
        gvr.group.is_empty() && is_limited
    }

    fn admit(&self, request: &mut Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
        let ranges = ranges(request, objects);
        if let Some(pod) = request.object.as_mut().filter(|_| request.gvr.resource == "pods") {
            ranges.iter().for_each(|range| defaults::apply(range, pod));
        }
        Ok(())
    }

    fn validate(&self, request: &Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
        let Some(object) = &request.object else { return Ok(()) };
        for range in ranges(request, objects) {
            let errors = match request.gvr.resource.as_str() {
                "pods" => bounds::of_pod(&range, object),
                _ => bounds::of_claim(&range, object),
            };
            match errors.as_slice() {
                [] => {}
                [one] => return Err(request.forbidden(one)),
                many => return Err(request.forbidden(&format!("[{}]", many.join(", ")))),
            }
        }
        Ok(())
    }
}

/// The LimitRanges that apply: none to an object that is being deleted.
fn ranges(request: &Request<'_>, objects: &dyn Objects) -> Vec<Arc<Object>> {
    if request.old.is_some_and(object::is_terminating) {
        return Vec::new();
    }
    objects.list(&LIMIT_RANGES, request.namespace)
}

#[cfg(test)]
mod tests;
