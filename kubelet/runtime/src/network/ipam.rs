//! Addresses of the node's Pod CIDR: who has which, kept in a file, the one that was given back longest ago first.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cidr {
    base: Ipv4Addr,
    prefix: u8,
}

impl Cidr {
    /// `a.b.c.d/n`, n from 8 to 30; host bits are cut off.
    pub fn parse(text: &str) -> Result<Cidr, String> {
        let bad = || format!("invalid Pod CIDR {text:?}: an IPv4 network with a prefix of 8 to 30 bits is wanted");
        let (base, prefix) = text.split_once('/').ok_or_else(bad)?;
        let base: Ipv4Addr = base.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        if !(8..=30).contains(&prefix) {
            return Err(bad());
        }
        let mask = u32::MAX << (32 - prefix);
        Ok(Cidr { base: Ipv4Addr::from(u32::from(base) & mask), prefix })
    }

    /// The node's own address on the Pod network, the first.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base) + 1)
    }

    /// Numbers of the addresses for Pods: not the network's, the gateway's, nor the last.
    fn hosts(self) -> std::ops::Range<u32> {
        2..(1u32 << (32 - self.prefix)) - 1
    }

    fn address(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base) + number)
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// Addresses and their owners. Pure but for [`Ipam::save`].
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipam {
    pub cidr: Option<Cidr>,
    taken: BTreeMap<Ipv4Addr, String>,
    /// When an address was given back, as a number that only grows.
    released: BTreeMap<Ipv4Addr, u64>,
    clock: u64,
}

impl Ipam {
    /// The owner's address: the one it has, else the free one that nobody had for longest. And whether somebody had it
    /// before.
    pub fn allocate(&mut self, owner: &str) -> Result<(Ipv4Addr, bool), String> {
        let cidr = self.cidr.ok_or("the node has no Pod CIDR yet")?;
        if let Some((address, _)) = self.taken.iter().find(|(_, of)| *of == owner) {
            return Ok((*address, false));
        }
        let free = cidr.hosts().map(|number| cidr.address(number)).filter(|address| !self.taken.contains_key(address));
        let oldest = free.min_by_key(|address| self.released.get(address).copied().unwrap_or(0));
        let address = oldest.ok_or_else(|| format!("no free address in Pod CIDR {cidr}"))?;
        let used_before = self.released.remove(&address).is_some();
        self.taken.insert(address, owner.to_owned());
        Ok((address, used_before))
    }

    /// Gives back what the owner has; false when that is nothing.
    pub fn release(&mut self, owner: &str) -> bool {
        let of_owner: Vec<Ipv4Addr> =
            self.taken.iter().filter(|(_, of)| *of == owner).map(|(address, _)| *address).collect();
        for address in &of_owner {
            self.taken.remove(address);
            self.clock += 1;
            self.released.insert(*address, self.clock);
        }
        !of_owner.is_empty()
    }

    /// Gives back what belongs to owners that are not there any more.
    pub fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self.taken.values().filter(|owner| !is_there(owner)).cloned().collect();
        for owner in gone {
            self.release(&owner);
        }
    }

    /// A file that cannot be read is as none: sandboxes say which addresses are in use.
    pub fn load(path: &Path) -> Ipam {
        std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// A sandbox that is there has this address, whatever the file said.
    pub fn claim(&mut self, address: Ipv4Addr, owner: &str) {
        self.released.remove(&address);
        self.taken.insert(address, owner.to_owned());
    }

    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        files::replace(path, &serde_json::to_vec(self)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn ipam(cidr: &str) -> Ipam {
        Ipam { cidr: Some(Cidr::parse(cidr).unwrap()), ..Ipam::default() }
    }

    #[test]
    fn addresses_are_given_once_and_reused_last() {
        let mut ipam = ipam("10.244.3.0/29");
        let (first, used_before) = ipam.allocate("a").unwrap();
        assert!(!used_before);
        assert_eq!(first, Ipv4Addr::new(10, 244, 3, 2));
        assert_eq!(ipam.allocate("a").unwrap().0, first, "a repeated request has the same answer");
        assert_eq!(ipam.allocate("b").unwrap().0, Ipv4Addr::new(10, 244, 3, 3));
        assert!(ipam.release("a") && ipam.release("b") && !ipam.release("b"));
        let later: Vec<u8> = ["c", "d", "e"].iter().map(|who| ipam.allocate(who).unwrap().0.octets()[3]).collect();
        assert_eq!(later, [4, 5, 6], "those never used come before those given back");
        assert_eq!(ipam.allocate("f").unwrap(), (first, true), "the one given back longest ago comes next");
        ipam.allocate("g").unwrap();
        assert_eq!(ipam.allocate("h").unwrap_err(), "no free address in Pod CIDR 10.244.3.0/29");
    }

    #[test]
    fn owners_that_are_gone_lose_their_addresses() {
        let mut ipam = ipam("10.0.0.0/24");
        ipam.allocate("a").unwrap();
        let (b, _) = ipam.allocate("b").unwrap();
        ipam.retain(|owner| owner == "b");
        assert_eq!(ipam.taken.into_iter().collect::<Vec<_>>(), [(b, "b".to_owned())]);
    }

    #[test]
    fn bad_networks_are_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/31", "fd00::/64", "x/24"] {
            assert!(Cidr::parse(text).is_err(), "{text}");
        }
        assert_eq!(Cidr::parse("10.1.2.3/24").unwrap().to_string(), "10.1.2.0/24");
    }
}
