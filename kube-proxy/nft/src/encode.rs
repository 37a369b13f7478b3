//! Expressions, sets and elements as netlink attributes.

use crate::expr::{Expr, FibAddr, Header, NatKind, Numgen, Reg, Reject};
use crate::netlink::Writer;
use crate::set::{Data, Element, Set};
use crate::{Error, Family, uapi};

/// Length up to which elements are put in one message, bytes: the list's length field holds 64 KiB.
const LIST_LIMIT: usize = 32 * 1024;

/// A set that an expression refers to: its name, and its number if it was made within the same transaction.
pub(crate) struct Reference<'a> {
    pub name: &'a str,
    pub id: Option<u32>,
}

/// Writes `data` as the value of attribute `kind`.
pub(crate) fn data(w: &mut Writer, kind: u16, data: &Data) -> bool {
    let outer = w.open(kind);
    match data {
        Data::Value(bytes) => w.attr(uapi::DATA_VALUE, bytes),
        Data::Verdict(verdict) => {
            let inner = w.open(uapi::DATA_VERDICT);
            w.attr_u32(uapi::VERDICT_CODE, verdict.code() as u32);
            if let Some(chain) = verdict.chain() {
                w.attr_str(uapi::VERDICT_CHAIN, chain);
            }
            if !w.close(inner) {
                return false;
            }
        }
    }
    w.close(outer)
}

fn value(w: &mut Writer, kind: u16, bytes: &[u8]) {
    let nest = w.open(kind);
    w.attr(uapi::DATA_VALUE, bytes);
    let closed = w.close(nest);
    debug_assert!(closed, "register values are at most 64 bytes long");
}

fn reg(w: &mut Writer, kind: u16, reg: Reg) {
    w.attr_u32(kind, reg.number());
}

/// The kernel's name of the expression.
fn name(expr: &Expr) -> &'static str {
    match expr {
        Expr::Payload { .. } => "payload",
        Expr::Meta { .. } | Expr::MetaSet { .. } => "meta",
        Expr::Ct { .. } | Expr::CtSet { .. } => "ct",
        Expr::Cmp { .. } => "cmp",
        Expr::Bitwise { .. } => "bitwise",
        Expr::Lookup { .. } | Expr::LookupMap { .. } | Expr::LookupVerdict { .. } => "lookup",
        Expr::Immediate { .. } | Expr::Verdict(_) => "immediate",
        Expr::Numgen { .. } => "numgen",
        Expr::Jhash { .. } => "hash",
        Expr::FibType { .. } => "fib",
        Expr::Nat { .. } => "nat",
        Expr::Masquerade { .. } => "masq",
        Expr::Redirect { .. } => "redir",
        Expr::Reject(_) => "reject",
        Expr::Dynset { .. } => "dynset",
        Expr::Counter => "counter",
    }
}

/// Writes one expression as a list element. `set` is what its lookup refers to.
pub(crate) fn expression(w: &mut Writer, expr: &Expr, set: Option<&Reference<'_>>, family: Family) -> bool {
    let outer = w.open(uapi::LIST_ELEM);
    w.attr_str(uapi::EXPR_NAME, name(expr));
    let inner = w.open(uapi::EXPR_DATA);
    match expr {
        Expr::Lookup { .. } | Expr::LookupMap { .. } | Expr::LookupVerdict { .. } | Expr::Dynset { .. } => {
            with_set(w, expr, set);
        }
        Expr::Nat { .. } | Expr::Masquerade { .. } | Expr::Redirect { .. } | Expr::Reject(_) => {
            rewriting(w, expr, family);
        }
        Expr::Verdict(verdict) => {
            w.attr_u32(1, 0);
            if !data(w, 2, verdict) {
                return false;
            }
        }
        _ => loading(w, expr),
    }
    w.close(inner) && w.close(outer)
}

fn loading(w: &mut Writer, expr: &Expr) {
    match expr {
        Expr::Payload { dreg, header, offset, len } => {
            reg(w, 1, *dreg);
            w.attr_u32(2, if *header == Header::Network { 1 } else { 2 });
            w.attr_u32(3, *offset);
            w.attr_u32(4, *len);
        }
        Expr::Meta { key, dreg } => {
            w.attr_u32(2, key.number());
            reg(w, 1, *dreg);
        }
        Expr::MetaSet { key, sreg } => {
            w.attr_u32(2, key.number());
            reg(w, 3, *sreg);
        }
        Expr::Ct { key, dreg } => {
            w.attr_u32(2, key.number());
            reg(w, 1, *dreg);
        }
        Expr::CtSet { key, sreg } => {
            w.attr_u32(2, key.number());
            reg(w, 4, *sreg);
        }
        Expr::Cmp { op, sreg, data } => {
            reg(w, 1, *sreg);
            w.attr_u32(2, *op as u32);
            value(w, 3, data);
        }
        Expr::Bitwise { sreg, dreg, mask, xor } => {
            reg(w, 1, *sreg);
            reg(w, 2, *dreg);
            w.attr_u32(3, mask.len() as u32);
            value(w, 4, mask);
            value(w, 5, xor);
        }
        Expr::Immediate { dreg, value: bytes } => {
            reg(w, 1, *dreg);
            value(w, 2, bytes);
        }
        _ => computing(w, expr),
    }
}

