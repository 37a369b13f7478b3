//! A local copy of a resource, kept current by list and watch, with a callback for every change.
//!
//! Handlers run on the watching task, one after another and in the order of the watch: they note keys in a queue and
//! return; they never wait.

mod store;

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use api::NamespacedName;
use kube::Resource;
use tokio_util::sync::CancellationToken;

use crate::Api;
use crate::json::FromJson;
use crate::watch::{Config, ListWatch};
use store::{Index, Kept, Store, Thing};

/// What happened to an object. A relist after a lost watch reports only real differences.
#[derive(Debug)]
pub enum Change<'a, T: ?Sized> {
    Added(&'a Arc<T>),
    Updated { old: &'a Arc<T>, new: &'a Arc<T> },
    Deleted(&'a Arc<T>),
}

impl<T: ?Sized> Change<'_, T> {
    /// The object after the change, or as it last was.
    pub fn object(&self) -> &Arc<T> {
        match self {
            Change::Added(object) | Change::Deleted(object) | Change::Updated { new: object, .. } => object,
        }
    }
}

/// A copy of objects of one kind, or of what is kept of them (`T`). Clones share it.
pub struct Informer<T> {
    store: Arc<Store>,
    kept: PhantomData<fn() -> T>,
}

impl<T> Clone for Informer<T> {
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store), kept: PhantomData }
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

/// What a store of `T` holds, by its type.
fn typed<T: Any + Send + Sync>(object: &Arc<Thing>) -> Arc<T> {
    match Arc::clone(object).downcast() {
        Ok(object) => object,
        Err(_) => unreachable!("all that an informer keeps is of one type"),
    }
}

/// What an object of the store is to be kept as, with its key and version.
fn kept<K: Resource, T: Any + Send + Sync>(object: K, keep: impl Fn(K) -> T) -> (NamespacedName, Kept) {
    let (key, version) = (key_of(&object), object.meta().resource_version.clone());
    (key, Kept { version, object: Arc::new(keep(object)) })
}

impl<K: FromJson + Resource + Sync> Informer<K> {
    /// Starts watching all objects that `api` and `config` select, until the token is cancelled.
    pub fn start(api: Api<K>, config: Config, stop: CancellationToken) -> Self {
        let informer = Self::idle();
        informer.watch(api, config, stop);
        informer
    }

    /// Watches until the token is cancelled.
    pub fn watch(&self, api: Api<K>, config: Config, stop: CancellationToken) {
        self.watch_keeping(api, config, stop, whole);
    }
}

impl<T: Any + Send + Sync> Informer<T> {
    /// An informer that does not watch yet: add handlers, then [`Self::watch`].
    pub fn idle() -> Self {
        Self::new(None)
    }

    /// As [`Self::idle`], with an index: [`Self::indexed`] finds the objects for which `index` gives a value.
    pub fn with_index(index: fn(&T) -> Option<String>) -> Self {
        Self::new(Some(Box::new(move |object| object.downcast_ref().and_then(index))))
    }

    fn new(index: Option<Index>) -> Self {
        Self { store: Arc::new(Store::new(index)), kept: PhantomData }
    }

    /// Calls `handler` for every change from now on, and first with `Added` for everything that is already here.
    pub fn on_change(&self, handler: impl Fn(&Change<'_, T>) + Send + Sync + 'static) {
        self.store.on_change(Box::new(move |change| match change {
            Change::Added(object) => handler(&Change::Added(&typed(object))),
            Change::Updated { old, new } => handler(&Change::Updated { old: &typed(old), new: &typed(new) }),
            Change::Deleted(object) => handler(&Change::Deleted(&typed(object))),
        }));
    }

    /// Watches until the token is cancelled; of each object only what `keep` makes of it stays in memory.
    ///
    /// What fails is tried again, from the revision that was last seen.
    pub fn watch_keeping<K>(&self, api: Api<K>, config: Config, stop: CancellationToken, keep: fn(K) -> T)
    where
        K: FromJson + Resource,
    {
        self.watch_reading(api, config, stop, K::from_json, keep);
    }

    /// As [`Self::watch_keeping`], where `read` makes of an object's text as much as `keep` looks at.
    pub fn watch_reading<K: Resource + 'static>(
        &self,
        api: Api<K>,
        config: Config,
        stop: CancellationToken,
        read: fn(&str) -> serde_json::Result<K>,
        keep: fn(K) -> T,
    ) {
        let path = api.resource_url().to_owned();
        let steps = ListWatch::new(api.into_client(), &path, config);
        let read = Box::new(move |text: &str| read(text).map(|object| kept(object, keep)));
        Arc::clone(&self.store).spawn(steps, read, stop);
    }

    /// Returns when the first full list has arrived.
    pub async fn synced(&self) {
        self.store.synced().await;
    }

    pub fn is_synced(&self) -> bool {
        self.store.is_synced()
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.store.get(&NamespacedName::new(namespace, name)).as_ref().map(typed)
    }

    pub fn list(&self) -> Vec<Arc<T>> {
        let mut found = Vec::with_capacity(self.len());
        self.store.each(&mut |object| found.push(typed(object)));
        found
    }

    /// The objects for which `wanted` holds.
    pub fn filter(&self, wanted: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let mut found = Vec::new();
        self.store.each(&mut |object| {
            if object.downcast_ref().is_some_and(&wanted) {
                found.push(typed(object));
            }
        });
        found
    }

    /// The objects of a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        let mut found = Vec::new();
        self.store.each_in(namespace, &mut |object| found.push(typed(object)));
        found
    }

    /// The objects for which the index of [`Self::with_index`] gives this value.
    pub fn indexed(&self, value: &str) -> Vec<Arc<T>> {
        let mut found = Vec::new();
        self.store.each_indexed(value, &mut |object| found.push(typed(object)));
        found
    }

    pub fn len(&self) -> usize {
        self.store.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests;
