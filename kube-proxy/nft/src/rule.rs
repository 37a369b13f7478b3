//! Rules, written much as the `nft` program's language reads: `Rule::new().ip_daddr_in("cluster-ips").reject()`.

use crate::expr::{
    Cmp, CtKey, DynsetOp, Expr, FibAddr, Header, MetaKey, NatKind, Numgen, Reg, Reject, SetRef, ct_state, nat_flags,
};
use crate::set::{Data, Element, Field, InlineSet, MapData, Set, Verdict};

/// Routing's number for an address of this machine.
const RTN_LOCAL: u32 = 2;

/// A rule: expressions evaluated in order until one does not match or gives a verdict.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    pub exprs: Vec<Expr>,
    pub comment: Option<&'static str>,
}

/// Which address of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Source,
    Destination,
}

/// Part of a packet that a concatenated key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Addr(Side, Ip),
    L4proto,
    DestinationPort,
}

/// IP version, where offsets and lengths depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ip {
    V4,
    V6,
}

impl Ip {
    /// Length of an address, bytes.
    pub fn len(self) -> usize {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    /// Addresses are never empty.
    pub fn is_empty(self) -> bool {
        false
    }

    /// Type of an address in sets.
    pub fn field(self) -> Field {
        match self {
            Self::V4 => Field::Ipv4Addr,
            Self::V6 => Field::Ipv6Addr,
        }
    }

    fn offset(self, side: Side) -> u32 {
        match (self, side) {
            (Self::V4, Side::Source) => 12,
            (Self::V4, Side::Destination) => 16,
            (Self::V6, Side::Source) => 8,
            (Self::V6, Side::Destination) => 24,
        }
    }
}

impl Part {
    fn len(self) -> usize {
        match self {
            Self::Addr(_, ip) => ip.len(),
            Self::L4proto | Self::DestinationPort => 4,
        }
    }

    fn load(self, dreg: Reg) -> Expr {
        match self {
            Self::Addr(side, ip) => {
                Expr::Payload { dreg, header: Header::Network, offset: ip.offset(side), len: ip.len() as u32 }
            }
            Self::L4proto => Expr::Meta { key: MetaKey::L4proto, dreg },
            Self::DestinationPort => Expr::Payload { dreg, header: Header::Transport, offset: 2, len: 2 },
        }
    }
}

impl Rule {
    pub fn new() -> Self {
        Self::default()
    }

    /// A remark that `nft list` shows.
    pub fn comment(mut self, text: &'static str) -> Self {
        self.comment = Some(text);
        self
    }

    fn with(mut self, exprs: impl IntoIterator<Item = Expr>) -> Self {
        self.exprs.extend(exprs);
        self
    }

    fn load(self, parts: &[Part]) -> Self {
        let mut reg = Reg::FIRST;
        let loads = parts.iter().map(|part| {
            let expr = part.load(reg);
            reg = reg.after(part.len());
            expr
        });
        self.with(loads.collect::<Vec<_>>())
    }

    /// Only packets of connections that begin.
    pub fn ct_new(self) -> Self {
        self.ct_bits(CtKey::State, ct_state::NEW)
    }

    /// Only packets whose connection has one of these bits.
    pub fn ct_bits(self, key: CtKey, bits: u32) -> Self {
        self.with([Expr::Ct { key, dreg: Reg::FIRST }]).any_bit(bits)
    }

    fn any_bit(self, bits: u32) -> Self {
        self.with([
            Expr::Bitwise {
                sreg: Reg::FIRST,
                dreg: Reg::FIRST,
                mask: bits.to_ne_bytes().to_vec(),
                xor: 0u32.to_ne_bytes().to_vec(),
            },
            Expr::Cmp { op: Cmp::Neq, sreg: Reg::FIRST, data: 0u32.to_ne_bytes().to_vec() },
        ])
    }

    /// Only packets with one of these bits in their mark.
    pub fn mark_has(self, bits: u32) -> Self {
        self.with([Expr::Meta { key: MetaKey::Mark, dreg: Reg::FIRST }]).any_bit(bits)
    }

    /// mark = (mark & keep) ^ flip
    fn mark_bits(self, keep: u32, flip: u32) -> Self {
        self.with([
            Expr::Meta { key: MetaKey::Mark, dreg: Reg::FIRST },
            Expr::Bitwise {
                sreg: Reg::FIRST,
                dreg: Reg::FIRST,
                mask: keep.to_ne_bytes().to_vec(),
                xor: flip.to_ne_bytes().to_vec(),
            },
            Expr::MetaSet { key: MetaKey::Mark, sreg: Reg::FIRST },
        ])
    }

    /// Sets bits of the mark.
    pub fn mark_or(self, bits: u32) -> Self {
        self.mark_bits(!bits, bits)
    }

    /// Flips bits of the mark.
    pub fn mark_xor(self, bits: u32) -> Self {
        self.mark_bits(u32::MAX, bits)
    }

