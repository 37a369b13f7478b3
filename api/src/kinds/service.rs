//! Services.

pub mod validate;

use serde_json::{Value, json};

use super::json::{
    default, default_number, default_object, default_text, each_mut, ensure, get, int, keep, list, object, object_mut,
    objects, text,
};
use super::prepare;
use crate::Object;
use crate::table::Hooks;

/// How long a client's session lasts by default, in seconds.
const SESSION_SECONDS: i64 = 10_800;

pub fn hooks() -> Hooks {
    Hooks {
        default: Some(defaults),
        prepare: Some(prepare),
        validate: Some(validate::service),
        fields: Some(fields),
        ..Hooks::default()
    }
}

fn defaults(service: &mut Object) {
    default_load_balancer(service);
    let spec = ensure(service, "spec");
    default_text(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            let client = ensure(ensure(spec, "sessionAffinityConfig"), "clientIP");
            default(client, "timeoutSeconds", SESSION_SECONDS);
        }
        _ => {}
    }
    default_text(spec, "type", "ClusterIP");
    each_mut(spec, "ports", |port| {
        default_text(port, "protocol", "TCP");
        if matches!(get(port, "targetPort"), None | Some(Value::String(_)) | Some(Value::Number(_)))
            && text(port, "targetPort").is_empty()
            && int(port, "targetPort").unwrap_or(0) == 0
        {
            let number = int(port, "port").unwrap_or(0);
            port.insert("targetPort".to_owned(), number.into());
        }
    });
    let kind = text(spec, "type").to_owned();
    let external = matches!(kind.as_str(), "NodePort" | "LoadBalancer")
        || (kind == "ClusterIP" && !list(spec, "externalIPs").is_empty());
    if external {
        default_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind != "ExternalName" {
        default(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
    }
}

/// An address in the status is reached as a virtual IP unless it says otherwise.
fn default_load_balancer(service: &mut Object) {
    let is_load_balancer = object(service, "spec").is_some_and(|spec| text(spec, "type") == "LoadBalancer");
    let status = ensure(service, "status");
    default_object(status, "loadBalancer");
    if is_load_balancer && let Some(balancer) = object_mut(status, "loadBalancer") {
        each_mut(balancer, "ingress", |ingress| {
            if !text(ingress, "ip").is_empty() {
                default(ingress, "ipMode", "VIP");
            }
        });
    }
}

fn prepare(new: &mut Object, old: Option<&Object>, subresource: &str) {
    prepare::with_status(new, old, subresource, || json!({"loadBalancer": {}}));
    if subresource.is_empty() {
        link_addresses(new, old);
    }
    if let (Some(old), "") = (old, subresource)
        && let (Some(new), Some(old)) = (object_mut(new, "spec"), object(old, "spec"))
    {
        drop_dependent(new, old);
    }
}

/// Makes `clusterIP` and `clusterIPs` say the same, and keeps what was allocated to the stored Service where the caller
/// left it out (upstream's `normalizeClusterIPs` and `patchAllocatedValues`). Whoever allocates calls it before;
/// calling
/// it again changes nothing.
pub fn link_addresses(new: &mut Object, old: Option<&Object>) {
    let spec = ensure(new, "spec");
    let first = text(spec, "clusterIP").to_owned();
    let unlisted = list(spec, "clusterIPs").is_empty();
    let Some(old) = old.and_then(|old| object(old, "spec")) else {
        if !first.is_empty() && unlisted {
            spec.insert("clusterIPs".to_owned(), json!([first]));
        }
        return;
    };
    let before = text(old, "clusterIP");
    let same_list = get(spec, "clusterIPs") == get(old, "clusterIPs");
    match (before.is_empty(), first.is_empty()) {
        (false, true) if same_list => {
            spec.remove("clusterIPs");
        }
        (true, false) if unlisted => {
            spec.insert("clusterIPs".to_owned(), json!([first]));
        }
        (false, false) if before != first && same_list => {
            spec.insert("clusterIPs".to_owned(), json!([first]));
        }
        _ => {}
    }
    keep_allocated(spec, old);
}

fn keep_allocated(spec: &mut Object, old: &Object) {
    let needs_address = |spec: &Object| matches!(text(spec, "type"), "ClusterIP" | "NodePort" | "LoadBalancer");
    if needs_address(spec) && needs_address(old) {
        default_text(spec, "clusterIP", text(old, "clusterIP"));
        if list(spec, "clusterIPs").is_empty() && text(spec, "clusterIP") == text(old, "clusterIP") {
            keep(spec, old, "clusterIPs");
        }
        if text(spec, "clusterIP").is_empty() {
            spec.remove("clusterIP");
        }
    }
    if validate::needs_node_ports(spec) && validate::needs_node_ports(old) {
        let mut used: Vec<i64> = objects(spec, "ports").filter_map(|(_, p)| int(p, "nodePort")).collect();
        each_mut(spec, "ports", |port| {
            let same =
                |o: &Object| int(o, "port") == int(port, "port") && text(o, "protocol") == text(port, "protocol");
            let stored = objects(old, "ports").find(|(_, o)| same(o)).and_then(|(_, o)| int(o, "nodePort"));
            if let (Some(number), 0) = (stored, int(port, "nodePort").unwrap_or(0))
                && number != 0
                && !used.contains(&number)
            {
                used.push(number);
                port.insert("nodePort".to_owned(), number.into());
            }
        });
    }
    if validate::needs_health_port(spec) && validate::needs_health_port(old) {
        default_number(spec, "healthCheckNodePort", int(old, "healthCheckNodePort").unwrap_or(0));
    }
}

/// When the type changes, what only the old type needed goes, unless the caller set it anew (upstream's
/// `dropTypeDependentFields`).
fn drop_dependent(new: &mut Object, old: &Object) {
    let kind = |spec: &Object| text(spec, "type").to_owned();
    let needs_address = |spec: &Object| kind(spec) != "ExternalName";
    let needs_node_port = |spec: &Object| matches!(text(spec, "type"), "NodePort" | "LoadBalancer");
    let unchanged = |new: &Object, key: &str| get(new, key) == get(old, key);
    if needs_address(old) && !needs_address(new) && unchanged(new, "clusterIP") && unchanged(new, "clusterIPs") {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            new.remove(key);
        }
    }
    let ports = |spec: &Object| -> Vec<Option<i64>> {
        list(spec, "ports").iter().map(|p| p.get("nodePort").and_then(Value::as_i64)).collect()
    };
    if needs_node_port(old) && !needs_node_port(new) && ports(new) == ports(old) {
        each_mut(new, "ports", |port| {
            port.remove("nodePort");
        });
    }
    let local = |spec: &Object| kind(spec) == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local";
    if local(old) && !local(new) && unchanged(new, "healthCheckNodePort") {
        new.remove("healthCheckNodePort");
    }
    let balanced = |spec: &Object| kind(spec) == "LoadBalancer";
    if balanced(old) && !balanced(new) {
        for key in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if unchanged(new, key) {
                new.remove(key);
            }
        }
    }
    let external = |spec: &Object| needs_node_port(spec) || !list(spec, "externalIPs").is_empty();
    if external(old) && !external(new) && unchanged(new, "externalTrafficPolicy") {
        new.remove("externalTrafficPolicy");
    }
}

fn fields(service: &Object) -> Vec<String> {
    let field = |key: &str| object(service, "spec").map_or("", |spec| text(spec, key)).to_owned();
    vec![field("clusterIP"), field("type")]
}
