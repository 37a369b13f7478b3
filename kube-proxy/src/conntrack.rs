//! Connection tracking entries of UDP Services. UDP has no end of connection: as long as a client goes on sending, its
//! packets would go on to an endpoint that is gone, or to none at all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use nft::Error;
use nft::conntrack::{Tuple, delete_udp};
use nft::netlink::Socket;

use crate::plan::Frontend;

/// Which entries have to go.
#[derive(Debug)]
pub struct Stale<'a> {
    /// Frontends that changed, with the endpoints whose connections may go on.
    pub frontends: &'a BTreeMap<Frontend, BTreeSet<SocketAddr>>,
    /// Addresses that node ports answer on.
    pub node_ips: &'a [IpAddr],
}

impl Stale<'_> {
    /// Whether an entry leads to something else than an endpoint of its Service.
    fn is_stale(&self, original: Tuple, reply: Tuple) -> bool {
        let to = original.destination;
        let endpoints = self.frontends.get(&Frontend::Address(to)).or_else(|| {
            let node_port = self.node_ips.contains(&to.ip()).then_some(Frontend::NodePort(to.port()))?;
            self.frontends.get(&node_port)
        });
        endpoints.is_some_and(|endpoints| !endpoints.contains(&reply.source))
    }

    /// Deletes them; says how many.
    pub fn delete(&self, socket: &mut Socket, ipv6: bool) -> Result<usize, Error> {
        if self.frontends.is_empty() {
            return Ok(0);
        }
        delete_udp(socket, ipv6, |original, reply| self.is_stale(original, reply))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn entries_are_stale_when_their_endpoint_is_not_among_the_services() {
        let frontends = BTreeMap::from([
            (Frontend::Address(at("10.96.0.10:53")), BTreeSet::from([at("10.244.0.2:53")])),
            (Frontend::Address(at("10.96.0.11:53")), BTreeSet::new()),
            (Frontend::NodePort(30053), BTreeSet::from([at("10.244.0.2:53")])),
        ]);
        let node_ips = [IpAddr::from([192, 168, 0, 1])];
        let stale = Stale { frontends: &frontends, node_ips: &node_ips };
        let client = at("10.244.0.9:4000");
        for (to, from, expected) in [
            ("10.96.0.10:53", "10.244.0.2:53", false),
            ("10.96.0.10:53", "10.244.0.3:53", true),
            ("10.96.0.10:53", "10.96.0.10:53", true),
            ("10.96.0.11:53", "10.244.0.2:53", true),
            ("10.96.0.10:54", "10.244.0.3:53", false),
            ("192.168.0.1:30053", "10.244.0.3:53", true),
            ("192.168.0.1:30053", "10.244.0.2:53", false),
            ("1.2.3.4:30053", "1.2.3.4:30053", false),
        ] {
            let original = Tuple { source: client, destination: at(to) };
            let reply = Tuple { source: at(from), destination: client };
            assert_eq!(stale.is_stale(original, reply), expected, "{to} answered by {from}");
        }
    }
}
