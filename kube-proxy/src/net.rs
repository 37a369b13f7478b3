//! Networks in prefix notation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IP network; the host bits of its address are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    addr: IpAddr,
    prefix: u8,
}

/// Text that is no network.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0:?} is not an IP network such as 10.244.0.0/16")]
pub struct ParseError(String);

impl Cidr {
    /// The network that `addr` is in; prefixes longer than the address mean all of it.
    pub fn new(addr: IpAddr, prefix: u8) -> Self {
        match addr {
            IpAddr::V4(v4) => {
                let prefix = prefix.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                Self { addr: Ipv4Addr::from(u32::from(v4) & mask).into(), prefix }
            }
            IpAddr::V6(v6) => {
                let prefix = prefix.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                Self { addr: Ipv6Addr::from(u128::from(v6) & mask).into(), prefix }
            }
        }
    }

    /// The network's address.
    pub fn addr(self) -> IpAddr {
        self.addr
    }

    /// How many leading bits are fixed.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether the address lies within.
    pub fn contains(self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.addr.is_ipv4() && Self::new(addr, self.prefix) == self
    }

    /// The first address after the network's own: a node's gateway in its Pod network.
    pub fn gateway(self) -> IpAddr {
        match self.addr {
            IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4).saturating_add(1)).into(),
            IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6).saturating_add(1)).into(),
        }
    }
}

impl FromStr for Cidr {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bad = || ParseError(text.to_owned());
        let (addr, prefix) = text.split_once('/').ok_or_else(bad)?;
        let addr: IpAddr = addr.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        let longest = if addr.is_ipv4() { 32 } else { 128 };
        if prefix > longest { Err(bad()) } else { Ok(Self::new(addr, prefix)) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn networks_parse_contain_and_have_gateways() {
        let pods: Cidr = "10.244.3.9/24".parse().unwrap();
        assert_eq!(pods.to_string(), "10.244.3.0/24");
        assert_eq!(pods.gateway().to_string(), "10.244.3.1");
        assert!(pods.contains("10.244.3.255".parse().unwrap()));
        assert!(!pods.contains("10.244.4.0".parse().unwrap()));
        assert!(!pods.contains("::1".parse().unwrap()));
        let all: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("255.1.2.3".parse().unwrap()));
        assert_eq!("fd00:1::/64".parse::<Cidr>().unwrap().gateway().to_string(), "fd00:1::1");
        for bad in ["10.0.0.0", "10.0.0.0/33", "x/8", "::/129", "10.0.0.0/-1"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
