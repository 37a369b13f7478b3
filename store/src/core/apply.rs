//! Applies commands to the state: etcd's transaction, compaction and lease semantics. Deterministic: the same log gives
//! the same state on every member and at every replay.

use bytes::Bytes;

use super::mvcc::Change;
use super::state::{Lease, State};
use crate::command::Command;
use crate::keys::KeyRange;
use crate::kv::{
    Compare, CompareResult, CompareTarget, Error, KeyValue, Op, OpResponse, PutRequest, TxnRequest, TxnResponse,
};

/// What a command answers to the one who proposed it.
#[derive(Clone, Debug)]
pub enum Applied {
    Txn(TxnResponse),
    Done,
}

impl State {
    /// A command that fails changes nothing.
    pub fn apply(&mut self, command: Command) -> Result<Applied, Error> {
        match command {
            Command::Txn(txn) => self.txn(txn).map(Applied::Txn),
            Command::Compact { revision } => self.mvcc.compact(revision).map(|()| Applied::Done),
            Command::LeaseGrant { id, ttl } => {
                if self.leases.contains_key(&id) {
                    return Err(Error::LeaseExists);
                }
                self.leases.insert(id, Lease { ttl, remaining: 0 });
                Ok(Applied::Done)
            }
            Command::LeaseRevoke { id } => self.revoke(id).map(|()| Applied::Done),
            Command::LeaseCheckpoint { remaining } => {
                for (id, seconds) in remaining {
                    if let Some(lease) = self.leases.get_mut(&id) {
                        lease.remaining = seconds;
                    }
                }
                Ok(Applied::Done)
            }
        }
    }

    fn revoke(&mut self, id: i64) -> Result<(), Error> {
        if self.leases.remove(&id).is_none() {
            return Err(Error::LeaseNotFound);
        }
        let keys: Vec<Bytes> = self.keys_of(id).cloned().collect();
        let mut writer = Writer { state: self, sub: 0 };
        for key in &keys {
            writer.delete(key);
        }
        Ok(())
    }

    fn txn(&mut self, txn: TxnRequest) -> Result<TxnResponse, Error> {
        let mut path = Vec::new();
        self.choose(&txn, &mut path);
        self.check(&txn, &mut path.iter().copied())?;
        let mut writer = Writer { state: self, sub: 0 };
        writer.txn(txn, &mut path.into_iter())
    }

    /// Decides every comparison on the chosen path before anything is written, as etcd does.
    fn choose(&self, txn: &TxnRequest, path: &mut Vec<bool>) {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        path.push(succeeded);
        for op in if succeeded { &txn.success } else { &txn.failure } {
            if let Op::Txn(nested) = op {
                self.choose(nested, path);
            }
        }
    }

    /// Refuses what would fail in the middle: unknown leases, unreadable revisions.
    fn check(&self, txn: &TxnRequest, path: &mut dyn Iterator<Item = bool>) -> Result<(), Error> {
        let succeeded = path.next().unwrap_or(false);
        for op in if succeeded { &txn.success } else { &txn.failure } {
            match op {
                Op::Range(range) => {
                    self.mvcc.readable(range.revision)?;
                }
                Op::Put(put) => self.check_put(put)?,
                Op::Delete { .. } => {}
                Op::Txn(nested) => self.check(nested, path)?,
            }
        }
        Ok(())
    }

    fn check_put(&self, put: &PutRequest) -> Result<(), Error> {
        if (put.ignore_value || put.ignore_lease) && self.mvcc.get(&put.key).is_none() {
            return Err(Error::KeyNotFound);
        }
        if put.lease != 0 && !self.leases.contains_key(&put.lease) {
            return Err(Error::LeaseNotFound);
        }
        Ok(())
    }

    /// Every key of the range must satisfy the comparison; a key that does not exist compares as zeros, but never by
    /// value.
    fn holds(&self, compare: &Compare) -> bool {
        if compare.end.is_empty() {
            return match self.mvcc.get(&compare.key) {
                Some(change) => satisfies(compare, Some(&change.kv)),
                None => satisfies(compare, None),
            };
        }
        let range = KeyRange::new(compare.key.clone(), compare.end.clone());
        let mut keys = self.mvcc.live(&range).peekable();
        if keys.peek().is_none() {
            return satisfies(compare, None);
        }
        keys.all(|change| satisfies(compare, Some(&change.kv)))
    }
}

