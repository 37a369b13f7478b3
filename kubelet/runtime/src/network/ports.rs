//! Ports of the node that lead to Pods (`hostPort`): an nf_tables table of its own, `ip cox-ID-ports`, with two maps
//! from a port of any or of one address to a Pod's address and port. It is there while a Pod has such ports.
//!
//! Written as a whole in one transaction whenever a Pod with such ports comes or goes, so that no packet sees half of
//! it. Connections that are led already go on.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nft::conntrack::{self, Tuple};
use nft::expr::{Cmp, FibAddr};
use nft::{
    Batch, Chain, ChainType, Connection, Element, Family, Field, Hook, Ip, MapData, Part, Rule, Set, Side, Table,
    concat, priority,
};

use crate::cri::PortMapping;

/// Keyed by protocol and port.
const ANY: &str = "ports";
/// Keyed by address, protocol and port.
const OF_ADDRESS: &str = "ports-of-address";
/// Pods that reach themselves: their answers would not pass the node under their own address.
const HAIRPIN: &str = "hairpin";

/// A port of the node that leads to a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lead {
    /// IPPROTO number.
    protocol: u8,
    /// `None` is every address of the node.
    address: Option<Ipv4Addr>,
    port: u16,
    pod: Ipv4Addr,
    pod_port: u16,
}

impl Lead {
    /// The mapping for a Pod with this address; `None` when it is of an address that IPv4 Pods have nothing to do with.
    pub fn new(mapping: &PortMapping, pod: Ipv4Addr) -> Option<Self> {
        let protocol = match mapping.protocol.as_str() {
            "UDP" => libc::IPPROTO_UDP,
            "SCTP" => libc::IPPROTO_SCTP,
            _ => libc::IPPROTO_TCP,
        };
        let address = match mapping.host_ip.as_str() {
            "" | "0.0.0.0" => None,
            address => Some(address.parse().ok()?),
        };
        let protocol = u8::try_from(protocol).ok()?;
        Some(Self { protocol, address, port: mapping.host_port, pod, pod_port: mapping.container_port })
    }

    fn element(&self) -> Element {
        let to = concat(&[&self.pod.octets(), &self.pod_port.to_be_bytes()]);
        let port = self.port.to_be_bytes();
        match self.address {
            None => Element::value(concat(&[&[self.protocol], &port]), to),
            Some(address) => Element::value(concat(&[&address.octets(), &[self.protocol], &port]), to),
        }
    }

    /// Whether packets to this destination are led here.
    fn takes(&self, to: SocketAddr) -> bool {
        self.protocol == 17 && self.port == to.port() && self.address.is_none_or(|own| to.ip() == IpAddr::V4(own))
    }
}

fn table(cluster_id: &str) -> Table {
    Table::new(Family::Ip, format!("cox-{cluster_id}-ports"))
}

fn failed(operation: &'static str) -> impl FnOnce(nft::Error) -> io::Error {
    move |error| io::Error::other(format!("{operation}: {error}"))
}

/// Makes the node's ports lead where `leads` say, and nowhere else. Two leads of the same port are refused.
pub fn apply(cluster_id: &str, leads: &BTreeSet<Lead>) -> io::Result<()> {
    if leads.is_empty() {
        return remove(cluster_id);
    }
    let mut connection = Connection::open().map_err(failed("open nf_tables"))?;
    connection.apply(batch(&table(cluster_id), leads)).map_err(failed("lead host ports"))?;
    forget_strays(leads)
}

/// Removes the table, if it is there.
pub fn remove(cluster_id: &str) -> io::Result<()> {
    let mut connection = Connection::open().map_err(failed("open nf_tables"))?;
    connection.delete_table(&table(cluster_id)).map(drop).map_err(failed("remove host ports"))
}

