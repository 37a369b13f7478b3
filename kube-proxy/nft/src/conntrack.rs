//! Connection tracking entries of UDP (include/uapi/linux/netfilter/nfnetlink_conntrack.h). UDP has no end of
//! connection: as long as a client goes on sending, its packets go on to where the first one was led.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::Error;
use crate::netlink::{Attrs, Socket, Writer};

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const UDP: u8 = 17;
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

/// Flag that an attribute holds attributes (NLA_F_NESTED).
const NESTED: u16 = 0x8000;

/// Direction's source and destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    pub source: SocketAddr,
    pub destination: SocketAddr,
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

/// Deletes the UDP entries of which `is_stale` says so, by their original and reply tuples; says how many. `socket` is
/// of netfilter's netlink protocol.
///
/// # Errors
/// The kernel refuses to list or delete.
pub fn delete_udp(
    socket: &mut Socket,
    ipv6: bool,
    mut is_stale: impl FnMut(Tuple, Tuple) -> bool,
) -> Result<usize, Error> {
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
            && is_stale(original, reply)
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
