//! `/exec` and `/attach`: finding the container, agreeing on a protocol, and the streams over WebSocket or SPDY.

use std::sync::Arc;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use kubelet_runtime::cri::ContainerState;
use tokio::sync::mpsc;

use crate::agent::Agent;
use crate::spec;

use super::remote::{self, Input, Output, Wanted, What};
use super::route::{Answer, Query, text};
use super::spdy::command as spdy_command;
use super::upgrade::{self, Offer};
use super::websocket;

/// Subprotocols of WebSockets, the best first.
const WEBSOCKET: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// Stream protocols over SPDY, the best first.
const SPDY: [&str; 4] = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
/// Pieces of a stream that wait for their reader.
const QUEUE: usize = 16;

pub(super) fn exec(
    agent: &Arc<Agent>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let command = query.all("command");
    if command.is_empty() {
        return text(StatusCode::BAD_REQUEST, "you must specify at least 1 command to run");
    }
    start(agent, namespace, pod, container, query, request, What::Exec(command))
}

pub(super) fn attach(
    agent: &Arc<Agent>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    start(agent, namespace, pod, container, query, request, What::Attach)
}

fn start(
    agent: &Arc<Agent>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
    mut request: Request<Incoming>,
    what: What,
) -> Answer {
    let mut wanted = Wanted {
        stdin: query.flag(&["input", "stdin"]),
        stdout: query.flag(&["output", "stdout"]),
        stderr: query.flag(&["error", "stderr"]),
        tty: query.flag(&["tty"]),
    };
    if !wanted.stdin && !wanted.stdout && !wanted.stderr {
        return text(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr");
    }
    let id = match find(agent, namespace, pod, container, &what, &mut wanted) {
        Ok(id) => id,
        Err(answer) => return *answer,
    };
    let offer = match upgrade::offer(&request, &WEBSOCKET, &SPDY) {
        Ok(offer) => offer,
        Err(answer) => return *answer,
    };
    let (answer, connection) = offer.take(&mut request);
    let runtime = agent.runtime.clone();
    client::spawn(async move {
        let upgraded = match connection.await {
            Ok(upgraded) => upgraded,
            Err(error) => return tracing::debug!(%error, "a client left before its streams were open"),
        };
        let (to, input) = mpsc::channel::<Input>(QUEUE);
        let (output, from) = mpsc::channel::<Output>(QUEUE);
        let command = client::spawn(remote::serve(runtime, id, what, wanted, input, output));
        match offer {
            Offer::WebSocket { protocol, .. } => {
                let socket = upgrade::websocket(upgraded).await;
                websocket::carry(socket, protocol == WEBSOCKET[0], to, from).await;
            }
            Offer::Spdy { .. } => spdy_command::carry(upgraded, wanted, to, from).await,
        }
        // The streams are gone; so is the reason to go on.
        if let Err(error) = command.await {
            tracing::debug!(%error, "a remote command broke off");
        }
    });
    answer
}

/// The running container's id. An attach takes the terminal and stdin as the container has them.
fn find(
    agent: &Agent,
    namespace: &str,
    pod: &str,
    container: &str,
    what: &What,
    wanted: &mut Wanted,
) -> Result<String, Box<Answer>> {
    let missing = |message: String| Box::new(text(StatusCode::NOT_FOUND, message));
    let entry = agent.pods.find(namespace, pod).ok_or_else(|| missing("pod does not exist".to_owned()))?;
    let snapshot = entry.snapshot();
    let slot = spec::slot_of(&snapshot.pod, container);
    let own = slot.and_then(|slot| spec::container(&snapshot.pod, slot));
    let Some(own) = own else { return Err(missing(format!("container not found ({container:?})"))) };
    if matches!(what, What::Attach) {
        wanted.tty = own.tty == Some(true);
        wanted.stdin &= own.stdin == Some(true);
    }
    let running = snapshot.containers.iter().find(|c| c.name == container && c.state == ContainerState::Running);
    running.map(|c| c.id.clone()).ok_or_else(|| missing(format!("container not found ({container:?})")))
}