fn computing(w: &mut Writer, expr: &Expr) {
    match expr {
        Expr::Numgen { dreg, kind, modulus, offset } => {
            reg(w, 1, *dreg);
            w.attr_u32(2, *modulus);
            w.attr_u32(3, if *kind == Numgen::Random { 1 } else { 0 });
            w.attr_u32(4, *offset);
        }
        Expr::Jhash { sreg, len, dreg, modulus, seed, offset } => {
            reg(w, 1, *sreg);
            reg(w, 2, *dreg);
            w.attr_u32(3, *len);
            w.attr_u32(4, *modulus);
            w.attr_u32(5, *seed);
            w.attr_u32(6, *offset);
        }
        Expr::FibType { addr, dreg } => {
            reg(w, 1, *dreg);
            w.attr_u32(2, 3);
            w.attr_u32(3, if *addr == FibAddr::Source { 1 } else { 2 });
        }
        Expr::Counter => {
            w.attr_u64(1, 0);
            w.attr_u64(2, 0);
        }
        _ => unreachable!("other expressions are written by with_set, rewriting and expression"),
    }
}

fn with_set(w: &mut Writer, expr: &Expr, set: Option<&Reference<'_>>) {
    if let Expr::Dynset { set, op, sreg, timeout_ms } = expr {
        w.attr_str(1, set);
        w.attr_u32(3, *op as u32);
        reg(w, 4, *sreg);
        if let Some(timeout) = timeout_ms {
            w.attr_u64(6, *timeout);
        }
        return;
    }
    if let Some(set) = set {
        w.attr_str(1, set.name);
    }
    match expr {
        Expr::Lookup { sreg, invert, .. } => {
            reg(w, 2, *sreg);
            if *invert {
                w.attr_u32(5, 1);
            }
        }
        Expr::LookupMap { sreg, dreg, .. } => {
            reg(w, 2, *sreg);
            reg(w, 3, *dreg);
        }
        Expr::LookupVerdict { sreg, .. } => {
            reg(w, 2, *sreg);
            w.attr_u32(3, 0);
        }
        _ => unreachable!("only lookups come here"),
    }
    if let Some(id) = set.and_then(|set| set.id) {
        w.attr_u32(4, id);
    }
}

/// (type, code) of a reject expression: one-family tables take that family's ICMP codes, `inet` abstract ones.
fn reject(how: Reject, family: Family) -> (u32, Option<u8>) {
    match (how, family) {
        (Reject::TcpReset, _) => (1, None),
        (Reject::PortUnreachable, Family::Ip) => (0, Some(3)),
        (Reject::PortUnreachable, Family::Ip6) => (0, Some(4)),
        (Reject::PortUnreachable, Family::Inet) => (2, Some(1)),
        (Reject::AdminProhibited, Family::Ip) => (0, Some(13)),
        (Reject::AdminProhibited, Family::Ip6) => (0, Some(1)),
        (Reject::AdminProhibited, Family::Inet) => (2, Some(3)),
    }
}

fn rewriting(w: &mut Writer, expr: &Expr, family: Family) {
    match expr {
        Expr::Nat { kind, ipv6, addr, port, flags } => {
            w.attr_u32(1, if *kind == NatKind::Snat { 0 } else { 1 });
            w.attr_u32(2, if *ipv6 { 10 } else { 2 });
            if let Some(addr) = addr {
                reg(w, 3, *addr);
            }
            if let Some(port) = port {
                reg(w, 5, *port);
            }
            if *flags != 0 {
                w.attr_u32(7, *flags);
            }
        }
        Expr::Masquerade { flags } => {
            if *flags != 0 {
                w.attr_u32(1, *flags);
            }
        }
        Expr::Redirect { port, flags } => {
            if let Some(port) = port {
                reg(w, 1, *port);
            }
            if *flags != 0 {
                w.attr_u32(3, *flags);
            }
        }
        Expr::Reject(how) => {
            let (kind, code) = reject(*how, family);
            w.attr_u32(1, kind);
            if let Some(code) = code {
                w.attr(2, &[code]);
            }
        }
        _ => unreachable!("only rewriting expressions come here"),
    }
}

/// Writes a set's type.
pub(crate) fn set(w: &mut Writer, set: &Set, extra_flags: u32, id: u32, size: Option<u32>) {
    w.attr_u32(uapi::SET_FLAGS, set.flags() | extra_flags);
    w.attr_u32(uapi::SET_KEY_TYPE, set.key_type());
    w.attr_u32(uapi::SET_KEY_LEN, set.key_len() as u32);
    if let Some((kind, len)) = set.data_type() {
        w.attr_u32(uapi::SET_DATA_TYPE, kind);
        w.attr_u32(uapi::SET_DATA_LEN, len as u32);
    }
    w.attr_u32(uapi::SET_ID, id);
    if let Some(timeout) = set.dynamic_timeout_ms {
        w.attr_u64(uapi::SET_TIMEOUT, timeout);
    }
    if let Some(size) = size {
        let desc = w.open(uapi::SET_DESC);
        w.attr_u32(uapi::SET_DESC_SIZE, size);
        let closed = w.close(desc);
        debug_assert!(closed, "a set description is short");
    }
    w.attr(uapi::SET_USERDATA, &set.userdata());
}

/// Writes as many of `elements` as one message should hold, and says how many.
pub(crate) fn elements(w: &mut Writer, elements: &[Element]) -> Result<usize, Error> {
    let start = w.len();
    let list = w.open(uapi::ELEM_LIST_ELEMENTS);
    let mut count = 0;
    for element in elements {
        let one = w.open(uapi::LIST_ELEM);
        value(w, uapi::ELEM_KEY, &element.key);
        let fits = element.data.as_ref().is_none_or(|found| data(w, uapi::ELEM_DATA, found));
        if element.interval_end {
            w.attr_u32(uapi::ELEM_FLAGS, uapi::ELEM_F_INTERVAL_END);
        }
        if !fits || !w.close(one) {
            return Err(Error::TooLong("set element".into()));
        }
        count += 1;
        if w.len() - start > LIST_LIMIT {
            break;
        }
    }
    match w.close(list) {
        true => Ok(count),
        false => Err(Error::TooLong("list of set elements".into())),
    }
}