    /// Only (or, inverted, no) packets whose parts, concatenated, are in the set.
    pub fn in_set(self, parts: &[Part], set: impl Into<String>) -> Self {
        self.load(parts).with([Expr::Lookup { set: SetRef::Named(set.into()), sreg: Reg::FIRST, invert: false }])
    }

    /// Only packets whose parts, concatenated, are not in the set.
    pub fn not_in_set(self, parts: &[Part], set: impl Into<String>) -> Self {
        self.load(parts).with([Expr::Lookup { set: SetRef::Named(set.into()), sreg: Reg::FIRST, invert: true }])
    }

    /// Only packets whose address is (or, inverted, is not) in these networks.
    pub fn addr_in(self, side: Side, ip: Ip, networks: &[(std::net::IpAddr, u8)], invert: bool) -> Self {
        let mut elements: Vec<Element> =
            merged(networks).into_iter().flat_map(|(ip, prefix)| Element::network(ip, prefix)).collect();
        elements.sort_by(|a, b| a.key.cmp(&b.key).then(b.interval_end.cmp(&a.interval_end)));
        // Where one network ends at the start of the next the interval goes on.
        let mut joined: Vec<Element> = Vec::with_capacity(elements.len());
        for element in elements {
            match joined.last() {
                Some(last) if last.interval_end && last.key == element.key => {
                    joined.pop();
                }
                _ => joined.push(element),
            }
        }
        let set = Set::networks("", ip.field());
        self.load(&[Part::Addr(side, ip)]).with([Expr::Lookup {
            set: SetRef::Inline(Box::new(InlineSet { set, elements: joined })),
            sreg: Reg::FIRST,
            invert,
        }])
    }

    /// The verdict that a map has for the packet's parts.
    pub fn vmap(self, parts: &[Part], map: impl Into<String>) -> Self {
        self.load(parts).with([Expr::LookupVerdict { set: SetRef::Named(map.into()), sreg: Reg::FIRST }])
    }

    /// Only packets of this IP version: tables of family `inet` see both.
    pub fn nfproto(self, ip: Ip) -> Self {
        let number = match ip {
            Ip::V4 => 2,
            Ip::V6 => 10,
        };
        self.with([
            Expr::Meta { key: MetaKey::Nfproto, dreg: Reg::FIRST },
            Expr::Cmp { op: Cmp::Eq, sreg: Reg::FIRST, data: vec![number] },
        ])
    }

    /// Only packets of this transport protocol (IPPROTO number).
    pub fn l4proto(self, number: u8) -> Self {
        self.with([
            Expr::Meta { key: MetaKey::L4proto, dreg: Reg::FIRST },
            Expr::Cmp { op: Cmp::Eq, sreg: Reg::FIRST, data: vec![number] },
        ])
    }

    /// Only packets to this destination port.
    pub fn dport(self, port: u16) -> Self {
        self.load(&[Part::DestinationPort]).with([Expr::Cmp {
            op: Cmp::Eq,
            sreg: Reg::FIRST,
            data: port.to_be_bytes().to_vec(),
        }])
    }

    /// Only packets that leave (or, with `Neq`, do not leave) by this link.
    pub fn oifname(self, op: Cmp, name: &str) -> Self {
        self.link(MetaKey::OifName, op, name)
    }

    /// Only packets that came (or, with `Neq`, did not come) by this link.
    pub fn iifname(self, op: Cmp, name: &str) -> Self {
        self.link(MetaKey::IifName, op, name)
    }

    fn link(self, key: MetaKey, op: Cmp, name: &str) -> Self {
        let mut data = name.as_bytes().to_vec();
        data.resize(Field::IfName.len(), 0);
        self.with([Expr::Meta { key, dreg: Reg::FIRST }, Expr::Cmp { op, sreg: Reg::FIRST, data }])
    }

    /// Only packets whose address belongs to this machine.
    pub fn fib_local(self, addr: FibAddr) -> Self {
        self.with([
            Expr::FibType { addr, dreg: Reg::FIRST },
            Expr::Cmp { op: Cmp::Eq, sreg: Reg::FIRST, data: RTN_LOCAL.to_ne_bytes().to_vec() },
        ])
    }

    /// One of the verdicts, chosen at random for each packet.
    pub fn random_verdict(self, verdicts: Vec<Verdict>) -> Self {
        let set = Set { data: MapData::Verdict, ..Set::of("", &[Field::Integer]) };
        let modulus = verdicts.len() as u32;
        let elements = (0u32..).zip(verdicts).map(|(n, verdict)| Element::verdict(n.to_ne_bytes(), verdict)).collect();
        self.with([
            Expr::Numgen { dreg: Reg::FIRST, kind: Numgen::Random, modulus, offset: 0 },
            Expr::LookupVerdict { set: SetRef::Inline(Box::new(InlineSet { set, elements })), sreg: Reg::FIRST },
        ])
    }

