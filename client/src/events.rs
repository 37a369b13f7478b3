//! Recording Events (core/v1) as client-go's recorder and correlator do: repeats raise a count, floods are dropped.
//!
//! Recording never waits: events go through a bounded queue to one task that writes them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::Api;

/// Waiting events; more are dropped and the drop is logged.
const QUEUE: usize = 4096;
/// Events written at once, and a second after that: they tell what was done, and must not slow down what is to be done.
/// Upstream's components write 20 to 50 a second.
const WRITES_AT_ONCE: f64 = 100.0;
const WRITES_A_SECOND: f64 = 100.0;
/// Remembered repeats; as client-go's LRU.
const REMEMBERED: usize = 4096;
/// client-go's spam filter: 25 at once for each object, one more every 5 minutes.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;
/// Similar events (all alike but for the message) beyond this many within ten minutes become one.
const SIMILAR_LIMIT: usize = 10;
const SIMILAR_WINDOW: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

struct Note {
    about: ObjectReference,
    kind: EventType,
    reason: String,
    message: String,
    at: Timestamp,
}

/// Clones share the queue and the memory of what was said.
#[derive(Clone)]
pub struct Recorder {
    notes: mpsc::Sender<Note>,
    dropped: Arc<AtomicU64>,
}

/// A reference to an object, as `involvedObject` names it.
pub fn reference<K>(object: &K) -> ObjectReference
where
    K: Resource,
    K::DynamicType: Default,
{
    object.object_ref(&K::DynamicType::default())
}

impl Recorder {
    /// `component` is `source.component` (`kubelet`, `default-scheduler`); `host` is empty but for node agents.
    pub fn new(client: Client, component: &str, host: &str) -> Self {
        let (notes, queue) = mpsc::channel(QUEUE);
        let source =
            EventSource { component: Some(component.to_owned()), host: (!host.is_empty()).then(|| host.to_owned()) };
        crate::spawn(write_all(client, source, queue));
        Self { notes, dropped: Arc::default() }
    }

    pub fn record(&self, about: ObjectReference, kind: EventType, reason: &str, message: impl Into<String>) {
        let note = Note { about, kind, reason: reason.to_owned(), message: message.into(), at: Timestamp::now() };
        if let Err(error) = self.notes.try_send(note) {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            // A flood of events must not become one of lines.
            if dropped.is_power_of_two() {
                tracing::warn!(reason, dropped, %error, "events were dropped");
            }
        }
    }

    /// Records an event about a typed object.
    pub fn about<K>(&self, object: &K, kind: EventType, reason: &str, message: impl Into<String>)
    where
        K: Resource,
        K::DynamicType: Default,
    {
        self.record(reference(object), kind, reason, message);
    }
}

/// What tells repeats apart (client-go `getEventKey`), with or without the message.
type Key = (String, String, String, String, EventType, String, String);

fn key(note: &Note, message: &str) -> Key {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let about = &note.about;
    (
        text(&about.kind),
        text(&about.namespace),
        text(&about.uid) + &text(&about.name),
        text(&about.field_path),
        note.kind,
        note.reason.clone(),
        message.to_owned(),
    )
}

struct Said {
    name: String,
    count: i32,
    first: Timestamp,
}

struct Budget {
    tokens: f64,
    at: Instant,
}

impl Budget {
    fn full(tokens: f64) -> Self {
        Self { tokens, at: Instant::now() }
    }

    /// Lets `per_second` come in, up to `most`, and takes one; says after how long there will be one if there is none.
    fn take(&mut self, now: Instant, per_second: f64, most: f64) -> Result<(), Duration> {
        self.tokens = (self.tokens + now.duration_since(self.at).as_secs_f64() * per_second).min(most);
        self.at = now;
        if self.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.tokens) / per_second));
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

#[derive(Default)]
struct Correlator {
    said: HashMap<Key, Said>,
    similar: HashMap<Key, (Instant, std::collections::HashSet<String>)>,
    budgets: HashMap<(String, String, String), Budget>,
}

