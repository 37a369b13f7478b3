//! What an entry of the replicated log says: the command, its request's id, and their encoding.

use bytes::Bytes;

use crate::codec::{Malformed, Reader, Writer};
use crate::kv::{Compare, CompareResult, CompareTarget, Op, PutRequest, RangeRequest, TxnRequest};

/// Transactions nest at most this deep; etcd's limit on operations implies one, ours is stated.
pub const MAX_NESTING: usize = 16;

#[derive(Clone, Debug)]
pub enum Command {
    Txn(TxnRequest),
    Compact {
        revision: i64,
    },
    LeaseGrant {
        id: i64,
        ttl: i64,
    },
    LeaseRevoke {
        id: i64,
    },
    /// Seconds that were left of each lease, so that a new leader need not begin anew. 0 forgets the checkpoint.
    LeaseCheckpoint {
        remaining: Vec<(i64, i64)>,
    },
}

const TXN: u8 = 1;
const COMPACT: u8 = 2;
const LEASE_GRANT: u8 = 3;
const LEASE_REVOKE: u8 = 4;
const LEASE_CHECKPOINT: u8 = 5;

const OP_RANGE: u8 = 1;
const OP_PUT: u8 = 2;
const OP_DELETE: u8 = 3;
const OP_TXN: u8 = 4;

/// Encodes `command` with the id under which its answer is awaited; 0 when nobody waits.
pub fn encode(request: u64, command: &Command) -> Bytes {
    let mut writer = Writer::with_capacity(size_hint(command));
    writer.varint(request);
    match command {
        Command::Txn(txn) => {
            writer.u8(TXN);
            write_txn(&mut writer, txn);
        }
        Command::Compact { revision } => {
            writer.u8(COMPACT);
            writer.int(*revision);
        }
        Command::LeaseGrant { id, ttl } => {
            writer.u8(LEASE_GRANT);
            writer.int(*id);
            writer.int(*ttl);
        }
        Command::LeaseRevoke { id } => {
            writer.u8(LEASE_REVOKE);
            writer.int(*id);
        }
        Command::LeaseCheckpoint { remaining } => {
            writer.u8(LEASE_CHECKPOINT);
            writer.varint(remaining.len() as u64);
            for (id, seconds) in remaining {
                writer.int(*id);
                writer.int(*seconds);
            }
        }
    }
    writer.finish().into()
}

/// The request's id and the command. Keys and values are slices of `entry`.
pub fn decode(entry: Bytes) -> Result<(u64, Command), Malformed> {
    let mut reader = Reader::new(entry);
    let request = reader.varint()?;
    let command = match reader.u8()? {
        TXN => Command::Txn(read_txn(&mut reader, 0)?),
        COMPACT => Command::Compact { revision: reader.int()? },
        LEASE_GRANT => Command::LeaseGrant { id: reader.int()?, ttl: reader.int()? },
        LEASE_REVOKE => Command::LeaseRevoke { id: reader.int()? },
        LEASE_CHECKPOINT => {
            let count = reader.count()?;
            let read = |_| Ok((reader.int()?, reader.int()?));
            Command::LeaseCheckpoint { remaining: (0..count).map(read).collect::<Result<_, Malformed>>()? }
        }
        _ => return Err(Malformed("entry: unknown command")),
    };
    if !reader.is_empty() {
        return Err(Malformed("entry: bytes after the command"));
    }
    Ok((request, command))
}

/// Bytes that the encoding takes at most, near enough to allocate once.
fn size_hint(command: &Command) -> usize {
    match command {
        Command::Txn(txn) => 32 + txn_size(txn),
        Command::LeaseCheckpoint { remaining } => 32 + remaining.len() * 20,
        _ => 32,
    }
}

fn txn_size(txn: &TxnRequest) -> usize {
    let compares: usize = txn
        .compare
        .iter()
        .map(|compare| {
            let value = if let CompareTarget::Value(value) = &compare.target { value.len() } else { 0 };
            24 + compare.key.len() + compare.end.len() + value
        })
        .sum();
    16 + compares + txn.success.iter().chain(&txn.failure).map(op_size).sum::<usize>()
}

fn op_size(op: &Op) -> usize {
    match op {
        Op::Range(range) => 40 + range.start.len() + range.end.len(),
        Op::Put(put) => 28 + put.key.len() + put.value.len(),
        Op::Delete { start, end, .. } => 20 + start.len() + end.len(),
        Op::Txn(txn) => 1 + txn_size(txn),
    }
}

fn write_txn(writer: &mut Writer, txn: &TxnRequest) {
    writer.varint(txn.compare.len() as u64);
    for compare in &txn.compare {
        write_compare(writer, compare);
    }
    for ops in [&txn.success, &txn.failure] {
        writer.varint(ops.len() as u64);
        for op in ops {
            write_op(writer, op);
        }
    }
}

fn read_txn(reader: &mut Reader, depth: usize) -> Result<TxnRequest, Malformed> {
    if depth > MAX_NESTING {
        return Err(Malformed("transaction: nested too deep"));
    }
    let compare = (0..reader.count()?).map(|_| read_compare(reader)).collect::<Result<_, _>>()?;
    let success = (0..reader.count()?).map(|_| read_op(reader, depth)).collect::<Result<_, _>>()?;
    let failure = (0..reader.count()?).map(|_| read_op(reader, depth)).collect::<Result<_, _>>()?;
    Ok(TxnRequest { compare, success, failure })
}

