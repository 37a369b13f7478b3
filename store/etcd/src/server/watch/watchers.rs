//! The watches of one stream and how far each has read: no IO, no clock. Those that are up to date share one position
//! and one look at what is new; those that still read the past have a position of their own.

use std::collections::BTreeMap;

use bytes::Bytes;
use store::core::mvcc::{Change, Mvcc};
use store::keys::KeyRange;

use crate::keys::deleted;
use crate::proto::{Event, EventType, WatchCreateRequest, WatchFilter, WatchResponse};

/// The id in a response that concerns no watch, or all.
pub const NO_WATCH: i64 = -1;
/// The largest request, in bytes; what a response should not exceed either.
pub const MAX_REQUEST_BYTES: usize = 1536 << 10;
/// Changes that one step looks at, and events and bytes that it gathers, before it ends with a whole revision.
const STEP: usize = 8192;
const EVENTS: usize = 1000;
const BYTES: usize = 1 << 20;

const COMPACTED_WATCH: &str = "etcdserver: mvcc: required revision has been compacted";

struct Watcher {
    range: KeyRange,
    puts: bool,
    deletes: bool,
    prev_kv: bool,
    fragment: bool,
    progress: bool,
    /// Nothing was sent since progress was last due.
    quiet: bool,
    /// First revision wanted.
    from: i64,
    /// Next revision to look at, while that is behind the others'.
    behind: Option<i64>,
}

pub struct Watchers {
    watchers: BTreeMap<i64, Watcher>,
    next_id: i64,
    /// Next revision to look at for all that are not behind.
    next: i64,
}

/// What one step found.
pub struct Outcome {
    pub responses: Vec<WatchResponse>,
    /// Everything of these watches up to this revision is in this response or an earlier one.
    pub through: i64,
    /// Some watch is behind the newest revision: step again.
    pub more: bool,
}

impl Watchers {
    pub fn new(revision: i64) -> Self {
        Watchers { watchers: BTreeMap::new(), next_id: 0, next: revision + 1 }
    }

    pub fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    pub fn any_wants_progress(&self) -> bool {
        self.watchers.values().any(|watcher| watcher.progress)
    }

    /// The revision up to which all that are not behind have everything.
    pub fn position(&self) -> i64 {
        self.next - 1
    }

    /// Adds a watch, at the newest revision `current`. Returns what the client is told.
    pub fn create(&mut self, request: WatchCreateRequest, current: i64) -> WatchResponse {
        let refused = |reason: &str| WatchResponse {
            watch_id: NO_WATCH,
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..Default::default()
        };
        let key = if request.key.is_empty() { Bytes::from_static(b"\0") } else { request.key };
        let range = KeyRange::new(key, request.range_end);
        if range.is_empty() {
            return refused("mvcc: watcher range is empty");
        }
        if self.watchers.contains_key(&request.watch_id) && request.watch_id != 0 {
            return refused("mvcc: duplicate watch ID provided on the WatchStream");
        }
        let id = if request.watch_id != 0 { request.watch_id } else { self.free_id() };
        let from = if request.start_revision > 0 { request.start_revision } else { current + 1 };
        let without = |filter: WatchFilter| request.filters.contains(&(filter as i32));
        let watcher = Watcher {
            range,
            puts: !without(WatchFilter::NoPut),
            deletes: !without(WatchFilter::NoDelete),
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress: request.progress_notify,
            quiet: true,
            from,
            behind: (from < self.next).then_some(from),
        };
        self.watchers.insert(id, watcher);
        WatchResponse { watch_id: id, created: true, ..Default::default() }
    }

    fn free_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    pub fn cancel(&mut self, id: i64) -> Option<WatchResponse> {
        self.watchers.remove(&id)?;
        Some(WatchResponse { watch_id: id, canceled: true, ..Default::default() })
    }

    /// Watches that want to hear of progress and heard nothing since the last call.
    pub fn take_quiet(&mut self) -> Vec<i64> {
        let wanting = self.watchers.iter_mut().filter(|(_, watcher)| watcher.progress);
        wanting.filter_map(|(id, watcher)| std::mem::replace(&mut watcher.quiet, true).then_some(*id)).collect()
    }

    /// One bounded look at history: for a watch that is behind if there is one, else for all others.
    pub fn step(&mut self, mvcc: &Mvcc) -> Outcome {
        if self.watchers.is_empty() {
            self.next = mvcc.revision() + 1;
            return Outcome { responses: Vec::new(), through: mvcc.revision(), more: false };
        }
        let ended = self.end_compacted(mvcc);
        if !ended.is_empty() {
            return Outcome { responses: ended, through: mvcc.revision(), more: true };
        }
        let behind = self.watchers.iter().find_map(|(id, watcher)| Some((*id, watcher.behind?)));
        match behind {
            Some((id, from)) => self.catch_up(mvcc, id, from),
            None => self.advance(mvcc),
        }
    }

