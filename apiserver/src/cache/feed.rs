//! One store watch feeds the caches of all resources.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{Object, Resource};
use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use store::{Event, EventKind, KeyValue, Kv, RangeRequest, WatchBatch, WatchRequest, WatchStream};
use tokio::sync::{mpsc, oneshot};

use super::entry::{Cached, Facts};
use super::hints::Hints;
use super::progress::Progress;
use super::ring::{Change, RingEvent};
use super::snapshot::Snapshot;
use super::{Objects, ResourceCache};
use apiserver_auth::Transformer;
use apiserver_auth::seal::SealError;

use crate::storage;

const ROOT: &str = "/registry/";
const ROOT_END: &str = "/registry0";

/// How many revisions of history a starting server replays, so that watchers of its predecessor resume.
const HISTORY: i64 = 4000;

/// Keys a page when the store is read whole.
const PAGE: i64 = 2000;

/// How long a broken store watch is left alone before the next attempt.
const RETRY: Duration = Duration::from_millis(200);

/// The feed could not start or go on.
#[derive(Debug, thiserror::Error)]
#[error("watch cache: {operation}: {source}")]
pub struct FeedError {
    operation: &'static str,
    #[source]
    source: store::Error,
}

fn failed(operation: &'static str) -> impl FnOnce(store::Error) -> FeedError {
    move |source| FeedError { operation, source }
}

/// The transformer of a storage prefix, if its objects have one.
pub type TransformerFor = Arc<dyn Fn(&str) -> Option<Arc<dyn Transformer>> + Send + Sync>;

/// Told of each change when the caches have taken it in.
pub trait Observer: Send + Sync {
    /// Whether changes of this resource are wanted; others are not decoded for it.
    fn wants(&self, resource: &Resource) -> bool;
    /// `object` is `None` when it was deleted.
    fn changed(&self, resource: &Resource, namespace: &str, name: &str, object: Option<&Object>);
    /// An object of any resource was deleted.
    fn deleted(&self, _: &Resource, _namespace: &str, _name: &str) {}
}

/// The caches of all resources, by storage prefix.
pub struct Caches {
    kv: Arc<dyn Kv>,
    transformer: TransformerFor,
    by_prefix: ArcSwap<HashMap<String, Arc<ResourceCache>>>,
    pub progress: Progress,
    pub hints: Hints,
    observers: Vec<Arc<dyn Observer>>,
    add: mpsc::Sender<AddResource>,
}

struct AddResource {
    resource: Arc<Resource>,
    done: oneshot::Sender<Result<Arc<ResourceCache>, FeedError>>,
}

/// The feed itself, to be run until it is dropped.
pub struct Feed {
    caches: Arc<Caches>,
    stream: WatchStream,
    added: mpsc::Receiver<AddResource>,
    /// Caches with events since the last wake-up.
    touched: Vec<Arc<ResourceCache>>,
}

impl FeedError {
    /// Whether the revision asked for is no longer in the store's history.
    pub fn is_compacted(&self) -> bool {
        matches!(self.source, store::Error::Compacted { .. })
    }
}

impl Caches {
    /// Reads the store, fills the caches of `resources` (rows in storage form) and begins to watch.
    pub async fn open(
        kv: Arc<dyn Kv>,
        resources: impl Iterator<Item = Arc<Resource>>,
        transformer: TransformerFor,
        observers: Vec<Arc<dyn Observer>>,
    ) -> Result<(Arc<Self>, Feed), FeedError> {
        let (add, added) = mpsc::channel(16);
        let caches = Arc::new(Self {
            kv,
            transformer,
            by_prefix: ArcSwap::default(),
            progress: Progress::default(),
            hints: Hints::default(),
            observers,
            add,
        });
        let now = caches.store_revision().await.map_err(failed("read the store's revision"))?;
        let base = caches.base_revision(now).await?;
        let mut by_prefix = HashMap::new();
        for resource in resources {
            let prefix = resource.storage_prefix.clone();
            by_prefix.insert(prefix, Arc::new(ResourceCache::new(resource, Objects::new(), base)));
        }
        caches.by_prefix.store(Arc::new(by_prefix));
        caches.load_all(base).await?;
        caches.progress.advance(base);
        let stream = caches.watch(base, false).await.map_err(failed("watch the store"))?;
        Ok((caches.clone(), Feed { caches, stream, added, touched: Vec::new() }))
    }

