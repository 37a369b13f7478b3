//! `/containerLogs`: a container's log, followed when asked for.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::{Response, StatusCode, header};
use http_body_util::{StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kubelet_runtime::cri::{ContainerState, ContainerStatus, EventType};
use tokio::sync::{mpsc, watch};

use crate::agent::Agent;
use crate::logs::follow;
use crate::logs::options::Options;
use crate::pod::registry::Snapshot;
use crate::{spec, time};

use super::route::{Answer, Query, text};

pub(super) async fn serve(agent: &Arc<Agent>, namespace: &str, pod: &str, container: &str, query: &Query) -> Answer {
    let options = match Options::parse(&query.map(), time::now()) {
        Ok(options) => options,
        Err(error) => return text(StatusCode::UNPROCESSABLE_ENTITY, error),
    };
    let Some(entry) = agent.pods.find(namespace, pod) else {
        return text(StatusCode::NOT_FOUND, format!("pod \"{pod}\" does not exist\n"));
    };
    let snapshot = entry.snapshot();
    if spec::slot_of(&snapshot.pod, container).is_none() {
        let message = format!("container {container:?} not found in pod {pod:?}\n");
        return text(StatusCode::NOT_FOUND, message);
    }
    let status = match choose(&snapshot, container, options.previous) {
        Ok(status) => status.clone(),
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    // Subscribed before the state is asked for: an end in between is not missed.
    let ended = ended(agent, &status, options.follow).await;
    let path = PathBuf::from(&status.log_path);
    let (out, lines) = mpsc::channel::<Bytes>(8);
    let reading = client::spawn(async move {
        if let Err(error) = follow::read(&path, &options, out, ended).await {
            tracing::warn!(path = %path.display(), %error, "reading a log failed");
        }
    });
    drop(reading);
    let frames = futures::stream::unfold(lines, |mut lines| async { lines.recv().await.map(|line| (line, lines)) });
    let frames = frames.map(|line| Ok::<_, std::io::Error>(Frame::data(line)));
    let mut answer = Response::new(UnsyncBoxBody::new(StreamBody::new(Box::pin(frames))));
    answer.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    answer
}

/// The container whose log is meant: the newest that ran, or the one before.
fn choose<'a>(snapshot: &'a Snapshot, name: &str, previous: bool) -> Result<&'a ContainerStatus, String> {
    let pod = spec::name(&snapshot.pod);
    let mut runs = snapshot.containers.iter().filter(|c| c.name == name);
    let newest = runs.next();
    if previous {
        let before = match newest {
            Some(c) if c.state == ContainerState::Exited && waits(snapshot, name) => Some(c),
            _ => runs.next(),
        };
        return before.ok_or_else(|| format!("previous terminated container {name:?} in pod {pod:?} not found"));
    }
    match newest {
        Some(c) if c.state != ContainerState::Created => Ok(c),
        _ => match runs.next() {
            Some(before) => Ok(before),
            None => Err(not_started(snapshot, name)),
        },
    }
}

/// The newest container has ended and the next is yet to be made: it already counts as the previous one.
fn waits(snapshot: &Snapshot, name: &str) -> bool {
    let all = snapshot.status.container_statuses.iter().chain(&snapshot.status.init_container_statuses).flatten();
    all.filter(|s| s.name == name).any(|s| s.state.as_ref().is_some_and(|s| s.waiting.is_some()))
}

fn not_started(snapshot: &Snapshot, name: &str) -> String {
    let all = snapshot.status.container_statuses.iter().chain(&snapshot.status.init_container_statuses).flatten();
    let waiting = all.into_iter().find(|s| s.name == name).and_then(|s| s.state.as_ref()?.waiting.as_ref());
    let reason = waiting.and_then(|w| w.reason.clone()).unwrap_or_else(|| "ContainerCreating".to_owned());
    let pod = spec::name(&snapshot.pod);
    if matches!(reason.as_str(), "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull") {
        return format!("container {name:?} in pod {pod:?} is waiting to start: trying and failing to pull image");
    }
    format!("container {name:?} in pod {pod:?} is waiting to start: {reason}")
}

/// Becomes true when the container has ended.
async fn ended(agent: &Arc<Agent>, status: &ContainerStatus, wanted: bool) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    let mut events = agent.runtime.events();
    let state = agent.runtime.container_status(&status.id).await.map(|s| s.state);
    if !wanted || !matches!(state, Ok(ContainerState::Running)) {
        sender.send_replace(true);
        return receiver;
    }
    let (id, agent) = (status.id.clone(), agent.clone());
    client::spawn(async move {
        loop {
            tokio::select! {
                () = sender.closed() => return,
                event = events.recv() => match event {
                    Ok(e) if e.container_id == id
                        && matches!(e.kind, EventType::ContainerStopped | EventType::ContainerDeleted) => break,
                    Ok(_) => {}
                    // Events were lost: the state says what they would have.
                    Err(_) => match agent.runtime.container_status(&id).await.map(|s| s.state) {
                        Ok(ContainerState::Running) => {}
                        _ => break,
                    },
                },
            }
        }
        sender.send_replace(true);
    });
    receiver
}
