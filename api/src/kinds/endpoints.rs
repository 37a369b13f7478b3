//! Endpoints and EndpointSlices.

use std::net::IpAddr;

use serde_json::Value;

use super::check::{immutable, messages, one_of, optional};
use super::json::{default, default_object, default_text, each_mut, get, int, list, objects, text, texts};
use super::prepare;
use crate::field::{ErrorList, FieldError, Path};
use crate::table::Hooks;
use crate::{Object, names, object};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
/// Bounds of one slice.
const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20_000;
const MAX_ADDRESSES: usize = 100;

pub fn endpoints_hooks() -> Hooks {
    Hooks {
        default: Some(default_endpoints),
        prepare: Some(prepare::nothing),
        validate: Some(endpoints),
        ..Hooks::default()
    }
}

pub fn slice_hooks() -> Hooks {
    Hooks { default: Some(default_slice), prepare: Some(prepare_slice), validate: Some(slice), ..Hooks::default() }
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

/// Addresses that lead nowhere from other nodes cannot be endpoints, nor external addresses of Services.
pub fn address(value: &str, path: &Path, errors: &mut ErrorList) {
    let Some(address) = names::parse_ip(value).map(|ip| ip.to_canonical()) else {
        errors.push(FieldError::invalid(path, value, "must be a valid IP address"));
        return;
    };
    let (link_local, link_local_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    let detail = if address.is_unspecified() {
        format!("may not be unspecified ({value})")
    } else if address.is_loopback() {
        "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()
    } else if link_local {
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()
    } else if link_local_multicast {
        "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()
    } else {
        return;
    };
    errors.push(FieldError::invalid(path, value, detail));
}

fn endpoints(new: &Object, old: Option<&Object>, _subresource: &str, errors: &mut ErrorList) {
    if old.is_some_and(|old| get(old, "subsets") == get(new, "subsets")) {
        return;
    }
    for (i, subset) in objects(new, "subsets") {
        let path = Path::new("subsets").index(i);
        if list(subset, "addresses").is_empty() && list(subset, "notReadyAddresses").is_empty() {
            errors.push(FieldError::required(&path, "must specify `addresses` or `notReadyAddresses`"));
        }
        for key in ["addresses", "notReadyAddresses"] {
            for (j, endpoint) in objects(subset, key) {
                let path = path.child(key).index(j);
                let ip = text(endpoint, "ip");
                messages(ip, &path.child("ip"), names::ip_legacy(ip), errors);
                optional(endpoint, "hostname", &path, names::dns1123_label, errors);
                optional(endpoint, "nodeName", &path, names::dns1123_subdomain, errors);
                address(ip, &path.child("ip"), errors);
            }
        }
        let several = list(subset, "ports").len() > 1;
        for (j, port) in objects(subset, "ports") {
            let path = path.child("ports").index(j);
            if several && text(port, "name").is_empty() {
                errors.push(FieldError::required(&path.child("name"), ""));
            }
            optional(port, "name", &path, names::dns1123_label, errors);
            let number = int(port, "port").unwrap_or(0);
            for message in names::port_number(number) {
                errors.push(FieldError::invalid(&path.child("port"), number, message));
            }
            one_of(port, "protocol", &PROTOCOLS, &path, errors);
            optional(port, "appProtocol", &path, names::qualified_name, errors);
        }
    }
}

fn slice(new: &Object, old: Option<&Object>, _subresource: &str, errors: &mut ErrorList) {
    let root = Path::root();
    one_of(new, "addressType", &["FQDN", "IPv4", "IPv6"], &root, errors);
    slice_ports(new, errors);
    if let Some(old) = old {
        immutable(new, old, "addressType", &root, errors);
        if get(old, "endpoints") == get(new, "endpoints") {
            return;
        }
    }
    let path = Path::new("endpoints");
    let count = list(new, "endpoints").len();
    if count > MAX_ENDPOINTS {
        errors.push(FieldError::too_many(&path, count, MAX_ENDPOINTS));
        return;
    }
    for (i, endpoint) in objects(new, "endpoints") {
        slice_endpoint(endpoint, text(new, "addressType"), &path.index(i), errors);
    }
}

fn slice_ports(slice: &Object, errors: &mut ErrorList) {
    let path = Path::new("ports");
    let count = list(slice, "ports").len();
    if count > MAX_PORTS {
        errors.push(FieldError::too_many(&path, count, MAX_PORTS));
        return;
    }
    let mut seen = Vec::new();
    for (i, port) in objects(slice, "ports") {
        let path = path.index(i);
        let name = text(port, "name");
        optional(port, "name", &path, names::dns1123_label, errors);
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        seen.push(name);
        one_of(port, "protocol", &PROTOCOLS, &path, errors);
        optional(port, "appProtocol", &path, names::qualified_name, errors);
    }
}

fn slice_endpoint(endpoint: &Object, family: &str, path: &Path, errors: &mut ErrorList) {
    let addresses = path.child("addresses");
    let count = list(endpoint, "addresses").len();
    if count == 0 {
        errors.push(FieldError::required(&addresses, "must contain at least 1 address"));
    } else if count > MAX_ADDRESSES {
        errors.push(FieldError::too_many(&addresses, count, MAX_ADDRESSES));
    }
    for (i, value) in texts(endpoint, "addresses") {
        let path = addresses.index(i);
        let (found, is_six) = match family {
            "IPv4" => (names::ip_legacy(value), false),
            "IPv6" => (names::ip(value), true),
            _ => continue,
        };
        if !found.is_empty() {
            messages(value, &path, found, errors);
            continue;
        }
        if names::parse_ip(value).is_some_and(|ip| ip.is_ipv6() != is_six) {
            errors.push(FieldError::invalid(&addresses, value, format!("must be an {family} address")));
        }
        address(value, &path, errors);
    }
    optional(endpoint, "nodeName", path, names::dns1123_subdomain, errors);
    optional(endpoint, "hostname", path, names::dns1123_label, errors);
}
