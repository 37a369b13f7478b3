//! The Pods of this node: a mailbox each, in which news gather until its worker looks, and a snapshot for readers.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kubelet_runtime::cri::{ContainerStatus, PodSandboxStatus};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::probe::worker::Kind;
use crate::shutdown::Guard;
use crate::spec;

/// News for a Pod's worker. Repeated news are one: nothing here grows without bound.
#[derive(Debug, Default)]
pub struct Inbox {
    /// The object as the API or the file has it now.
    pub pod: Option<Arc<Pod>>,
    /// It is gone from there.
    pub removed: bool,
    /// The status that a static Pod's new mirror has.
    pub mirror: Option<PodStatus>,
    /// Containers that changed.
    pub containers: BTreeSet<String>,
    /// The sandbox changed.
    pub sandbox: bool,
    /// Everything that the runtime has of this Pod, after events were lost.
    pub listing: Option<(Vec<PodSandboxStatus>, Vec<ContainerStatus>)>,
    pub probes: Vec<(String, Kind, bool)>,
    /// A ConfigMap or Secret that the Pod refers to changed.
    pub objects: bool,
    /// The node ends, and the Pod with it. To be held until it has.
    pub shutdown: Option<Guard>,
}

/// Where a worker's news gather.
#[derive(Debug, Default)]
pub struct Mailbox {
    inbox: Mutex<Inbox>,
    notify: Notify,
}

impl Mailbox {
    /// Adds news and wakes the worker.
    pub fn post(&self, news: impl FnOnce(&mut Inbox)) {
        news(&mut self.inbox.lock());
        self.notify.notify_one();
    }

    pub fn probed(&self, container_id: &str, kind: Kind, ok: bool) {
        self.post(|inbox| inbox.probes.push((container_id.to_owned(), kind, ok)));
    }

    /// All news so far.
    pub fn take(&self) -> Inbox {
        std::mem::take(&mut self.inbox.lock())
    }

    pub async fn wait(&self) {
        self.notify.notified().await;
    }
}

/// What others may read of a Pod.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub pod: Arc<Pod>,
    pub status: PodStatus,
    /// Newest first.
    pub containers: Vec<ContainerStatus>,
    pub sandbox_id: Option<String>,
    /// It holds resources of the node: it was admitted and has not ended.
    pub active: bool,
}

/// One Pod.
#[derive(Debug)]
pub struct Entry {
    pub mailbox: Arc<Mailbox>,
    snapshot: Mutex<Arc<Snapshot>>,
}

impl Entry {
    pub fn new(pod: Arc<Pod>, active: bool) -> Arc<Self> {
        let status = pod.status.clone().unwrap_or_default();
        let snapshot = Snapshot { pod, status, containers: Vec::new(), sandbox_id: None, active };
        Arc::new(Self { mailbox: Arc::new(Mailbox::default()), snapshot: Mutex::new(Arc::new(snapshot)) })
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.lock().clone()
    }

    /// Shows others a new state; returns the one before.
    fn publish(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        std::mem::replace(&mut self.snapshot.lock(), Arc::new(snapshot))
    }
}

/// All Pods, by UID.
#[derive(Debug, Default)]
pub struct Registry {
    entries: RwLock<HashMap<String, Arc<Entry>>>,
    changed: Notify,
}

impl Registry {
    pub fn get(&self, uid: &str) -> Option<Arc<Entry>> {
        self.entries.read().get(uid).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.entries.read().values().cloned().collect()
    }

    pub fn insert(&self, uid: &str, entry: Arc<Entry>) {
        self.entries.write().insert(uid.to_owned(), entry);
        self.changed.notify_one();
    }

    /// Shows others a Pod's new state.
    pub fn publish(&self, entry: &Entry, snapshot: Snapshot) {
        let active = snapshot.active;
        if entry.publish(snapshot).active != active {
            self.changed.notify_one();
        }
    }

    /// Waits until a Pod came or ended; of changes while nobody waits one is told. For one waiter.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    pub fn remove(&self, uid: &str) {
        self.entries.write().remove(uid);
    }

    /// The Pod of this name; of several with different UIDs the one that is not being deleted.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        let entries = self.entries.read();
        let named = entries.values().filter(|e| {
            let snapshot = e.snapshot();
            spec::namespace(&snapshot.pod) == namespace && spec::name(&snapshot.pod) == name
        });
        named.min_by_key(|e| spec::is_deleting(&e.snapshot().pod)).cloned()
    }

    pub fn objects_changed(&self, uid: &str) {
        if let Some(entry) = self.get(uid) {
            entry.mailbox.post(|inbox| inbox.objects = true);
        }
    }
}
