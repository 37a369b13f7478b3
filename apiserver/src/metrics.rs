//! Counters in Prometheus text, with upstream's names.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use api::Gvr;
use parking_lot::{Mutex, RwLock};

use crate::rows::Row;

/// Upper bounds of the latency buckets, in milliseconds.
const BUCKETS: [u64; 12] = [5, 10, 25, 50, 100, 200, 400, 800, 1500, 5000, 15_000, 60_000];

/// What a request is counted under: nothing for paths that are no resource.
#[derive(Clone, Default)]
pub struct Labels(Option<Key>);

/// A verb of a row or of one of its subresources.
#[derive(Clone)]
struct Key {
    row: Arc<Row>,
    verb: &'static str,
    /// Index of the subresource in the row.
    subresource: Option<usize>,
}

impl Labels {
    pub fn set(&mut self, row: &Arc<Row>, verb: &'static str, subresource: &str) {
        let subresource = row.resource.subresources.iter().position(|s| s.name == subresource);
        self.0 = Some(Key { row: row.clone(), verb, subresource });
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.row, &other.row) && self.verb == other.verb && self.subresource == other.subresource
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.row).hash(state);
        self.verb.hash(state);
        self.subresource.hash(state);
    }
}

#[derive(Default)]
struct Counted {
    by_code: Mutex<BTreeMap<u16, u64>>,
    buckets: [AtomicU64; BUCKETS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

/// All counters of a server.
#[derive(Default)]
pub struct Metrics {
    requests: RwLock<HashMap<Key, Arc<Counted>>>,
    watches: Mutex<BTreeMap<Gvr, Arc<AtomicI64>>>,
    panics: AtomicU64,
    connections: Arc<AtomicI64>,
    cuts: [AtomicU64; CUTS.len()],
    /// Requests that were refused because too many others were at work.
    refused: AtomicU64,
}

/// Why a connection was closed before its client wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The TLS handshake took too long.
    Handshake,
    /// There were too many connections whose clients had not shown who they are.
    Crowded,
    /// Nothing was asked over it for too long.
    Idle,
}

const CUTS: [&str; 3] = ["handshake", "crowded", "idle"];

/// Kinds of requests counted apart; paths beyond are not counted, so that odd requests cannot grow the table for ever.
const MOST_LABELS: usize = 4096;

/// Counts an open watch, or connection, until it is dropped.
pub struct Open(Arc<AtomicI64>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    pub fn request(&self, labels: &Labels, code: u16, took: Duration) {
        let Some(key) = &labels.0 else { return };
        let known = self.requests.read().get(key).cloned();
        let counted = match known {
            Some(counted) => counted,
            None => {
                let mut requests = self.requests.write();
                if requests.len() >= MOST_LABELS {
                    return;
                }
                requests.entry(key.clone()).or_default().clone()
            }
        };
        *counted.by_code.lock().entry(code).or_default() += 1;
        let millis = took.as_millis() as u64;
        if let Some(at) = BUCKETS.iter().position(|b| millis <= *b) {
            counted.buckets[at].fetch_add(1, Ordering::Relaxed);
        }
        counted.count.fetch_add(1, Ordering::Relaxed);
        counted.micros.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    pub fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    pub fn watch_opened(&self, gvr: &Gvr) -> Open {
        let counter = self.watches.lock().entry(gvr.clone()).or_default().clone();
        counter.fetch_add(1, Ordering::Relaxed);
        Open(counter)
    }

    pub fn connection_opened(&self) -> Open {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Open(self.connections.clone())
    }

    pub fn cut(&self, why: Cut) {
        self.cuts[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// The Prometheus text; `objects` are numbers of stored objects by resource, `store` what the store says of itself.
    pub fn render(&self, objects: &[(String, usize)], store: &[(&'static str, i64)]) -> String {
        let mut out = String::new();
        self.render_requests(&mut out).unwrap_or_else(|_| unreachable!("writing to a String cannot fail"));
        for (name, value) in store {
            writeln!(out, "# TYPE {name} gauge\n{name} {value}")
                .unwrap_or_else(|_| unreachable!("writing to a String cannot fail"));
        }
        self.render_rest(&mut out, objects).unwrap_or_else(|_| unreachable!("writing to a String cannot fail"));
        out
    }

    fn render_requests(&self, out: &mut String) -> std::fmt::Result {
        // Rows of a replaced table count on under the same labels.
        let mut by_labels: BTreeMap<String, Vec<Arc<Counted>>> = BTreeMap::new();
        for (key, counted) in self.requests.read().iter() {
            by_labels.entry(text(key)).or_default().push(counted.clone());
        }
        writeln!(out, "# TYPE apiserver_request_total counter")?;
        for (labels, all) in &by_labels {
            let mut by_code: BTreeMap<u16, u64> = BTreeMap::new();
            for counted in all {
                for (code, n) in counted.by_code.lock().iter() {
                    *by_code.entry(*code).or_default() += n;
                }
            }
            for (code, n) in by_code {
                writeln!(out, "apiserver_request_total{{code=\"{code}\",{labels}}} {n}")?;
            }
        }
        writeln!(out, "# TYPE apiserver_request_duration_seconds histogram")?;
        for (labels, all) in &by_labels {
            render_durations(out, labels, all)?;
        }
        Ok(())
    }

    fn render_rest(&self, out: &mut String, objects: &[(String, usize)]) -> std::fmt::Result {
        writeln!(out, "# TYPE apiserver_longrunning_requests gauge")?;
        for (gvr, open) in self.watches.lock().iter() {
            let (group, version, resource) = (&gvr.group, &gvr.version, &gvr.resource);
            let open = open.load(Ordering::Relaxed);
            let labels = format!("verb=\"WATCH\",group=\"{group}\",version=\"{version}\",resource=\"{resource}\"");
            writeln!(out, "apiserver_longrunning_requests{{{labels}}} {open}")?;
        }
        writeln!(out, "# TYPE apiserver_storage_objects gauge")?;
        for (resource, count) in objects {
            writeln!(out, "apiserver_storage_objects{{resource=\"{resource}\"}} {count}")?;
        }
        writeln!(out, "# TYPE cox_apiserver_connections gauge")?;
        writeln!(out, "cox_apiserver_connections {}", self.connections.load(Ordering::Relaxed))?;
        writeln!(out, "# TYPE cox_apiserver_connections_cut_total counter")?;
        for (why, count) in CUTS.iter().zip(&self.cuts) {
            writeln!(out, "cox_apiserver_connections_cut_total{{why=\"{why}\"}} {}", count.load(Ordering::Relaxed))?;
        }
        writeln!(out, "# TYPE apiserver_dropped_requests_total counter")?;
        writeln!(out, "apiserver_dropped_requests_total {}", self.refused.load(Ordering::Relaxed))?;
        writeln!(out, "# TYPE apiserver_request_panics_total counter")?;
        writeln!(out, "apiserver_request_panics_total {}", self.panics.load(Ordering::Relaxed))
    }
}

fn render_durations(out: &mut String, labels: &str, all: &[Arc<Counted>]) -> std::fmt::Result {
    let name = "apiserver_request_duration_seconds";
    let total = |of: fn(&Counted) -> &AtomicU64| all.iter().map(|c| of(c).load(Ordering::Relaxed)).sum::<u64>();
    let mut sum = 0;
    for (at, bound) in BUCKETS.iter().enumerate() {
        sum += all.iter().map(|c| c.buckets[at].load(Ordering::Relaxed)).sum::<u64>();
        writeln!(out, "{name}_bucket{{{labels},le=\"{}\"}} {sum}", *bound as f64 / 1000.0)?;
    }
    let count = total(|c| &c.count);
    let seconds = total(|c| &c.micros) as f64 / 1e6;
    writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}")?;
    writeln!(out, "{name}_sum{{{labels}}} {seconds}\n{name}_count{{{labels}}} {count}")
}

fn text(key: &Key) -> String {
    let verb = key.verb.to_ascii_uppercase();
    let Gvr { group, version, resource } = &key.row.gvr;
    let subresource = key.subresource.and_then(|at| key.row.resource.subresources.get(at)).map_or("", |s| &s.name);
    format!("verb=\"{verb}\",group={group:?},version={version:?},resource={resource:?},subresource={subresource:?}")
}
