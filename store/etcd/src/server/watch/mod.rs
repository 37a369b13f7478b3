//! `etcdserverpb.Watch`: one task for each stream, which reads the store's history for all of the stream's watches and
//! keeps nothing of it: a client that reads slowly finds its events in history later, or learns that they are
//! compacted.

mod watchers;

use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use store::core::state::State;
use store::{Error, Store};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tonic::{Status, Streaming};

use self::watchers::{Outcome, Watchers};
use super::{Answers, Server};
use crate::GRPC_OVERHEAD;
use crate::error::status;
use crate::proto::watch_request::Request;
use crate::proto::{ResponseHeader, WatchRequest, WatchResponse};

/// Responses that wait for a slow client; what comes later is read when these are gone.
const QUEUE: usize = 16;
/// How often a watch that asked for it hears that nothing happened (etcd's default).
const PROGRESS_EVERY: Duration = Duration::from_secs(600);

type Queue = mpsc::Sender<Result<WatchResponse, Status>>;

impl Server {
    /// A stream of watches, until the client ends it or the server stops.
    pub(super) fn watch(self: &Arc<Self>, requests: Streaming<WatchRequest>) -> Answers<WatchResponse> {
        let (answers, queue) = mpsc::channel(QUEUE);
        let session = Session {
            server: self.clone(),
            watchers: Watchers::new(self.store.status().revision),
            states: self.store.states(),
            answers,
            progress_wanted: false,
        };
        tokio::spawn(session.run(requests));
        let queue = stream::unfold(queue, |mut queue| async move { Some((queue.recv().await?, queue)) });
        Answers::until(&self.stopping, queue)
    }
}

struct Session {
    server: Arc<Server>,
    watchers: Watchers,
    states: watch::Receiver<Arc<State>>,
    answers: Queue,
    /// The client asked how far all watches are, and some are not there yet.
    progress_wanted: bool,
}

/// The client is gone, or the store is.
struct Gone;

enum Next {
    Request(Result<Option<WatchRequest>, Status>),
    Published(bool),
    ProgressDue,
}

impl Session {
    async fn run(mut self, mut requests: Streaming<WatchRequest>) {
        let mut progress = tokio::time::interval_at(Instant::now() + PROGRESS_EVERY, PROGRESS_EVERY);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = tokio::select! {
                request = requests.message() => Next::Request(request),
                changed = self.states.changed(), if !self.watchers.is_empty() => Next::Published(changed.is_ok()),
                _ = progress.tick(), if self.watchers.any_wants_progress() => Next::ProgressDue,
                () = self.answers.closed() => return,
            };
            let done = match next {
                Next::Request(Ok(Some(request))) => self.take(request).await,
                Next::Request(Ok(None) | Err(_)) => return,
                Next::Published(true) => self.deliver().await,
                Next::Published(false) => {
                    let stopped = Err(status(Error::Stopped));
                    // The client may be gone too.
                    drop(self.answers.send(stopped).await);
                    return;
                }
                Next::ProgressDue => self.notify().await,
            };
            if done.is_err() {
                return;
            }
        }
    }

    async fn take(&mut self, request: WatchRequest) -> Result<(), Gone> {
        match request.request {
            Some(Request::Create(request)) => {
                // Others of this stream go on from where the new one begins.
                self.deliver().await?;
                let current = self.states.borrow().mvcc.revision();
                let answer = self.watchers.create(request, current);
                self.send(answer, current).await?;
                self.deliver().await
            }
            Some(Request::Cancel(request)) => match self.watchers.cancel(request.watch_id) {
                Some(answer) => {
                    let revision = self.watchers.position();
                    self.send(answer, revision).await
                }
                None => Ok(()),
            },
            Some(Request::Progress(_)) => {
                self.progress_wanted = true;
                self.deliver().await
            }
            None => Ok(()),
        }
    }

    /// Sends what the newest state has for the watches, in bounded steps.
    async fn deliver(&mut self) -> Result<(), Gone> {
        loop {
            let state = self.states.borrow_and_update().clone();
            let Outcome { responses, through, more } = self.watchers.step(&state.mvcc);
            for answer in responses {
                for part in split(answer) {
                    self.send(part, through).await?;
                }
            }
            if !more && state.mvcc.revision() <= self.watchers.position() {
                break;
            }
            tokio::task::yield_now().await;
        }
        if std::mem::take(&mut self.progress_wanted) && !self.watchers.is_empty() {
            let all = WatchResponse { watch_id: watchers::NO_WATCH, ..Default::default() };
            let revision = self.watchers.position();
            self.send(all, revision).await?;
        }
        Ok(())
    }

    /// Tells the watches that asked for it, and had nothing since the last time, how far they are.
    async fn notify(&mut self) -> Result<(), Gone> {
        self.deliver().await?;
        let revision = self.watchers.position();
        for watch_id in self.watchers.take_quiet() {
            self.send(WatchResponse { watch_id, ..Default::default() }, revision).await?;
        }
        Ok(())
    }

    async fn send(&self, mut answer: WatchResponse, revision: i64) -> Result<(), Gone> {
        answer.header = Some(header(&self.server.store, revision));
        self.answers.send(Ok(answer)).await.map_err(|_| Gone)
    }
}

fn header(store: &Store, revision: i64) -> ResponseHeader {
    let ids = store.ids();
    let raft_term = store.status().applied_term;
    ResponseHeader { cluster_id: ids.cluster, member_id: ids.member, revision, raft_term }
}

/// Cuts a response that is larger than a message should be, when the watch asked for that (`fragment` is set then).
fn split(answer: WatchResponse) -> Vec<WatchResponse> {
    let most = watchers::MAX_REQUEST_BYTES + GRPC_OVERHEAD;
    if !answer.fragment || prost::Message::encoded_len(&answer) < most {
        return vec![WatchResponse { fragment: false, ..answer }];
    }
    let watch_id = answer.watch_id;
    let empty = || WatchResponse { watch_id, fragment: true, ..Default::default() };
    let (mut parts, mut part, mut size) = (Vec::new(), empty(), 0);
    for event in answer.events {
        let length = prost::Message::encoded_len(&event);
        if size + length > most && !part.events.is_empty() {
            parts.push(std::mem::replace(&mut part, empty()));
            size = 0;
        }
        size += length;
        part.events.push(event);
    }
    parts.push(WatchResponse { fragment: false, ..part });
    parts
}

#[cfg(test)]
mod tests;
