//! The Pods' network on this node: which addresses are whose, and what the kernel's links are called.

pub mod ipam;
pub mod ports;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::Ipv4Addr;

use crate::syscall::netlink::{Batch, Mac, Socket, VethEnd};

/// Nothing is sent there.
const GATEWAY_MTU: u32 = 1500;

/// Ends of the pair that carries the gateway's address.
pub fn node_links(cluster_id: &str) -> BTreeSet<String> {
    BTreeSet::from([gateway_link(cluster_id), format!("cox{cluster_id}gp")])
}

/// A link's name is at most 15 bytes: `cox`, the cluster's 8 digits, and the address's lower half.
pub fn link_name(cluster_id: &str, address: Ipv4Addr) -> String {
    let [_, _, high, low] = address.octets();
    format!("cox{cluster_id}{high:02x}{low:02x}")
}

/// The link that carries the gateway's address while no Pod is there: one end of a pair that leads nowhere, since not
/// every kernel has dummy links.
fn gateway_link(cluster_id: &str) -> String {
    format!("cox{cluster_id}gw")
}

/// Locally administered, derived from the Pod's address: the Pod's end, or the node's.
pub fn mac_of(address: Ipv4Addr, host: bool) -> Mac {
    let [a, b, c, d] = address.octets();
    [if host { 0x06 } else { 0x02 }, 0xc0, a, b, c, d]
}

/// Makes this node a router for its Pods: the gateway's address is there before the first Pod, and packets pass on.
pub fn prepare_node(cluster_id: &str, gateway: Ipv4Addr) -> io::Result<()> {
    let forwarding = "/proc/sys/net/ipv4/ip_forward";
    if fs::read_to_string(forwarding)?.trim() != "1" {
        fs::write(forwarding, "1").map_err(|error| io::Error::new(error.kind(), format!("{forwarding}: {error}")))?;
    }
    let socket = Socket::open()?;
    let name = gateway_link(cluster_id);
    if socket.index(&name).is_err() {
        let mut batch = Batch::default();
        let here = VethEnd { name: &name, mac: mac_of(gateway, true) };
        let there = VethEnd { name: &format!("cox{cluster_id}gp"), mac: mac_of(gateway, false) };
        batch.veth(&here, &there, None, GATEWAY_MTU);
        batch.link_up(there.name);
        match socket.apply(&batch) {
            // The node's proxy made it meanwhile: both see to it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
    }
    let mut batch = Batch::default();
    batch.address(socket.index(&name)?, gateway);
    socket.apply(&batch)
}

/// Gone already is fine.
pub fn delete_link(name: &str) -> io::Result<()> {
    let socket = Socket::open()?;
    if socket.index(name).is_err() {
        return Ok(());
    }
    let mut batch = Batch::default();
    batch.delete_link(name);
    match socket.apply(&batch) {
        Err(error) if socket.index(name).is_ok() => Err(error),
        _ => Ok(()),
    }
}

/// Deletes the cluster's links but those named.
pub fn delete_other_links(cluster_id: &str, keep: &BTreeSet<String>) -> io::Result<()> {
    let names = Socket::open()?.links(&format!("cox{cluster_id}"))?;
    names.iter().filter(|name| !keep.contains(*name)).try_for_each(|name| delete_link(name))
}
