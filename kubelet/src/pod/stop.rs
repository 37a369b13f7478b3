//! Stopping containers: preStop hook, then the stop signal, within one grace period; sidecars after the main ones, in
//! reverse order.

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use kubelet_runtime::cri::{ContainerState, ContainerStatus, Error, Runtime};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::events::Type;
use crate::hooks;
use crate::labels;
use crate::spec::{self, Slot};

use super::plan::KillReason;

/// One container to stop.
pub(super) struct Stop<'a> {
    pub status: &'a ContainerStatus,
    pub grace: i64,
    pub message: String,
}

/// Grace period of a kill that is not the Pod's end, seconds: the probe's own where it has one.
pub(super) fn grace(pod: &Pod, container: &Container, reason: KillReason) -> i64 {
    if pod.metadata.deletion_grace_period_seconds.is_some() {
        return spec::grace_seconds(pod);
    }
    let probe = match reason {
        KillReason::Startup => container.startup_probe.as_ref(),
        KillReason::Liveness => container.liveness_probe.as_ref(),
        KillReason::Changed | KillReason::Unknown => None,
    };
    probe.and_then(|p| p.termination_grace_period_seconds).unwrap_or_else(|| spec::grace_seconds(pod))
}

/// Stops one container. `turn` is waited for between hook and signal.
pub(super) async fn stop(
    agent: &Agent,
    pod: &Pod,
    stop: &Stop<'_>,
    pod_ip: &str,
    turn: impl Future<Output = ()>,
) -> Result<(), String> {
    let status = stop.status;
    agent.recorder.container(pod, &status.name, Type::Normal, "Killing", stop.message.as_str());
    let found = spec::slot_of(pod, &status.name).and_then(|slot| spec::container(pod, slot));
    // When the Pod is gone from the API, the container knows what it was made with.
    let container = found.unwrap_or_else(|| labels::container(status));
    let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    let ending = Ending { runtime: &*agent.runtime, container: &container, id: &status.id, pod_ip };
    let failed = |error: &str| {
        tracing::warn!(pod = %spec::format(pod), container = %status.name, error, "preStop hook failed");
        agent.recorder.container(pod, &status.name, Type::Warning, "FailedPreStopHook", "PreStopHook failed");
    };
    let stopped = ending.stop(hook, stop.grace, turn, failed).await;
    stopped.map_err(|error| format!("stopping container {}: {error}", status.name))
}

/// A container on its way to its end, whoever asked for it.
pub(crate) struct Ending<'a> {
    pub runtime: &'a dyn Runtime,
    pub container: &'a Container,
    pub id: &'a str,
    pub pod_ip: &'a str,
}

impl Ending<'_> {
    /// Hook, `turn`, stop signal, and at the end of `grace` (seconds) the kill. `failed` hears why a hook failed.
    pub async fn stop(
        &self,
        hook: Option<&LifecycleHandler>,
        grace: i64,
        turn: impl Future<Output = ()>,
        failed: impl FnOnce(&str),
    ) -> Result<(), Error> {
        let began = Instant::now();
        let whole = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let container = &self.container.name;
        if let Some(hook) = hook.filter(|_| grace > 0) {
            let run = hooks::run(self.runtime, self.id, self.container, hook, self.pod_ip);
            match tokio::time::timeout(whole, run).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failed(&error),
                Err(_) => tracing::info!(id = self.id, container, "preStop hook took the whole grace period"),
            }
        }
        if tokio::time::timeout(whole.saturating_sub(began.elapsed()), turn).await.is_err() {
            tracing::debug!(id = self.id, container, "stopped before its turn: the grace period is over");
        }
        let left = grace - i64::try_from(began.elapsed().as_secs()).unwrap_or(i64::MAX);
        match self.runtime.stop_container(self.id, left.max(spec::MINIMUM_GRACE_SECONDS)).await {
            Ok(()) | Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// When a container's turn comes: main ones at once, a sidecar after all main ones and all sidecars behind it.
fn order(pod: &Pod, name: &str) -> usize {
    match spec::slot_of(pod, name) {
        Some(Slot::Init(i)) if spec::init_containers(pod).get(i).is_some_and(spec::is_sidecar) => {
            spec::init_containers(pod).len() - i
        }
        _ => 0,
    }
}

/// Stops every container that runs, all hooks at once. `grace` overrides what the Pod and its containers say.
///
/// # Errors
/// Those that could not be stopped.
pub(super) async fn stop_all(
    agent: &Agent,
    pod: &Pod,
    containers: &[ContainerStatus],
    grace: Option<i64>,
    pod_ip: &str,
) -> Result<(), String> {
    let running: Vec<_> = containers
        .iter()
        .filter(|c| matches!(c.state, ContainerState::Running | ContainerState::Created | ContainerState::Unknown))
        .collect();
    // How many containers of each place in the order still run.
    let places: Vec<usize> = running.iter().map(|c| order(pod, &c.name)).collect();
    let (left, _) = watch::channel(places.clone());
    let stops = running.iter().zip(&places).map(|(status, &place)| {
        let (left, mut seen) = (&left, left.subscribe());
        async move {
            let turn = async move {
                // The sender outlives the futures.
                drop(seen.wait_for(|all| place == 0 || all.iter().all(|p| *p >= place)).await);
            };
            let known = spec::slot_of(pod, &status.name).is_some();
            let own = if known { spec::grace_seconds(pod) } else { labels::grace_seconds(status) };
            let message = format!("Stopping container {}", status.name);
            let one = Stop { status, grace: grace.unwrap_or(own), message };
            let result = stop(agent, pod, &one, pod_ip, turn).await;
            left.send_modify(|all| {
                if let Some(at) = all.iter().position(|p| *p == place) {
                    all.remove(at);
                }
            });
            result
        }
    });
    let errors: Vec<String> = futures::future::join_all(stops).await.into_iter().filter_map(Result::err).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}
