//! Validation of Ingresses, IngressClasses and NetworkPolicies.

use serde_json::Value;

use crate::field::{ErrorList, FieldError, Path};
use crate::kinds::check::{immutable, messages, named, one_of, optional, optional_one_of};
use crate::kinds::json::{get, int, list, object, objects, text, texts};
use crate::kinds::service::validate::ingress_points;
use crate::validate::labels;
use crate::{Object, names, object as meta};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// A DNS name, which may begin with `*.`.
fn host(value: &str, path: &Path, errors: &mut ErrorList) {
    let rule = if value.contains('*') { names::wildcard_dns1123_subdomain } else { names::dns1123_subdomain };
    messages(value, path, rule(value), errors);
}

/// The `validate` hook of Ingresses.
pub fn ingress(new: &Object, old: Option<&Object>, subresource: &str, errors: &mut ErrorList) {
    let empty = Object::new();
    if subresource == "status" {
        let status = |o: &Object| object(o, "status").and_then(|s| object(s, "loadBalancer")).cloned();
        let path = Path::new("status").child("loadBalancer").child("ingress");
        let old = old.and_then(status).unwrap_or_default();
        ingress_points(&status(new).unwrap_or_default(), &old, &path, errors);
        return;
    }
    let spec = object(new, "spec").unwrap_or(&empty);
    let path = Path::new("spec");
    let backend = object(spec, "defaultBackend");
    if list(spec, "rules").is_empty() && backend.is_none() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid(&path, spec.get("rules").cloned().unwrap_or(Value::Null), detail));
    }
    if let Some(backend) = backend {
        check_backend(backend, &path.child("defaultBackend"), errors);
    }
    for (i, rule) in objects(spec, "rules") {
        check_rule(rule, &path.child("rules").index(i), errors);
    }
    for (i, tls) in objects(spec, "tls") {
        let path = path.child("tls").index(i);
        for (j, name) in texts(tls, "hosts") {
            host(name, &path.child("hosts").index(j), errors);
        }
        optional(tls, "secretName", &path, names::dns1123_subdomain, errors);
    }
    let class = get(spec, "ingressClassName").and_then(Value::as_str);
    if let Some(class) = class {
        messages(class, &path.child("ingressClassName"), names::dns1123_subdomain(class), errors);
    }
    let annotation = meta::metadata(new).and_then(|m| object(m, "annotations")).and_then(|a| a.get(CLASS_ANNOTATION));
    if let (None, Some(class), Some(annotation)) = (old, class, annotation.and_then(Value::as_str))
        && class != annotation
    {
        let path = Path::new("annotations").child(CLASS_ANNOTATION);
        let detail = "must match `ingressClassName` when both are specified";
        errors.push(FieldError::invalid(&path, annotation, detail));
    }
}

fn check_rule(rule: &Object, path: &Path, errors: &mut ErrorList) {
    let name = text(rule, "host");
    if !name.is_empty() {
        if names::parse_ip(name).is_some() {
            let detail = "must be a DNS name, not an IP address";
            errors.push(FieldError::invalid(&path.child("host"), name, detail));
        }
        host(name, &path.child("host"), errors);
    }
    let Some(http) = object(rule, "http") else { return };
    let path = path.child("http").child("paths");
    if list(http, "paths").is_empty() {
        errors.push(FieldError::required(&path, ""));
    }
    for (i, item) in objects(http, "paths") {
        http_path(item, &path.index(i), errors);
    }
}

