//! Ending a node's Pods before the node ends, as upstream's graceful node shutdown (KEP-2000): hooks run, grace periods
//! hold, those that the node depends on end last, and the API hears of it while it can. Each Pod has its own grace
//! period; how long all may take is for whoever asks to say.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use kubelet_runtime::cri::{ContainerState, ContainerStatus, Error, Runtime};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::pod::stop;
use crate::{labels, qos};

/// Reason, and message, of a Pod that the shutdown made fail.
pub(crate) const REASON: &str = "Terminated";
pub(crate) const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";

/// What a Pod's worker holds until its Pod has ended and the API knows.
pub(crate) type Guard = mpsc::Sender<Infallible>;

/// A kubelet's word from outside that its Pods are to end, and its answer that they have.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    asked: CancellationToken,
    ended: CancellationToken,
}

impl Shutdown {
    /// From now on the kubelet ends its Pods, and starts none. There is no way back.
    pub fn ask(&self) {
        self.asked.cancel();
    }

    /// Waits until all have ended; never before it was asked for.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.asked.is_cancelled()
    }

    pub(crate) async fn asked(&self) {
        self.asked.cancelled().await;
    }

    /// Without knowing its Pods a kubelet cannot end them; they are left to [`stop_pods`].
    pub(crate) fn give_up(&self) {
        self.ended.cancel();
    }
}

/// Tells the Pods' workers, those of critical Pods when the others have ended.
pub(crate) async fn run(agent: Arc<Agent>) {
    for critical in [false, true] {
        let (guard, mut all) = mpsc::channel(1);
        for entry in agent.pods.all() {
            if qos::is_critical(&entry.snapshot().pod) == critical {
                entry.mailbox.post(|inbox| inbox.shutdown = Some(guard.clone()));
            }
        }
        drop(guard);
        // Nothing is ever sent: it ends when the last worker has let go.
        if let Some(never) = all.recv().await {
            match never {}
        }
    }
    agent.config.shutdown.ended.cancel();
}

/// Ends what a runtime still has of Pods when no kubelet runs: hooks and grace periods are those that the containers
/// were made with; nobody is told, and no container gets longer than `limit`. Returns how many Pods there were.
///
/// # Errors
/// A sandbox could not be stopped.
pub async fn stop_pods(runtime: &dyn Runtime, limit: Duration) -> Result<usize, Error> {
    let sandboxes = runtime.list_pod_sandboxes().await?;
    let containers = runtime.list_containers().await?;
    let running = containers.iter().filter(|container| container.state == ContainerState::Running);
    let stops = running.map(|container| {
        let ip = sandboxes.iter().find(|sandbox| sandbox.id == container.sandbox_id).and_then(|s| s.ips.first());
        stop_container(runtime, container, ip.map_or("", String::as_str), limit)
    });
    for (id, stopped) in futures::future::join_all(stops).await {
        if let Err(error) = stopped {
            // It ends with its sandbox, which is killed.
            tracing::warn!(id, %error, "a container did not end in its time");
        }
    }
    for sandbox in &sandboxes {
        runtime.stop_pod_sandbox(&sandbox.id).await?;
    }
    Ok(sandboxes.len())
}

async fn stop_container<'a>(
    runtime: &dyn Runtime,
    status: &'a ContainerStatus,
    pod_ip: &str,
    limit: Duration,
) -> (&'a str, Result<(), Error>) {
    let limit = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    let made_with = labels::container(status);
    let hook = made_with.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    let ending = stop::Ending { runtime, container: &made_with, id: &status.id, pod_ip };
    let grace = labels::grace_seconds(status).min(limit);
    let stopped = ending.stop(hook, grace, std::future::ready(()), |error| {
        tracing::warn!(container = %status.name, error, "preStop hook failed");
    });
    (&status.id, stopped.await)
}