    /// The store's newest revision, linearizable.
    pub async fn store_revision(&self) -> Result<i64, store::Error> {
        let start = Bytes::from_static(b"/registry/");
        let request = RangeRequest { start, limit: 1, count_only: true, ..RangeRequest::default() };
        Ok(self.kv.range(request).await?.revision)
    }

    /// The revision from which history is replayed: a little back, as far as the store still has it.
    async fn base_revision(&self, now: i64) -> Result<i64, FeedError> {
        let wanted = now - HISTORY;
        if wanted < 1 {
            return self.earliest(1, now).await;
        }
        self.earliest(wanted, now).await
    }

    async fn earliest(&self, wanted: i64, now: i64) -> Result<i64, FeedError> {
        let start = Bytes::from_static(b"/registry/");
        let request = RangeRequest { start, limit: 1, count_only: true, revision: wanted, ..RangeRequest::default() };
        match self.kv.range(request).await {
            Ok(_) => Ok(wanted),
            Err(store::Error::Compacted { compact_revision }) if compact_revision > 0 => Ok(compact_revision),
            Err(store::Error::Compacted { .. } | store::Error::FutureRevision) => Ok(now),
            Err(source) => Err(failed("find the oldest revision")(source)),
        }
    }

    pub(super) async fn watch(&self, after: i64, prev_kv: bool) -> Result<WatchStream, store::Error> {
        // All keys, not only the registry's: the store's revision also moves by other keys, and reads wait for it.
        let request = WatchRequest {
            start: Bytes::from_static(&[0]),
            end: Bytes::from_static(&[0]),
            start_revision: after + 1,
            prev_kv,
            progress_notify: true,
        };
        self.kv.watch(request).await
    }

    /// Replaces the content of all caches by the store's at `revision`.
    async fn load_all(&self, revision: i64) -> Result<(), FeedError> {
        let by_prefix = self.by_prefix.load_full();
        let mut loaded: HashMap<String, Objects> = HashMap::new();
        let mut start = Bytes::from_static(ROOT.as_bytes());
        loop {
            let page = self.page(start, ROOT_END, revision).await?;
            for kv in &page.kvs {
                if let Some((cache, _)) = find(&by_prefix, &kv.key)
                    && let Some(cached) = self.cached(cache, kv)
                {
                    self.observe(cache, &cached, false);
                    let objects = loaded.entry(cache.key_prefix.clone()).or_default();
                    objects.insert(cached.key.clone(), Arc::new(cached));
                }
            }
            match page.kvs.last() {
                Some(last) if page.more => start = successor(&last.key),
                _ => break,
            }
        }
        for cache in by_prefix.values() {
            cache.reset(loaded.remove(&cache.key_prefix).unwrap_or_default(), revision);
        }
        Ok(())
    }

    /// The state of a resource at a past revision, read from the store's history.
    pub async fn read_at(&self, cache: &ResourceCache, revision: i64) -> Result<Snapshot, FeedError> {
        let objects = self.read(cache, revision).await?;
        Ok(Snapshot { revision, changed: revision, objects })
    }

    async fn read(&self, cache: &ResourceCache, revision: i64) -> Result<Objects, FeedError> {
        let mut objects = Objects::new();
        let mut start = Bytes::copy_from_slice(cache.key_prefix.as_bytes());
        let end = prefix_end(&cache.key_prefix);
        loop {
            let page = self.page(start, &end, revision).await?;
            for cached in page.kvs.iter().filter_map(|kv| self.cached(cache, kv)) {
                objects.insert(cached.key.clone(), Arc::new(cached));
            }
            match page.kvs.last() {
                Some(last) if page.more => start = successor(&last.key),
                _ => return Ok(objects),
            }
        }
    }

