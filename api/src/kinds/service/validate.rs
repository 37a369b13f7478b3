//! Validation of Services.

use serde_json::Value;

use crate::field::{ErrorList, FieldError, Path};
use crate::kinds::check::{IMMUTABLE, messages, one_of, optional_one_of, port, required};
use crate::kinds::json::{get, int, is_true, list, object, objects, text, texts};
use crate::validate::labels;
use crate::{Object, names};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const FIXED: &str = "may not change once set";
/// Longest session, in seconds.
const SESSION_MAX: i64 = 86_400;

/// The `validate` hook. Addresses and ports have been allocated before.
pub fn service(new: &Object, old: Option<&Object>, subresource: &str, errors: &mut ErrorList) {
    let empty = Object::new();
    let spec = object(new, "spec").unwrap_or(&empty);
    if subresource == "status" {
        load_balancer_status(new, old, text(spec, "type") == "LoadBalancer", errors);
        return;
    }
    let old_spec = old.and_then(|old| object(old, "spec"));
    if let Some(old) = old_spec {
        fixed_addresses(spec, old, errors);
        fixed_families(spec, old, errors);
        fixed_rest(spec, old, errors);
    }
    let path = Path::new("spec");
    by_type(spec, &path, errors);
    ports(spec, &path.child("ports"), errors);
    labels::labels(object(spec, "selector"), &path.child("selector"), errors);
    session(spec, &path, errors);
    addresses(spec, old_spec, &path, errors);
    external_addresses(spec, old_spec, &path, errors);
    one_of(spec, "type", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], &path, errors);
    unique_ports(spec, &path.child("ports"), errors);
    load_balancer(spec, old_spec, &path, errors);
    traffic(spec, &path, errors);
}

fn is_headless(spec: &Object) -> bool {
    matches!(list(spec, "clusterIPs"), [one] if one == "None")
}

pub fn is_external(spec: &Object) -> bool {
    let kind = text(spec, "type");
    matches!(kind, "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && !list(spec, "externalIPs").is_empty())
}

pub fn needs_health_port(spec: &Object) -> bool {
    text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

fn by_type(spec: &Object, path: &Path, errors: &mut ErrorList) {
    let kind = text(spec, "type");
    if list(spec, "ports").is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errors.push(FieldError::required(&path.child("ports"), ""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid(&path.child("clusterIPs").index(0), "None", detail));
        }
        "ExternalName" => {
            for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if get(spec, key).is_some_and(|v| v.as_array().is_none_or(|list| !list.is_empty())) {
                    let detail = "may not be set for ExternalName services";
                    errors.push(FieldError::forbidden(&path.child(key), detail));
                }
            }
            let name = text(spec, "externalName");
            let name = name.strip_suffix('.').unwrap_or(name);
            if name.is_empty() {
                errors.push(FieldError::required(&path.child("externalName"), ""));
            } else {
                messages(name, &path.child("externalName"), names::dns1123_subdomain(name), errors);
            }
        }
        _ => {}
    }
}

