//! Ingresses, IngressClasses and NetworkPolicies.

mod validate;

use serde_json::json;

use super::json::{default, default_text, each_mut, ensure, list, object_mut};
use super::prepare;
use crate::Object;
use crate::table::Hooks;

pub fn ingress_hooks() -> Hooks {
    Hooks {
        default: Some(default_ingress),
        prepare: Some(prepare_ingress),
        validate: Some(validate::ingress),
        ..Hooks::default()
    }
}

pub fn class_hooks() -> Hooks {
    Hooks {
        default: Some(default_class),
        prepare: Some(prepare::counted_spec),
        validate: Some(validate::class),
        ..Hooks::default()
    }
}

pub fn policy_hooks() -> Hooks {
    Hooks {
        default: Some(default_policy),
        prepare: Some(prepare::counted_spec),
        validate: Some(validate::policy),
        ..Hooks::default()
    }
}

fn default_ingress(ingress: &mut Object) {
    ensure(ingress, "spec");
    ensure(ensure(ingress, "status"), "loadBalancer");
}

fn prepare_ingress(new: &mut Object, old: Option<&Object>, subresource: &str) {
    prepare::counted(new, old, subresource, || json!({"loadBalancer": {}}));
}

fn default_class(class: &mut Object) {
    if let Some(parameters) = object_mut(ensure(class, "spec"), "parameters") {
        default_text(parameters, "scope", "Cluster");
    }
}

fn default_policy(policy: &mut Object) {
    let spec = ensure(policy, "spec");
    ensure(spec, "podSelector");
    for direction in ["ingress", "egress"] {
        each_mut(spec, direction, |rule| each_mut(rule, "ports", |port| default(port, "protocol", "TCP")));
    }
    if list(spec, "policyTypes").is_empty() {
        let types = if list(spec, "egress").is_empty() { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
        spec.insert("policyTypes".to_owned(), types);
    }
}