    /// Destination becomes one of `targets` (address and port), chosen at random for each connection.
    pub fn random_dnat(self, ip: Ip, targets: &[(std::net::IpAddr, u16)]) -> Self {
        if let [only] = targets {
            return self.dnat(only.0, only.1);
        }
        let set = Set { data: MapData::Fields(vec![ip.field(), Field::InetService]), ..Set::of("", &[Field::Integer]) };
        let elements = (0u32..)
            .zip(targets)
            .map(|(n, (addr, port))| {
                Element::value(n.to_ne_bytes(), crate::set::concat(&[&octets(*addr), &port.to_be_bytes()]))
            })
            .collect();
        self.with([
            Expr::Numgen { dreg: Reg::FIRST, kind: Numgen::Random, modulus: targets.len() as u32, offset: 0 },
            Expr::LookupMap {
                set: SetRef::Inline(Box::new(InlineSet { set, elements })),
                sreg: Reg::FIRST,
                dreg: Reg::FIRST,
            },
            dnat_from(ip, Reg::FIRST, Reg::FIRST.after(ip.len())),
        ])
    }

    /// Destination becomes the address and port that a map has for the packet's parts; others pass on.
    pub fn dnat_by(self, ip: Ip, parts: &[Part], map: impl Into<String>) -> Self {
        self.load(parts).with([
            Expr::LookupMap { set: SetRef::Named(map.into()), sreg: Reg::FIRST, dreg: Reg::FIRST },
            dnat_from(ip, Reg::FIRST, Reg::FIRST.after(ip.len())),
        ])
    }

    /// Destination becomes this address and port.
    pub fn dnat(self, addr: std::net::IpAddr, port: u16) -> Self {
        let ip = if addr.is_ipv4() { Ip::V4 } else { Ip::V6 };
        let port_reg = Reg::FIRST.after(16);
        self.with([
            Expr::Immediate { dreg: Reg::FIRST, value: octets(addr) },
            Expr::Immediate { dreg: port_reg, value: port.to_be_bytes().to_vec() },
            dnat_from(ip, Reg::FIRST, port_reg),
        ])
    }

    /// Puts the packet's source address into a set, or renews it there.
    pub fn update_saddr(self, ip: Ip, set: impl Into<String>) -> Self {
        self.load(&[Part::Addr(Side::Source, ip)]).with([Expr::Dynset {
            set: set.into(),
            op: DynsetOp::Update,
            sreg: Reg::FIRST,
            timeout_ms: None,
        }])
    }

    /// Source becomes the address of the link that the packet leaves by, its port a random free one.
    pub fn masquerade(self) -> Self {
        self.with([Expr::Masquerade { flags: nat_flags::FULLY_RANDOM }])
    }

    pub fn reject(self, how: Reject) -> Self {
        self.with([Expr::Reject(how)])
    }

    pub fn counter(self) -> Self {
        self.with([Expr::Counter])
    }

    pub fn verdict(self, verdict: Verdict) -> Self {
        self.with([Expr::Verdict(Data::Verdict(verdict))])
    }

    pub fn jump(self, chain: impl Into<String>) -> Self {
        self.verdict(Verdict::Jump(chain.into()))
    }

    pub fn goto(self, chain: impl Into<String>) -> Self {
        self.verdict(Verdict::Goto(chain.into()))
    }

    pub fn drop(self) -> Self {
        self.verdict(Verdict::Drop)
    }

    pub fn accept(self) -> Self {
        self.verdict(Verdict::Accept)
    }
}

fn dnat_from(ip: Ip, addr: Reg, port: Reg) -> Expr {
    Expr::Nat {
        kind: NatKind::Dnat,
        ipv6: ip == Ip::V6,
        addr: Some(addr),
        port: Some(port),
        flags: nat_flags::PROTO_SPECIFIED,
    }
}

/// An address as in a packet.
pub fn octets(addr: std::net::IpAddr) -> Vec<u8> {
    match addr {
        std::net::IpAddr::V4(addr) => addr.octets().to_vec(),
        std::net::IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

/// Whether `inner` lies within `outer`.
fn covers(outer: (std::net::IpAddr, u8), inner: (std::net::IpAddr, u8)) -> bool {
    let (a, b) = (octets(outer.0), octets(inner.0));
    let whole = usize::from(outer.1 / 8);
    let rest = outer.1 % 8;
    outer.1 <= inner.1
        && a.len() == b.len()
        && a[..whole] == b[..whole]
        && (rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0)
}

/// The networks without those that lie within others: intervals of a set may not overlap.
fn merged(networks: &[(std::net::IpAddr, u8)]) -> Vec<(std::net::IpAddr, u8)> {
    let mut kept: Vec<(std::net::IpAddr, u8)> = Vec::with_capacity(networks.len());
    for &network in networks {
        if !kept.iter().any(|&outer| covers(outer, network)) {
            kept.retain(|&inner| !covers(network, inner));
            kept.push(network);
        }
    }
    kept
}