fn ports(spec: &Object, path: &Path, errors: &mut ErrorList) {
    let several = list(spec, "ports").len() > 1;
    let mut seen = Vec::new();
    for (i, item) in objects(spec, "ports") {
        let path = path.index(i);
        let name = text(item, "name");
        if name.is_empty() {
            if several {
                errors.push(FieldError::required(&path.child("name"), ""));
            }
        } else {
            messages(name, &path.child("name"), names::dns1123_label(name), errors);
            if seen.contains(&name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
            seen.push(name);
        }
        let number = int(item, "port").unwrap_or(0);
        for message in names::port_number(number) {
            errors.push(FieldError::invalid(&path.child("port"), number, message));
        }
        one_of(item, "protocol", &PROTOCOLS, &path, errors);
        port(item, "targetPort", &path, errors);
        if let Some(protocol) = get(item, "appProtocol").and_then(Value::as_str) {
            messages(protocol, &path.child("appProtocol"), names::qualified_name(protocol), errors);
        }
    }
}

fn unique_ports(spec: &Object, path: &Path, errors: &mut ErrorList) {
    let (mut node_ports, mut numbers) = (Vec::new(), Vec::new());
    for (i, item) in objects(spec, "ports") {
        let (path, protocol) = (path.index(i), text(item, "protocol"));
        if let Some(number) = int(item, "nodePort").filter(|n| *n != 0) {
            if text(spec, "type") == "ClusterIP" {
                let detail = "may not be used when `type` is 'ClusterIP'";
                errors.push(FieldError::forbidden(&path.child("nodePort"), detail));
            }
            if node_ports.contains(&(protocol, number)) {
                errors.push(FieldError::duplicate(&path.child("nodePort"), number));
            }
            node_ports.push((protocol, number));
        }
        let number = int(item, "port").unwrap_or(0);
        if numbers.contains(&(protocol, number)) {
            let shown = format!(
                "{{\"Name\":\"\",\"Protocol\":{protocol:?},\"AppProtocol\":null,\"Port\":{number},\"TargetPort\":0,\
                 \"NodePort\":0}}"
            );
            errors.push(FieldError::duplicate(&path, number).shown_as(shown));
        }
        numbers.push((protocol, number));
    }
}

fn session(spec: &Object, path: &Path, errors: &mut ErrorList) {
    one_of(spec, "sessionAffinity", &["ClientIP", "None"], path, errors);
    let path = path.child("sessionAffinityConfig");
    let config = object(spec, "sessionAffinityConfig");
    match text(spec, "sessionAffinity") {
        "ClientIP" => {
            let client = config.and_then(|c| object(c, "clientIP"));
            let Some(seconds) = client.and_then(|c| int(c, "timeoutSeconds")) else {
                errors.push(FieldError::required(&path, "when session affinity type is ClientIP"));
                return;
            };
            if !(1..=SESSION_MAX).contains(&seconds) {
                let detail = format!("must be greater than 0 and less than {SESSION_MAX}");
                errors.push(FieldError::invalid(&path.child("clientIP").child("timeoutSeconds"), seconds, detail));
            }
        }
        "None" if config.is_some() => {
            errors.push(FieldError::forbidden(&path, "must not be set when session affinity is None"));
        }
        _ => {}
    }
}

/// `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` fit together.
fn addresses(spec: &Object, old: Option<&Object>, path: &Path, errors: &mut ErrorList) {
    if text(spec, "type") == "ExternalName" {
        return;
    }
    let all = list(spec, "clusterIPs");
    let all_path = path.child("clusterIPs");
    let wrong = |errors: &mut ErrorList, detail: &str| {
        errors.push(FieldError::invalid(&all_path, all.to_vec(), detail));
    };
    match (text(spec, "clusterIP"), all) {
        ("", []) => {}
        ("", _) => wrong(errors, "must be empty when `clusterIP` is not specified"),
        (_, []) => errors.push(FieldError::required(&all_path, "")),
        (first, [head, ..]) if *head != *first => wrong(errors, "first value must match `clusterIP`"),
        _ => {}
    }
    families(spec, path, errors);
    let known = old.map_or(&[][..], |old| list(old, "clusterIPs"));
    let before = errors.len();
    for (i, address) in texts(spec, "clusterIPs") {
        if i == 0 && address == "None" {
            if all.len() > 1 {
                wrong(errors, "'None' must be the first and only value");
            }
        } else if !known.iter().any(|k| k == address) {
            messages(address, &all_path.index(i), names::ip_legacy(address), errors);
        }
    }
    let valid = errors.len() == before;
    if all.len() > 2 {
        wrong(errors, "may only hold up to 2 values");
    }
    if !valid {
        return;
    }
    let is_v6 = |address: &str| names::parse_ip(address).is_some_and(|ip| ip.is_ipv6());
    let sixes = texts(spec, "clusterIPs").filter(|(_, a)| is_v6(a)).count();
    if all.len() > 1 && (sixes == 0 || sixes == all.len()) {
        wrong(errors, "may specify no more than one IP for each IP family");
    }
    if is_headless(spec) {
        return;
    }
    for ((i, address), (_, family)) in texts(spec, "clusterIPs").zip(texts(spec, "ipFamilies")) {
        if FAMILIES.contains(&family) && (family == "IPv6") != is_v6(address) {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            errors.push(FieldError::invalid(&all_path.index(i), address, detail));
        }
    }
}

fn families(spec: &Object, path: &Path, errors: &mut ErrorList) {
    let mut seen = Vec::new();
    for (i, family) in texts(spec, "ipFamilies") {
        let path = path.child("ipFamilies").index(i);
        if !FAMILIES.contains(&family) {
            errors.push(FieldError::not_supported(&path, family, &FAMILIES));
        }
        if seen.contains(&family) {
            errors.push(FieldError::duplicate(&path, family));
        }
        seen.push(family);
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    optional_one_of(spec, "ipFamilyPolicy", &policies, path, errors);
}

fn external_addresses(spec: &Object, old: Option<&Object>, path: &Path, errors: &mut ErrorList) {
    let known = old.map_or(&[][..], |old| list(old, "externalIPs"));
    for (i, address) in texts(spec, "externalIPs") {
        let path = path.child("externalIPs").index(i);
        let found = if known.iter().any(|k| k == address) { Vec::new() } else { names::ip_legacy(address) };
        if found.is_empty() {
            crate::kinds::endpoints::address(address, &path, errors);
        } else {
            messages(address, &path, found, errors);
        }
    }
}

fn load_balancer(spec: &Object, old: Option<&Object>, path: &Path, errors: &mut ErrorList) {
    const WORDS: &str = "may only be used when `type` is 'LoadBalancer'";
    let balanced = text(spec, "type") == "LoadBalancer";
    // Upstream spells this path with a capital.
    let ranges = path.child("LoadBalancerSourceRanges");
    if !list(spec, "loadBalancerSourceRanges").is_empty() && !balanced {
        errors.push(FieldError::forbidden(&ranges, WORDS));
    }
    let known = old.map_or(&[][..], |old| list(old, "loadBalancerSourceRanges"));
    for (i, range) in texts(spec, "loadBalancerSourceRanges") {
        if !known.iter().any(|k| k == range) {
            messages(range.trim(), &ranges.index(i), names::cidr_legacy(range.trim()), errors);
        }
    }
    let allocates = get(spec, "allocateLoadBalancerNodePorts").is_some();
    if allocates && !balanced {
        errors.push(FieldError::forbidden(&path.child("allocateLoadBalancerNodePorts"), WORDS));
    } else if !allocates && balanced {
        errors.push(FieldError::required(&Path::new("allocateLoadBalancerNodePorts"), ""));
    }
    if let Some(class) = get(spec, "loadBalancerClass").and_then(Value::as_str) {
        let path = path.child("loadBalancerClass");
        if balanced {
            messages(class, &path, names::qualified_name(class), errors);
        } else {
            errors.push(FieldError::forbidden(&path, WORDS));
        }
    }
}

fn traffic(spec: &Object, path: &Path, errors: &mut ErrorList) {
    let policy = text(spec, "externalTrafficPolicy");
    if is_external(spec) {
        one_of(spec, "externalTrafficPolicy", &["Cluster", "Local"], path, errors);
    } else if !policy.is_empty() {
        let detail = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(&path.child("externalTrafficPolicy"), policy, detail));
    }
    let health = int(spec, "healthCheckNodePort").unwrap_or(0);
    let health_path = path.child("healthCheckNodePort");
    match (needs_health_port(spec), health) {
        (true, 0) => errors.push(FieldError::required(&health_path, "")),
        (true, _) => {
            for message in names::port_number(health) {
                errors.push(FieldError::invalid(&health_path, health, message));
            }
        }
        (false, 0) => {}
        (false, _) => {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(FieldError::invalid(&health_path, health, detail));
        }
    }
    if get(spec, "internalTrafficPolicy").is_none() && text(spec, "type") != "ExternalName" {
        required(spec, "internalTrafficPolicy", path, errors);
    }
    optional_one_of(spec, "internalTrafficPolicy", &["Cluster", "Local"], path, errors);
    let distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    optional_one_of(spec, "trafficDistribution", &distributions, path, errors);
}

/// An allocated address stays; the second of two may go or come.
fn fixed_addresses(spec: &Object, old: &Object, errors: &mut ErrorList) {
    let external = |spec: &Object| text(spec, "type") == "ExternalName";
    if external(spec) || external(old) || (is_headless(spec) && is_headless(old)) {
        return;
    }
    let (new, stored) = (list(spec, "clusterIPs"), list(old, "clusterIPs"));
    let path = Path::new("spec").child("clusterIPs");
    let value = || if new.is_empty() { Value::Null } else { new.to_vec().into() };
    if new.is_empty() && !stored.is_empty() {
        errors.push(FieldError::invalid(&path.index(0), value(), "primary clusterIP can not be unset"));
    }
    for (i, (before, after)) in stored.iter().zip(new).enumerate() {
        if before != after && (i == 0 || stored.len() == new.len()) {
            errors.push(FieldError::invalid(&path.index(i), value(), FIXED));
        }
    }
    if stored.len() > new.len() && new.len() == 1 {
        single_stack(spec, "clusterIP", errors);
    }
}

fn single_stack(spec: &Object, what: &str, errors: &mut ErrorList) {
    if text(spec, "ipFamilyPolicy") != "SingleStack" {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {what}");
        let value = spec.get("ipFamilyPolicy").cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(&Path::new("spec").child("ipFamilyPolicy"), value, detail));
    }
}

