//! Events: written in the background, the same one counted up instead of repeated, floods cut off.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Event, EventSource, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;

use crate::spec;
use crate::time::{self, Nanos, SECOND};

const QUEUE: usize = 1024;
/// Known events; more than that are forgotten at once, and count from one again.
const REMEMBERED: usize = 4096;
/// Events of one object at once, and one more each five minutes (upstream's spam filter).
const BURST: f64 = 25.0;
const REFILL: Nanos = 300 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    Normal,
    Warning,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

struct Entry {
    about: ObjectReference,
    kind: Type,
    reason: &'static str,
    message: String,
    at: Nanos,
}

/// A way to say what happened. Saying it never waits; when the queue is full it is logged only.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Entry>,
}

impl Recorder {
    /// Starts the task that writes.
    pub fn start(client: kube::Client, node_name: &str) -> Self {
        let (queue, entries) = mpsc::channel(QUEUE);
        let writer = Writer { client, node: node_name.to_owned(), known: HashMap::new(), budget: HashMap::new(), serial: 0 };
        tokio::spawn(writer.run(entries));
        Self { queue }
    }

    pub fn record(&self, about: ObjectReference, kind: Type, reason: &'static str, message: impl Into<String>) {
        let entry = Entry { about, kind, reason, message: message.into(), at: time::now() };
        if let Err(error) = self.queue.try_send(entry) {
            tracing::warn!(reason, %error, "an event was not written");
        }
    }

    pub fn pod(&self, pod: &Pod, kind: Type, reason: &'static str, message: impl Into<String>) {
        self.record(pod_reference(pod, None), kind, reason, message);
    }

    /// An event of one of the Pod's containers.
    pub fn container(&self, pod: &Pod, name: &str, kind: Type, reason: &'static str, message: impl Into<String>) {
        let path = spec::slot_of(pod, name).map(|slot| spec::field_path(slot, name));
        self.record(pod_reference(pod, path), kind, reason, message);
    }

    pub fn node(&self, name: &str, kind: Type, reason: &'static str, message: impl Into<String>) {
        let about = ObjectReference {
            kind: Some("Node".to_owned()),
            api_version: Some("v1".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        self.record(about, kind, reason, message);
    }
}

fn pod_reference(pod: &Pod, field_path: Option<String>) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        api_version: Some("v1".to_owned()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path,
    }
}

/// A reference to a Node object, with its real UID.
pub fn node_reference(node: &Node) -> ObjectReference {
    ObjectReference {
        kind: Some("Node".to_owned()),
        api_version: Some("v1".to_owned()),
        name: node.metadata.name.clone(),
        uid: node.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    uid: String,
    field_path: String,
    kind: Type,
    reason: &'static str,
    message: String,
}

struct Known {
    name: String,
    count: i32,
}

struct Writer {
    client: kube::Client,
    node: String,
    known: HashMap<Key, Known>,
    /// Tokens left for an object, and when they were counted.
    budget: HashMap<String, (f64, Nanos)>,
    serial: u64,
}

impl Writer {
    async fn run(mut self, mut entries: mpsc::Receiver<Entry>) {
        while let Some(entry) = entries.recv().await {
            if !self.allowed(&entry) {
                tracing::debug!(reason = entry.reason, message = %entry.message, "an event was cut off");
                continue;
            }
            if let Err(error) = self.write(&entry).await {
                let (reason, message) = (entry.reason, &entry.message);
                tracing::warn!(reason, %message, error = %crate::text(&error), "writing an event failed");
            }
        }
    }

    fn allowed(&mut self, entry: &Entry) -> bool {
        if self.budget.len() > REMEMBERED {
            self.budget.clear();
        }
        let uid = entry.about.uid.clone().unwrap_or_default();
        let (left, counted) = self.budget.entry(uid).or_insert((BURST, entry.at));
        #[expect(clippy::cast_precision_loss, reason = "a share of five minutes")]
        let refilled = (entry.at - *counted) as f64 / REFILL as f64;
        *left = (*left + refilled).min(BURST);
        *counted = entry.at;
        let ok = *left >= 1.0;
        if ok {
            *left -= 1.0;
        }
        ok
    }

    async fn write(&mut self, entry: &Entry) -> Result<(), kube::Error> {
        let text = |o: &Option<String>| o.clone().unwrap_or_default();
        let key = Key {
            uid: text(&entry.about.uid),
            field_path: text(&entry.about.field_path),
            kind: entry.kind,
            reason: entry.reason,
            message: entry.message.clone(),
        };
        // Events of objects without a namespace stand in `default`.
        let namespace = entry.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        if let Some(known) = self.known.get_mut(&key) {
            known.count += 1;
            let body = json!({"count": known.count, "lastTimestamp": time::api_time(entry.at)});
            match api.patch(&known.name, &PatchParams::default(), &Patch::Strategic(&body)).await {
                // It has expired: it is written anew.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                result => return result.map(drop),
            }
        }
        if self.known.len() > REMEMBERED {
            self.known.clear();
        }
        self.serial += 1;
        let event = self.event(entry, &namespace);
        let name = event.metadata.name.clone().unwrap_or_default();
        api.create(&PostParams::default(), &event).await?;
        self.known.insert(key, Known { name, count: 1 });
        Ok(())
    }

    fn event(&self, entry: &Entry, namespace: &str) -> Event {
        let at: Time = time::api_time(entry.at);
        let about = entry.about.name.as_deref().unwrap_or("");
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{about}.{:x}{:04x}", entry.at, self.serial & 0xffff)),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: entry.about.clone(),
            type_: Some(entry.kind.name().to_owned()),
            reason: Some(entry.reason.to_owned()),
            message: Some(entry.message.clone()),
            count: Some(1),
            first_timestamp: Some(at.clone()),
            last_timestamp: Some(at),
            source: Some(EventSource { component: Some("kubelet".to_owned()), host: Some(self.node.clone()) }),
            reporting_component: Some("kubelet".to_owned()),
            reporting_instance: Some(self.node.clone()),
            ..Event::default()
        }
    }
}
