//! Sets and maps: their key and data types, and their elements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::uapi;

/// A component of a key, or the data of a map. The numbers are those the `nft` program shows types by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    Ipv4Addr,
    Ipv6Addr,
    InetProto,
    InetService,
    /// A 32-bit number in host byte order, such as `numgen` makes.
    Integer,
    Mark,
    /// Name of a link.
    IfName,
}

impl Field {
    /// Length as declared, bytes.
    pub fn len(self) -> usize {
        match self {
            Self::Ipv4Addr | Self::Integer | Self::Mark => 4,
            Self::Ipv6Addr | Self::IfName => 16,
            Self::InetProto => 1,
            Self::InetService => 2,
        }
    }

    /// Fields are never empty.
    pub fn is_empty(self) -> bool {
        false
    }

    /// Length in registers and concatenated keys, bytes.
    pub(crate) fn padded(self) -> usize {
        self.len().next_multiple_of(4)
    }

    fn type_number(self) -> u32 {
        match self {
            Self::Integer => 4,
            Self::Ipv4Addr => 7,
            Self::Ipv6Addr => 8,
            Self::InetProto => 12,
            Self::InetService => 13,
            Self::Mark => 19,
            Self::IfName => 41,
        }
    }

    fn host_order(self) -> bool {
        matches!(self, Self::Integer | Self::Mark | Self::IfName)
    }
}

/// `nft`'s number for a byte order: 1 host, 2 network.
fn byte_order(fields: &[Field]) -> u32 {
    match fields {
        [only] if only.host_order() => 1,
        [_] => 2,
        _ => 0,
    }
}

/// Number by which the `nft` program knows the (concatenated) type.
fn type_number(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |number, field| number << 6 | field.type_number())
}

/// Declared length of a (concatenated) key or value, bytes.
fn total(fields: &[Field]) -> usize {
    match fields {
        [only] => only.len(),
        many => many.iter().map(|field| field.padded()).sum(),
    }
}

/// What a packet that matched is to meet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

impl Verdict {
    pub(crate) fn code(&self) -> i32 {
        match self {
            Self::Accept => uapi::NF_ACCEPT,
            Self::Drop => uapi::NF_DROP,
            Self::Return => uapi::NFT_RETURN,
            Self::Jump(_) => uapi::NFT_JUMP,
            Self::Goto(_) => uapi::NFT_GOTO,
        }
    }

    pub(crate) fn chain(&self) -> Option<&str> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            Self::Accept | Self::Drop | Self::Return => None,
        }
    }

    pub(crate) fn parse(code: i32, chain: Option<&str>) -> Option<Self> {
        match (code, chain) {
            (uapi::NF_ACCEPT, _) => Some(Self::Accept),
            (uapi::NF_DROP, _) => Some(Self::Drop),
            (uapi::NFT_RETURN, _) => Some(Self::Return),
            (uapi::NFT_JUMP, Some(chain)) => Some(Self::Jump(chain.to_owned())),
            (uapi::NFT_GOTO, Some(chain)) => Some(Self::Goto(chain.to_owned())),
            _ => None,
        }
    }
}

/// A value in a register, or a map's data.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Data {
    Value(Vec<u8>),
    Verdict(Verdict),
}

/// One element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Element {
    pub key: Vec<u8>,
    pub data: Option<Data>,
    /// Marks the first key after an interval (sets with [`Set::interval`]).
    pub interval_end: bool,
}

impl Element {
    /// An element of a set.
    pub fn key(key: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), data: None, interval_end: false }
    }

    /// An element of a verdict map.
    pub fn verdict(key: impl Into<Vec<u8>>, verdict: Verdict) -> Self {
        Self { key: key.into(), data: Some(Data::Verdict(verdict)), interval_end: false }
    }

    /// An element of a map to values.
    pub fn value(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), data: Some(Data::Value(value.into())), interval_end: false }
    }

    /// The elements that say an interval set contains `ip/prefix`; the end is left out where the address space ends.
    pub fn network(ip: IpAddr, prefix: u8) -> Vec<Self> {
        let (first, after) = match ip {
            IpAddr::V4(ip) => {
                let size = 1u64 << 32u8.saturating_sub(prefix);
                let first = u64::from(u32::from(ip)) & !(size - 1);
                let after = u32::try_from(first + size).ok();
                (
                    Ipv4Addr::from(first as u32).octets().to_vec(),
                    after.map(|after| Ipv4Addr::from(after).octets().to_vec()),
                )
            }
            IpAddr::V6(ip) => {
                let host = 128u32.saturating_sub(u32::from(prefix));
                let mask = u128::MAX.checked_shl(host).unwrap_or(0);
                let first = u128::from(ip) & mask;
                let after = 1u128.checked_shl(host).and_then(|size| first.checked_add(size));
                (Ipv6Addr::from(first).octets().to_vec(), after.map(|after| Ipv6Addr::from(after).octets().to_vec()))
            }
        };
        let end = after.map(|key| Self { key, data: None, interval_end: true });
        std::iter::once(Self::key(first)).chain(end).collect()
    }
}