fn write_compare(writer: &mut Writer, compare: &Compare) {
    writer.bytes(&compare.key);
    writer.bytes(&compare.end);
    let result = match compare.result {
        CompareResult::Equal => 0,
        CompareResult::NotEqual => 1,
        CompareResult::Greater => 2,
        CompareResult::Less => 3,
    };
    let (target, number) = match &compare.target {
        CompareTarget::Version(version) => (0, *version),
        CompareTarget::CreateRevision(revision) => (1, *revision),
        CompareTarget::ModRevision(revision) => (2, *revision),
        CompareTarget::Lease(lease) => (3, *lease),
        CompareTarget::Value(_) => (4, 0),
    };
    writer.u8(result << 4 | target);
    match &compare.target {
        CompareTarget::Value(value) => writer.bytes(value),
        _ => writer.int(number),
    }
}

fn read_compare(reader: &mut Reader) -> Result<Compare, Malformed> {
    let key = reader.bytes()?;
    let end = reader.bytes()?;
    let tag = reader.u8()?;
    let result = match tag >> 4 {
        0 => CompareResult::Equal,
        1 => CompareResult::NotEqual,
        2 => CompareResult::Greater,
        3 => CompareResult::Less,
        _ => return Err(Malformed("comparison: unknown result")),
    };
    let target = match tag & 15 {
        0 => CompareTarget::Version(reader.int()?),
        1 => CompareTarget::CreateRevision(reader.int()?),
        2 => CompareTarget::ModRevision(reader.int()?),
        3 => CompareTarget::Lease(reader.int()?),
        4 => CompareTarget::Value(reader.bytes()?),
        _ => return Err(Malformed("comparison: unknown target")),
    };
    Ok(Compare { key, end, result, target })
}

fn write_op(writer: &mut Writer, op: &Op) {
    match op {
        Op::Range(range) => {
            writer.u8(OP_RANGE);
            writer.bytes(&range.start);
            writer.bytes(&range.end);
            writer.int(range.limit);
            writer.int(range.revision);
            writer.u8(u8::from(range.keys_only) | u8::from(range.count_only) << 1);
        }
        Op::Put(put) => {
            writer.u8(OP_PUT);
            writer.bytes(&put.key);
            writer.bytes(&put.value);
            writer.int(put.lease);
            writer.u8(u8::from(put.prev_kv) | u8::from(put.ignore_value) << 1 | u8::from(put.ignore_lease) << 2);
        }
        Op::Delete { start, end, prev_kv } => {
            writer.u8(OP_DELETE);
            writer.bytes(start);
            writer.bytes(end);
            writer.u8(u8::from(*prev_kv));
        }
        Op::Txn(txn) => {
            writer.u8(OP_TXN);
            write_txn(writer, txn);
        }
    }
}

fn read_op(reader: &mut Reader, depth: usize) -> Result<Op, Malformed> {
    Ok(match reader.u8()? {
        OP_RANGE => {
            let (start, end) = (reader.bytes()?, reader.bytes()?);
            let (limit, revision, flags) = (reader.int()?, reader.int()?, reader.u8()?);
            let (keys_only, count_only) = (flags & 1 != 0, flags & 2 != 0);
            Op::Range(RangeRequest { start, end, limit, revision, keys_only, count_only })
        }
        OP_PUT => {
            let key = reader.bytes()?;
            let value = own(reader.bytes()?, reader.total());
            let (lease, flags) = (reader.int()?, reader.u8()?);
            let (prev_kv, ignore_value, ignore_lease) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
            Op::Put(PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease })
        }
        OP_DELETE => Op::Delete { start: reader.bytes()?, end: reader.bytes()?, prev_kv: reader.u8()? != 0 },
        OP_TXN => Op::Txn(read_txn(reader, depth + 1)?),
        _ => return Err(Malformed("operation: unknown kind")),
    })
}

/// A stored value may keep its entry alive while it is most of it; else a small value would pin a large entry.
fn own(value: Bytes, entry: usize) -> Bytes {
    if value.len() * 2 >= entry { value } else { Bytes::copy_from_slice(&value) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn sample() -> Command {
        let put = PutRequest { key: "k".into(), value: "v".into(), lease: 7, prev_kv: true, ..Default::default() };
        let touch = PutRequest { key: "t".into(), ignore_value: true, ignore_lease: true, ..Default::default() };
        let range =
            RangeRequest { start: "a".into(), end: "b".into(), limit: 3, keys_only: true, ..Default::default() };
        let delete = Op::Delete { start: "x".into(), end: Bytes::new(), prev_kv: false };
        let compare = |target| Compare { key: "k".into(), end: Bytes::new(), result: CompareResult::Greater, target };
        let nested = TxnRequest { compare: vec![], success: vec![delete], failure: vec![] };
        Command::Txn(TxnRequest {
            compare: vec![compare(CompareTarget::Value("v".into())), compare(CompareTarget::ModRevision(-5))],
            success: vec![Op::Put(put), Op::Range(range), Op::Put(touch)],
            failure: vec![Op::Txn(nested)],
        })
    }

    #[test]
    fn round_trips() {
        let commands = [
            sample(),
            Command::Compact { revision: 9 },
            Command::LeaseGrant { id: 1, ttl: 60 },
            Command::LeaseRevoke { id: i64::MAX },
            Command::LeaseCheckpoint { remaining: vec![(1, 2), (3, 4)] },
        ];
        for command in commands {
            let (request, back) = decode(encode(77, &command)).unwrap();
            assert_eq!((request, format!("{back:?}")), (77, format!("{command:?}")));
        }
    }

    #[test]
    fn cut_and_flipped_input_never_panics() {
        let whole = encode(1, &sample());
        for length in 0..whole.len() {
            assert!(decode(whole.slice(..length)).is_err(), "cut at {length}");
            for bit in 0..8 {
                let mut flipped = whole.to_vec();
                flipped[length] ^= 1 << bit;
                drop(decode(flipped.into()));
            }
        }
    }
}
