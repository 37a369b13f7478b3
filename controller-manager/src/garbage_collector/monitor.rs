//! The watch of one kind, metadata only, that feeds the graph.

use std::collections::HashSet;
use std::sync::Arc;

use client::watch::{self, Event, Watch};
use client::{Api, Lean};
use futures::StreamExt as _;
use kube::api::ObjectMeta;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Collector;
use super::graph::{Resource, Seen, Uid, uid};
use super::verdict::{FOREGROUND, ORPHAN};
use super::worker::owner_of;

/// Objects that say which APIs there are: their changes call for a new discovery.
const APIS: &[(&str, &str)] =
    &[("apiextensions.k8s.io", "customresourcedefinitions"), ("apiregistration.k8s.io", "apiservices")];

pub struct Monitor {
    resource: Arc<Resource>,
    stop: CancellationToken,
}

impl Monitor {
    /// Starts watching; the receiver resolves with the first full list.
    pub fn start(collector: &Arc<Collector>, resource: Arc<Resource>) -> (Self, oneshot::Receiver<()>) {
        let stop = collector.stop.child_token();
        let (listed, first) = oneshot::channel();
        let run = run(Arc::clone(collector), Arc::clone(&resource), listed);
        let stopped = stop.clone();
        client::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = run => {}
            }
        });
        (Self { resource, stop }, first)
    }

    /// Whether it watches just this: a kind may come back in another version or scope.
    pub fn is_of(&self, resource: &Resource) -> bool {
        self.resource.api == resource.api && self.resource.namespaced == resource.namespaced
    }

    /// Ends the watch.
    pub fn end(&self) -> Arc<Resource> {
        self.stop.cancel();
        Arc::clone(&self.resource)
    }
}

async fn run(collector: Arc<Collector>, resource: Arc<Resource>, listed: oneshot::Sender<()>) {
    let names_apis = APIS.contains(&(resource.api.group.as_str(), resource.api.plural.as_str()));
    let api: Api<Lean> = Api::all_with(collector.client.clone(), &resource.api);
    let mut events = Watch::new(api, watch::Config::default());
    let mut list: HashSet<Uid> = HashSet::new();
    let mut listed = Some(listed);
    while let Some(event) = events.next().await {
        match event {
            Event::Init => list.clear(),
            Event::InitApply(object) => {
                list.extend(observe(&collector, &resource, object.metadata));
            }
            Event::InitDone => {
                let tasks = collector.graph.lock().retain(&resource.api, &std::mem::take(&mut list));
                collector.enqueue(tasks);
                if let Some(listed) = listed.take() {
                    // Nobody waits for a kind that came later.
                    listed.send(()).unwrap_or_default();
                }
            }
            Event::Apply(object) => {
                observe(&collector, &resource, object.metadata);
                if names_apis {
                    collector.changed.notify_one();
                }
            }
            Event::Delete(object) => {
                if let Some(text) = &object.metadata.uid {
                    let tasks = collector.graph.lock().remove(uid(text));
                    collector.enqueue(tasks);
                }
                if names_apis {
                    collector.changed.notify_one();
                }
            }
            Event::Unread(unread) if unread.deleted => {
                let tasks = collector.graph.lock().remove(uid(&unread.uid));
                collector.enqueue(tasks);
            }
            // What is known of it stays.
            Event::Unread(unread) => drop(list.insert(uid(&unread.uid))),
        }
    }
}

fn observe(collector: &Collector, resource: &Arc<Resource>, meta: ObjectMeta) -> Option<Uid> {
    let uid = uid(meta.uid.as_deref()?);
    let has = |wanted: &str| meta.finalizers.iter().flatten().any(|finalizer| finalizer == wanted);
    let seen = Seen {
        uid,
        resource: Arc::clone(resource),
        namespace: meta.namespace.as_deref().unwrap_or_default().into(),
        name: meta.name.as_deref().unwrap_or_default().into(),
        owners: meta.owner_references.iter().flatten().map(owner_of).collect(),
        deleting: meta.deletion_timestamp.is_some(),
        foreground: has(FOREGROUND),
        orphan: has(ORPHAN),
    };
    let tasks = collector.graph.lock().observe(seen);
    collector.enqueue(tasks);
    Some(uid)
}
