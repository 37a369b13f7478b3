//! The Pods' network on this node: which addresses are whose, and what the kernel's links are called.

pub mod ipam;

use std::net::Ipv4Addr;

use crate::syscall::netlink::Mac;

/// A link's name is at most 15 bytes: `cox`, the cluster's 8 digits, and the address's lower half.
pub fn link_name(cluster_id: &str, address: Ipv4Addr) -> String {
    let [_, _, high, low] = address.octets();
    format!("cox{cluster_id}{high:02x}{low:02x}")
}

/// The dummy link that carries the gateway's address while no Pod is there.
pub fn gateway_link(cluster_id: &str) -> String {
    format!("cox{cluster_id}gw")
}

/// Locally administered, derived from the Pod's address: the Pod's end, or the node's.
pub fn mac_of(address: Ipv4Addr, host: bool) -> Mac {
    let [a, b, c, d] = address.octets();
    [if host { 0x06 } else { 0x02 }, 0xc0, a, b, c, d]
}
