//! Keys, their versions and the changes between them, in persistent maps: a clone is a few pointers, so every reader
//! has an immutable snapshot and no reader ever blocks the writer.
//!
//! Three maps share one allocation per change: what lives now by key, what was superseded by (key, revision), and
//! every retained change by revision. A key changes at most once per revision.

use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;

use crate::keys::KeyRange;
use crate::kv::{Error, KeyValue, RangeRequest, RangeResponse};

/// What one operation did to one key.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// For a deletion: the key, and the deletion's revision as `mod_revision`.
    pub kv: KeyValue,
    pub deleted: bool,
}

/// A change's place in history: its revision and its number within the transaction.
pub type Place = (i64, u32);

#[derive(Clone)]
pub struct Mvcc {
    /// Revision of the newest write; 1 in an empty store, as in etcd.
    revision: i64,
    /// Reads and watches below it are refused.
    compacted: i64,
    /// Everything that `compacted` makes needless is removed up to here; behind `compacted` only while removal goes on.
    purged: Place,
    live: OrdMap<Bytes, Arc<Change>>,
    /// Versions that a newer one replaced, and deletions.
    superseded: OrdMap<(Bytes, i64), Arc<Change>>,
    changes: OrdMap<Place, Arc<Change>>,
    /// Keys' and values' lengths, of every retained change and of what lives now.
    bytes: i64,
    live_bytes: i64,
}

fn length(change: &Change) -> i64 {
    (change.kv.key.len() + change.kv.value.len()) as i64
}

impl Default for Mvcc {
    fn default() -> Self {
        Mvcc {
            revision: 1,
            compacted: 0,
            purged: (0, 0),
            live: OrdMap::new(),
            superseded: OrdMap::new(),
            changes: OrdMap::new(),
            bytes: 0,
            live_bytes: 0,
        }
    }
}

impl Mvcc {
    /// An empty history that [`Mvcc::restore`] fills.
    pub fn restoring(revision: i64, compacted: i64) -> Self {
        Mvcc { revision, compacted, ..Mvcc::default() }
    }

    pub fn revision(&self) -> i64 {
        self.revision
    }

    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// Every retained change, by revision.
    pub fn changes(&self) -> &OrdMap<Place, Arc<Change>> {
        &self.changes
    }

    pub fn get(&self, key: &Bytes) -> Option<&Arc<Change>> {
        self.live.get(key)
    }