fn http_path(item: &Object, path: &Path, errors: &mut ErrorList) {
    if get(item, "pathType").is_none() {
        errors.push(FieldError::required(&path.child("pathType"), "pathType must be specified"));
        return;
    }
    let value = text(item, "path");
    let value_path = path.child("path");
    let mut wrong = |detail: String| errors.push(FieldError::invalid(&value_path, value, detail));
    match text(item, "pathType") {
        "Exact" | "Prefix" => {
            if !value.starts_with('/') {
                wrong("must be an absolute path".to_owned());
            }
            for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
                if value.contains(sequence) {
                    wrong(format!("must not contain '{sequence}'"));
                }
            }
            for suffix in ["/..", "/."] {
                if value.ends_with(suffix) {
                    wrong(format!("cannot end with '{suffix}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !value.is_empty() && !value.starts_with('/') {
                wrong("must be an absolute path".to_owned());
            }
        }
        other => {
            let allowed = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.push(FieldError::not_supported(&path.child("pathType"), other, &allowed));
        }
    }
    let empty = Object::new();
    check_backend(object(item, "backend").unwrap_or(&empty), &path.child("backend"), errors);
}

fn check_backend(backend: &Object, path: &Path, errors: &mut ErrorList) {
    match (object(backend, "resource"), object(backend, "service")) {
        (Some(_), Some(_)) => {
            let detail = "cannot set both resource and service backends";
            errors.push(FieldError::invalid(path, "", detail));
        }
        (Some(resource), None) => reference(resource, &path.child("resource"), errors),
        (None, Some(service)) => {
            named(service, "name", &path.child("service"), names::dns1123_label, errors);
            let empty = Object::new();
            let port = object(service, "port").unwrap_or(&empty);
            let port_path = path.child("service").child("port");
            match (text(port, "name"), int(port, "number").unwrap_or(0)) {
                ("", 0) => errors.push(FieldError::required(path, "port name or number is required")),
                ("", number) => {
                    for message in names::port_number(number) {
                        errors.push(FieldError::invalid(&port_path.child("number"), number, message));
                    }
                }
                (name, 0) => messages(name, &port_path.child("name"), names::port_name(name), errors),
                _ => errors.push(FieldError::invalid(path, "", "cannot set both port name & port number")),
            }
        }
        (None, None) => {
            errors.push(FieldError::invalid(path, "", "resource or service backend is required"));
        }
    }
}

fn reference(reference: &Object, path: &Path, errors: &mut ErrorList) {
    if let Some(group) = get(reference, "apiGroup").and_then(Value::as_str) {
        messages(group, &path.child("apiGroup"), names::dns1123_subdomain(group), errors);
    }
    for key in ["kind", "name"] {
        named(reference, key, path, names::path_segment, errors);
    }
}

/// The `validate` hook of IngressClasses.
pub fn class(new: &Object, old: Option<&Object>, _subresource: &str, errors: &mut ErrorList) {
    const CONTROLLER_MAX: usize = 250;
    let empty = Object::new();
    let spec = object(new, "spec").unwrap_or(&empty);
    let path = Path::new("spec");
    if let Some(old) = old.and_then(|old| object(old, "spec")) {
        immutable(spec, old, "controller", &path, errors);
    }
    let controller = text(spec, "controller");
    let controller_path = path.child("controller");
    if controller.len() > CONTROLLER_MAX {
        errors.push(FieldError::too_long(&controller_path, CONTROLLER_MAX));
    }
    domain_path(controller, &controller_path, errors);
    let Some(parameters) = object(spec, "parameters") else { return };
    let path = path.child("parameters");
    reference(parameters, &path, errors);
    let namespace = get(parameters, "namespace").and_then(Value::as_str);
    match (text(parameters, "scope"), namespace) {
        ("Namespace", None) => {
            let detail = "`parameters.scope` is set to 'Namespace'";
            errors.push(FieldError::required(&path.child("namespace"), detail));
        }
        ("Namespace", Some(name)) => {
            messages(name, &path.child("namespace"), names::dns1123_label(name), errors);
        }
        ("Cluster", Some(_)) => {
            let detail = "`parameters.scope` is set to 'Cluster'";
            errors.push(FieldError::forbidden(&path.child("namespace"), detail));
        }
        ("Cluster", None) => {}
        _ => optional_one_of(parameters, "scope", &["Cluster", "Namespace"], &path, errors),
    }
}

/// `acme.io/foo`: a domain and a path below it.
fn domain_path(value: &str, path: &Path, errors: &mut ErrorList) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let Some((domain, rest)) = value.split_once('/').filter(|(a, b)| !a.is_empty() && !b.is_empty()) else {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(FieldError::invalid(path, value, detail));
        return;
    };
    messages(domain, path, names::dns1123_subdomain(domain), errors);
    if !rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b)) {
        let detail = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        errors.push(FieldError::invalid(path, rest, detail));
    }
}

