//! Connection tracking entries of UDP Services. UDP has no end of connection: as long as a client goes on sending, its
//! packets would go on to an endpoint that is gone, or to none at all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nft::Error;
use nft::netlink::{Attrs, Socket, Writer};

use crate::plan::Frontend;

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const UDP: u8 = 17;
// include/uapi/linux/netfilter/nfnetlink_conntrack.h
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const IP_V4_SRC: u16 = 1;
const IP_V4_DST: u16 = 2;
const IP_V6_SRC: u16 = 3;
const IP_V6_DST: u16 = 4;
const PROTO_NUM: u16 = 1;
const PROTO_SRC_PORT: u16 = 2;
const PROTO_DST_PORT: u16 = 3;

/// Direction's source and destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tuple {
    source: SocketAddr,
    destination: SocketAddr,
}

fn address(ip: Attrs<'_>, v4: u16, v6: u16) -> Option<IpAddr> {
    if let Some(bytes) = ip.get(v4) {
        return Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(ip.get(v6)?).ok()?).into())
}

/// A UDP tuple.
fn tuple(attrs: Attrs<'_>) -> Option<Tuple> {
    let (ip, proto) = (attrs.nested(TUPLE_IP)?, attrs.nested(TUPLE_PROTO)?);
    if proto.get(PROTO_NUM) != Some(&[UDP]) {
        return None;
    }
    Some(Tuple {
        source: SocketAddr::new(address(ip, IP_V4_SRC, IP_V6_SRC)?, proto.get_u16(PROTO_SRC_PORT)?),
        destination: SocketAddr::new(address(ip, IP_V4_DST, IP_V6_DST)?, proto.get_u16(PROTO_DST_PORT)?),
    })
}

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
        let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET } as u8;
        let mut request = Writer::default();
        request.begin(SUBSYSTEM << 8 | GET, (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16, 1, family, 0);
        request.end();
        let mut deletes = Writer::default();
        let mut count = 0;
        // An interrupted dump may have missed entries that appeared meanwhile: those are not stale.
        socket.dump(request.bytes(), 1, |message| {
            let attrs = message.attrs();
            let tuples = attrs.nested(TUPLE_ORIG).and_then(tuple).zip(attrs.nested(TUPLE_REPLY).and_then(tuple));
            if let Some((original, reply)) = tuples
                && self.is_stale(original, reply)
            {
                count += 1;
                deletes.begin(SUBSYSTEM << 8 | DELETE, libc::NLM_F_REQUEST as u16, 2, family, 0);
                for kind in [TUPLE_ORIG, ID, ZONE] {
                    if let Some(value) = attrs.get(kind) {
                        let flag = if kind == TUPLE_ORIG { NESTED } else { 0 };
                        deletes.attr(kind | flag, value);
                    }
                }
                deletes.end();
            }
        })?;
        if count > 0 {
            socket.send(deletes.bytes())?;
            // Entries that expired between dump and deletion are what was wanted.
            socket.refusals()?;
        }
        Ok(count)
    }
}

/// Flag that an attribute holds attributes (NLA_F_NESTED).
const NESTED: u16 = 0x8000;

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
