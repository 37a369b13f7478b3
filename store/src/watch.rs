//! Watches: each is a reader of the retained history that waits for newer states. It keeps no buffer that could
//! overflow and costs the writer nothing but a wake-up; one that reads too slowly meets a compaction and ends.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use tokio::sync::watch::Receiver;
use tokio::time::Instant;

use crate::core::mvcc::{Change, Mvcc};
use crate::core::state::State;
use crate::keys::KeyRange;
use crate::kv::{Error, Event, EventKind, WatchBatch, WatchRequest, WatchStream};

/// A batch ends with the revision that reaches this many events.
const BATCH: usize = 512;
/// How many changes one step looks at, matching or not.
const STEP: usize = 8192;
/// How long a watcher that asked for progress goes without hearing of revisions that did not concern it.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

struct Watch {
    states: Receiver<Arc<State>>,
    range: KeyRange,
    prev_kv: bool,
    progress: bool,
    /// First revision that was not looked at.
    next: i64,
    /// The last revision that the reader heard of, and when.
    told: (i64, Instant),
    over: bool,
}

/// Opens a watch on published states.
pub fn open(states: Receiver<Arc<State>>, request: WatchRequest) -> WatchStream {
    let now = states.borrow().mvcc.revision();
    let next = if request.start_revision > 0 { request.start_revision } else { now + 1 };
    let watch = Watch {
        states,
        range: KeyRange::new(request.start, request.end),
        prev_kv: request.prev_kv,
        progress: request.progress_notify,
        next,
        // The first progress is due at once: it says that the past was delivered.
        told: (0, Instant::now()),
        over: false,
    };
    stream::unfold(watch, |mut watch| async move {
        let item = watch.next_item().await?;
        Some((item, watch))
    })
    .boxed()
}

impl Watch {
    async fn next_item(&mut self) -> Option<Result<WatchBatch, Error>> {
        while !self.over {
            let state = self.states.borrow_and_update().clone();
            match self.collect(&state.mvcc) {
                Err(error) => {
                    self.over = true;
                    return Some(Err(error));
                }
                Ok(Some(batch)) => {
                    self.told = (batch.revision, Instant::now());
                    return Some(Ok(batch));
                }
                Ok(None) if self.next <= state.mvcc.revision() => tokio::task::yield_now().await,
                Ok(None) => {
                    if let Some(batch) = self.wait().await {
                        return Some(Ok(batch));
                    }
                }
            }
        }
        None
    }

    /// Waits for a newer state, or until progress is due.
    async fn wait(&mut self) -> Option<WatchBatch> {
        let seen = self.next - 1;
        let (told, when) = self.told;
        if !self.progress || told >= seen {
            self.over = self.states.changed().await.is_err();
            return None;
        }
        if told > 0 {
            match tokio::time::timeout_at(when + PROGRESS_EVERY, self.states.changed()).await {
                Ok(changed) => {
                    self.over = changed.is_err();
                    return None;
                }
                Err(_due) => {}
            }
        }
        self.told = (seen, Instant::now());
        Some(WatchBatch { revision: seen, events: Vec::new() })
    }

    /// The next batch of what has happened, or `None` when there is nothing (yet) for this watcher.
    fn collect(&mut self, mvcc: &Mvcc) -> Result<Option<WatchBatch>, Error> {
        if self.next < mvcc.compacted() {
            return Err(Error::Compacted { compact_revision: mvcc.compacted() });
        }
        if self.next > mvcc.revision() {
            return Ok(None);
        }
        let mut events = Vec::new();
        let mut through = mvcc.revision();
        let mut current = 0;
        for (looked, ((revision, _), change)) in mvcc.changes().range((self.next, 0)..).enumerate() {
            if *revision != current && (events.len() >= BATCH || looked >= STEP) {
                through = current;
                break;
            }
            current = *revision;
            if self.range.contains(&change.kv.key) {
                events.push(self.event(mvcc, change));
            }
        }
        self.next = through + 1;
        Ok((!events.is_empty()).then_some(WatchBatch { revision: through, events }))
    }

    fn event(&self, mvcc: &Mvcc, change: &Change) -> Event {
        let kind = if change.deleted { EventKind::Delete } else { EventKind::Put };
        let kv = change.kv.clone();
        let prev = if self.prev_kv { mvcc.before(&kv.key, kv.mod_revision).cloned() } else { None };
        Event { kind, kv, prev }
    }
}
