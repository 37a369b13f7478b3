//! Which endpoints of a Service this node's traffic may go to, by traffic policy, readiness and topology.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use nft::Ip;

use super::Node;
use crate::model::{Hints, Port, Service, Slice};

/// One endpoint of a Service port, as seen from this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint<'a> {
    pub to: SocketAddr,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    /// On this node.
    pub local: bool,
    pub hints: Option<&'a Hints>,
}

/// Whether an address is of this IP version.
pub fn is_version(addr: IpAddr, ip: Ip) -> bool {
    addr.is_ipv4() == (ip == Ip::V4)
}

/// The endpoints of a port, ordered, each once.
pub fn of_port<'a>(slices: &[&'a Slice], port: &Port, node: &Node, ip: Ip) -> Vec<Endpoint<'a>> {
    let mut found: Vec<Endpoint<'a>> = Vec::new();
    for slice in slices {
        let numbers = slice.ports.iter().filter(|(name, protocol, _)| *name == port.name && *protocol == port.protocol);
        for (_, _, number) in numbers {
            let endpoints = slice.endpoints.iter().filter(|endpoint| is_version(endpoint.addr, ip));
            found.extend(endpoints.map(|endpoint| Endpoint {
                to: SocketAddr::new(endpoint.addr, *number),
                ready: endpoint.ready,
                serving: endpoint.serving,
                terminating: endpoint.terminating,
                local: endpoint.node.as_deref() == Some(node.name.as_str()),
                hints: endpoint.hints.as_deref(),
            }));
        }
    }
    // While an endpoint moves from one slice to another it is in both: the better state counts.
    found.sort_by_key(|endpoint| (endpoint.to, !endpoint.ready, !endpoint.serving));
    found.dedup_by_key(|endpoint| endpoint.to);
    found
}

/// How many ready endpoints of a Service, by address, are on this node.
pub fn ready_here(slices: &[&Slice], node: &Node) -> usize {
    let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
    let here = endpoints.filter(|endpoint| endpoint.ready && endpoint.node.as_deref() == Some(node.name.as_str()));
    here.map(|endpoint| endpoint.addr).collect::<BTreeSet<IpAddr>>().len()
}

/// The endpoints that traffic may go to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Usable {
    /// For policy Cluster; empty if the port never uses it.
    pub cluster: Vec<SocketAddr>,
    /// For policy Local; empty if the port never uses it.
    pub local: Vec<SocketAddr>,
    /// Of either list, those on this node.
    pub here: Vec<SocketAddr>,
    /// Whether any node could answer.
    pub any: bool,
}

/// Chooses: ready ones, or, if there are none, those that terminate but still serve (KEP-1669).
pub fn usable(endpoints: &[Endpoint<'_>], service: &Service, port: &Port, node: &Node) -> Usable {
    let external = service.externally_accessible(port);
    let uses_cluster = !service.internal_local || external;
    let uses_local = service.internal_local || (service.external_local && external);
    let draining = |endpoint: &&Endpoint<'_>| endpoint.serving && endpoint.terminating;
    let mut found = Usable::default();
    let mut here = Vec::new();

    if uses_cluster {
        let topology = Topology::from_hints(endpoints, node);
        let mut chosen: Vec<&Endpoint<'_>> =
            endpoints.iter().filter(|endpoint| endpoint.ready && topology.allows(endpoint, node)).collect();
        if chosen.is_empty() {
            chosen = endpoints.iter().filter(draining).collect();
        }
        found.any = !chosen.is_empty();
        here.extend(chosen.iter().filter(|endpoint| endpoint.local).map(|endpoint| endpoint.to));
        found.cluster = chosen.into_iter().map(|endpoint| endpoint.to).collect();
    }
    if uses_local {
        found.any |= endpoints.iter().any(|endpoint| endpoint.ready || draining(&endpoint));
        let local = || endpoints.iter().filter(|endpoint| endpoint.local);
        found.local = local().filter(|endpoint| endpoint.ready).map(|endpoint| endpoint.to).collect();
        if found.local.is_empty() {
            found.local = local().filter(draining).map(|endpoint| endpoint.to).collect();
        }
        here.extend(found.local.iter().copied());
    }
    here.sort_unstable();
    here.dedup();
    found.here = here;
    found
}

/// Which hints count: those for nodes before those for zones, and only if every ready endpoint has some and at least
/// one is for this node (KEP-2433, KEP-3015).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topology {
    Everywhere,
    SameNode,
    SameZone,
}

fn for_node(endpoint: &Endpoint<'_>, node: &Node) -> bool {
    endpoint.hints.is_some_and(|hints| hints.nodes.contains(&node.name))
}

fn for_zone(endpoint: &Endpoint<'_>, node: &Node) -> bool {
    match (&node.zone, endpoint.hints) {
        (Some(zone), Some(hints)) => hints.zones.contains(zone),
        _ => false,
    }
}

impl Topology {
    fn from_hints(endpoints: &[Endpoint<'_>], node: &Node) -> Self {
        let ready = || endpoints.iter().filter(|endpoint| endpoint.ready);
        let all = |has: fn(&Hints) -> bool| ready().all(|endpoint| endpoint.hints.is_some_and(has));
        if all(|hints| !hints.nodes.is_empty()) && ready().any(|endpoint| for_node(endpoint, node)) {
            Self::SameNode
        } else if all(|hints| !hints.zones.is_empty()) && ready().any(|endpoint| for_zone(endpoint, node)) {
            Self::SameZone
        } else {
            Self::Everywhere
        }
    }

    fn allows(self, endpoint: &Endpoint<'_>, node: &Node) -> bool {
        match self {
            Self::Everywhere => true,
            Self::SameNode => for_node(endpoint, node),
            Self::SameZone => for_zone(endpoint, node),
        }
    }
}
