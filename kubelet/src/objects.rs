//! ConfigMaps and Secrets that this node's Pods refer to: each is watched by its name alone, while a Pod refers to it.
//! The Node authorizer allows a node no more.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::NamespacedName;
use client::watch::{Config, Event, Watch};
use client::{Api, FromJson};
use futures::StreamExt;
use kube::Resource;
use parking_lot::Mutex;
use tokio::sync::watch;

/// How long a Pod waits for an object that it asks for first.
const FIRST_WAIT: Duration = Duration::from_secs(10);

type Value<K> = Option<Option<Arc<K>>>;
type Notify = Arc<dyn Fn(&str) + Send + Sync>;

/// Aborts its task when it goes.
struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Entry<K> {
    /// `None` until the first answer; then the object, or that there is none.
    value: watch::Receiver<Value<K>>,
    referents: Arc<Mutex<BTreeSet<String>>>,
    _task: Task,
}

/// The objects of one kind.
pub struct Objects<K> {
    client: kube::Client,
    kind: &'static str,
    notify: Notify,
    entries: Mutex<HashMap<NamespacedName, Entry<K>>>,
}

impl<K> Objects<K>
where
    K: FromJson + Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Sync,
{
    /// `notify` is called with the UID of each Pod that refers to an object when that has changed.
    pub fn new(client: kube::Client, kind: &'static str, notify: Notify) -> Self {
        Self { client, kind, notify, entries: Mutex::new(HashMap::new()) }
    }

    /// The object as last seen, `None` when there is none. From now on the Pod is told of its changes.
    ///
    /// # Errors
    /// The API gave no answer in time.
    pub async fn get(&self, namespace: &str, name: &str, pod_uid: &str) -> Result<Option<Arc<K>>, String> {
        let mut value = self.refer(NamespacedName::new(namespace, name), pod_uid);
        let answer = tokio::time::timeout(FIRST_WAIT, value.wait_for(Option::is_some)).await;
        match answer {
            Ok(Ok(value)) => Ok(value.clone().flatten()),
            _ => Err(format!("failed to sync {} cache: timed out waiting for the condition", self.kind)),
        }
    }

    fn refer(&self, key: NamespacedName, pod_uid: &str) -> watch::Receiver<Value<K>> {
        let mut entries = self.entries.lock();
        let entry = entries.entry(key.clone()).or_insert_with(|| self.watch(&key));
        entry.referents.lock().insert(pod_uid.to_owned());
        entry.value.clone()
    }

    /// The Pod is gone: what nobody else refers to is watched no longer.
    pub fn release(&self, pod_uid: &str) {
        self.entries.lock().retain(|_, entry| {
            let mut referents = entry.referents.lock();
            referents.remove(pod_uid);
            !referents.is_empty()
        });
    }

    fn watch(&self, key: &NamespacedName) -> Entry<K> {
        let (sender, value) = watch::channel(None);
        let referents = Arc::new(Mutex::new(BTreeSet::new()));
        let api: Api<K> = Api::namespaced(self.client.clone(), &key.namespace);
        let config = Config::default().fields(&format!("metadata.name={}", key.name));
        let task = follow(api, config, sender, self.notify.clone(), referents.clone());
        Entry { value, referents, _task: Task(client::spawn(task)) }
    }
}

async fn follow<K>(
    api: Api<K>,
    config: Config,
    sender: watch::Sender<Value<K>>,
    notify: Notify,
    referents: Arc<Mutex<BTreeSet<String>>>,
) where
    K: FromJson + Resource + Sync,
{
    let mut events = Watch::new(api, config);
    let (mut listed, mut unread) = (None, false);
    while let Some(event) = events.next().await {
        let value = match event {
            Event::Init => {
                (listed, unread) = (None, false);
                continue;
            }
            Event::InitApply(object) => {
                listed = Some(Arc::new(object));
                continue;
            }
            Event::InitDone if unread => continue,
            Event::InitDone => listed.take(),
            Event::Apply(object) => Some(Arc::new(object)),
            Event::Delete(_) => None,
            Event::Unread(unread) if unread.deleted => None,
            // It is as it was. A Pod that asks for one that was never read waits, and says so.
            Event::Unread(_) => {
                unread = true;
                continue;
            }
        };
        let version = |v: &Option<Arc<K>>| v.as_ref().and_then(|o| o.meta().resource_version.clone());
        let mut news = false;
        sender.send_if_modified(|old| {
            let same = old.as_ref().is_some_and(|old| version(old) == version(&value));
            let first = old.is_none();
            *old = Some(value);
            // The first answer wakes those who wait for it, a later one those who use it.
            news = !first && !same;
            first || news
        });
        if news {
            let uids: Vec<String> = referents.lock().iter().cloned().collect();
            uids.iter().for_each(|uid| notify(uid));
        }
    }
}