    async fn page(&self, start: Bytes, end: &str, revision: i64) -> Result<store::RangeResponse, FeedError> {
        let end = Bytes::copy_from_slice(end.as_bytes());
        let request = RangeRequest { start, end, limit: PAGE, revision, ..RangeRequest::default() };
        self.kv.range(request).await.map_err(failed("read the registry"))
    }

    /// The cache of a resource in storage form, if it is known.
    pub fn get(&self, storage_prefix: &str) -> Option<Arc<ResourceCache>> {
        self.by_prefix.load().get(storage_prefix).cloned()
    }

    pub fn all(&self) -> Arc<HashMap<String, Arc<ResourceCache>>> {
        self.by_prefix.load_full()
    }

    /// Adds a resource that came at run time (a CRD), filled from the store.
    pub async fn add(&self, resource: Arc<Resource>) -> Result<Arc<ResourceCache>, FeedError> {
        let (done, added) = oneshot::channel();
        let stopped = || FeedError { operation: "add a resource", source: store::Error::Stopped };
        self.add.send(AddResource { resource, done }).await.map_err(|_| stopped())?;
        added.await.map_err(|_| stopped())?
    }

    fn observe(&self, cache: &ResourceCache, cached: &Cached, deleted: bool) {
        let resource = cache.resource();
        if deleted {
            self.observers.iter().for_each(|o| o.deleted(&resource, cached.namespace(), cached.name()));
        }
        for observer in self.observers.iter().filter(|o| o.wants(&resource)) {
            if deleted {
                observer.changed(&resource, cached.namespace(), cached.name(), None);
                continue;
            }
            match cached.decode() {
                Ok(object) => observer.changed(&resource, cached.namespace(), cached.name(), Some(&object)),
                Err(error) => tracing::error!(key = &*cached.key, %error, "cached object is unreadable"),
            }
        }
    }

    /// The plain bytes of a stored value.
    pub fn open_value(&self, storage_prefix: &str, key: &[u8], value: &Bytes) -> Result<Bytes, SealError> {
        match (self.transformer)(storage_prefix) {
            Some(transformer) => transformer.open(key, value).map(Bytes::from),
            None => Ok(value.clone()),
        }
    }

    /// The value to store for plain bytes.
    pub fn seal_value(&self, storage_prefix: &str, key: &[u8], plain: Bytes) -> Result<Bytes, SealError> {
        match (self.transformer)(storage_prefix) {
            Some(transformer) => transformer.seal(key, &plain).map(Bytes::from),
            None => Ok(plain),
        }
    }

    /// A stored pair as an entry with wire bytes only; `None`, and a line in the log, when it is unreadable.
    pub(super) fn cached(&self, cache: &ResourceCache, kv: &KeyValue) -> Option<Cached> {
        self.framed(cache, kv, None).map(|(cached, _)| cached)
    }

    /// A change in the store as an event; `None` for one that cannot be told: unreadable, or the end of the unknown.
    pub(super) fn ring_event(
        &self,
        cache: &ResourceCache,
        event: &Event,
        previous: Option<Arc<Cached>>,
    ) -> Option<RingEvent> {
        let revision = event.kv.mod_revision;
        match event.kind {
            EventKind::Put => {
                let change = if previous.is_some() { Change::Modified } else { Change::Added };
                let (cached, frame) = self.framed(cache, &event.kv, Some(change))?;
                Some(RingEvent { revision, change, frame, object: Arc::new(cached), previous })
            }
            EventKind::Delete => {
                let previous = previous?;
                let change = Change::Deleted;
                let mut frame = Vec::with_capacity(previous.wire.len() + 48);
                frame.extend_from_slice(change.head());
                storage::with_revision(&mut frame, &previous.wire, previous.layout.metadata, revision);
                let wire = change.head().len()..frame.len();
                frame.extend_from_slice(b"}\n");
                let frame = Bytes::from(frame);
                let last = previous.at_revision(frame.slice(wire), revision);
                Some(RingEvent { revision, change, frame, object: Arc::new(last), previous: Some(previous) })
            }
        }
    }

