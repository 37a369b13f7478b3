//! Winding a Pod up: its containers stopped, its resources given back, its traces removed, the API told. Each stage
//! may fail and be tried again; none is skipped.

use std::sync::Arc;

use client::Api;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Preconditions};
use kubelet_runtime::cri::ContainerStatus;

use crate::agent::Agent;
use crate::events::Type;
use crate::time::{self, Nanos, SECOND};
use crate::{qos, spec, volumes};

use super::run::Op;
use super::start;
use super::stop;
use super::worker::{Stage, Worker};

/// Between tries of a stage that failed.
const RETRY: Nanos = SECOND;

impl Worker {
    /// Does what the stage asks for; when to come again.
    pub(super) fn wind_up(&mut self) -> Option<Nanos> {
        if let Some(at) = self.retry_at {
            if at > time::now() {
                return Some(at);
            }
            self.retry_at = None;
        }
        match self.stage {
            Stage::Ending => self.end(),
            Stage::Killing => self.shorten_grace(),
            // Its volumes stay for when the node is back.
            Stage::Killed if self.comes_back() => {}
            Stage::Killed => self.clean(),
            Stage::Clean if self.removed || spec::is_deleting(&self.pod) => self.remove(),
            Stage::Gone => self.release(),
            Stage::Running | Stage::Cleaning | Stage::Clean | Stage::Removing | Stage::Released => {}
        }
        None
    }

    /// Whether operations are under way that make something which would have to be stopped again.
    fn making(&self) -> bool {
        !self.starting.is_empty() || self.sandbox == super::plan::SandboxWork::Underway
    }

    fn end(&mut self) {
        for handle in std::mem::take(&mut self.pulls).values() {
            handle.abort();
        }
        // A hook that is cut off says nothing more; its container counts as started.
        if !self.hooks.is_empty() {
            self.hooks.drain(..).for_each(|hook| hook.abort());
            let running: Vec<String> = self.containers.iter().map(|c| c.name.clone()).collect();
            self.starting.retain(|name| !running.contains(name));
        }
        if self.making() {
            return;
        }
        self.stage = Stage::Killing;
        self.kill_grace = self.grace();
        let (agent, pod, pod_ip) = (self.agent.clone(), self.pod.clone(), self.pod_ip());
        let containers = self.containers.clone();
        let sandboxes: Vec<String> = self.sandboxes.iter().map(|s| s.id.clone()).collect();
        let work = async move { Op::Killed(kill(&agent, &pod, &containers, &sandboxes, &pod_ip).await) };
        self.spawn(work, "kill");
    }

    fn grace(&self) -> i64 {
        spec::grace_seconds(&self.pod)
    }

    /// A second delete with a shorter grace period hurries up what is being stopped.
    fn shorten_grace(&mut self) {
        let grace = self.grace();
        if grace >= self.kill_grace {
            return;
        }
        self.kill_grace = grace;
        for status in self.containers.clone() {
            let agent = self.agent.clone();
            let work = async move {
                let result = agent.runtime.stop_container(&status.id, grace.max(0)).await.map_err(|e| e.to_string());
                Op::Stopped(status.id, result)
            };
            self.spawn(work, "hurry");
        }
    }

    pub(super) async fn killed(&mut self, result: Result<(), String>) {
        let ids: Vec<String> = self.containers.iter().map(|c| c.id.clone()).collect();
        for id in ids {
            self.refresh(&id).await;
        }
        self.refresh_sandboxes().await;
        self.read_messages().await;
        if let Err(error) = &result {
            let message = format!("error killing pod: {error}");
            self.agent.recorder.pod(&self.pod, Type::Warning, "FailedKillPod", message);
        }
        self.advance(result, Stage::Killed, Stage::Ending, "killing");
    }

    /// Goes on to the next stage, or back to try again later.
    pub(super) fn advance(&mut self, result: Result<(), String>, next: Stage, back: Stage, what: &str) {
        match result {
            Ok(()) => self.stage = next,
            Err(error) => {
                tracing::warn!(pod = %spec::format(&self.pod), %error, "{what} failed");
                self.stage = back;
                self.retry_at = Some(time::now() + RETRY);
            }
        }
    }

    fn clean(&mut self) {
        self.stage = Stage::Cleaning;
        let (agent, pod) = (self.agent.clone(), self.pod.clone());
        self.spawn(async move { Op::Cleaned(clean(&agent, &pod).await) }, "clean");
    }

    fn remove(&mut self) {
        self.stage = Stage::Removing;
        let (agent, pod) = (self.agent.clone(), self.pod.clone());
        let containers = self.containers.clone();
        let sandboxes: Vec<String> = self.sandboxes.iter().map(|s| s.id.clone()).collect();
        let work = async move { Op::Removed(remove(&agent, &pod, &containers, &sandboxes).await) };
        self.spawn(work, "remove");
    }

    /// The final status is written before the API lets go of the Pod.
    fn release(&mut self) {
        if self.removed || spec::is_static(&self.pod) {
            self.stage = Stage::Released;
            return;
        }
        if !self.publisher.settled(&self.status) || self.publisher.releasing {
            return;
        }
        self.publisher.releasing = true;
        let (agent, pod) = (self.agent.clone(), self.pod.clone());
        self.spawn(async move { Op::Released(delete(&agent, &pod).await) }, "release");
    }
}

async fn kill(
    agent: &Arc<Agent>,
    pod: &Pod,
    containers: &[ContainerStatus],
    sandboxes: &[String],
    pod_ip: &str,
) -> Result<(), String> {
    stop::stop_all(agent, pod, containers, None, pod_ip).await?;
    for id in sandboxes {
        agent.runtime.stop_pod_sandbox(id).await.map_err(|e| format!("stopping sandbox {id}: {e}"))?;
    }
    Ok(())
}

async fn clean(agent: &Agent, pod: &Pod) -> Result<(), String> {
    volumes::tear_down(&agent.config, spec::uid(pod), false).await?;
    let (cgroups, name) = (agent.cgroups.clone(), qos::pod_cgroup(&agent.config.cgroup_root, pod));
    let removed = tokio::task::spawn_blocking(move || cgroups.remove(&name)).await;
    removed
        .map_err(|e| format!("removing the cgroup was cut short: {e}"))?
        .map_err(|e| format!("removing the cgroup: {e}"))
}

async fn remove(agent: &Agent, pod: &Pod, containers: &[ContainerStatus], sandboxes: &[String]) -> Result<(), String> {
    for ContainerStatus { id, name, .. } in containers {
        agent.runtime.remove_container(id).await.map_err(|e| format!("removing container {id}: {e}"))?;
        start::unlink_log(agent, pod, name, id).await;
    }
    for id in sandboxes {
        agent.runtime.remove_pod_sandbox(id).await.map_err(|e| format!("removing sandbox {id}: {e}"))?;
    }
    volumes::tear_down(&agent.config, spec::uid(pod), true).await?;
    let logs = agent.config.pod_logs(spec::namespace(pod), spec::name(pod), spec::uid(pod));
    match tokio::fs::remove_dir_all(&logs).await {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("removing {}: {e}", logs.display())),
        _ => Ok(()),
    }
}

/// Deletes the object for good; that it is gone, or another of its name is there, is fine.
async fn delete(agent: &Agent, pod: &Pod) -> Result<(), String> {
    let api: Api<Pod> = Api::namespaced(agent.client.clone(), spec::namespace(pod));
    let uid = pod.metadata.uid.clone();
    let params = DeleteParams::default().grace_period(0).preconditions(Preconditions { uid, resource_version: None });
    match api.delete(spec::name(pod), &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => Err(crate::text(&error)),
    }
}