fn fixed_families(spec: &Object, old: &Object, errors: &mut ErrorList) {
    let external = |spec: &Object| text(spec, "type") == "ExternalName";
    if external(spec) || external(old) || is_headless(spec) || is_headless(old) {
        return;
    }
    let (new, stored) = (list(spec, "ipFamilies"), list(old, "ipFamilies"));
    let path = Path::new("spec").child("ipFamilies");
    let (first, old_first) = (new.first(), stored.first());
    let same_length = new.len() == stored.len();
    if (same_length && new != stored) || (!same_length && first.is_some() && old_first.is_some() && first != old_first)
    {
        errors.push(FieldError::invalid(&path.index(0), new.to_vec(), FIXED));
    }
    if stored.len() > new.len() && new.len() == 1 {
        single_stack(spec, "ipFamily", errors);
    }
}

fn fixed_rest(spec: &Object, old: &Object, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let balanced = |spec: &Object| text(spec, "type") == "LoadBalancer";
    if balanced(spec) && balanced(old) && get(spec, "loadBalancerClass") != get(old, "loadBalancerClass") {
        let value = spec.get("loadBalancerClass").cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(&path.child("loadBalancerClass"), value, FIXED));
    }
    let health = |spec: &Object| int(spec, "healthCheckNodePort").unwrap_or(0);
    if needs_health_port(spec) && needs_health_port(old) && health(spec) != health(old) {
        errors.push(FieldError::forbidden(&path.child("healthCheckNodePort"), IMMUTABLE));
    }
}