/// The `validate` hook of NetworkPolicies.
pub fn policy(new: &Object, _old: Option<&Object>, _subresource: &str, errors: &mut ErrorList) {
    let empty = Object::new();
    let spec = object(new, "spec").unwrap_or(&empty);
    let path = Path::new("spec");
    labels::selector(get(spec, "podSelector"), &path.child("podSelector"), errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in objects(spec, direction) {
            let path = path.child(direction).index(i);
            for (j, port) in objects(rule, "ports") {
                policy_port(port, &path.child("ports").index(j), errors);
            }
            for (j, item) in objects(rule, peers) {
                peer(item, &path.child(peers).index(j), errors);
            }
        }
    }
    let types = list(spec, "policyTypes");
    let path = path.child("policyTypes");
    if types.len() > 2 {
        errors.push(FieldError::invalid(&path, types.to_vec(), "may not specify more than two policyTypes"));
        return;
    }
    for (i, kind) in texts(spec, "policyTypes") {
        if !matches!(kind, "Ingress" | "Egress") {
            errors.push(FieldError::not_supported(&path.index(i), kind, &["Ingress", "Egress"]));
        }
    }
}

fn policy_port(port: &Object, path: &Path, errors: &mut ErrorList) {
    if get(port, "protocol").is_some() {
        one_of(port, "protocol", &["TCP", "UDP", "SCTP"], path, errors);
    }
    let last = int(port, "endPort");
    let last_path = path.child("endPort");
    match get(port, "port") {
        None => {
            if let Some(last) = last {
                let detail = "may not be specified when `port` is not specified";
                errors.push(FieldError::invalid(&last_path, last, detail));
            }
        }
        Some(Value::String(name)) => {
            if let Some(last) = last {
                let detail = "may not be specified when `port` is non-numeric";
                errors.push(FieldError::invalid(&last_path, last, detail));
            }
            messages(name, &path.child("port"), names::port_name(name), errors);
        }
        Some(first) => {
            let first = first.as_i64().unwrap_or(0);
            for message in names::port_number(first) {
                errors.push(FieldError::invalid(&path.child("port"), first, message));
            }
            let Some(last) = last else { return };
            if last < first {
                let detail = "must be greater than or equal to `port`";
                errors.push(FieldError::invalid(&last_path, first, detail));
            }
            for message in names::port_number(last) {
                errors.push(FieldError::invalid(&last_path, last, message));
            }
        }
    }
}

fn peer(peer: &Object, path: &Path, errors: &mut ErrorList) {
    let mut found = 0;
    for key in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = get(peer, key) {
            found += 1;
            labels::selector(Some(selector), &path.child(key), errors);
        }
    }
    match (object(peer, "ipBlock"), found) {
        (None, 0) => errors.push(FieldError::required(path, "must specify a peer")),
        (None, _) => {}
        (Some(block), others) => {
            ip_block(block, &path.child("ipBlock"), errors);
            if others > 0 {
                errors.push(FieldError::forbidden(path, "may not specify both ipBlock and another peer"));
            }
        }
    }
}

fn ip_block(block: &Object, path: &Path, errors: &mut ErrorList) {
    let whole = text(block, "cidr");
    if whole.is_empty() {
        errors.push(FieldError::required(&path.child("cidr"), ""));
        return;
    }
    messages(whole, &path.child("cidr"), names::cidr_legacy(whole), errors);
    let Some((base, bits)) = names::parse_cidr(whole) else { return };
    for (i, except) in texts(block, "except") {
        let path = path.child("except").index(i);
        messages(except, &path, names::cidr_legacy(except), errors);
        let Some((address, inner)) = names::parse_cidr(except) else { continue };
        if !names::in_network(address, base, bits) || bits >= inner {
            errors.push(FieldError::invalid(&path, except, "must be a strict subset of `cidr`"));
        }
    }
}
