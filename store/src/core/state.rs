//! Everything that the replicated log determines: keys and history, leases, members, and how far the log is applied.
//! Cloning is cheap; a published clone is what readers, watchers and snapshots see.

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use raft::eraftpb::ConfState;

use super::mvcc::Mvcc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Seconds, as granted.
    pub ttl: i64,
    /// Seconds that were left at the last checkpoint; 0 when there was none since the last renewal.
    pub remaining: i64,
}

#[derive(Clone, Default)]
pub struct State {
    pub mvcc: Mvcc,
    pub leases: OrdMap<i64, Lease>,
    /// (lease, key) of every living key that has a lease.
    pub attached: OrdSet<(i64, Bytes)>,
    /// The last log entry that this state includes.
    pub applied_index: u64,
    pub applied_term: u64,
    pub members: ConfState,
}

impl State {
    /// Keys that die with `lease`, in order.
    pub fn keys_of(&self, lease: i64) -> impl Iterator<Item = &Bytes> {
        self.attached.range((lease, Bytes::new())..).take_while(move |(id, _)| *id == lease).map(|(_, key)| key)
    }

    /// Recomputes [`State::attached`] after the history was read from disk.
    pub fn attach_all(&mut self) {
        let all = crate::keys::KeyRange::From(Bytes::new());
        let leased = self.mvcc.live(&all).filter(|change| change.kv.lease != 0);
        self.attached = leased.map(|change| (change.kv.lease, change.kv.key.clone())).collect();
    }
}
