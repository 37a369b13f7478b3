//! Nodes.

use super::json::{ensure, get, is_true, keep, object, object_mut};
use super::pod::defaults::round_resources;
use crate::Object;
use crate::table::Hooks;

pub fn hooks() -> Hooks {
    Hooks { default: Some(defaults), prepare: Some(prepare), fields: Some(fields), ..Hooks::default() }
}

fn defaults(node: &mut Object) {
    ensure(node, "spec");
    let status = ensure(node, "status");
    for key in ["capacity", "allocatable"] {
        object_mut(status, key).into_iter().for_each(round_resources);
    }
    if get(status, "allocatable").is_none()
        && let Some(capacity) = get(status, "capacity").cloned()
    {
        status.insert("allocatable".to_owned(), capacity);
    }
    // These are structs upstream, and so always written.
    ensure(ensure(status, "daemonEndpoints"), "kubeletEndpoint").entry("Port").or_insert_with(|| 0.into());
    let info = ensure(status, "nodeInfo");
    for key in [
        "architecture",
        "bootID",
        "containerRuntimeVersion",
        "kernelVersion",
        "kubeProxyVersion",
        "kubeletVersion",
        "machineID",
        "operatingSystem",
        "osImage",
        "systemUUID",
    ] {
        info.entry(key).or_insert_with(|| "".into());
    }
}

/// A new node may bring its status.
fn prepare(new: &mut Object, old: Option<&Object>, subresource: &str) {
    match (old, subresource) {
        (Some(old), "status") => keep(new, old, "spec"),
        (Some(old), _) => keep(new, old, "status"),
        (None, _) => {}
    }
}

fn fields(node: &Object) -> Vec<String> {
    vec![object(node, "spec").is_some_and(|spec| is_true(spec, "unschedulable")).to_string()]
}
