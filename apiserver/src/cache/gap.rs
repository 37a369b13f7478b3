//! Events that a watcher missed and the ring does not hold: from the store's history, for one who comes back after the
//! server was away, or whose resource was long quiet while others filled the history that a start replays.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt as _;
use store::{Event, EventKind};

use super::ResourceCache;
use super::feed::Caches;
use super::ring::RingEvent;

/// Each such watcher has events of its own, unlike in the ring: no more bytes than this.
const MOST: usize = 1 << 20;

/// Why there is no such history: the watcher has to list anew.
#[derive(Debug, thiserror::Error)]
pub enum GapError {
    #[error("read the store's history: {0}")]
    Store(#[from] store::Error),
    #[error("the store's history ended")]
    Ended,
    #[error("an object's state before its change is no longer known")]
    Forgotten,
    #[error("more than {MOST} bytes of events")]
    TooMuch,
}

impl Caches {
    /// All events of a resource after revision `after`, up to and with `until`, which is of the past.
    pub async fn gap(&self, cache: &ResourceCache, after: i64, until: i64) -> Result<VecDeque<RingEvent>, GapError> {
        let mut stream = self.watch(after, true).await?;
        let (mut found, mut bytes, mut seen) = (VecDeque::new(), 0, after);
        while seen < until {
            let batch = stream.next().await.ok_or(GapError::Ended)??;
            seen = batch.revision;
            let of_cache = |e: &&Event| e.kv.mod_revision <= until && e.kv.key.starts_with(cache.key_prefix.as_bytes());
            for event in batch.events.iter().filter(of_cache) {
                let event = self.missed(cache, event)?;
                bytes += event.frame.len();
                found.push_back(event);
            }
            if bytes > MOST {
                return Err(GapError::TooMuch);
            }
        }
        Ok(found)
    }

    fn missed(&self, cache: &ResourceCache, event: &Event) -> Result<RingEvent, GapError> {
        let previous = event.prev.as_ref().and_then(|kv| self.cached(cache, kv)).map(Arc::new);
        let had_one = event.kind == EventKind::Delete || event.kv.create_revision != event.kv.mod_revision;
        if had_one && previous.is_none() {
            return Err(GapError::Forgotten);
        }
        self.ring_event(cache, event, previous).ok_or(GapError::Forgotten)
    }
}