    /// Removes watches whose next revision history no longer has.
    fn end_compacted(&mut self, mvcc: &Mvcc) -> Vec<WatchResponse> {
        let (compacted, next) = (mvcc.compacted(), self.next);
        let lost = |watcher: &Watcher| watcher.behind.unwrap_or(next.max(watcher.from)) < compacted;
        let lost: Vec<i64> = self.watchers.iter().filter(|(_, watcher)| lost(watcher)).map(|(id, _)| *id).collect();
        let end = |id| {
            self.watchers.remove(&id);
            WatchResponse {
                watch_id: id,
                canceled: true,
                compact_revision: compacted,
                cancel_reason: COMPACTED_WATCH.to_owned(),
                ..Default::default()
            }
        };
        let ended = lost.into_iter().map(end).collect();
        self.next = self.next.max(compacted);
        ended
    }

    fn catch_up(&mut self, mvcc: &Mvcc, id: i64, from: i64) -> Outcome {
        // Not beyond the others: from there on it reads with them.
        let look = Look::new(mvcc, from, self.position());
        let (through, mut events) = look.gather(&[(id, &self.watchers[&id])]);
        let next = self.next;
        if let Some(watcher) = self.watchers.get_mut(&id) {
            watcher.behind = (through + 1 < next).then_some(through + 1);
        }
        let events = events.pop().unwrap_or_default();
        Outcome { responses: self.respond(id, events).into_iter().collect(), through, more: true }
    }

    fn advance(&mut self, mvcc: &Mvcc) -> Outcome {
        let look = Look::new(mvcc, self.next, mvcc.revision());
        let all: Vec<(i64, &Watcher)> = self.watchers.iter().map(|(id, watcher)| (*id, watcher)).collect();
        let (through, events) = look.gather(&all);
        let ids: Vec<i64> = all.iter().map(|(id, _)| *id).collect();
        let responses = ids.into_iter().zip(events).filter_map(|(id, events)| self.respond(id, events)).collect();
        self.next = self.next.max(through + 1);
        Outcome { responses, through, more: self.next <= mvcc.revision() }
    }

    fn respond(&mut self, watch_id: i64, events: Vec<Event>) -> Option<WatchResponse> {
        let watcher = self.watchers.get_mut(&watch_id).filter(|_| !events.is_empty())?;
        watcher.quiet = false;
        Some(WatchResponse { watch_id, fragment: watcher.fragment, events, ..Default::default() })
    }
}

/// A look at the changes of some revisions.
struct Look<'a> {
    mvcc: &'a Mvcc,
    from: i64,
    to: i64,
}

impl<'a> Look<'a> {
    fn new(mvcc: &'a Mvcc, from: i64, to: i64) -> Self {
        Look { mvcc, from, to }
    }

    /// The events of each watch, and the revision up to which they are complete.
    fn gather(&self, watchers: &[(i64, &Watcher)]) -> (i64, Vec<Vec<Event>>) {
        let mut found: Vec<Vec<Event>> = watchers.iter().map(|_| Vec::new()).collect();
        if self.from > self.to {
            return (self.to, found);
        }
        let (mut current, mut events, mut bytes) = (self.from - 1, 0, 0);
        let changes = self.mvcc.changes().range((self.from, 0)..=(self.to, u32::MAX));
        for (looked, ((revision, _), change)) in changes.enumerate() {
            if *revision != current && (looked >= STEP || events >= EVENTS || bytes >= BYTES) {
                return (current, found);
            }
            current = *revision;
            for ((_, watcher), found) in watchers.iter().zip(&mut found) {
                if watcher.wants(change) {
                    found.push(watcher.event(self.mvcc, change));
                    events += 1;
                    bytes += change.kv.key.len() + change.kv.value.len();
                }
            }
        }
        (self.to, found)
    }
}

impl Watcher {
    fn wants(&self, change: &Change) -> bool {
        let kind = if change.deleted { self.deletes } else { self.puts };
        kind && change.kv.mod_revision >= self.from && self.range.contains(&change.kv.key)
    }

    fn event(&self, mvcc: &Mvcc, change: &Change) -> Event {
        let kv = &change.kv;
        let prev = if self.prev_kv { mvcc.before(&kv.key, kv.mod_revision).cloned() } else { None };
        let (kind, now) = match change.deleted {
            true => (EventType::Delete, deleted(kv.key.clone(), kv.mod_revision)),
            false => (EventType::Put, kv.clone().into()),
        };
        Event { r#type: kind as i32, kv: Some(now), prev_kv: prev.map(Into::into) }
    }
}