    /// Keys that live now.
    pub fn live(&self, range: &KeyRange) -> impl Iterator<Item = &Arc<Change>> {
        let bounds = range.bounds().map(|(start, end)| (start.cloned(), end.cloned()));
        bounds.into_iter().flat_map(|bounds| self.live.range::<_, Bytes>(bounds).map(|(_, change)| change))
    }

    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let at = self.readable(request.revision)?;
        let range = KeyRange::new(request.start.clone(), request.end.clone());
        let mut response = RangeResponse { revision: self.revision, ..Default::default() };
        let limit = if request.limit > 0 { request.limit } else { i64::MAX };
        let mut take = |change: &Arc<Change>| {
            response.count += 1;
            if request.count_only {
                return;
            }
            if response.count > limit {
                response.more = true;
                return;
            }
            let mut kv = change.kv.clone();
            if request.keys_only {
                kv.value = Bytes::new();
            }
            response.kvs.push(kv);
        };
        if at >= self.revision {
            self.live(&range).for_each(&mut take);
        } else {
            self.visit_at(&range, at, &mut take);
        }
        Ok(response)
    }

    /// The revision to read at: the newest for 0.
    pub fn readable(&self, revision: i64) -> Result<i64, Error> {
        match revision {
            ..=0 => Ok(self.revision),
            _ if revision > self.revision => Err(Error::FutureRevision),
            _ if revision < self.compacted => Err(Error::Compacted { compact_revision: self.compacted }),
            _ => Ok(revision),
        }
    }

    /// Visits each key of `range` as it was at `revision`.
    fn visit_at(&self, range: &KeyRange, revision: i64, take: &mut impl FnMut(&Arc<Change>)) {
        if range.is_empty() {
            return;
        }
        let mut lives = self.live(range).peekable();
        let mut from = Included((range.start().clone(), i64::MIN));
        loop {
            let old = self.superseded.range((from, Unbounded)).next().map(|((key, _), _)| key);
            let old = old.filter(|key| range.contains(key));
            let live = lives.peek().map(|change| &change.kv.key);
            let Some(key) = old.into_iter().chain(live).min().cloned() else { return };
            let current = lives.next_if(|change| change.kv.key == key);
            match current.filter(|change| change.kv.mod_revision <= revision) {
                Some(change) => take(change),
                None => self.superseded_at(&key, revision).into_iter().for_each(&mut *take),
            }
            from = Excluded((key, i64::MAX));
        }
    }

    /// The superseded version of `key` that was the newest at `revision`, unless that was a deletion.
    fn superseded_at(&self, key: &Bytes, revision: i64) -> Option<&Arc<Change>> {
        self.superseded_before(key, Included((key.clone(), revision))).filter(|change| !change.deleted)
    }

    fn superseded_before(&self, key: &Bytes, end: std::ops::Bound<(Bytes, i64)>) -> Option<&Arc<Change>> {
        let (_, change) = self.superseded.range((Included((key.clone(), i64::MIN)), end)).next_back()?;
        Some(change)
    }

    /// The key as it was at `revision`, which must be readable.
    pub fn at(&self, key: &Bytes, revision: i64) -> Option<&Arc<Change>> {
        let live = self.live.get(key).filter(|change| change.kv.mod_revision <= revision);
        live.or_else(|| self.superseded_at(key, revision))
    }

    /// The key before the change of it at `revision`, while history still has it.
    pub fn before(&self, key: &Bytes, revision: i64) -> Option<&KeyValue> {
        let change = self.superseded_before(key, Excluded((key.clone(), revision)))?;
        if change.deleted { None } else { Some(&change.kv) }
    }

    /// Number of living keys.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Bytes of keys and values that history holds, and of those that live now.
    pub fn bytes(&self) -> (i64, i64) {
        (self.bytes, self.live_bytes)
    }

    /// Begins a transaction that writes: everything up to the next call gets the new revision.
    pub fn advance(&mut self) -> i64 {
        self.revision += 1;
        self.revision
    }

    /// Writes `key` at the current revision as its change number `sub`. Returns what it replaced.
    pub fn put(&mut self, sub: u32, key: &Bytes, value: Bytes, lease: i64) -> Option<Arc<Change>> {
        let previous = self.live.get(key).cloned();
        // One allocation of its own per living key: a slice would keep a whole log entry.
        let key = previous.as_ref().map_or_else(|| Bytes::copy_from_slice(key), |change| change.kv.key.clone());
        let kv = KeyValue {
            key: key.clone(),
            value,
            create_revision: previous.as_ref().map_or(self.revision, |change| change.kv.create_revision),
            mod_revision: self.revision,
            version: previous.as_ref().map_or(1, |change| change.kv.version + 1),
            lease,
        };
        let change = Arc::new(Change { kv, deleted: false });
        self.bytes += length(&change);
        self.live_bytes += length(&change) - previous.as_ref().map_or(0, |old| length(old));
        self.changes.insert((self.revision, sub), change.clone());
        self.live.insert(key.clone(), change);
        if let Some(old) = &previous {
            self.superseded.insert((key, old.kv.mod_revision), old.clone());
        }
        previous
    }

    /// Deletes `key` at the current revision. Returns what it was; `None` (and no change) when it did not exist.
    pub fn delete(&mut self, sub: u32, key: &Bytes) -> Option<Arc<Change>> {
        let previous = self.live.remove(key)?;
        let key = previous.kv.key.clone();
        let kv = KeyValue {
            key: key.clone(),
            value: Bytes::new(),
            create_revision: 0,
            mod_revision: self.revision,
            version: 0,
            lease: 0,
        };
        let change = Arc::new(Change { kv, deleted: true });
        self.bytes += length(&change);
        self.live_bytes -= length(&previous);
        self.changes.insert((self.revision, sub), change.clone());
        self.superseded.insert((key.clone(), previous.kv.mod_revision), previous.clone());
        self.superseded.insert((key, self.revision), change);
        Some(previous)
    }

    /// Adds a retained change as read from disk. Changes must come in order of their place.
    pub fn restore(&mut self, place: Place, change: Change) {
        let change = Arc::new(change);
        let key = change.kv.key.clone();
        self.bytes += length(&change);
        self.live_bytes += if change.deleted { 0 } else { length(&change) };
        self.changes.insert(place, change.clone());
        let old = if change.deleted {
            self.superseded.insert((key.clone(), change.kv.mod_revision), change);
            self.live.remove(&key)
        } else {
            self.live.insert(key.clone(), change)
        };
        if let Some(old) = old {
            self.live_bytes -= length(&old);
            self.superseded.insert((key, old.kv.mod_revision), old);
        }
    }

    /// Refuses reads below `revision` from now on. [`Mvcc::purge`] then removes what no read needs.
    pub fn compact(&mut self, revision: i64) -> Result<(), Error> {
        if revision <= self.compacted {
            return Err(Error::Compacted { compact_revision: self.compacted });
        }
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        // Deletions at the last compaction's own revision were kept for watches that begin there.
        self.purged = self.purged.min((self.compacted - 1, u32::MAX));
        self.compacted = revision;
        Ok(())
    }

    pub fn needs_purge(&self) -> bool {
        self.purged < (self.compacted, u32::MAX)
    }

    /// Looks at up to `budget` changes and removes those that no read at or after the compacted revision sees.
    pub fn purge(&mut self, budget: usize) {
        let end = (self.compacted, u32::MAX);
        let due = self.changes.range((Excluded(self.purged), Included(end))).take(budget);
        let due: Vec<_> = due.map(|(place, change)| (*place, change.clone())).collect();
        let finished = due.len() < budget;
        for (place, change) in due {
            self.purge_one(place, &change);
            self.purged = place;
        }
        if finished {
            self.purged = end;
        }
    }

    /// Everything of the key before this change is superseded at or below the compacted revision. The change itself
    /// stays while it may be the newest one, except for a deletion below that revision.
    fn purge_one(&mut self, place: Place, change: &Change) {
        let key = &change.kv.key;
        while let Some(older) = self.superseded_before(key, Excluded((key.clone(), place.0))).cloned() {
            self.forget(&older);
        }
        if change.deleted && place.0 < self.compacted {
            self.superseded.remove(&(key.clone(), place.0));
            self.drop_change(&place);
        }
    }

    fn forget(&mut self, change: &Arc<Change>) {
        let revision = change.kv.mod_revision;
        self.superseded.remove(&(change.kv.key.clone(), revision));
        let of_revision = self.changes.range((revision, 0)..=(revision, u32::MAX));
        let place = of_revision.filter(|(_, other)| Arc::ptr_eq(other, change)).map(|(place, _)| *place).next();
        if let Some(place) = place {
            self.drop_change(&place);
        }
    }

    fn drop_change(&mut self, place: &Place) {
        self.bytes -= self.changes.remove(place).map_or(0, |change| length(&change));
    }
}

#[cfg(test)]
mod tests;
