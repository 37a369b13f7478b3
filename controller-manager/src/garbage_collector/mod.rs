//! The garbage collector: deletes objects whose owners are gone, and does what the finalizers `foregroundDeletion` and
//! `orphan` ask for. Works on every kind that can be listed, watched and deleted, those of CRDs included.

mod graph;
mod monitor;
#[cfg(test)]
mod tests;
mod verdict;
mod worker;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use client::{Recorder, WorkQueue};
use graph::{Graph, Resource, Task};
use kube::core::discovery::verbs;
use kube::discovery::Scope;
use kube::{Client, Discovery};
use monitor::Monitor;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::context::Context;

const NAME: &str = "generic-garbage-collector";
const WORKERS: usize = 8;
/// At start, how long all kinds may take to be listed before work begins with those that were.
const SYNC_LIMIT: Duration = Duration::from_secs(30);
/// APIs come in groups: after the first change, how long to wait for the others.
const SETTLE: Duration = Duration::from_secs(1);
/// After a discovery that failed.
const RETRY: Duration = Duration::from_secs(5);
/// Kinds that are not worth watching: events end by themselves, and own nothing.
const IGNORED: &[(&str, &str)] = &[("", "events"), ("events.k8s.io", "events")];

pub struct Collector {
    client: Client,
    recorder: Recorder,
    graph: Mutex<Graph>,
    queue: WorkQueue<Task>,
    /// All kinds there are, watched or not: owners may be of any.
    resources: RwLock<Vec<Arc<Resource>>>,
    /// By group and plural name.
    monitors: Mutex<HashMap<(String, String), Monitor>>,
    /// The APIs have changed.
    changed: Notify,
    stop: CancellationToken,
}

pub fn start(context: &Arc<Context>) {
    let queue = context.queue();
    let collector = Arc::new(Collector {
        client: context.client(NAME),
        recorder: context.recorder(NAME),
        graph: Mutex::default(),
        queue: queue.clone(),
        resources: RwLock::default(),
        monitors: Mutex::default(),
        changed: Notify::new(),
        stop: context.stop.clone(),
    });
    let (all_listed, listed) = oneshot::channel();
    let discovering = Arc::clone(&collector);
    client::spawn(async move {
        let stop = discovering.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = discovering.follow_apis(all_listed) => {}
        }
    });
    let ready = async move {
        // An error means that the sender is gone, and so is the context.
        listed.await.unwrap_or_default();
    };
    context.spawn(NAME, queue, WORKERS, ready, move |task| {
        let collector = Arc::clone(&collector);
        async move { collector.work(task).await }
    });
}

impl Collector {
    /// Keeps one monitor for each kind, as APIs come and go.
    async fn follow_apis(self: Arc<Self>, all_listed: oneshot::Sender<()>) {
        let mut all_listed = Some(all_listed);
        loop {
            match Discovery::new(self.client.clone()).run_aggregated().await {
                Ok(discovered) => {
                    let listed = self.adjust(&discovered);
                    if let Some(all_listed) = all_listed.take() {
                        if tokio::time::timeout(SYNC_LIMIT, futures::future::join_all(listed)).await.is_err() {
                            tracing::warn!("some kinds could not be listed; garbage is collected among the others");
                        }
                        // Nobody listens when the workers were stopped meanwhile.
                        all_listed.send(()).unwrap_or_default();
                    }
                    self.changed.notified().await;
                    tokio::time::sleep(SETTLE).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "the APIs could not be discovered");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Starts monitors of new kinds and ends those of kinds that went. Returns what resolves when each new one has
    /// its first list.
    fn adjust(self: &Arc<Self>, discovered: &Discovery) -> Vec<oneshot::Receiver<()>> {
        let mut resources = Vec::new();
        let mut watched = HashMap::new();
        for (api, capabilities) in discovered.groups().flat_map(|group| group.resources_by_stability()) {
            let namespaced = capabilities.scope == Scope::Namespaced;
            let resource = Arc::new(Resource { api, namespaced });
            let able = [verbs::LIST, verbs::WATCH, verbs::DELETE].iter().all(|v| capabilities.supports_operation(v));
            let (group, plural) = (&resource.api.group, &resource.api.plural);
            if able && !IGNORED.contains(&(group.as_str(), plural.as_str())) {
                watched.insert((group.clone(), plural.clone()), Arc::clone(&resource));
            }
            resources.push(resource);
        }
        *self.resources.write() = resources;
        let mut monitors = self.monitors.lock();
        let mut ended = Vec::new();
        monitors.retain(|key, monitor| {
            let stays = watched.get(key).is_some_and(|resource| monitor.is_of(resource));
            if !stays {
                ended.push(monitor.end());
            }
            stays
        });
        let mut listed = Vec::new();
        for (key, resource) in watched {
            if let Entry::Vacant(place) = monitors.entry(key) {
                let (monitor, first) = Monitor::start(self, resource);
                place.insert(monitor);
                listed.push(first);
            }
        }
        drop(monitors);
        for resource in ended {
            let tasks = self.graph.lock().retain(&resource.api, &Default::default());
            self.enqueue(tasks);
        }
        listed
    }

    fn enqueue(&self, tasks: Vec<Task>) {
        tasks.into_iter().for_each(|task| self.queue.add(task));
    }
}