    /// A stored pair as an entry, and the frame that its wire bytes are a part of when `change` is given.
    fn framed(&self, cache: &ResourceCache, kv: &KeyValue, change: Option<Change>) -> Option<(Cached, Bytes)> {
        match self.try_framed(cache, kv, change) {
            Ok(made) => Some(made),
            Err(why) => {
                tracing::error!(key = %String::from_utf8_lossy(&kv.key), why, "stored object is left out");
                None
            }
        }
    }

    fn try_framed(
        &self,
        cache: &ResourceCache,
        kv: &KeyValue,
        change: Option<Change>,
    ) -> Result<(Cached, Bytes), String> {
        let resource = cache.resource();
        let key = std::str::from_utf8(&kv.key).map_err(|e| e.to_string())?;
        let relative = &key[cache.key_prefix.len()..];
        let hint = self.hints.take(&kv.key, &kv.value);
        let plain = self.open_value(&resource.storage_prefix, &kv.key, &kv.value).map_err(|e| e.to_string())?;
        let head = change.map_or(&b""[..], Change::head);
        let mut frame = Vec::with_capacity(head.len() + plain.len() + 48);
        frame.extend_from_slice(head);
        let layout = storage::splice_into(&mut frame, &plain, kv.mod_revision).map_err(|e| e.to_string())?;
        let wire = head.len()..frame.len();
        if change.is_some() {
            frame.extend_from_slice(b"}\n");
        }
        let frame = Bytes::from(frame);
        let wire = frame.slice(wire);
        let facts = match &hint {
            Some(object) => Facts::of(&resource, object),
            None => Facts::of(&resource, &storage::decode(&wire).map_err(|e| e.to_string())?),
        };
        Ok((Cached::new(relative, cache.namespaced, kv.mod_revision, wire, layout, facts), frame))
    }
}

/// The cache that a key belongs to, and the key behind the resource's prefix. Prefixes have one part (`pods`) or two
/// (`services/specs`, `example.com/widgets`).
fn find<'a>(
    by_prefix: &'a HashMap<String, Arc<ResourceCache>>,
    key: &'a [u8],
) -> Option<(&'a Arc<ResourceCache>, &'a str)> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix(ROOT)?;
    let one = rest.find('/')?;
    if let Some(cache) = by_prefix.get(&rest[..one]) {
        return Some((cache, &rest[one + 1..]));
    }
    let two = one + 1 + rest[one + 1..].find('/')?;
    by_prefix.get(&rest[..two]).map(|cache| (cache, &rest[two + 1..]))
}

/// The first key after `key`.
fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    Bytes::from(next)
}

/// The key after all keys that begin with `prefix`, which ends with a slash.
fn prefix_end(prefix: &str) -> String {
    format!("{}0", prefix.trim_end_matches('/'))
}

enum Next {
    /// Watchers that were given time are to be woken.
    Wake,
    Batch(Option<Result<WatchBatch, store::Error>>),
    Add(AddResource),
}

/// Returns at `due`; never without one.
async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

impl Feed {
    /// Takes events in until the caches are dropped by all others and no resource can be added any more.
    pub async fn run(mut self) {
        loop {
            let due = self.touched.iter().map(|cache| cache.next_wake().unwrap_or_else(Instant::now)).min();
            let next = tokio::select! {
                batch = self.stream.next() => Next::Batch(batch),
                Some(add) = self.added.recv() => Next::Add(add),
                () = sleep_until(due) => Next::Wake,
            };
            match next {
                Next::Wake => self.wake(),
                Next::Batch(Some(Ok(batch))) => self.take_in(batch),
                Next::Batch(Some(Err(error))) => self.recover(Some(error)).await,
                Next::Batch(None) => self.recover(None).await,
                Next::Add(add) => self.add(add).await,
            }
        }
    }