fn batch(table: &Table, leads: &BTreeSet<Lead>) -> Batch {
    let mut batch = Batch::new(table);
    batch.add_table();
    // Adding first makes the deletion succeed whether or not the table exists.
    batch.delete_table();
    batch.add_table();
    let to = || MapData::Fields(vec![Field::Ipv4Addr, Field::InetService]);
    let any = Set { data: to(), ..Set::of(ANY, &[Field::InetProto, Field::InetService]) };
    let of_address =
        Set { data: to(), ..Set::of(OF_ADDRESS, &[Field::Ipv4Addr, Field::InetProto, Field::InetService]) };
    let hairpin = Set::of(HAIRPIN, &[Field::Ipv4Addr, Field::Ipv4Addr]);
    for set in [&any, &of_address, &hairpin] {
        batch.add_set(set);
    }
    let elements = |with_address: bool| -> Vec<Element> {
        leads.iter().filter(|lead| lead.address.is_some() == with_address).map(Lead::element).collect()
    };
    batch.add_elements(ANY, &elements(false));
    batch.add_elements(OF_ADDRESS, &elements(true));
    let pods: BTreeSet<Ipv4Addr> = leads.iter().map(|lead| lead.pod).collect();
    let pairs: Vec<Element> = pods.iter().map(|pod| Element::key(concat(&[&pod.octets(), &pod.octets()]))).collect();
    batch.add_elements(HAIRPIN, &pairs);

    let lead = [
        // The kernel keeps the first answer: an address's own port comes before that of every address.
        Rule::new().fib_local(FibAddr::Destination).dnat_by(
            Ip::V4,
            &[Part::Addr(Side::Destination, Ip::V4), Part::L4proto, Part::DestinationPort],
            OF_ADDRESS,
        ),
        Rule::new().fib_local(FibAddr::Destination).dnat_by(Ip::V4, &[Part::L4proto, Part::DestinationPort], ANY),
    ];
    for (name, hook) in [("from-outside", Hook::Prerouting), ("from-node", Hook::Output)] {
        batch.write_chain(&Chain::base(name, ChainType::Nat, hook, priority::DSTNAT), &lead);
    }
    let loopback = [(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8)];
    let answers = [
        Rule::new()
            .in_set(&[Part::Addr(Side::Source, Ip::V4), Part::Addr(Side::Destination, Ip::V4)], HAIRPIN)
            .masquerade(),
        Rule::new().oifname(Cmp::Neq, "lo").addr_in(Side::Source, Ip::V4, &loopback, false).masquerade(),
    ];
    batch.write_chain(&Chain::base("answers", ChainType::Nat, Hook::Postrouting, priority::SRCNAT), &answers);
    // Pods' links may carry answers to the node's loopback now; what begins there must not get to it.
    let guard = [Rule::new().iifname(Cmp::Neq, "lo").addr_in(Side::Destination, Ip::V4, &loopback, false).drop()];
    batch.write_chain(&Chain::base("guard", ChainType::Filter, Hook::Prerouting, priority::RAW), &guard);
    batch
}

/// UDP senders that were led to a Pod that is gone, or nowhere, are led anew.
fn forget_strays(leads: &BTreeSet<Lead>) -> io::Result<()> {
    let udp: Vec<&Lead> = leads.iter().filter(|lead| lead.protocol == 17).collect();
    if udp.is_empty() {
        return Ok(());
    }
    let is_stray = |original: Tuple, reply: Tuple| {
        let lead = udp.iter().find(|lead| lead.takes(original.destination));
        // Only what was meant for this machine: a Pod may send to the same port elsewhere, and then nothing is led.
        lead.is_some_and(|lead| {
            let led_elsewhere = reply.source != original.destination;
            let right = SocketAddr::new(lead.pod.into(), lead.pod_port);
            reply.source != right && (led_elsewhere || lead.address.is_some())
        })
    };
    let mut socket = nft::netlink::Socket::open().map_err(failed("open connection tracking"))?;
    conntrack::delete_udp(&mut socket, false, is_stray).map_err(failed("forget UDP connections"))?;
    Ok(())
}

/// Lets answers of a Pod's link reach the node's loopback, from where the question came.
pub fn open_loopback(link: &str) -> io::Result<()> {
    let path = format!("/proc/sys/net/ipv4/conf/{link}/route_localnet");
    std::fs::write(&path, "1").map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn lead(protocol: &str, host_ip: &str, host_port: u16) -> Option<Lead> {
        let mapping =
            PortMapping { protocol: protocol.to_owned(), container_port: 80, host_port, host_ip: host_ip.to_owned() };
        Lead::new(&mapping, Ipv4Addr::new(10, 244, 0, 2))
    }

    #[test]
    fn ports_of_an_address_and_of_all() {
        let any = lead("TCP", "", 8080).unwrap();
        assert_eq!(any.element().key, [6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(lead("TCP", "0.0.0.0", 8080), Some(any));
        let own = lead("UDP", "127.0.0.1", 53).unwrap();
        assert_eq!(own.element().key, [127, 0, 0, 1, 17, 0, 0, 0, 0, 53, 0, 0]);
        assert_eq!(lead("UDP", "::1", 53), None, "a Pod without an IPv6 address answers no IPv6 port");
        assert_eq!(lead("SCTP", "", 1).unwrap().protocol, 132);
    }

    #[test]
    fn udp_senders_to_a_port_are_known() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(lead("UDP", "", 53).unwrap().takes(at("1.2.3.4:53")));
        assert!(!lead("UDP", "1.2.3.5", 53).unwrap().takes(at("1.2.3.4:53")));
        assert!(!lead("TCP", "", 53).unwrap().takes(at("1.2.3.4:53")));
    }
}
