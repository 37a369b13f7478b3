//! The recent events of one resource, shared by all its watchers.
//!
//! A watcher is a position in the ring. The ring forgets its oldest events when it holds too many bytes, whoever
//! still wants them: a slow watcher finds itself out of the ring and starts anew, and costs nothing meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::entry::Cached;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Added,
    Modified,
    Deleted,
}

impl Change {
    /// The type of a watch event.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }

    /// The start of a watch event's frame.
    pub fn head(self) -> &'static [u8] {
        match self {
            Self::Added => b"{\"type\":\"ADDED\",\"object\":",
            Self::Modified => b"{\"type\":\"MODIFIED\",\"object\":",
            Self::Deleted => b"{\"type\":\"DELETED\",\"object\":",
        }
    }
}

/// One event, encoded.
#[derive(Clone, Debug)]
pub struct RingEvent {
    pub revision: i64,
    pub change: Change,
    /// The whole frame with its newline, for watchers who see the event as it is.
    pub frame: Bytes,
    /// The object after the change; for a deletion its last state, with the deletion's revision.
    pub object: Arc<Cached>,
    /// The object before the change.
    pub previous: Option<Arc<Cached>>,
}

/// Events in revision order.
#[derive(Debug)]
pub struct Ring {
    events: VecDeque<RingEvent>,
    /// Sequence number of the first event held.
    first: u64,
    /// Every event after this revision is held.
    since: i64,
    bytes: usize,
    capacity: usize,
    /// The last run of frames that was joined, for the next watcher at the same position.
    run: Option<Run>,
}

/// Frames that were joined, and for whom.
#[derive(Debug)]
struct Run {
    from: u64,
    /// The ring's end at that time.
    seen: u64,
    limit: usize,
    namespace: Box<str>,
    joined: Joined,
}

/// Joined frames, the position behind them, and the last one's revision (0 when there is none).
pub type Joined = (Bytes, u64, i64);

/// The position is no longer held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FellOut;

impl Ring {
    /// An empty ring for events after `since`, holding about `capacity` bytes.
    pub fn new(since: i64, capacity: usize) -> Self {
        Self::starting_at(0, since, capacity)
    }

    /// An empty ring whose first event gets this position.
    pub fn starting_at(first: u64, since: i64, capacity: usize) -> Self {
        Self { events: VecDeque::new(), first, since, bytes: 0, capacity, run: None }
    }

    pub fn push(&mut self, event: RingEvent) {
        self.bytes += cost(&event);
        self.events.push_back(event);
        while self.bytes > self.capacity && self.events.len() > 1 {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.events.pop_front() {
            self.bytes -= cost(&oldest);
            self.since = oldest.revision;
            self.first += 1;
            self.run = None;
        }
    }

    /// Every event after this revision is held.
    pub fn since(&self) -> i64 {
        self.since
    }

    /// The position behind the newest event.
    pub fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// The position of the first event after `revision`.
    pub fn position_after(&self, revision: i64) -> Result<u64, FellOut> {
        if revision < self.since {
            return Err(FellOut);
        }
        Ok(self.first + self.events.partition_point(|e| e.revision <= revision) as u64)
    }

    /// Events from a position on.
    pub fn from(&self, position: u64) -> Result<impl Iterator<Item = &RingEvent>, FellOut> {
        if position < self.first {
            return Err(FellOut);
        }
        let skip = (position - self.first) as usize;
        Ok(self.events.range(skip.min(self.events.len())..))
    }

    /// The frames from a position on joined into one chunk of at most about `limit` bytes, and the position behind it.
    ///
    /// Watchers at the same position share the chunk, and all but the first do not even look at the events. `None` when
    /// one of the events is of another namespace (none is when `namespace` is empty).
    pub fn joined(&mut self, position: u64, limit: usize, namespace: &str) -> Result<Option<Joined>, FellOut> {
        if position < self.first {
            return Err(FellOut);
        }
        let end = self.end();
        if position >= end {
            return Ok(Some((Bytes::new(), position, 0)));
        }
        if let Some(run) = &self.run
            && (run.from, run.seen, run.limit, &*run.namespace) == (position, end, limit, namespace)
        {
            return Ok(Some(run.joined.clone()));
        }
        let events = self.events.range((position - self.first) as usize..);
        let Some(joined) = join(events, position, limit, namespace) else { return Ok(None) };
        self.run = Some(Run { from: position, seen: end, limit, namespace: namespace.into(), joined: joined.clone() });
        Ok(Some(joined))
    }
}

/// Joins frames, at least one; `None` when one of the events is of another namespace.
fn join<'r>(
    events: impl Iterator<Item = &'r RingEvent> + Clone,
    position: u64,
    limit: usize,
    namespace: &str,
) -> Option<Joined> {
    let (mut size, mut count, mut revision) = (0, 0, 0);
    for event in events.clone() {
        if !namespace.is_empty() && event.object.namespace() != namespace {
            return None;
        }
        size += event.frame.len();
        count += 1;
        revision = event.revision;
        if size >= limit {
            break;
        }
    }
    let mut frames = events.take(count).map(|event| &event.frame);
    let chunk = match (count, frames.next()) {
        (1, Some(frame)) => frame.clone(),
        (_, first) => {
            let mut chunk = Vec::with_capacity(size);
            first.into_iter().chain(frames).for_each(|frame| chunk.extend_from_slice(frame));
            chunk.into()
        }
    };
    Some((chunk, position + count as u64, revision))
}

