//! Refuses bad requests before they reach the log, with etcd's errors and in etcd's order.

use std::collections::HashSet;

use bytes::Bytes;

use crate::command::MAX_NESTING;
use crate::keys::KeyRange;
use crate::kv::{Error, Op, PutRequest, RangeRequest, TxnRequest};

pub fn range(request: &RangeRequest) -> Result<(), Error> {
    if request.start.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

/// `max_ops` bounds the longest list of comparisons or operations on any path through the nested transactions.
pub fn txn(request: &TxnRequest, max_ops: usize) -> Result<(), Error> {
    shape(request, max_ops, 0)?;
    for ops in [&request.success, &request.failure] {
        // One operation cannot clash with another: the usual guarded write.
        if ops.len() > 1 || matches!(ops.first(), Some(Op::Txn(_))) {
            intervals(ops)?;
        }
    }
    Ok(())
}

fn shape(request: &TxnRequest, max_ops: usize, depth: usize) -> Result<(), Error> {
    let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
    if ops > max_ops || depth > MAX_NESTING {
        return Err(Error::TooManyOps);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for op in request.success.iter().chain(&request.failure) {
        match op {
            Op::Range(request) => range(request)?,
            Op::Put(PutRequest { key: start, .. }) | Op::Delete { start, .. } if start.is_empty() => {
                return Err(Error::EmptyKey);
            }
            Op::Put(_) | Op::Delete { .. } => {}
            Op::Txn(nested) => shape(nested, max_ops - ops, depth + 1)?,
        }
    }
    Ok(())
}

/// Keys that a list of operations puts and ranges that it deletes, on whatever path.
#[derive(Default)]
struct Writes {
    puts: HashSet<Bytes>,
    deletes: Vec<KeyRange>,
}

impl Writes {
    fn deletes(&self, key: &Bytes) -> bool {
        self.deletes.iter().any(|range| range.contains(key))
    }
}

/// A transaction writes each key at most once; deletions may overlap each other.
fn intervals(ops: &[Op]) -> Result<Writes, Error> {
    let mut writes = Writes::default();
    for op in ops {
        if let Op::Delete { start, end, .. } = op {
            writes.deletes.push(KeyRange::new(start.clone(), end.clone()));
        }
    }
    for op in ops {
        if let Op::Txn(nested) = op {
            let (success, failure) = (intervals(&nested.success)?, intervals(&nested.failure)?);
            let clash = |key: &Bytes| writes.puts.contains(key) || writes.deletes(key);
            if success.puts.iter().chain(&failure.puts).any(clash) {
                return Err(Error::DuplicateKey);
            }
            for branch in [success, failure] {
                writes.puts.extend(branch.puts);
                writes.deletes.extend(branch.deletes);
            }
        }
    }
    for op in ops {
        if let Op::Put(PutRequest { key, .. }) = op
            && (writes.deletes(key) || !writes.puts.insert(key.clone()))
        {
            return Err(Error::DuplicateKey);
        }
    }
    Ok(writes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::kv::{Compare, CompareResult, CompareTarget};

    fn put(key: &'static str) -> Op {
        Op::Put(PutRequest { key: key.into(), ..Default::default() })
    }

    fn delete(start: &'static str, end: &'static str) -> Op {
        Op::Delete { start: start.into(), end: end.into(), prev_kv: false }
    }

    fn nested(success: Vec<Op>, failure: Vec<Op>) -> Op {
        Op::Txn(TxnRequest { compare: vec![], success, failure })
    }

    #[test]
    fn each_key_is_written_once() {
        let table = [
            (vec![put("a"), put("b")], true),
            (vec![put("a"), put("a")], false),
            (vec![put("a"), delete("a", "")], false),
            (vec![delete("a", "c"), put("b")], false),
            (vec![delete("a", "c"), put("c")], true),
            (vec![delete("a", "c"), delete("b", "d")], true),
            (vec![nested(vec![put("a")], vec![put("a")])], true),
            (vec![nested(vec![put("a")], vec![]), put("a")], false),
            (vec![nested(vec![put("a")], vec![]), nested(vec![], vec![put("a")])], false),
            (vec![delete("a", "\0"), nested(vec![put("x")], vec![])], false),
            (vec![nested(vec![delete("a", "c")], vec![]), put("b")], false),
        ];
        for (success, good) in table {
            let text = format!("{success:?}");
            let result = txn(&TxnRequest { compare: vec![], success, failure: vec![] }, 128);
            assert_eq!(result.is_ok(), good, "{text}: {result:?}");
        }
    }

    #[test]
    fn shapes() {
        let compare = Compare {
            key: Bytes::new(),
            end: Bytes::new(),
            result: CompareResult::Equal,
            target: CompareTarget::Version(0),
        };
        let empty = TxnRequest { compare: vec![compare], ..Default::default() };
        assert!(matches!(txn(&empty, 128), Err(Error::EmptyKey)));
        let many = TxnRequest { success: (0..129).map(|_| delete("a", "")).collect(), ..Default::default() };
        assert!(matches!(txn(&many, 128), Err(Error::TooManyOps)));
        let empty = TxnRequest { success: vec![put("")], ..Default::default() };
        assert!(matches!(txn(&empty, 128), Err(Error::EmptyKey)));
        let mut deep = nested(vec![], vec![]);
        for _ in 0..200 {
            deep = nested(vec![deep], vec![]);
        }
        let deep = TxnRequest { success: vec![deep], ..Default::default() };
        assert!(matches!(txn(&deep, 128), Err(Error::TooManyOps)));
    }
}
