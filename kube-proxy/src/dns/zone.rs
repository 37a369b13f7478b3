//! Which names the cluster has, and their records: the Kubernetes DNS specification 1.1.0. Pure.
//!
//! Beyond the specification, Pods have names of their address (`10-244-0-5.NAMESPACE.pod.DOMAIN`), as kubeadm's CoreDNS
//! gives them: for every address, existing or not, in namespaces that exist.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::records::{Endpoint, Kind, Records};
use crate::model::{Name, Protocol};

/// Version of the specification, as the name `dns-version` says it.
const SPECIFICATION: &str = "1.1.0";

/// Data of one record. Names are relative to nothing and lower case, without a final dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    Address(IpAddr),
    Service {
        port: u16,
        weight: u16,
        target: String,
    },
    Pointer(String),
    Text(String),
    /// The name is another's alias.
    Alias(String),
    StartOfAuthority,
    NameServer(String),
}

/// What there is to a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It exists and has these records, of any type; perhaps none.
    Exists {
        records: Vec<Data>,
        /// Addresses of targets in the records.
        additional: Vec<(String, IpAddr)>,
        /// Whether the records change with every Pod that comes and goes.
        volatile: bool,
    },
    /// It does not exist.
    Missing,
    /// It belongs to somebody else.
    Foreign,
}

impl Answer {
    fn some(records: Vec<Data>) -> Self {
        Self::Exists { records, additional: Vec::new(), volatile: false }
    }

    /// A name that exists only because names below it do.
    fn empty() -> Self {
        Self::some(Vec::new())
    }

    fn found(exists: bool) -> Self {
        if exists { Self::empty() } else { Self::Missing }
    }
}

/// Name of the zone's own server.
pub fn name_server(domain: &str) -> String {
    format!("ns.dns.{domain}")
}

/// Looks a name up. `labels` are in lower case and in the order in which they are written.
pub fn lookup(records: &Records, domain: &str, labels: &[&str]) -> Answer {
    if let [.., _, "arpa"] = labels {
        return reverse(records, domain, labels);
    }
    let zone: Vec<&str> = domain.split('.').collect();
    let Some(within) = labels.strip_suffix(zone.as_slice()) else { return Answer::Foreign };
    match within {
        [] => Answer::some(vec![Data::StartOfAuthority, Data::NameServer(name_server(domain))]),
        ["dns-version"] => Answer::some(vec![Data::Text(SPECIFICATION.to_owned())]),
        ["svc" | "pod" | "dns"] => Answer::empty(),
        ["ns", "dns"] => Answer::some(dns_addresses(records)),
        [namespace, "svc" | "pod"] => Answer::found(records.has_namespace(namespace)),
        [address, namespace, "pod"] => pod(records, address, namespace),
        [rest @ .., service, namespace, "svc"] => {
            let name = Name::new(*namespace, *service);
            Names { records, domain, name: &name }.lookup(rest)
        }
        _ => Answer::Missing,
    }
}

/// Addresses of the cluster's DNS itself.
fn dns_addresses(records: &Records) -> Vec<Data> {
    match records.service(&Name::new("kube-system", "kube-dns")).map(|service| &service.kind) {
        Some(Kind::ClusterIps(ips)) => ips.iter().copied().map(Data::Address).collect(),
        _ => Vec::new(),
    }
}

fn pod(records: &Records, address: &str, namespace: &str) -> Answer {
    let ip = match address.replace('-', ".").parse::<Ipv4Addr>() {
        Ok(ip) => Some(IpAddr::V4(ip)),
        Err(_) => address.replace('-', ":").parse::<Ipv6Addr>().ok().map(IpAddr::V6),
    };
    match ip.filter(|_| records.has_namespace(namespace)) {
        Some(ip) => Answer::some(vec![Data::Address(ip)]),
        None => Answer::Missing,
    }
}

/// The names of one Service.
struct Names<'a> {
    records: &'a Records,
    domain: &'a str,
    name: &'a Name,
}