/// A named set, or a map if it has data.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Set {
    pub name: String,
    /// Components of the key, in order.
    pub key: Vec<Field>,
    pub data: MapData,
    pub interval: bool,
    /// Rules may add elements; these expire after so many milliseconds.
    pub dynamic_timeout_ms: Option<u64>,
}

/// What elements map to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MapData {
    /// A plain set.
    None,
    Verdict,
    Fields(Vec<Field>),
}

impl Set {
    /// A set of keys.
    pub fn of(name: impl Into<String>, key: &[Field]) -> Self {
        Self { name: name.into(), key: key.to_vec(), data: MapData::None, interval: false, dynamic_timeout_ms: None }
    }

    /// A map from keys to verdicts.
    pub fn verdict_map(name: impl Into<String>, key: &[Field]) -> Self {
        Self { data: MapData::Verdict, ..Self::of(name, key) }
    }

    /// A set of networks; elements come from [`Element::network`].
    pub fn networks(name: impl Into<String>, field: Field) -> Self {
        Self { interval: true, ..Self::of(name, &[field]) }
    }

    /// A set that rules fill, whose elements expire.
    pub fn dynamic(name: impl Into<String>, key: &[Field], timeout_ms: u64) -> Self {
        Self { dynamic_timeout_ms: Some(timeout_ms), ..Self::of(name, key) }
    }

    pub(crate) fn flags(&self) -> u32 {
        let mut flags = 0;
        if self.interval {
            flags |= uapi::SET_F_INTERVAL;
        }
        if self.data != MapData::None {
            flags |= uapi::SET_F_MAP;
        }
        if self.dynamic_timeout_ms.is_some() {
            flags |= uapi::SET_F_TIMEOUT | uapi::SET_F_EVAL;
        }
        flags
    }

    pub(crate) fn key_type(&self) -> u32 {
        type_number(&self.key)
    }

    /// Length of a key, bytes.
    pub fn key_len(&self) -> usize {
        total(&self.key)
    }

    /// (type number, length) of the data of a map.
    pub(crate) fn data_type(&self) -> Option<(u32, usize)> {
        match &self.data {
            MapData::None => None,
            MapData::Verdict => Some((uapi::DATA_TYPE_VERDICT, 0)),
            MapData::Fields(fields) => Some((type_number(fields), total(fields))),
        }
    }

    /// User data that tells the `nft` program how to show keys and data.
    pub(crate) fn userdata(&self) -> Vec<u8> {
        let mut bytes = vec![uapi::UDATA_SET_KEYBYTEORDER, 4];
        bytes.extend_from_slice(&byte_order(&self.key).to_ne_bytes());
        if let MapData::Fields(fields) = &self.data {
            bytes.extend_from_slice(&[uapi::UDATA_SET_DATABYTEORDER, 4]);
            bytes.extend_from_slice(&byte_order(fields).to_ne_bytes());
        }
        bytes
    }
}

/// A constant set that lives within one rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InlineSet {
    /// Its type; the name is given by the kernel.
    pub set: Set,
    pub elements: Vec<Element>,
}

/// Assembles a concatenated key: every component padded to four bytes.
pub fn concat(parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(20);
    for part in parts {
        key.extend_from_slice(part);
        key.resize(key.len().next_multiple_of(4), 0);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_become_half_open_intervals() {
        let cases: &[(&str, u8, &[&str])] = &[
            ("10.244.3.7", 16, &["10.244.0.0", "10.245.0.0"]),
            ("192.168.1.1", 32, &["192.168.1.1", "192.168.1.2"]),
            ("255.255.255.0", 24, &["255.255.255.0"]),
            ("1.2.3.4", 0, &["0.0.0.0"]),
            ("fd00::5", 64, &["fd00::", "fd00:0:0:1::"]),
            ("::", 0, &["::"]),
        ];
        for (ip, prefix, expected) in cases {
            let ip: IpAddr = ip.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            let keys: Vec<String> = Element::network(ip, *prefix)
                .into_iter()
                .map(|element| match <[u8; 4]>::try_from(element.key.as_slice()) {
                    Ok(v4) => Ipv4Addr::from(v4).to_string(),
                    Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(element.key).unwrap_or_default()).to_string(),
                })
                .collect();
            assert_eq!(keys, *expected, "{ip}/{prefix}");
        }
    }

    #[test]
    fn concatenated_keys_are_padded() {
        assert_eq!(concat(&[&[10, 96, 0, 1], &[6], &[1, 187]]), [10, 96, 0, 1, 6, 0, 0, 0, 1, 187, 0, 0]);
        let set = Set::verdict_map("m", &[Field::Ipv4Addr, Field::InetProto, Field::InetService]);
        assert_eq!(set.key_len(), 12);
        assert_eq!(set.key_type(), (7 << 12) | (12 << 6) | 13);
    }
}
