//! The watch cache: per resource an ordered map of encoded objects and a ring of recent events, fed by one store watch.

pub mod entry;
pub mod feed;
pub mod gap;
pub mod hints;
pub mod progress;
pub mod ring;
pub mod snapshot;
pub mod view;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use api::Resource;
use arc_swap::ArcSwap;
use bytes::Bytes;
use imbl::OrdMap;
use parking_lot::{Mutex, RwLock};

pub use entry::{Cached, Facts};
pub use feed::{Caches, Observer};
pub use ring::{Change, Joined, Ring, RingEvent};
pub use snapshot::Snapshot;
pub use view::View;

/// Objects by `namespace/name`.
pub type Objects = OrdMap<Arc<str>, Arc<Cached>>;

/// How many bytes of events a resource remembers for watchers that resume or lag.
const RING_BYTES: usize = 8 << 20;

/// Twice what waking one watcher and sending to it costs, about: that shall take no more than half the time of a core.
const WAKE_COST: Duration = Duration::from_micros(40);

/// Pauses between two wake-ups of the same watchers: shorter ones are none, longer ones would be felt.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// How many snapshots are kept for the later pages of lists that began on them.
const SNAPSHOTS: usize = 16;

/// The cache of one resource in its stored form, shared by all its served versions.
pub struct ResourceCache {
    /// The resource's part of the storage key, `/registry/{prefix}/`.
    pub key_prefix: String,
    pub namespaced: bool,
    resource: ArcSwap<Resource>,
    current: RwLock<Current>,
    ring: Mutex<Ring>,
    /// Counts wake-ups, so that a watcher knows whether it is already registered for the next.
    epoch: AtomicU64,
    wakers: Mutex<Vec<Waker>>,
    /// When the watchers were last woken.
    woken: Mutex<Option<Instant>>,
    snapshots: Mutex<VecDeque<Snapshot>>,
    joined: Mutex<JoinedList>,
}

/// The items of the last whole list, joined, while nothing changes: many clients that list the same share them.
#[derive(Default)]
struct JoinedList {
    namespace: String,
    changed: i64,
    /// Made when the list is asked for a second time.
    items: Option<Bytes>,
    /// Asked for since [`ResourceCache::rest`] looked.
    used: bool,
}

struct Current {
    objects: Objects,
    /// Revision of the newest change of this resource.
    changed: i64,
}

impl ResourceCache {
    /// A cache holding `objects` as of `revision`.
    pub fn new(resource: Arc<Resource>, objects: Objects, revision: i64) -> Self {
        Self {
            key_prefix: format!("/registry/{}/", resource.storage_prefix),
            namespaced: resource.namespaced,
            resource: ArcSwap::new(resource),
            current: RwLock::new(Current { objects, changed: revision }),
            ring: Mutex::new(Ring::new(revision, RING_BYTES)),
            epoch: AtomicU64::new(0),
            wakers: Mutex::new(Vec::new()),
            woken: Mutex::new(None),
            snapshots: Mutex::new(VecDeque::new()),
            joined: Mutex::default(),
        }
    }

    /// The row in whose form objects are stored.
    pub fn resource(&self) -> Arc<Resource> {
        self.resource.load_full()
    }

    /// Takes a changed row (a CRD was updated).
    pub fn set_resource(&self, resource: Arc<Resource>) {
        self.resource.store(resource);
    }

    /// The newest known state of one object; `key` is `namespace/name` or `name`.
    pub fn get(&self, key: &str) -> Option<Arc<Cached>> {
        self.current.read().objects.get(key).cloned()
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.current.read().objects.len()
    }

    /// Revision of the newest change.
    pub fn changed(&self) -> i64 {
        self.current.read().changed
    }

    /// All objects now. `applied` is the revision up to which the feed had been applied before the call.
    pub fn snapshot(&self, applied: i64) -> Snapshot {
        let current = self.current.read();
        let revision = applied.max(current.changed);
        Snapshot { revision, changed: current.changed, objects: current.objects.clone() }
    }

    /// Keeps a snapshot for the later pages of a list.
    pub fn keep(&self, snapshot: &Snapshot) {
        let mut kept = self.snapshots.lock();
        if kept.iter().any(|s| s.revision == snapshot.revision) {
            return;
        }
        if kept.len() >= SNAPSHOTS {
            kept.pop_front();
        }
        kept.push_back(snapshot.clone());
    }

