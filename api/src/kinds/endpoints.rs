//! Endpoints and EndpointSlices.

use serde_json::Value;

use super::json::{default, default_object, default_text, each_mut, get};
use super::prepare;
use crate::table::Hooks;
use crate::{Object, object};

pub fn endpoints_hooks() -> Hooks {
    Hooks { default: Some(default_endpoints), prepare: Some(prepare::nothing), ..Hooks::default() }
}

pub fn slice_hooks() -> Hooks {
    Hooks { default: Some(default_slice), prepare: Some(prepare_slice), ..Hooks::default() }
}

fn default_endpoints(endpoints: &mut Object) {
    each_mut(endpoints, "subsets", |subset| {
        each_mut(subset, "ports", |port| default_text(port, "protocol", "TCP"));
    });
}

fn default_slice(slice: &mut Object) {
    for key in ["endpoints", "ports"] {
        slice.entry(key).or_insert(Value::Null);
    }
    each_mut(slice, "endpoints", |endpoint| default_object(endpoint, "conditions"));
    each_mut(slice, "ports", |port| {
        default(port, "name", "");
        default(port, "protocol", "TCP");
    });
}

/// The generation counts every change but of the metadata other than labels.
fn prepare_slice(new: &mut Object, old: Option<&Object>, _subresource: &str) {
    let labels = |o: &Object| object::metadata(o).and_then(|m| get(m, "labels")).cloned();
    prepare::generation(new, old, |new, old| {
        ["addressType", "endpoints", "ports"].iter().any(|key| get(new, key) != get(old, key))
            || labels(new) != labels(old)
    });
}
