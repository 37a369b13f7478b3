//! WATCH: one watcher is a cursor into its resource's ring, with a filter and a form.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use api::{ErrorList, FieldError, Path, Status};
use bytes::Bytes;
use http::header;
use http_body::Frame;
use tokio::time::{Instant, Sleep};

use super::Call;
use super::render::Renderer;
use crate::cache::{Cached, Change, Joined, ResourceCache, RingEvent, Snapshot, View};
use crate::http::params::Params;
use crate::http::{Body, BoxError, Response};
use crate::server::Shared;

/// How much one chunk of a watch's body holds at most, about.
const CHUNK: usize = 64 * 1024;

/// How often a quiet watcher is told the revision it has reached.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// A watch without `timeoutSeconds` ends between this and twice as long (upstream's `--min-request-timeout`).
const MIN_TIMEOUT: u64 = 1800;

/// No watch is longer, in seconds: a year.
const MAX_TIMEOUT: u64 = 365 * 24 * 3600;

/// Where a watch begins.
enum Begin {
    /// With the current objects as ADDED events.
    Objects(Snapshot),
    /// After this revision.
    After(i64),
}

/// Answers a watch request.
pub async fn watch(call: &Call<'_>) -> Result<Response, Status> {
    let view = call.view()?;
    let begin = begin(call).await?;
    let cache = call.row.cache.clone();
    let (revision, initial) = match begin {
        Begin::Objects(snapshot) => {
            let objects: Vec<_> = match view.exact_name() {
                Some(name) if !call.row.resource.namespaced || !view.namespace.is_empty() => {
                    let key = call.row.key(&view.namespace, name);
                    snapshot.objects.get(key.as_str()).filter(|o| view.matches(o)).cloned().into_iter().collect()
                }
                _ => snapshot.range(&view.namespace, "").filter(|o| view.matches(o)).cloned().collect(),
            };
            (snapshot.revision, objects)
        }
        Begin::After(revision) => (revision, Vec::new()),
    };
    let renderer = Renderer::new(call);
    let content_type = super::messages::stream_type(call, &renderer);
    let state = first_state(call.server, &cache, revision, initial).await;
    let end = Instant::now() + timeout(call.params.timeout_seconds);
    let mut body = WatchBody {
        server: call.server.clone(),
        cache,
        plain: !view.selects() && renderer.is_whole(),
        view,
        bookmark: renderer.bookmark_head(),
        renderer,
        state,
        revision,
        bookmarks: call.params.allow_bookmarks,
        initial_end: call.params.allow_bookmarks && call.params.send_initial_events == Some(true),
        next_bookmark: Instant::now() + BOOKMARK_EVERY,
        end,
        timer: Box::pin(tokio::time::sleep_until(end)),
        registered: None,
        _open: call.server.metrics.watch_opened(&call.row.gvr),
    };
    body.set_timer();
    let mut response = Response::new(Body::stream(body));
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

/// Where the ring no longer reaches back to `revision`, the store's history may.
async fn first_state(server: &Shared, cache: &ResourceCache, revision: i64, initial: Vec<Arc<Cached>>) -> State {
    let (oldest, found) = cache.with_ring(|ring| (ring.since(), ring.position_after(revision)));
    if let Ok(position) = found {
        return State::Initial { objects: initial.into_iter(), position };
    }
    let events = match server.caches.gap(cache, revision, oldest).await {
        Ok(events) => events,
        Err(why) => {
            tracing::debug!(resource = %cache.key_prefix, revision, oldest, %why, "a watch cannot be resumed");
            return State::Failing(too_old(revision, oldest));
        }
    };
    match cache.with_ring(|ring| ring.position_after(oldest).map_err(|_| ring.since())) {
        Ok(position) => State::Missed { events, position },
        // The ring went on faster than the history could be read.
        Err(oldest) => State::Failing(too_old(revision, oldest)),
    }
}

async fn begin(call: &Call<'_>) -> Result<Begin, Status> {
    let params = &call.params;
    let initial = params.send_initial_events;
    check_options(params)?;
    let revision =
        super::list::parse_revision(&params.resource_version).map_err(|error| Status::unexpected(error.to_string()))?;
    let caches = &call.server.caches;
    match revision {
        None => {
            call.server.fresh().await?;
            let snapshot = call.row.cache.snapshot(caches.progress.applied());
            Ok(if initial == Some(false) { Begin::After(snapshot.revision) } else { Begin::Objects(snapshot) })
        }
        Some(0) if initial != Some(false) => Ok(Begin::Objects(call.row.cache.snapshot(caches.progress.applied()))),
        Some(revision) if initial == Some(true) => {
            call.server.reached(revision).await?;
            Ok(Begin::Objects(call.row.cache.snapshot(caches.progress.applied())))
        }
        Some(0) => Ok(Begin::After(caches.progress.applied())),
        Some(revision) => Ok(Begin::After(revision)),
    }
}

/// Upstream's `ValidateListOptions`, for watches.
fn check_options(params: &Params<'_>) -> Result<(), Status> {
    let path = Path::new("resourceVersionMatch");
    let (initial, matching) = (params.send_initial_events.is_some(), &*params.resource_version_match);
    let mut errors = ErrorList::new();
    let forbidden = |why: &str| FieldError::forbidden(&path, why);
    if initial && matching != "NotOlderThan" {
        errors.push(forbidden("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
    }
    if !matching.is_empty() {
        if !initial {
            errors.push(forbidden("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"));
        }
        if matching != "NotOlderThan" {
            errors.push(FieldError::not_supported(&path, matching, &["NotOlderThan"]));
        }
    }
    if (initial || !matching.is_empty()) && !params.continues.is_empty() {
        errors.push(forbidden("resourceVersionMatch is forbidden when continue is provided"));
    }
    if errors.is_empty() { Ok(()) } else { Err(super::options::invalid("ListOptions", &errors)) }
}

fn timeout(seconds: Option<i64>) -> Duration {
    match seconds {
        Some(seconds) if seconds != 0 => Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(MAX_TIMEOUT)),
        _ => {
            let spread = uuid::Uuid::new_v4().as_u128() as u64 % MIN_TIMEOUT;
            Duration::from_secs(MIN_TIMEOUT + spread)
        }
    }
}

fn too_old(wanted: i64, oldest: i64) -> Status {
    Status::expired(format!("too old resource version: {wanted} ({oldest})"))
}

enum State {
    /// Sending the objects that existed, then going live from the position.
    Initial {
        objects: std::vec::IntoIter<Arc<Cached>>,
        position: u64,
    },
    /// Sending what happened before the ring begins, then going live from the position.
    Missed {
        events: VecDeque<RingEvent>,
        position: u64,
    },
    Live {
        position: u64,
    },
    /// An ERROR event is to be sent, then the end.
    Failing(Status),
    Done,
}

struct WatchBody {
    server: Arc<Shared>,
    cache: Arc<ResourceCache>,
    view: View,
    renderer: Renderer,
    /// Whether events of the namespace go out as the ring has them.
    plain: bool,
    state: State,
    /// Everything up to here was sent.
    revision: i64,
    bookmarks: bool,
    /// Whether the bookmark that ends the initial events is still owed.
    initial_end: bool,
    bookmark: Bytes,
    next_bookmark: Instant,
    end: Instant,
    timer: Pin<Box<Sleep>>,
    /// The wake-up that this watcher waits for, and with which waker.
    registered: Option<(u64, Waker)>,
    _open: crate::metrics::Open,
}

impl WatchBody {
    fn set_timer(&mut self) {
        let at = if self.bookmarks { self.next_bookmark.min(self.end) } else { self.end };
        self.timer.as_mut().reset(at);
    }

    /// The next chunk, if there is anything to send.
    fn next_chunk(&mut self) -> Option<Bytes> {
        loop {
            match &mut self.state {
                State::Initial { objects, position } => {
                    let mut chunk = Vec::new();
                    for object in objects.by_ref() {
                        self.renderer.event(&mut chunk, Change::Added, &object);
                        if chunk.len() >= CHUNK {
                            return Some(chunk.into());
                        }
                    }
                    let position = *position;
                    self.state = State::Live { position };
                    if std::mem::take(&mut self.initial_end) {
                        self.put_bookmark(&mut chunk, true);
                    }
                    if !chunk.is_empty() {
                        return Some(chunk.into());
                    }
                }
                State::Missed { .. } => {
                    if let Some(chunk) = self.missed() {
                        return Some(chunk);
                    }
                }
                State::Live { position } => {
                    let position = *position;
                    return self.live(position);
                }
                State::Failing(status) => {
                    let mut chunk = Vec::new();
                    self.renderer.error(&mut chunk, status);
                    self.state = State::Done;
                    return Some(chunk.into());
                }
                State::Done => return None,
            }
        }
    }

    /// The next chunk of the events before the ring; `None` once all were looked at and none is left to send.
    fn missed(&mut self) -> Option<Bytes> {
        let State::Missed { mut events, position } = std::mem::replace(&mut self.state, State::Done) else {
            return None;
        };
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK
            && let Some(event) = events.pop_front()
        {
            self.put_event(&mut chunk, &event);
            // The rest of a revision may be in the next chunk.
            self.revision = event.revision - i64::from(events.front().is_some_and(|e| e.revision == event.revision));
        }
        self.state = if events.is_empty() { State::Live { position } } else { State::Missed { events, position } };
        (!chunk.is_empty()).then(|| chunk.into())
    }

    fn live(&mut self, position: u64) -> Option<Bytes> {
        let applied = self.server.caches.progress.applied();
        let taken = match self.shared_chunk(position) {
            Ok(Some(joined)) => Ok(joined),
            Ok(None) => self.filtered(position),
            Err(oldest) => Err(oldest),
        };
        match taken {
            Ok((chunk, end, revision)) => {
                self.state = State::Live { position: end };
                if end > position {
                    self.revision = self.revision.max(revision);
                } else {
                    self.revision = self.revision.max(applied);
                }
                (!chunk.is_empty()).then_some(chunk)
            }
            Err(oldest) => {
                self.state = State::Failing(too_old(self.revision, oldest));
                self.next_chunk()
            }
        }
    }

    /// Frames as the ring has them, when the view sees all of them so.
    fn shared_chunk(&self, position: u64) -> Result<Option<Joined>, i64> {
        if !self.plain {
            return Ok(None);
        }
        let namespace = self.view.namespace.as_str();
        self.cache.with_ring(|ring| ring.joined(position, CHUNK, namespace).map_err(|_| ring.since()))
    }

    /// Events that the view sees, as it sees them; `Err` is the oldest revision when the position is lost.
    fn filtered(&self, position: u64) -> Result<Joined, i64> {
        let (mut at, mut last) = (position, 0);
        let mut chunk = Vec::new();
        // Events are taken in small runs so that the ring is not locked while they are rendered.
        loop {
            let run: Vec<RingEvent> = self.cache.with_ring(|ring| match ring.from(at) {
                Ok(events) => Ok(events.take(64).cloned().collect()),
                Err(_) => Err(ring.since()),
            })?;
            if run.is_empty() {
                return Ok((chunk.into(), at, last));
            }
            for event in &run {
                at += 1;
                last = event.revision;
                self.put_event(&mut chunk, event);
                if chunk.len() >= CHUNK {
                    return Ok((chunk.into(), at, last));
                }
            }
        }
    }

    /// An event as the view sees it: objects come into and go out of a selection.
    fn put_event(&self, chunk: &mut Vec<u8>, event: &RingEvent) {
        let is = event.change != Change::Deleted && self.view.matches(&event.object);
        let was = event.previous.as_ref().is_some_and(|p| self.view.matches(p));
        let change = match (was, is) {
            (false, false) => return,
            (false, true) => Change::Added,
            (true, true) => Change::Modified,
            (true, false) => Change::Deleted,
        };
        if change == event.change && self.renderer.is_whole() {
            chunk.extend_from_slice(&event.frame);
        } else if change == Change::Deleted && event.change != Change::Deleted {
            if let Some(previous) = &event.previous {
                self.renderer.left(chunk, previous, event.revision);
            }
        } else {
            self.renderer.event(chunk, change, &event.object);
        }
    }

    fn put_bookmark(&self, chunk: &mut Vec<u8>, initial_end: bool) {
        self.renderer.bookmark(chunk, &self.bookmark, self.revision, initial_end);
    }

    /// What is due by the clock: a bookmark, or the end.
    fn by_clock(&mut self, now: Instant) -> Option<Bytes> {
        let mut chunk = Vec::new();
        if now >= self.end {
            self.state = State::Done;
        }
        if self.bookmarks && (now >= self.next_bookmark || now >= self.end) {
            self.put_bookmark(&mut chunk, false);
            self.next_bookmark = now + BOOKMARK_EVERY;
        }
        self.set_timer();
        (!chunk.is_empty()).then(|| chunk.into())
    }

    /// Makes sure that the next event wakes this task; `false` when one came meanwhile.
    fn register(&mut self, epoch: u64, waker: &Waker) -> bool {
        if self.registered.as_ref().is_some_and(|(e, w)| *e == epoch && w.will_wake(waker)) {
            return true;
        }
        if !self.cache.register(epoch, waker) {
            return false;
        }
        self.registered = Some((epoch, waker.clone()));
        true
    }
}

impl http_body::Body for WatchBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            let epoch = this.cache.epoch();
            if let Some(chunk) = this.next_chunk() {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            if matches!(this.state, State::Done) || this.server.stopping.is_cancelled() {
                return Poll::Ready(None);
            }
            if this.timer.as_mut().poll(cx).is_ready() {
                match this.by_clock(Instant::now()) {
                    Some(chunk) => return Poll::Ready(Some(Ok(Frame::data(chunk)))),
                    None => continue,
                }
            }
            if this.register(epoch, cx.waker()) {
                return Poll::Pending;
            }
        }
    }
}

impl std::fmt::Debug for WatchBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WatchBody")
    }
}