    /// A snapshot as of exactly `revision`, if it is the current one or was kept.
    pub fn snapshot_at(&self, revision: i64, applied: i64) -> Option<Snapshot> {
        let now = self.snapshot(applied);
        if now.changed <= revision && revision <= now.revision {
            return Some(Snapshot { revision, ..now });
        }
        let kept = self.snapshots.lock();
        kept.iter()
            .find(|s| s.changed <= revision && revision <= s.revision)
            .map(|s| Snapshot { revision, ..s.clone() })
    }

    /// The items of a whole list joined by commas, if the same list was asked for before; `make` joins them.
    pub fn joined(&self, namespace: &str, changed: i64, make: impl FnOnce() -> Bytes) -> Option<Bytes> {
        let mut joined = self.joined.lock();
        if joined.changed != changed || joined.namespace != namespace {
            *joined = JoinedList { namespace: namespace.to_owned(), changed, items: None, used: true };
            return None;
        }
        Some(joined.items.get_or_insert_with(make).clone())
    }

    /// The items that [`Self::joined`] made, if they are those of this list.
    pub fn joined_items(&self, namespace: &str, changed: i64) -> Option<Bytes> {
        let mut joined = self.joined.lock();
        if joined.changed != changed || joined.namespace != namespace {
            return None;
        }
        joined.used = true;
        joined.items.clone()
    }

    /// Gives back what is kept for readers who have not come for some time; to be called now and then.
    pub fn rest(&self) {
        let mut joined = self.joined.lock();
        if !std::mem::take(&mut joined.used) {
            *joined = JoinedList::default();
        }
    }

    /// Runs `f` on the ring.
    pub fn with_ring<T>(&self, f: impl FnOnce(&mut Ring) -> T) -> T {
        f(&mut self.ring.lock())
    }

    /// Takes events of one revision in: first the ring, then the map, so that whoever sees an object in the map finds
    /// its event in the ring.
    pub(crate) fn apply(&self, events: Vec<RingEvent>) {
        let changes: Vec<_> = events.iter().map(|e| (e.change, e.revision, e.object.clone())).collect();
        {
            let mut ring = self.ring.lock();
            for event in events {
                ring.push(event);
            }
        }
        self.joined.lock().items = None;
        let mut current = self.current.write();
        for (change, revision, object) in changes {
            current.changed = revision;
            match change {
                Change::Deleted => {
                    current.objects.remove(&*object.key);
                }
                Change::Added | Change::Modified => {
                    current.objects.insert(object.key.clone(), object);
                }
            }
        }
    }

    /// Starts over from a full read of the store; watchers fall out of the ring.
    pub(crate) fn reset(&self, objects: Objects, revision: i64) {
        {
            let mut ring = self.ring.lock();
            let next = ring.end() + 1;
            *ring = Ring::starting_at(next, revision, RING_BYTES);
        }
        *self.current.write() = Current { objects, changed: revision };
        self.wake();
    }

    /// The number of wake-ups so far; read it before looking at the ring.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Registers for the next wake-up, unless one has happened since `epoch` was read: then look again.
    pub fn register(&self, epoch: u64, waker: &Waker) -> bool {
        let mut wakers = self.wakers.lock();
        if self.epoch.load(Ordering::Acquire) != epoch {
            return false;
        }
        wakers.push(waker.clone());
        true
    }

    /// Wakes every watcher so that it sees the server stop.
    pub(crate) fn wake_for_stop(&self) {
        self.wake();
    }

    /// When the watchers may be woken again: many are given time, so that what happens meanwhile reaches each of them
    /// in
    /// one piece. Few are woken at once.
    fn next_wake(&self) -> Option<Instant> {
        let pause = (WAKE_COST * self.wakers.lock().len() as u32).min(LONGEST_PAUSE);
        if pause < SHORTEST_PAUSE {
            return None;
        }
        self.woken.lock().map(|woken| woken + pause)
    }

    /// Wakes every watcher that waits.
    fn wake(&self) {
        *self.woken.lock() = Some(Instant::now());
        let waiting = {
            let mut wakers = self.wakers.lock();
            self.epoch.fetch_add(1, Ordering::AcqRel);
            std::mem::take(&mut *wakers)
        };
        for waker in waiting {
            waker.wake();
        }
    }
}