fn satisfies(compare: &Compare, kv: Option<&KeyValue>) -> bool {
    let number = |field: fn(&KeyValue) -> i64, wanted: &i64| kv.map_or(0, field).cmp(wanted);
    let order = match &compare.target {
        CompareTarget::Version(wanted) => number(|kv| kv.version, wanted),
        CompareTarget::CreateRevision(wanted) => number(|kv| kv.create_revision, wanted),
        CompareTarget::ModRevision(wanted) => number(|kv| kv.mod_revision, wanted),
        CompareTarget::Lease(wanted) => number(|kv| kv.lease, wanted),
        CompareTarget::Value(wanted) => match kv {
            Some(kv) => kv.value.cmp(wanted),
            None => return false,
        },
    };
    match compare.result {
        CompareResult::Equal => order.is_eq(),
        CompareResult::NotEqual => order.is_ne(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
    }
}

/// One transaction's writes: the first takes the next revision.
struct Writer<'a> {
    state: &'a mut State,
    /// Changes so far.
    sub: u32,
}

impl Writer<'_> {
    fn txn(&mut self, txn: TxnRequest, path: &mut dyn Iterator<Item = bool>) -> Result<TxnResponse, Error> {
        let succeeded = path.next().unwrap_or(false);
        let ops = if succeeded { txn.success } else { txn.failure };
        let mut responses = Vec::with_capacity(ops.len());
        for op in ops {
            responses.push(match op {
                Op::Range(range) => OpResponse::Range(self.state.mvcc.range(&range)?),
                Op::Put(put) => {
                    let prev_kv = put.prev_kv;
                    let prev = self.put(put);
                    OpResponse::Put { prev: if prev_kv { prev } else { None } }
                }
                Op::Delete { start, end, prev_kv } => self.delete_range(KeyRange::new(start, end), prev_kv),
                Op::Txn(nested) => OpResponse::Txn(self.txn(nested, path)?),
            });
        }
        Ok(TxnResponse { revision: self.state.mvcc.revision(), succeeded, responses })
    }

    fn next(&mut self) -> u32 {
        if self.sub == 0 {
            self.state.mvcc.advance();
        }
        self.sub += 1;
        self.sub - 1
    }

    fn put(&mut self, put: PutRequest) -> Option<KeyValue> {
        let PutRequest { key, mut value, mut lease, ignore_value, ignore_lease, .. } = put;
        let key = &key;
        if let Some(current) = self.state.mvcc.get(key).filter(|_| ignore_value || ignore_lease) {
            value = if ignore_value { current.kv.value.clone() } else { value };
            lease = if ignore_lease { current.kv.lease } else { lease };
        }
        let sub = self.next();
        let previous = self.state.mvcc.put(sub, key, value, lease);
        let old = previous.as_ref().map_or(0, |change| change.kv.lease);
        if old != lease {
            if old != 0 {
                self.state.attached.remove(&(old, key.clone()));
            }
            if lease != 0 {
                self.state.attached.insert((lease, Bytes::copy_from_slice(key)));
            }
        }
        previous.map(|change| change.kv.clone())
    }

    fn delete_range(&mut self, range: KeyRange, prev_kv: bool) -> OpResponse {
        let keys: Vec<Bytes> = match &range {
            KeyRange::One(key) => vec![key.clone()],
            _ => self.state.mvcc.live(&range).map(|change| change.kv.key.clone()).collect(),
        };
        let mut deleted = 0;
        let mut prev = Vec::new();
        for key in &keys {
            if let Some(change) = self.delete(key) {
                deleted += 1;
                if prev_kv {
                    prev.push(change.kv.clone());
                }
            }
        }
        OpResponse::Delete { deleted, prev }
    }

    fn delete(&mut self, key: &Bytes) -> Option<std::sync::Arc<Change>> {
        self.state.mvcc.get(key)?;
        let sub = self.next();
        let previous = self.state.mvcc.delete(sub, key)?;
        if previous.kv.lease != 0 {
            self.state.attached.remove(&(previous.kv.lease, key.clone()));
        }
        Some(previous)
    }
}

#[cfg(test)]
mod tests;
