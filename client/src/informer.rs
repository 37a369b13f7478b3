//! A local copy of a resource, kept current by list and watch, with a callback for every change.
//!
//! Handlers run on the watching task, one after another and in the order of the watch: they note keys in a queue and
//! return; they never wait.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::NamespacedName;
use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;

/// What happened to an object. A relist after a lost watch reports only real differences.
#[derive(Debug)]
pub enum Change<'a, T> {
    Added(&'a Arc<T>),
    Updated { old: &'a Arc<T>, new: &'a Arc<T> },
    Deleted(&'a Arc<T>),
}

impl<T> Change<'_, T> {
    /// The object after the change, or as it last was.
    pub fn object(&self) -> &Arc<T> {
        match self {
            Change::Added(object) | Change::Deleted(object) | Change::Updated { new: object, .. } => object,
        }
    }
}

type Handler<T> = Box<dyn Fn(&Change<'_, T>) + Send + Sync>;
type Index<T> = fn(&T) -> Option<String>;

/// What is kept of an object, and which version of it that is.
struct Kept<T> {
    version: Option<String>,
    object: Arc<T>,
}

/// Objects by what an index says of them.
type Groups<T> = HashMap<String, BTreeMap<NamespacedName, Arc<T>>>;

struct Objects<T> {
    by_name: BTreeMap<NamespacedName, Kept<T>>,
    by_index: Groups<T>,
}

struct Shared<T> {
    objects: RwLock<Objects<T>>,
    /// Held, for reading, from before a change is made until its handlers have run: a handler that comes meanwhile sees
    /// the change either in the copy or as an event, never both.
    handlers: RwLock<Vec<Handler<T>>>,
    index: Option<Index<T>>,
    synced: AtomicBool,
    sync_done: Notify,
}

/// A copy of objects of one kind, or of what is kept of them (`T`). Clones share it.
pub struct Informer<T>(Arc<Shared<T>>);

impl<T> Clone for Informer<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The key of an object in the copy.
pub fn key_of<K: Resource>(object: &K) -> NamespacedName {
    let meta = object.meta();
    NamespacedName {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
    }
}

/// What every copy does without: who wrote which field. An update that leaves it out leaves it as it is.
pub fn whole<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

impl<K> Informer<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone,
{
    /// Starts watching all objects that `api` and `config` select, until the token is cancelled.
    pub fn start(api: Api<K>, config: watcher::Config, stop: CancellationToken) -> Self {
        let informer = Self::idle();
        tokio::spawn(informer.clone().run(api, config, stop));
        informer
    }

    /// Watches until the token is cancelled.
    pub async fn run(self, api: Api<K>, config: watcher::Config, stop: CancellationToken) {
        self.run_keeping(api, config, stop, whole).await;
    }
}

impl<T> Informer<T> {
    /// An informer that does not watch yet: add handlers, then spawn [`Self::run`].
    pub fn idle() -> Self {
        Self::new(None)
    }

    /// As [`Self::idle`], with an index: [`Self::indexed`] finds the objects for which `index` gives a value.
    pub fn with_index(index: Index<T>) -> Self {
        Self::new(Some(index))
    }

    fn new(index: Option<Index<T>>) -> Self {
        Self(Arc::new(Shared {
            objects: RwLock::new(Objects { by_name: BTreeMap::new(), by_index: HashMap::new() }),
            handlers: RwLock::default(),
            index,
            synced: AtomicBool::new(false),
            sync_done: Notify::new(),
        }))
    }

    /// Calls `handler` for every change from now on, and first with `Added` for everything that is already here.
    pub fn on_change(&self, handler: impl Fn(&Change<'_, T>) + Send + Sync + 'static) {
        let mut handlers = self.0.handlers.write();
        for object in self.list() {
            handler(&Change::Added(&object));
        }
        handlers.push(Box::new(handler));
    }

    /// Watches until the token is cancelled; of each object only what `keep` makes of it stays in memory.
    ///
    /// What fails is tried again, from the revision that was last seen.
    pub async fn run_keeping<K>(self, api: Api<K>, config: watcher::Config, stop: CancellationToken, keep: fn(K) -> T)
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let mut events = std::pin::pin!(watcher::watcher(api, config).backoff(Backoff::default()));
        let mut relist = BTreeMap::new();
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = events.next() => event,
            };
            let kept = |object: K| {
                let (key, version) = (key_of(&object), object.meta().resource_version.clone());
                (key, Kept { version, object: Arc::new(keep(object)) })
            };
            match event {
                Some(Ok(Event::Init)) => relist = BTreeMap::new(),
                Some(Ok(Event::InitApply(object))) => {
                    let (key, object) = kept(object);
                    relist.insert(key, object);
                }
                Some(Ok(Event::InitDone)) => {
                    self.replace(std::mem::take(&mut relist));
                    self.0.synced.store(true, Ordering::Release);
                    self.0.sync_done.notify_waiters();
                }
                Some(Ok(Event::Apply(object))) => {
                    let (key, object) = kept(object);
                    self.put(key, object);
                }
                Some(Ok(Event::Delete(object))) => {
                    let (key, object) = kept(object);
                    self.remove(&key, Some(object.object));
                }
                Some(Err(error)) => tracing::debug!(kind = std::any::type_name::<K>(), %error, "watch will be resumed"),
                None => return,
            }
        }
    }

    fn put(&self, key: NamespacedName, fresh: Kept<T>) {
        let handlers = self.0.handlers.read();
        let object = Arc::clone(&fresh.object);
        let old = {
            let mut objects = self.0.objects.write();
            let Objects { by_name, by_index } = &mut *objects;
            match by_name.entry(key) {
                Entry::Occupied(place) if place.get().version == fresh.version => return,
                Entry::Occupied(mut place) => {
                    let old = place.insert(fresh);
                    self.reindex(by_index, place.key(), Some(&old.object), Some(&object));
                    Some(old)
                }
                Entry::Vacant(place) => {
                    self.reindex(by_index, place.key(), None, Some(&object));
                    place.insert(fresh);
                    None
                }
            }
        };
        let change = match &old {
            Some(old) => Change::Updated { old: &old.object, new: &object },
            None => Change::Added(&object),
        };
        handlers.iter().for_each(|handler| handler(&change));
    }

    /// Removes an object; handlers get it as it was deleted, or as it last was known.
    fn remove(&self, key: &NamespacedName, last: Option<Arc<T>>) {
        let handlers = self.0.handlers.read();
        let old = {
            let mut objects = self.0.objects.write();
            let Some(old) = objects.by_name.remove(key) else { return };
            self.reindex(&mut objects.by_index, key, Some(&old.object), None);
            old.object
        };
        let change = Change::Deleted(last.as_ref().unwrap_or(&old));
        handlers.iter().for_each(|handler| handler(&change));
    }

    /// Moves an object in the index, from the value that it had to the one that it has.
    fn reindex(&self, groups: &mut Groups<T>, key: &NamespacedName, before: Option<&Arc<T>>, after: Option<&Arc<T>>) {
        let Some(index) = self.0.index else { return };
        let (was, is) = (before.and_then(|object| index(object)), after.and_then(|object| index(object)));
        if was != is
            && let Some(was) = was
            && let Some(group) = groups.get_mut(&was)
        {
            group.remove(key);
            if group.is_empty() {
                groups.remove(&was);
            }
        }
        if let (Some(is), Some(object)) = (is, after) {
            groups.entry(is).or_default().insert(key.clone(), Arc::clone(object));
        }
    }

    fn replace(&self, fresh: BTreeMap<NamespacedName, Kept<T>>) {
        let gone: Vec<_> = {
            let objects = self.0.objects.read();
            objects.by_name.keys().filter(|key| !fresh.contains_key(key)).cloned().collect()
        };
        for key in &gone {
            self.remove(key, None);
        }
        for (key, object) in fresh {
            self.put(key, object);
        }
    }

    /// Returns when the first full list has arrived.
    pub async fn synced(&self) {
        loop {
            let notified = self.0.sync_done.notified();
            if self.is_synced() {
                return;
            }
            notified.await;
        }
    }

    pub fn is_synced(&self) -> bool {
        self.0.synced.load(Ordering::Acquire)
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        let objects = self.0.objects.read();
        objects.by_name.get(&NamespacedName::new(namespace, name)).map(|kept| Arc::clone(&kept.object))
    }

    pub fn list(&self) -> Vec<Arc<T>> {
        self.filter(|_| true)
    }

    /// The objects for which `wanted` holds.
    pub fn filter(&self, wanted: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let objects = self.0.objects.read();
        let kept = objects.by_name.values().filter(|kept| wanted(&kept.object));
        kept.map(|kept| Arc::clone(&kept.object)).collect()
    }

    /// The objects of a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        let objects = self.0.objects.read();
        let from = NamespacedName::new(namespace, "");
        let kept = objects.by_name.range(from..).take_while(|(key, _)| key.namespace == namespace);
        kept.map(|(_, kept)| Arc::clone(&kept.object)).collect()
    }

    /// The objects for which the index of [`Self::with_index`] gives this value.
    pub fn indexed(&self, value: &str) -> Vec<Arc<T>> {
        let objects = self.0.objects.read();
        objects.by_index.get(value).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.0.objects.read().by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests;