fn load_balancer_status(new: &Object, old: Option<&Object>, balanced: bool, errors: &mut ErrorList) {
    let status = |o: &Object| object(o, "status").and_then(|s| object(s, "loadBalancer")).cloned().unwrap_or_default();
    let (new, old) = (status(new), old.map(status).unwrap_or_default());
    let path = Path::new("status").child("loadBalancer").child("ingress");
    if !balanced && !list(&new, "ingress").is_empty() {
        errors.push(FieldError::forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'"));
        return;
    }
    ingress_points(&new, &old, &path, errors);
    for (i, point) in objects(&new, "ingress") {
        let path = path.index(i);
        let has_address = !text(point, "ip").is_empty();
        match (get(point, "ipMode"), has_address) {
            (None, true) => {
                let detail = "must be specified when `ip` is set";
                errors.push(FieldError::required(&path.child("ipMode"), detail));
            }
            (Some(_), false) => {
                let detail = "may not be specified when `ip` is not set";
                errors.push(FieldError::forbidden(&path.child("ipMode"), detail));
            }
            (Some(_), true) => optional_one_of(point, "ipMode", &["Proxy", "VIP"], &path, errors),
            (None, false) => {}
        }
    }
}

/// Addresses and host names under which a Service or Ingress is reached.
pub fn ingress_points(status: &Object, old: &Object, path: &Path, errors: &mut ErrorList) {
    let known: Vec<&str> = objects(old, "ingress").map(|(_, point)| text(point, "ip")).collect();
    for (i, point) in objects(status, "ingress") {
        let path = path.index(i);
        let (address, host) = (text(point, "ip"), text(point, "hostname"));
        if !address.is_empty() && !known.contains(&address) {
            messages(address, &path.child("ip"), names::ip_legacy(address), errors);
        }
        if !host.is_empty() {
            messages(host, &path.child("hostname"), names::dns1123_subdomain(host), errors);
            if names::parse_ip(host).is_some() {
                let detail = "must be a DNS name, not an IP address";
                errors.push(FieldError::invalid(&path.child("hostname"), host, detail));
            }
        }
    }
}

/// Whether node ports are wanted at all.
pub fn needs_node_ports(spec: &Object) -> bool {
    match text(spec, "type") {
        "NodePort" => true,
        "LoadBalancer" => is_true(spec, "allocateLoadBalancerNodePorts"),
        _ => false,
    }
}
