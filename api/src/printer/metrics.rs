//! What nodes and Pods use, as metrics-server's tables show it.

use super::shown::Shown;
use super::view::{named, objects, text};
use crate::Object;
use crate::object::at;
use crate::quantity::Quantity;

pub(super) fn node(object: &Object) -> Vec<Shown> {
    vec![named(object), text(object, &["usage", "cpu"]), text(object, &["usage", "memory"]), text(object, &["window"])]
}

pub(super) fn pod(object: &Object) -> Vec<Shown> {
    vec![named(object), sum(object, "cpu"), sum(object, "memory"), text(object, &["window"])]
}

/// What all containers use of a resource.
fn sum(pod: &Object, resource: &str) -> Shown {
    let mut sum = Quantity::default();
    for used in objects(pod, &["containers"]).filter_map(|c| at(c, &["usage", resource])) {
        sum.add(&Quantity::from_value(used).unwrap_or_default());
    }
    Shown::from(sum.to_string())
}