impl Names<'_> {
    fn full(&self) -> String {
        format!("{}.{}.svc.{}", self.name.name, self.name.namespace, self.domain)
    }

    fn lookup(&self, below: &[&str]) -> Answer {
        let Some(service) = self.records.service(self.name) else { return Answer::Missing };
        match (&service.kind, below) {
            (Kind::External(target), []) => {
                let target = target.trim_end_matches('.').to_ascii_lowercase();
                Answer::Exists { records: vec![Data::Alias(target)], additional: Vec::new(), volatile: false }
            }
            (Kind::External(_), _) => Answer::Missing,
            (Kind::ClusterIps(ips), []) => {
                let mut records: Vec<Data> = ips.iter().copied().map(Data::Address).collect();
                let ports: Vec<u16> = service.ports.iter().map(|(_, _, port)| *port).collect();
                let weight = weight(ports.len());
                let target = self.full();
                records.extend(ports.into_iter().map(|port| Data::Service { port, weight, target: target.clone() }));
                let additional = ips.iter().map(|ip| (target.clone(), *ip)).collect();
                Answer::Exists { records, additional, volatile: false }
            }
            (Kind::ClusterIps(ips), [port, protocol]) if port.starts_with('_') => {
                let Some(wanted) = protocol_label(protocol) else { return Answer::Missing };
                let ports =
                    service.ports.iter().filter(|(name, protocol, _)| matches(name, port) && *protocol == wanted);
                let target = self.full();
                let records: Vec<Data> = ports
                    .map(|(_, _, port)| Data::Service { port: *port, weight: 100, target: target.clone() })
                    .collect();
                let additional = ips.iter().map(|ip| (target.clone(), *ip)).collect();
                if records.is_empty() {
                    return Answer::Missing;
                }
                Answer::Exists { records, additional, volatile: false }
            }
            (Kind::ClusterIps(_), [protocol]) if protocol.starts_with('_') => {
                let wanted = protocol_label(protocol);
                Answer::found(service.ports.iter().any(|(name, found, _)| Some(*found) == wanted && !name.is_empty()))
            }
            (Kind::Headless, []) => self.headless(None),
            (Kind::Headless, [port, protocol]) if port.starts_with('_') => match protocol_label(protocol) {
                Some(protocol) => self.headless(Some((port, protocol))),
                None => Answer::Missing,
            },
            (Kind::Headless, [protocol]) if protocol.starts_with('_') => {
                let wanted = protocol_label(protocol);
                let mut ports = self.records.slices(self.name).flat_map(|slice| &slice.ports);
                Answer::found(ports.any(|(name, found, _)| Some(*found) == wanted && !name.is_empty()))
            }
            (_, [label]) => self.endpoint(label),
            _ => Answer::Missing,
        }
    }

    /// All ready endpoints; without any the name does not exist (specification, section 2.4).
    fn headless(&self, port: Option<(&str, Protocol)>) -> Answer {
        let mut addresses: Vec<IpAddr> = Vec::new();
        let mut services: Vec<(u16, String)> = Vec::new();
        let mut additional = Vec::new();
        for slice in self.records.slices(self.name) {
            let ports: Vec<u16> = slice
                .ports
                .iter()
                .filter(|(name, protocol, _)| {
                    port.is_none_or(|(label, wanted)| matches(name, label) && *protocol == wanted)
                })
                .map(|(_, _, port)| *port)
                .collect();
            for endpoint in &slice.endpoints {
                let target = format!("{}.{}", endpoint.label(), self.full());
                if port.is_none() {
                    addresses.push(endpoint.ip);
                }
                if !ports.is_empty() {
                    additional.push((target.clone(), endpoint.ip));
                }
                services.extend(ports.iter().map(|port| (*port, target.clone())));
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        services.sort_unstable();
        services.dedup();
        if addresses.is_empty() && services.is_empty() {
            return Answer::Missing;
        }
        let weight = weight(services.len());
        let mut records: Vec<Data> = addresses.into_iter().map(Data::Address).collect();
        records.extend(services.into_iter().map(|(port, target)| Data::Service { port, weight, target }));
        Answer::Exists { records, additional, volatile: true }
    }

    /// One endpoint (several, where they share a host name).
    fn endpoint(&self, label: &str) -> Answer {
        let slices = self.records.slices(self.name);
        let endpoints = slices.flat_map(|slice| &slice.endpoints).filter(|endpoint| endpoint.label() == label);
        let mut ips: Vec<IpAddr> = endpoints.map(|endpoint| endpoint.ip).collect();
        ips.sort_unstable();
        ips.dedup();
        if ips.is_empty() {
            return Answer::Missing;
        }
        let records = ips.into_iter().map(Data::Address).collect();
        Answer::Exists { records, additional: Vec::new(), volatile: true }
    }
}

/// SRV weights share 100 among equals, as CoreDNS does.
fn weight(count: usize) -> u16 {
    (100 / count.max(1)).max(1) as u16
}

/// Whether a port's name is what the label `_name` asks for; ports without name have no such label.
fn matches(name: &str, label: &str) -> bool {
    !name.is_empty() && label.strip_prefix('_').is_some_and(|label| name.eq_ignore_ascii_case(label))
}

fn protocol_label(label: &str) -> Option<Protocol> {
    match label {
        "_tcp" => Some(Protocol::Tcp),
        "_udp" => Some(Protocol::Udp),
        "_sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// The name of an address, if a Service or an endpoint has it.
fn reverse(records: &Records, domain: &str, labels: &[&str]) -> Answer {
    let Some(ip) = address(labels) else { return Answer::Foreign };
    let full = |name: &Name| format!("{}.{}.svc.{domain}", name.name, name.namespace);
    let mut names: Vec<String> = records.with_cluster_ip(ip).map(full).collect();
    if names.is_empty() {
        let endpoints = records.with_endpoint_ip(ip).filter(|(service, endpoint)| {
            endpoint.hostname.is_some()
                || records.service(service).is_some_and(|service| service.kind == Kind::Headless)
        });
        names.extend(
            endpoints.map(|(service, endpoint): (&Name, &Endpoint)| format!("{}.{}", endpoint.label(), full(service))),
        );
    }
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Answer::Foreign;
    }
    Answer::some(names.into_iter().map(Data::Pointer).collect())
}

/// The address that a name below in-addr.arpa or ip6.arpa stands for.
fn address(labels: &[&str]) -> Option<IpAddr> {
    match labels {
        [d, c, b, a, "in-addr", "arpa"] => {
            let octet = |text: &&str| text.parse::<u8>().ok();
            Some(Ipv4Addr::new(octet(a)?, octet(b)?, octet(c)?, octet(d)?).into())
        }
        [nibbles @ .., "ip6", "arpa"] if nibbles.len() == 32 => {
            let mut number = 0u128;
            for nibble in nibbles.iter().rev() {
                let digit = nibble.chars().next().filter(|_| nibble.len() == 1)?.to_digit(16)?;
                number = number << 4 | u128::from(digit);
            }
            Some(Ipv6Addr::from(number).into())
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "zone_tests.rs"]
pub(crate) mod tests;
