//! The end of the log as raft reads it: entries since the last truncation, in memory. The disk's copy is the
//! write-ahead log's; their bytes are shared with the stored values, not copied.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

pub struct Tail {
    hard_state: HardState,
    members: ConfState,
    /// Index and term of the entry before the first one here.
    base: (u64, u64),
    entries: VecDeque<Entry>,
}

impl Tail {
    /// `base` is the index and term of the last entry that is no longer at hand.
    pub fn new(hard_state: HardState, members: ConfState, base: (u64, u64), entries: Vec<Entry>) -> Self {
        Tail { hard_state, members, base, entries: entries.into() }
    }

    pub fn last_index(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    /// Appends, replacing what conflicts from the first new entry's index on.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        self.entries.truncate(first.index.saturating_sub(self.base.0 + 1) as usize);
        self.entries.extend(entries.iter().cloned());
    }

    pub fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    pub fn set_members(&mut self, members: ConfState) {
        self.members = members;
    }

    /// Drops entries up to and including `index`.
    pub fn forget(&mut self, index: u64) {
        while self.base.0 < index {
            let Some(entry) = self.entries.pop_front() else { return };
            self.base = (entry.index, entry.term);
        }
    }
}

impl Storage for Tail {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.members.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.base.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if high > self.last_index() + 1 {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        let at = |index: u64| (index - self.base.0 - 1) as usize;
        let limit = max_size.into().unwrap_or(u64::MAX);
        let mut size = 0u64;
        let fits = |entry: &&Entry| {
            let first = size == 0;
            size += entry.data.len() as u64 + 32;
            first || size <= limit
        };
        Ok(self.entries.range(at(low)..at(high)).take_while(fits).cloned().collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.base.0 {
            return Ok(self.base.1);
        }
        let at = index.checked_sub(self.base.0 + 1).ok_or(raft::Error::Store(StorageError::Compacted))?;
        let entry = self.entries.get(at as usize).ok_or(raft::Error::Store(StorageError::Unavailable))?;
        Ok(entry.term)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(Tail::last_index(self))
    }

    /// A follower that needs one gets it from a snapshot file once it exists.
    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