impl Correlator {
    /// Whether the object may have one more event.
    fn admits(&mut self, note: &Note, now: Instant) -> bool {
        forget_beyond(&mut self.budgets, REMEMBERED);
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let about = (text(&note.about.kind), text(&note.about.namespace), text(&note.about.name));
        let budget = self.budgets.entry(about).or_insert(Budget { tokens: BURST, at: now });
        budget.take(now, 1.0 / REFILL_SECONDS, BURST).is_ok()
    }

    /// The message to write: similar events beyond the limit become one that counts.
    fn aggregate(&mut self, note: &Note, now: Instant) -> String {
        forget_beyond(&mut self.similar, REMEMBERED);
        let entry = self.similar.entry(key(note, "")).or_insert_with(|| (now, Default::default()));
        if now.duration_since(entry.0) > SIMILAR_WINDOW {
            entry.1.clear();
        }
        entry.0 = now;
        if entry.1.len() < SIMILAR_LIMIT {
            entry.1.insert(note.message.clone());
            return note.message.clone();
        }
        if entry.1.contains(&note.message) {
            return note.message.clone();
        }
        format!("(combined from similar events): {}", note.message)
    }
}

fn forget_beyond<K: Clone + Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>, limit: usize) {
    if map.len() >= limit {
        let some: Vec<_> = map.keys().take(limit / 4).cloned().collect();
        for old in some {
            map.remove(&old);
        }
    }
}

async fn write_all(client: Client, source: EventSource, mut queue: mpsc::Receiver<Note>) {
    let mut correlator = Correlator::default();
    let mut pace = Budget::full(WRITES_AT_ONCE);
    while let Some(note) = queue.recv().await {
        let now = Instant::now();
        if !correlator.admits(&note, now) {
            continue;
        }
        let message = correlator.aggregate(&note, now);
        while let Err(wait) = pace.take(Instant::now(), WRITES_A_SECOND, WRITES_AT_ONCE) {
            tokio::time::sleep(wait).await;
        }
        if let Err(error) = write(&client, &source, &mut correlator, &note, message).await {
            tracing::debug!(reason = note.reason, %error, "an event could not be written");
        }
    }
}

async fn write(
    client: &Client,
    source: &EventSource,
    correlator: &mut Correlator,
    note: &Note,
    message: String,
) -> Result<(), kube::Error> {
    let namespace = note.about.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".to_owned());
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let key = key(note, if message.starts_with("(combined") { "" } else { &message });
    if let Some(said) = correlator.said.get_mut(&key) {
        said.count += 1;
        let patch = serde_json::json!({
            "count": said.count, "lastTimestamp": Time(note.at), "message": message, "firstTimestamp": Time(said.first),
        });
        match events.patch(&said.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Ok(_) => return Ok(()),
            // Its time to live ran out: say it anew.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let event = fresh(source, note, namespace, message);
    let name = event.metadata.name.clone().unwrap_or_default();
    events.create(&PostParams::default(), &event).await?;
    forget_beyond(&mut correlator.said, REMEMBERED);
    correlator.said.insert(key, Said { name, count: 1, first: note.at });
    Ok(())
}

fn fresh(source: &EventSource, note: &Note, namespace: String, message: String) -> Event {
    let about = note.about.name.as_deref().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{about}.{:x}", note.at.as_nanosecond())),
            namespace: Some(namespace),
            ..ObjectMeta::default()
        },
        involved_object: note.about.clone(),
        reason: Some(note.reason.clone()),
        message: Some(message),
        source: Some(source.clone()),
        first_timestamp: Some(Time(note.at)),
        last_timestamp: Some(Time(note.at)),
        count: Some(1),
        type_: Some(note.kind.as_str().to_owned()),
        reporting_component: source.component.clone(),
        reporting_instance: source.host.clone(),
        ..Event::default()
    }
}
