//! Services, endpoints, ingresses and what else belongs to the network.

use std::collections::BTreeSet;

use super::shown::Shown;
use super::view::{
    NONE, UNKNOWN, UNSET, age, first_of, joined, labels, list, map, named, number, objects, plain, selector, text,
    text_or, texts,
};
use crate::Object;
use crate::object::{meta_str, str_at};

/// Addresses that a load balancer gave, sorted.
fn balancer_addresses(object: &Object) -> Vec<&str> {
    let ingresses = objects(object, &["status", "loadBalancer", "ingress"]);
    let address = |ingress| match str_at(ingress, &["ip"]) {
        "" => str_at(ingress, &["hostname"]),
        ip => ip,
    };
    let addresses: BTreeSet<_> = ingresses.map(address).filter(|address| !address.is_empty()).collect();
    addresses.into_iter().collect()
}

fn external_address(service: &Object) -> String {
    let external: Vec<_> = texts(service, &["spec", "externalIPs"]).collect();
    match str_at(service, &["spec", "type"]) {
        "ClusterIP" | "NodePort" if external.is_empty() => NONE.to_owned(),
        "ClusterIP" | "NodePort" => external.join(","),
        "LoadBalancer" => {
            let all: Vec<_> = balancer_addresses(service).into_iter().chain(external).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        "ExternalName" => str_at(service, &["spec", "externalName"]).to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}

fn service_ports(service: &Object) -> String {
    let port = |port: &Object| {
        let (number_, protocol) = (number(port, &["port"]), str_at(port, &["protocol"]));
        match number(port, &["nodePort"]) {
            node_port if node_port > 0 => format!("{number_}:{node_port}/{protocol}"),
            _ => format!("{number_}/{protocol}"),
        }
    };
    let ports: Vec<_> = objects(service, &["spec", "ports"]).map(port).collect();
    if ports.is_empty() { NONE.to_owned() } else { ports.join(",") }
}

pub(super) fn service(object: &Object) -> Vec<Shown> {
    vec![
        named(object),
        text(object, &["spec", "type"]),
        Shown::from(texts(object, &["spec", "clusterIPs"]).next().unwrap_or(NONE)),
        Shown::from(external_address(object)),
        Shown::from(service_ports(object)),
        age(object),
        Shown::from(labels(map(object, &["spec", "selector"]))),
    ]
}

/// An address with a port; IPv6 ones in brackets.
fn host_port(address: &str, port: i64) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

pub(super) fn endpoints(object: &Object) -> Vec<Shown> {
    let mut shown = Vec::new();
    for subset in objects(object, &["subsets"]) {
        let addresses: Vec<_> = objects(subset, &["addresses"]).map(|address| str_at(address, &["ip"])).collect();
        if list(subset, &["ports"]).is_empty() {
            shown.extend(addresses.iter().map(|address| (*address).to_owned()));
        }
        for port in objects(subset, &["ports"]) {
            shown.extend(addresses.iter().map(|address| host_port(address, number(port, &["port"]))));
        }
    }
    let has_subsets = !list(object, &["subsets"]).is_empty();
    let shown = first_of(&shown, 3, if has_subsets { "" } else { NONE });
    vec![named(object), Shown::from(shown), age(object)]
}

pub(super) fn endpoint_slice(object: &Object) -> Vec<Shown> {
    let port = |port: &Object| {
        let number = plain(port.get("port"));
        number.or_else(|| plain(port.get("name"))).unwrap_or_else(|| "*".to_owned())
    };
    let ports: Vec<_> = objects(object, &["ports"]).map(port).collect();
    let addresses: Vec<_> =
        objects(object, &["endpoints"]).flat_map(|e| texts(e, &["addresses"])).map(str::to_owned).collect();
    vec![
        named(object),
        text(object, &["addressType"]),
        Shown::from(first_of(&ports, 3, UNSET)),
        Shown::from(first_of(&addresses, 3, UNSET)),
        age(object),
    ]
}

fn hosts(ingress: &Object) -> String {
    const MOST: usize = 3;
    let rules = list(ingress, &["spec", "rules"]).len();
    let hosts = objects(ingress, &["spec", "rules"]).map(|rule| str_at(rule, &["host"]));
    let all: Vec<_> = hosts.filter(|host| !host.is_empty()).map(str::to_owned).collect();
    let shown = all[..all.len().min(MOST)].join(",");
    match shown.as_str() {
        "" => "*".to_owned(),
        _ if all.len() >= MOST && rules > MOST => format!("{shown} + {} more...", rules - MOST),
        _ => shown,
    }
}

pub(super) fn ingress(object: &Object) -> Vec<Shown> {
    let is_secure = !list(object, &["spec", "tls"]).is_empty();
    vec![
        named(object),
        text_or(object, &["spec", "ingressClassName"], NONE),
        Shown::from(hosts(object)),
        Shown::from(balancer_addresses(object).join(",")),
        Shown::from(if is_secure { "80, 443" } else { "80" }),
        age(object),
    ]
}

pub(super) fn ingress_class(object: &Object) -> Vec<Shown> {
    let annotation = "ingressclass.kubernetes.io/is-default-class";
    let is_default = str_at(object, &["metadata", "annotations", annotation]) == "true";
    let parameters = map(object, &["spec", "parameters"]).map_or_else(
        || NONE.to_owned(),
        |parameters| {
            let group = str_at(parameters, &["apiGroup"]);
            let dot = if group.is_empty() { "" } else { "." };
            format!("{}{dot}{group}/{}", str_at(parameters, &["kind"]), str_at(parameters, &["name"]))
        },
    );
    vec![
        Shown::from(super::storage::with_default(meta_str(object, "name"), is_default)),
        text(object, &["spec", "controller"]),
        Shown::from(parameters),
        age(object),
    ]
}

pub(super) fn network_policy(object: &Object) -> Vec<Shown> {
    vec![named(object), selector(object, &["spec", "podSelector"]), age(object)]
}

pub(super) fn service_cidr(object: &Object) -> Vec<Shown> {
    vec![named(object), Shown::from(joined(texts(object, &["spec", "cidrs"]), ",")), age(object)]
}

/// Upstream gives an age that no column shows; so it must be here.
pub(super) fn ip_address(object: &Object) -> Vec<Shown> {
    let parent = map(object, &["spec", "parentRef"]).map_or_else(
        || NONE.to_owned(),
        |parent| {
            let part = |key: &str| str_at(parent, &[key]);
            let dot = if part("group").is_empty() { "" } else { "." };
            let resource = format!("{}{dot}{}", part("resource"), part("group")).to_lowercase();
            let slash = if part("namespace").is_empty() { "" } else { "/" };
            format!("{resource}{slash}{}/{}", part("namespace"), part("name"))
        },
    );
    vec![named(object), Shown::from(parent), age(object)]
}

pub(super) fn api_service(object: &Object) -> Vec<Shown> {
    let service = map(object, &["spec", "service"]).map_or_else(
        || "Local".to_owned(),
        |service| format!("{}/{}", str_at(service, &["namespace"]), str_at(service, &["name"])),
    );
    let available = super::view::condition(object, "Available").map_or_else(
        || "Unknown".to_owned(),
        |condition| match str_at(condition, &["status"]) {
            "True" => "True".to_owned(),
            status => format!("{status} ({})", str_at(condition, &["reason"])),
        },
    );
    vec![named(object), Shown::from(service), Shown::from(available), age(object)]
}
