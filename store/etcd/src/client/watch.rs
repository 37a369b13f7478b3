//! Watches on a remote etcd: a stream each, taken up again on another endpoint where it broke, with no event lost or
//! repeated.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use store::{Error, Event, EventKind, WatchBatch, WatchRequest, WatchStream};
use tonic::Streaming;

use super::endpoints::{Endpoints, stream_error};
use crate::proto::watch_request::Request;
use crate::proto::{self, EventType, WatchCreateRequest, WatchResponse};

const PATH: &str = "/etcdserverpb.Watch/Watch";
/// Pauses between attempts to take a watch up again: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long etcd may take to say that a watch stands.
const CREATED: Duration = Duration::from_secs(15);

struct Watch {
    endpoints: Endpoints,
    create: WatchCreateRequest,
    /// `None` while it is broken.
    answers: Option<Streaming<WatchResponse>>,
    pause: Duration,
    over: bool,
}

/// Opens a watch; it stands when this returns.
pub async fn open(endpoints: Endpoints, request: WatchRequest) -> Result<WatchStream, Error> {
    let WatchRequest { start, end, start_revision, prev_kv, progress_notify } = request;
    let create = WatchCreateRequest {
        key: start,
        range_end: end,
        start_revision,
        prev_kv,
        progress_notify,
        ..Default::default()
    };
    let mut watch = Watch { endpoints, create, answers: None, pause: FIRST_PAUSE, over: false };
    watch.begin().await?;
    Ok(stream::unfold(watch, |mut watch| async move {
        let item = watch.next_item().await?;
        Some((item, watch))
    })
    .boxed())
}

/// What a compacted revision's history begins with; 0 when etcd does not say.
pub async fn compact_revision(endpoints: &Endpoints, revision: i64) -> i64 {
    let request = WatchRequest { start: "\0".into(), start_revision: revision, ..Default::default() };
    let ask = first_batch(endpoints, request);
    match tokio::time::timeout(CREATED, ask).await {
        Ok(Err(Error::Compacted { compact_revision })) => compact_revision,
        _ => 0,
    }
}

async fn first_batch(endpoints: &Endpoints, request: WatchRequest) -> Result<WatchBatch, Error> {
    let mut watch = open(endpoints.clone(), request).await?;
    watch.next().await.unwrap_or(Err(Error::Stopped))
}

impl Watch {
    async fn begin(&mut self) -> Result<(), Error> {
        let message = proto::WatchRequest { request: Some(Request::Create(self.create.clone())) };
        let mut answers: Streaming<WatchResponse> = self.endpoints.open("watch", PATH, message).await?;
        let created = match tokio::time::timeout(CREATED, answers.message()).await {
            Ok(Ok(Some(created))) => created,
            Ok(Ok(None)) | Err(_) => {
                self.endpoints.leave();
                return Err(unavailable("the watch was not created"));
            }
            Ok(Err(status)) => {
                self.endpoints.leave();
                return Err(stream_error("watch", &status));
            }
        };
        if created.canceled {
            return Err(ended(&created));
        }
        if self.create.start_revision == 0 {
            // Should it break, it goes on from where it began.
            self.create.start_revision = created.header.map_or(0, |header| header.revision) + 1;
        }
        self.answers = Some(answers);
        Ok(())
    }

    async fn next_item(&mut self) -> Option<Result<WatchBatch, Error>> {
        while !self.over {
            let Some(answers) = &mut self.answers else {
                if let Some(error) = self.again().await {
                    self.over = true;
                    return Some(Err(error));
                }
                continue;
            };
            let why = match answers.message().await {
                Ok(Some(answer)) if answer.canceled => {
                    self.over = true;
                    return Some(Err(ended(&answer)));
                }
                Ok(Some(answer)) => {
                    self.pause = FIRST_PAUSE;
                    let batch = batch(answer);
                    self.create.start_revision = self.create.start_revision.max(batch.revision + 1);
                    return Some(Ok(batch));
                }
                Ok(None) => "the stream ended".to_owned(),
                Err(status) => stream_error("watch", &status).to_string(),
            };
            tracing::warn!(why, from = self.create.start_revision, "etcd: a watch broke; it is taken up again");
            self.answers = None;
            self.endpoints.leave();
        }
        None
    }

    /// One attempt to take the watch up again. Returns why that is in vain, if so.
    async fn again(&mut self) -> Option<Error> {
        match self.begin().await {
            Ok(()) => None,
            Err(Error::Unavailable { .. } | Error::NoLeader) => {
                tokio::time::sleep(self.pause).await;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                None
            }
            Err(error) => Some(error),
        }
    }
}

fn unavailable(reason: &str) -> Error {
    Error::Unavailable { operation: "watch", reason: reason.to_owned() }
}

fn ended(answer: &WatchResponse) -> Error {
    match answer.compact_revision {
        0 => Error::Refused { operation: "watch", reason: answer.cancel_reason.clone() },
        compact_revision => Error::Compacted { compact_revision },
    }
}

/// Events are complete up to the last one's revision; the header of a watch that catches up runs ahead of it.
fn batch(answer: WatchResponse) -> WatchBatch {
    let header = answer.header.map_or(0, |header| header.revision);
    let events: Vec<Event> = answer.events.into_iter().filter_map(event).collect();
    WatchBatch { revision: events.last().map_or(header, |event| event.kv.mod_revision), events }
}

fn event(event: proto::Event) -> Option<Event> {
    let kind = if event.r#type == EventType::Delete as i32 { EventKind::Delete } else { EventKind::Put };
    Some(Event { kind, kv: event.kv?.into(), prev: event.prev_kv.map(Into::into) })
}
