//! Counters in Prometheus text, with upstream's names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use api::Gvr;
use parking_lot::{Mutex, RwLock};

use crate::http::route::Target;

/// Upper bounds of the latency buckets, in milliseconds.
const BUCKETS: [u64; 12] = [5, 10, 25, 50, 100, 200, 400, 800, 1500, 5000, 15_000, 60_000];

/// What a request is counted under.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
}

impl Labels {
    pub fn set(&mut self, target: &Target<'_>, verb: &'static str) {
        self.verb = verb;
        self.group = target.group.to_owned();
        self.version = target.version.to_owned();
        self.resource = target.resource.to_owned();
        self.subresource = target.subresource.to_owned();
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
    requests: RwLock<BTreeMap<Labels, Arc<Counted>>>,
    watches: Mutex<BTreeMap<Gvr, Arc<AtomicI64>>>,
    panics: AtomicU64,
}

/// Kinds of requests counted apart; paths beyond are not counted, so that odd requests cannot grow the table for ever.
const MOST_LABELS: usize = 4096;

/// Counts an open watch until it is dropped.
pub struct OpenWatch(Arc<AtomicI64>);

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    pub fn request(&self, labels: &Labels, code: u16, took: Duration) {
        let known = self.requests.read().get(labels).cloned();
        let counted = match known {
            Some(counted) => counted,
            None => {
                let mut requests = self.requests.write();
                if requests.len() >= MOST_LABELS {
                    return;
                }
                requests.entry(labels.clone()).or_default().clone()
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

    pub fn watch_opened(&self, gvr: &Gvr) -> OpenWatch {
        let counter = self.watches.lock().entry(gvr.clone()).or_default().clone();
        counter.fetch_add(1, Ordering::Relaxed);
        OpenWatch(counter)
    }

    /// The Prometheus text; `objects` are numbers of stored objects by resource.
    pub fn render(&self, objects: &[(String, usize)]) -> String {
        let mut out = String::new();
        self.render_requests(&mut out).unwrap_or_else(|_| unreachable!("writing to a String cannot fail"));
        self.render_rest(&mut out, objects).unwrap_or_else(|_| unreachable!("writing to a String cannot fail"));
        out
    }

    fn render_requests(&self, out: &mut String) -> std::fmt::Result {
        let requests = self.requests.read();
        writeln!(out, "# TYPE apiserver_request_total counter")?;
        for (l, counted) in requests.iter() {
            let labels = text(l);
            for (code, n) in counted.by_code.lock().iter() {
                writeln!(out, "apiserver_request_total{{code=\"{code}\",{labels}}} {n}")?;
            }
        }
        writeln!(out, "# TYPE apiserver_request_duration_seconds histogram")?;
        for (l, counted) in requests.iter() {
            let labels = text(l);
            let name = "apiserver_request_duration_seconds";
            let mut sum = 0;
            for (at, bound) in BUCKETS.iter().enumerate() {
                sum += counted.buckets[at].load(Ordering::Relaxed);
                writeln!(out, "{name}_bucket{{{labels},le=\"{}\"}} {sum}", *bound as f64 / 1000.0)?;
            }
            let count = counted.count.load(Ordering::Relaxed);
            writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}")?;
            let seconds = counted.micros.load(Ordering::Relaxed) as f64 / 1e6;
            writeln!(out, "{name}_sum{{{labels}}} {seconds}\n{name}_count{{{labels}}} {count}")?;
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
        writeln!(out, "# TYPE apiserver_request_panics_total counter")?;
        writeln!(out, "apiserver_request_panics_total {}", self.panics.load(Ordering::Relaxed))
    }
}

fn text(labels: &Labels) -> String {
    let Labels { verb, group, version, resource, subresource } = labels;
    let verb = verb.to_ascii_uppercase();
    format!("verb=\"{verb}\",group={group:?},version={version:?},resource={resource:?},subresource={subresource:?}")
}
