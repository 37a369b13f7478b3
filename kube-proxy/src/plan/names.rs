//! Names of the chains and sets that belong to one Service port. They tell a reader of `nft list` what they are for,
//! and are unique: NAMESPACE/NAME/PROTOCOL/PORT is.

use std::net::SocketAddr;

use crate::model::{Name, Port};

/// A port of a Service.
#[derive(Debug, Clone, Copy)]
pub struct PortName<'a> {
    pub service: &'a Name,
    pub port: &'a Port,
}

impl PortName<'_> {
    fn suffix(self) -> String {
        let Name { namespace, name } = self.service;
        format!("{namespace}/{name}/{}/{}", self.port.protocol.name(), self.port.port)
    }

    /// Chain of all endpoints that any node's traffic may go to.
    pub fn cluster(self) -> String {
        format!("service-{}", self.suffix())
    }

    /// Chain of this node's endpoints.
    pub fn local(self) -> String {
        format!("local-{}", self.suffix())
    }

    /// Chain for traffic to external addresses and node ports.
    pub fn external(self) -> String {
        format!("external-{}", self.suffix())
    }

    /// Chain that checks the source of traffic to load balancer addresses.
    pub fn firewall(self) -> String {
        format!("firewall-{}", self.suffix())
    }

    /// Chain of one endpoint, with session affinity.
    pub fn endpoint(self, to: SocketAddr) -> String {
        format!("endpoint-{}__{}", self.suffix(), target(to))
    }

    /// Set of clients bound to one endpoint. Its timeout is part of the name, because a set's timeout cannot change.
    pub fn affinity(self, to: SocketAddr, seconds: u32) -> String {
        format!("affinity-{seconds}-{}__{}", self.suffix(), target(to))
    }
}

/// An endpoint in characters that the `nft` program reads in names.
fn target(to: SocketAddr) -> String {
    format!("{}/{}", to.ip().to_string().replace(':', "."), to.port())
}

/// Whether a chain of this name belongs to a Service (and so may be stale).
pub fn is_service_chain(name: &str) -> bool {
    ["service-", "local-", "external-", "firewall-", "endpoint-"].iter().any(|prefix| name.starts_with(prefix))
        && name.contains('/')
}
