//! IP addresses and CIDRs, with upstream's messages (apimachinery `util/validation/ip.go`).

use std::net::{IpAddr, Ipv4Addr};

const NOT_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NOT_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Reads an address as upstream's "sloppy" parser: octets of IPv4 may have leading zeros, IPv6 has no zone. An
/// IPv4-mapped IPv6 address stays IPv6 here.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    let mut octets = [0_u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        let ok = (1..=16).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        *octet = if ok { part.parse().ok()? } else { return None };
    }
    parts.next().is_none().then(|| IpAddr::V4(Ipv4Addr::from(octets)))
}

/// Whether the text is an IPv4 address in which an octet has leading zeros.
fn has_leading_zeros(text: &str) -> bool {
    text.parse::<IpAddr>().is_err()
}

/// An address's canonical text, in which IPv4-mapped IPv6 is written as IPv4.
fn canonical(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// An address in a field that predates strict validation: any spelling but ambiguous ones.
pub fn ip_legacy(value: &str) -> Vec<String> {
    let Some(address) = parse_ip(value) else { return vec![NOT_IP.to_owned()] };
    if has_leading_zeros(value) {
        return vec!["must not have leading 0s".to_owned()];
    }
    if is_mapped(address) {
        return vec!["must not be an IPv4-mapped IPv6 address".to_owned()];
    }
    Vec::new()
}

/// An address in canonical form.
pub fn ip(value: &str) -> Vec<String> {
    let errors = ip_legacy(value);
    match parse_ip(value).map(canonical) {
        Some(canonical) if errors.is_empty() && canonical != value => {
            vec![format!("must be in canonical form ({canonical:?})")]
        }
        _ => errors,
    }
}

/// Reads `address/bits`: the address as given, and the prefix length.
pub fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address = parse_ip(address)?;
    if bits.is_empty() || bits.len() > 8 || !bits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let bits: u32 = bits.parse().ok()?;
    let widest = if address.is_ipv4() { 32 } else { 128 };
    (bits <= widest).then_some((address, u8::try_from(bits).ok()?))
}

/// The address with the bits beyond the prefix length cleared.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

/// Whether an address lies in the network that has this address and prefix length.
pub fn in_network(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    address.is_ipv4() == network.is_ipv4() && masked(address, bits) == masked(network, bits)
}

/// A network in a field that predates strict validation: any spelling but ambiguous ones.
pub fn cidr_legacy(value: &str) -> Vec<String> {
    let Some((address, bits)) = parse_cidr(value) else { return vec![NOT_CIDR.to_owned()] };
    let (address_text, bits_text) = value.split_once('/').unwrap_or((value, ""));
    if has_leading_zeros(address_text) || (bits_text.len() > 1 && bits_text.starts_with('0')) {
        return vec!["must not have leading 0s in IP or prefix length".to_owned()];
    }
    if is_mapped(address) {
        return vec!["must not have an IPv4-mapped IPv6 address".to_owned()];
    }
    if masked(address, bits) != address {
        return vec!["must not have bits set beyond the prefix length".to_owned()];
    }
    Vec::new()
}

/// A network in canonical form.
pub fn cidr(value: &str) -> Vec<String> {
    let errors = cidr_legacy(value);
    match parse_cidr(value) {
        Some((address, bits)) if errors.is_empty() => {
            let canonical = format!("{address}/{bits}");
            if canonical == value { errors } else { vec![format!("must be in canonical form ({canonical:?})")] }
        }
        _ => errors,
    }
}
