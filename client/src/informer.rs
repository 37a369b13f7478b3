//! A local copy of a resource, kept current by list and watch, with a callback for every change.
//!
//! Handlers run on the watching task, one after another and in the order of the watch: they note keys in a queue and
//! return; they never wait.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::NamespacedName;
use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What happened to an object. A relist after a lost watch reports only real differences.
#[derive(Debug)]
pub enum Change<'a, K> {
    Added(&'a Arc<K>),
    Updated { old: &'a Arc<K>, new: &'a Arc<K> },
    Deleted(&'a Arc<K>),
}

impl<K> Change<'_, K> {
    /// The object after the change, or as it last was.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Change::Added(object) | Change::Deleted(object) | Change::Updated { new: object, .. } => object,
        }
    }
}

type Handler<K> = Box<dyn Fn(&Change<'_, K>) + Send + Sync>;

struct Shared<K> {
    objects: RwLock<HashMap<NamespacedName, Arc<K>>>,
    handlers: RwLock<Vec<Handler<K>>>,
    synced: AtomicBool,
    sync_done: Notify,
}

/// Clones share the copy.
pub struct Informer<K>(Arc<Shared<K>>);

impl<K> Clone for Informer<K> {
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

    /// An informer that does not watch yet: add handlers, then spawn [`Self::run`].
    pub fn idle() -> Self {
        Self(Arc::new(Shared {
            objects: RwLock::default(),
            handlers: RwLock::default(),
            synced: AtomicBool::new(false),
            sync_done: Notify::new(),
        }))
    }

    /// Calls `handler` for every change from now on, and first with `Added` for everything that is already here.
    pub fn on_change(&self, handler: impl Fn(&Change<'_, K>) + Send + Sync + 'static) {
        let mut handlers = self.0.handlers.write();
        for object in self.list() {
            handler(&Change::Added(&object));
        }
        handlers.push(Box::new(handler));
    }

    pub async fn run(self, api: Api<K>, config: watcher::Config, stop: CancellationToken) {
        let mut events = std::pin::pin!(watcher::watcher(api, config).default_backoff());
        let mut relist: Option<HashMap<NamespacedName, Arc<K>>> = None;
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(Event::Init)) => relist = Some(HashMap::new()),
                Some(Ok(Event::InitApply(object))) => {
                    let objects = relist.get_or_insert_default();
                    objects.insert(key_of(&object), Arc::new(object));
                }
                Some(Ok(Event::InitDone)) => {
                    self.replace(relist.take().unwrap_or_default());
                    self.0.synced.store(true, Ordering::Release);
                    self.0.sync_done.notify_waiters();
                }
                Some(Ok(Event::Apply(object))) => self.put(Arc::new(object)),
                Some(Ok(Event::Delete(object))) => self.remove(&Arc::new(object)),
                Some(Err(error)) => tracing::debug!(kind = std::any::type_name::<K>(), %error, "watch will be resumed"),
                None => return,
            }
        }
    }

    fn notify(&self, change: &Change<'_, K>) {
        for handler in self.0.handlers.read().iter() {
            handler(change);
        }
    }

    fn put(&self, object: Arc<K>) {
        let old = self.0.objects.write().insert(key_of(&*object), Arc::clone(&object));
        match &old {
            Some(old) if old.resource_version() == object.resource_version() => {}
            Some(old) => self.notify(&Change::Updated { old, new: &object }),
            None => self.notify(&Change::Added(&object)),
        }
    }

    fn remove(&self, object: &Arc<K>) {
        if self.0.objects.write().remove(&key_of(&**object)).is_some() {
            self.notify(&Change::Deleted(object));
        }
    }

    fn replace(&self, fresh: HashMap<NamespacedName, Arc<K>>) {
        let gone: Vec<_> = {
            let objects = self.0.objects.read();
            objects.iter().filter(|(key, _)| !fresh.contains_key(key)).map(|(_, object)| Arc::clone(object)).collect()
        };
        for object in &gone {
            self.remove(object);
        }
        for object in fresh.into_values() {
            self.put(object);
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

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.0.objects.read().get(&NamespacedName::new(namespace, name)).cloned()
    }

    pub fn list(&self) -> Vec<Arc<K>> {
        self.0.objects.read().values().cloned().collect()
    }

    /// The objects for which `wanted` holds.
    pub fn filter(&self, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.0.objects.read().values().filter(|object| wanted(object)).cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.0.objects.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
