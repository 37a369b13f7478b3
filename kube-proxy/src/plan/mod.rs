//! From Services and endpoints to an nf_tables ruleset; pure.
//!
//! The design is upstream's (KEP-3866): a packet to a Service costs one lookup in a verdict map keyed by address,
//! protocol and port, however many Services there are; the map's verdict goes to the Service's own chain, which picks
//! an endpoint at random. Services without endpoints stand in maps whose verdicts reject or drop.

pub mod base;
pub mod endpoints;
pub mod names;
mod service;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use nft::{Element, Rule, Set};

use crate::net::Cidr;

pub use endpoints::Endpoint;
pub use service::plan;

/// What a plan depends on besides the Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    /// Label `topology.kubernetes.io/zone` of the Node.
    pub zone: Option<String>,
    pub ips: Vec<IpAddr>,
    pub pod_cidrs: Vec<Cidr>,
}

/// The sets and maps that all Services share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shared {
    /// Cluster IPs in use.
    ClusterIps,
    /// address . protocol . port → chain of the Service.
    ServiceIps,
    /// protocol . port → chain of the Service.
    NodePorts,
    /// address . protocol . port → reject or drop.
    NoEndpointServices,
    /// protocol . port → reject or drop.
    NoEndpointNodePorts,
    /// address . protocol . port → chain that checks loadBalancerSourceRanges.
    FirewallIps,
    /// Endpoints of this node that may be reached by themselves.
    HairpinConnections,
}

/// Where a UDP Service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Frontend {
    Address(SocketAddr),
    NodePort(u16),
}

/// The part of the ruleset that one Service has, for one IP version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub elements: Vec<(Shared, Element)>,
    pub chains: BTreeMap<String, Vec<Rule>>,
    /// Sets that remember who was sent to which endpoint.
    pub affinity_sets: Vec<Set>,
    /// Where UDP is answered, and by which endpoints connections may go on.
    pub udp: BTreeMap<Frontend, BTreeSet<SocketAddr>>,
}

impl Plan {
    /// Whether the Service has no part in the ruleset.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