    /// Applies a batch and all that are ready behind it, then wakes the watchers once.
    fn take_in(&mut self, batch: WatchBatch) {
        let mut revision = self.apply(batch);
        // Bounded, so that a flood of writes cannot keep watchers from being woken.
        for _ in 0..256 {
            match self.stream.next().now_or_never() {
                Some(Some(Ok(batch))) => revision = revision.max(self.apply(batch)),
                _ => break,
            }
        }
        self.caches.progress.advance(revision);
        self.wake();
    }

    /// Wakes the watchers of what changed, those that are due.
    fn wake(&mut self) {
        let now = Instant::now();
        self.touched.retain(|cache| {
            let waits = cache.next_wake().is_some_and(|at| at > now);
            if !waits {
                cache.wake();
            }
            waits
        });
    }

    fn apply(&mut self, batch: WatchBatch) -> i64 {
        let by_prefix = self.caches.by_prefix.load_full();
        let mut rest = &batch.events[..];
        while let Some(first) = rest.first() {
            let Some((cache, _)) = find(&by_prefix, &first.kv.key) else {
                rest = &rest[1..];
                continue;
            };
            let of_cache = |e: &Event| {
                e.kv.mod_revision == first.kv.mod_revision && e.kv.key.starts_with(cache.key_prefix.as_bytes())
            };
            let run = rest.iter().take_while(|e| of_cache(e)).count().max(1);
            self.apply_run(cache, &rest[..run]);
            rest = &rest[run..];
        }
        batch.revision
    }

    /// Applies events of one revision of one resource.
    fn apply_run(&mut self, cache: &Arc<ResourceCache>, events: &[Event]) {
        let made: Vec<RingEvent> = events.iter().filter_map(|e| self.event(cache, e)).collect();
        if made.is_empty() {
            return;
        }
        for event in &made {
            self.caches.observe(cache, &event.object, event.change == Change::Deleted);
        }
        cache.apply(made);
        if !self.touched.iter().any(|c| Arc::ptr_eq(c, cache)) {
            self.touched.push(cache.clone());
        }
    }

    fn event(&self, cache: &ResourceCache, event: &Event) -> Option<RingEvent> {
        let key = std::str::from_utf8(&event.kv.key).ok()?;
        let previous = cache.get(&key[cache.key_prefix.len()..]);
        self.caches.ring_event(cache, event, previous)
    }

    /// Watches again after the stream ended; reads everything anew when history is gone.
    async fn recover(&mut self, error: Option<store::Error>) {
        let text = error.as_ref().map(ToString::to_string).unwrap_or_default();
        tracing::warn!(error = text, "the store's watch ended; watching again");
        let compacted = matches!(error, Some(store::Error::Compacted { .. }));
        loop {
            match self.resume(compacted).await {
                Ok(stream) => {
                    self.stream = stream;
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "the store cannot be watched");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn resume(&mut self, compacted: bool) -> Result<WatchStream, FeedError> {
        if compacted {
            let now = self.caches.store_revision().await.map_err(failed("read the store's revision"))?;
            self.caches.load_all(now).await?;
            self.caches.progress.advance(now);
        }
        self.caches.watch(self.caches.progress.applied(), false).await.map_err(failed("watch the store"))
    }

    /// Fills the cache of a new resource with the state that all other caches have: no event is lost or repeated.
    async fn add(&mut self, add: AddResource) {
        let answer = self.load(add.resource).await;
        // Whoever asked may have gone meanwhile.
        let _ = add.done.send(answer);
    }

    async fn load(&mut self, resource: Arc<Resource>) -> Result<Arc<ResourceCache>, FeedError> {
        if let Some(cache) = self.caches.get(&resource.storage_prefix) {
            cache.set_resource(resource);
            return Ok(cache);
        }
        let revision = self.caches.progress.applied();
        let cache = Arc::new(ResourceCache::new(resource.clone(), Objects::new(), revision));
        let objects = self.caches.read(&cache, revision).await?;
        cache.reset(objects, revision);
        let mut by_prefix = (*self.caches.all()).clone();
        by_prefix.insert(resource.storage_prefix.clone(), cache.clone());
        self.caches.by_prefix.store(Arc::new(by_prefix));
        Ok(cache)
    }
}