/// What an event is charged: its frame and the bookkeeping around it. The previous object's bytes are those of an older
/// frame and are charged there.
fn cost(event: &RingEvent) -> usize {
    event.frame.len() + size_of::<RingEvent>() + size_of::<Cached>()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cache::entry::Facts;
    use crate::storage::Layout;

    fn event(revision: i64) -> RingEvent {
        let facts = Facts { uid: "".into(), labels: Box::default(), fields: Box::default() };
        let object = Cached::new("ns/a", true, revision, Bytes::new(), Layout { metadata: 0 }, facts);
        let frame = Bytes::from(format!("{revision:04}\n"));
        RingEvent { revision, change: Change::Modified, frame, object: Arc::new(object), previous: None }
    }

    #[test]
    fn keeps_the_newest_and_says_what_it_forgot() {
        let mut ring = Ring::new(10, 4 * cost(&event(1)));
        for revision in 11..=20 {
            ring.push(event(revision));
        }
        assert_eq!(ring.since(), 16);
        assert_eq!(ring.position_after(15), Err(FellOut));
        let at = ring.position_after(18).unwrap();
        let seen: Vec<_> = ring.from(at).unwrap().map(|e| e.revision).collect();
        assert_eq!(seen, [19, 20]);
        assert!(ring.from(0).is_err());
    }

    #[test]
    fn joins_frames_once_for_all() {
        let mut ring = Ring::new(0, 1 << 20);
        for revision in 1..=5 {
            ring.push(event(revision));
        }
        let (chunk, end, revision) = ring.joined(1, 1000, "").unwrap().unwrap();
        assert_eq!((&chunk[..], end, revision), (&b"0002\n0003\n0004\n0005\n"[..], 5, 5));
        let (again, ..) = ring.joined(1, 1000, "").unwrap().unwrap();
        assert_eq!(chunk.as_ptr(), again.as_ptr());
        let (none, end, _) = ring.joined(5, 1000, "").unwrap().unwrap();
        assert!(none.is_empty() && end == 5);
        let (bounded, bounded_end, _) = ring.joined(0, 8, "ns").unwrap().unwrap();
        assert!(ring.joined(0, 100, "other").unwrap().is_none());
        ring.push(event(6));
        let (more, end, _) = ring.joined(1, 1000, "").unwrap().unwrap();
        assert_eq!((more.len(), end), (25, 6));
        assert_eq!((&bounded[..], bounded_end), (&b"0001\n0002\n"[..], 2));
    }
}
