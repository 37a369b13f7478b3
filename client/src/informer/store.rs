//! The copy itself, whatever the kind: it is compiled once, and objects are known by their key and version alone.

use std::any::Any;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::NamespacedName;
use parking_lot::RwLock;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Change;
use crate::watch::{self, ListWatch, Step};

/// What is kept of an object: of one type in one store.
pub type Thing = dyn Any + Send + Sync;
pub type Handler = Box<dyn Fn(&Change<'_, Thing>) + Send + Sync>;
pub type Index = Box<dyn Fn(&Thing) -> Option<String> + Send + Sync>;
/// Makes what is kept of an object from its text, and says what it is called.
pub type Read = Box<dyn Fn(&str) -> serde_json::Result<(NamespacedName, Kept)> + Send + Sync>;

/// What is kept of an object, and which version of it that is.
#[derive(Clone)]
pub struct Kept {
    pub version: Option<String>,
    pub object: Arc<Thing>,
}

/// Objects by what an index says of them.
type Groups = HashMap<String, BTreeMap<NamespacedName, Arc<Thing>>>;

#[derive(Default)]
struct Objects {
    by_name: BTreeMap<NamespacedName, Kept>,
    by_index: Groups,
}

pub struct Store {
    objects: RwLock<Objects>,
    /// Held, for reading, from before a change is made until its handlers have run: a handler that comes meanwhile sees
    /// the change either in the copy or as an event, never both.
    handlers: RwLock<Vec<Handler>>,
    index: Option<Index>,
    synced: AtomicBool,
    sync_done: Notify,
}

impl Store {
    pub fn new(index: Option<Index>) -> Self {
        Self {
            objects: RwLock::default(),
            handlers: RwLock::default(),
            index,
            synced: AtomicBool::new(false),
            sync_done: Notify::new(),
        }
    }

    /// Calls `handler` for every change from now on, and first with `Added` for everything that is already here.
    pub fn on_change(&self, handler: Handler) {
        let mut handlers = self.handlers.write();
        let mut here = Vec::new();
        self.each(&mut |object| here.push(Arc::clone(object)));
        for object in &here {
            handler(&Change::Added(object));
        }
        handlers.push(handler);
    }

    /// Follows a watch in a task of its own, until the token is cancelled.
    pub fn spawn(self: Arc<Self>, steps: ListWatch, read: Read, stop: CancellationToken) {
        crate::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.follow(steps, read) => {}
            }
        });
    }

    async fn follow(&self, mut steps: ListWatch, read: Read) {
        let mut relist = Relist::default();
        loop {
            let step = poll_fn(|cx| steps.poll_step(cx)).await;
            let (text, deleted) = match &step {
                Step::Init => {
                    relist = Relist::default();
                    continue;
                }
                Step::InitDone => {
                    self.replace(std::mem::take(&mut relist));
                    self.synced.store(true, Ordering::Release);
                    self.sync_done.notify_waiters();
                    continue;
                }
                Step::Listed(text) | Step::Applied(text) => (text, false),
                Step::Deleted(text) => (text, true),
            };
            match watch::read(text, &read) {
                Ok((key, kept)) => {
                    steps.saw(kept.version.as_deref());
                    match step {
                        Step::Listed(_) => drop(relist.fresh.insert(key, kept)),
                        Step::Deleted(_) => self.remove(&key, Some(kept.object)),
                        _ => self.put(key, kept),
                    }
                }
                Err(error) => {
                    let Some(unread) = steps.unread(text, deleted, &error) else { continue };
                    match step {
                        Step::Listed(_) => drop(relist.unread.insert(unread.key)),
                        Step::Deleted(_) => self.remove(&unread.key, None),
                        // What is known of it stays.
                        _ => {}
                    }
                }
            }
        }
    }

    pub fn put(&self, key: NamespacedName, fresh: Kept) {
        let handlers = self.handlers.read();
        let object = Arc::clone(&fresh.object);
        let old = {
            let Objects { by_name, by_index } = &mut *self.objects.write();
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
    fn remove(&self, key: &NamespacedName, last: Option<Arc<Thing>>) {
        let handlers = self.handlers.read();
        let old = {
            let mut objects = self.objects.write();
            let Some(old) = objects.by_name.remove(key) else { return };
            self.reindex(&mut objects.by_index, key, Some(&old.object), None);
            old.object
        };
        let change = Change::Deleted(last.as_ref().unwrap_or(&old));
        handlers.iter().for_each(|handler| handler(&change));
    }

    /// Moves an object in the index, from the value that it had to the one that it has.
    fn reindex(&self, groups: &mut Groups, key: &NamespacedName, was: Option<&Arc<Thing>>, is: Option<&Arc<Thing>>) {
        let Some(index) = &self.index else { return };
        let before = was.and_then(|object| index(&**object));
        let after = is.and_then(|object| index(&**object));
        if before != after
            && let Some(before) = before
            && let Some(group) = groups.get_mut(&before)
        {
            group.remove(key);
            if group.is_empty() {
                groups.remove(&before);
            }
        }
        if let (Some(after), Some(object)) = (after, is) {
            groups.entry(after).or_default().insert(key.clone(), Arc::clone(object));
        }
    }

    pub fn replace(&self, list: Relist) {
        let gone: Vec<_> = {
            let objects = self.objects.read();
            objects.by_name.keys().filter(|key| !list.has(key)).cloned().collect()
        };
        for key in &gone {
            self.remove(key, None);
        }
        for (key, object) in list.fresh {
            self.put(key, object);
        }
    }

    /// Returns when the first full list has arrived.
    pub async fn synced(&self) {
        loop {
            let notified = self.sync_done.notified();
            if self.is_synced() {
                return;
            }
            notified.await;
        }
    }

    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    pub fn get(&self, key: &NamespacedName) -> Option<Arc<Thing>> {
        self.objects.read().by_name.get(key).map(|kept| Arc::clone(&kept.object))
    }

    /// Shows all objects, in the order of their keys.
    pub fn each(&self, show: &mut dyn FnMut(&Arc<Thing>)) {
        self.objects.read().by_name.values().for_each(|kept| show(&kept.object));
    }

    /// Shows the objects of a namespace.
    pub fn each_in(&self, namespace: &str, show: &mut dyn FnMut(&Arc<Thing>)) {
        let objects = self.objects.read();
        let from = NamespacedName::new(namespace, "");
        let kept = objects.by_name.range(from..).take_while(|(key, _)| key.namespace == namespace);
        kept.for_each(|(_, kept)| show(&kept.object));
    }

    /// Shows the objects for which the index gives this value.
    pub fn each_indexed(&self, value: &str, show: &mut dyn FnMut(&Arc<Thing>)) {
        let objects = self.objects.read();
        objects.by_index.get(value).into_iter().flat_map(BTreeMap::values).for_each(show);
    }

    pub fn len(&self) -> usize {
        self.objects.read().by_name.len()
    }
}

/// What a new list has.
#[derive(Default)]
pub struct Relist {
    pub fresh: BTreeMap<NamespacedName, Kept>,
    /// These are there, but cannot be read: they stay as they were.
    pub unread: BTreeSet<NamespacedName>,
}

impl Relist {
    fn has(&self, key: &NamespacedName) -> bool {
        self.fresh.contains_key(key) || self.unread.contains(key)
    }
}
