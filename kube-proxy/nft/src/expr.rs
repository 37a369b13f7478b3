//! Expressions: what rules are made of. Each one corresponds to one expression of the kernel's nf_tables machine.

use crate::set::{Data, InlineSet};

/// One of sixteen 32-bit registers; wider values take consecutive ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reg(u8);

impl Reg {
    /// The first register.
    pub const FIRST: Self = Self(0);

    /// Register `index`, 0 to 15 (taken modulo 16).
    pub const fn at(index: u8) -> Self {
        Self(index % 16)
    }

    /// The register `bytes` further on, as concatenated values need it.
    pub fn after(self, bytes: usize) -> Self {
        Self::at(self.0 + (bytes.div_ceil(4) % 16) as u8)
    }

    /// The kernel's number: registers at 128-bit boundaries go by the older numbers 1 to 4, as the `nft` program does.
    pub(crate) fn number(self) -> u32 {
        match self.0 % 4 {
            0 => u32::from(self.0 / 4) + 1,
            _ => u32::from(self.0) + 8,
        }
    }
}

/// From which header a payload expression counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Header {
    Network,
    Transport,
}

/// Metadata of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetaKey {
    Mark,
    IifName,
    OifName,
    Nfproto,
    L4proto,
}

impl MetaKey {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Mark => 3,
            Self::IifName => 6,
            Self::OifName => 7,
            Self::Nfproto => 15,
            Self::L4proto => 16,
        }
    }
}

/// What connection tracking knows of the packet's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CtKey {
    State,
    Direction,
    Status,
    Mark,
}

impl CtKey {
    pub(crate) fn number(self) -> u32 {
        self as u32
    }
}

/// Bits of [`CtKey::State`].
pub mod ct_state {
    pub const INVALID: u32 = 1;
    pub const ESTABLISHED: u32 = 2;
    pub const RELATED: u32 = 4;
    pub const NEW: u32 = 8;
}

/// Bits of [`CtKey::Status`].
pub mod ct_status {
    pub const SNAT: u32 = 0x10;
    pub const DNAT: u32 = 0x20;
}

/// How a register compares with a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cmp {
    Eq,
    Neq,
    Lt,
    Lte,
    Gt,
    Gte,
}

/// The set of a lookup.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SetRef {
    Named(String),
    Inline(Box<InlineSet>),
}

/// How successive numbers are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Numgen {
    Incremental,
    Random,
}

/// Which address a routing lookup is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FibAddr {
    Source,
    Destination,
}

/// How the sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reject {
    TcpReset,
    /// ICMP or ICMPv6 port unreachable, by the packet's family.
    PortUnreachable,
    /// ICMP or ICMPv6 administratively prohibited.
    AdminProhibited,
}

/// What a rule does with a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DynsetOp {
    Add,
    /// Add, or start the element's timeout anew.
    Update,
    Delete,
}

/// Which address is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NatKind {
    Snat,
    Dnat,
}

/// Bits for [`Expr::Nat`], [`Expr::Masquerade`] and [`Expr::Redirect`].
pub mod nat_flags {
    pub const PROTO_SPECIFIED: u32 = 2;
    pub const MAP_IPS: u32 = 1;
    pub const RANDOM: u32 = 4;
    pub const PERSISTENT: u32 = 8;
    pub const FULLY_RANDOM: u32 = 16;
}

/// One expression of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expr {
    /// Load `len` bytes of the packet.
    Payload {
        dreg: Reg,
        header: Header,
        offset: u32,
        len: u32,
    },
    Meta {
        key: MetaKey,
        dreg: Reg,
    },
    MetaSet {
        key: MetaKey,
        sreg: Reg,
    },
    Ct {
        key: CtKey,
        dreg: Reg,
    },
    CtSet {
        key: CtKey,
        sreg: Reg,
    },
    /// Go on with the rule only if the comparison holds.
    Cmp {
        op: Cmp,
        sreg: Reg,
        data: Vec<u8>,
    },
    /// dreg = (sreg & mask) ^ xor
    Bitwise {
        sreg: Reg,
        dreg: Reg,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    /// Go on only if the set contains the key (or, inverted, does not).
    Lookup {
        set: SetRef,
        sreg: Reg,
        invert: bool,
    },
    /// Go on only if the map has the key; its value goes to `dreg`.
    LookupMap {
        set: SetRef,
        sreg: Reg,
        dreg: Reg,
    },
    /// Go on only if the map has the key; then its verdict holds.
    LookupVerdict {
        set: SetRef,
        sreg: Reg,
    },
    /// Load a constant.
    Immediate {
        dreg: Reg,
        value: Vec<u8>,
    },
    /// Give this verdict.
    Verdict(Data),
    /// dreg = a number below `modulus`, plus `offset`, in host byte order.
    Numgen {
        dreg: Reg,
        kind: Numgen,
        modulus: u32,
        offset: u32,
    },
    /// dreg = Jenkins hash of `len` bytes modulo `modulus`, plus `offset`.
    Jhash {
        sreg: Reg,
        len: u32,
        dreg: Reg,
        modulus: u32,
        seed: u32,
        offset: u32,
    },
    /// dreg = type of the address as routing sees it (`RTN_LOCAL` …), in host byte order.
    FibType {
        addr: FibAddr,
        dreg: Reg,
    },
    Nat {
        kind: NatKind,
        ipv6: bool,
        addr: Option<Reg>,
        port: Option<Reg>,
        flags: u32,
    },
    /// Source becomes the address of the link that the packet leaves by.
    Masquerade {
        flags: u32,
    },
    /// Destination becomes this machine.
    Redirect {
        port: Option<Reg>,
        flags: u32,
    },
    Reject(Reject),
    /// Add the key to (or delete it from) a named set.
    Dynset {
        set: String,
        op: DynsetOp,
        sreg: Reg,
        timeout_ms: Option<u64>,
    },
    Counter,
}
