//! Carrying out the plan of a Pod that is to run: each action becomes an operation, each result a change of state.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use kubelet_runtime::cri::{ContainerState, PodSandboxStatus};

use crate::backoff;
use crate::events::Type;
use crate::hooks;
use crate::images;
use crate::probe::worker as probes;
use crate::spec::{self, Slot};
use crate::time::{self, Nanos, SECOND};
use crate::volumes;

use super::plan::{self, Action, Image, Input, KillReason, SandboxWork, Volumes, Waiting};
use super::sandbox;
use super::start::{self, Failure, Start};
use super::stop::{self, Stop};
use super::worker::{Stage, Worker};

/// After a start that failed for another reason than its image or a crash.
const RETRY: Nanos = 10 * SECOND;

/// What an operation came to.
pub(super) enum Op {
    Volumes(Result<volumes::Mounted, Vec<volumes::Error>>),
    Sandbox(Result<PodSandboxStatus, String>),
    Image(String, Result<images::Ready, images::Failure>),
    Started(String, Result<String, Failure>),
    PostStart(String, String, Result<(), String>),
    Stopped(String, Result<(), String>),
    /// A container or sandbox that nobody needs any more.
    Collected(String, Result<(), String>),
    Killed(Result<(), String>),
    Cleaned(Result<(), String>),
    Removed(Result<(), String>),
    Released(Result<(), String>),
    Written(Result<(), String>),
}

pub(super) struct Done {
    pub op: Op,
    pub name: &'static str,
    pub began: Nanos,
}

impl Worker {
    /// Plans and starts what the plan says; when to plan again.
    pub(super) fn carry_out(&mut self) -> Option<Nanos> {
        let now = time::now();
        let input = Input {
            pod: &self.pod,
            sandboxes: &self.sandboxes,
            containers: &self.containers,
            volumes: self.volumes,
            images: &self.images,
            probes: &self.probes,
            backoff: &self.backoff,
            blocked: &self.blocked,
            starting: &self.starting,
            stopping: &self.stopping,
            sandbox: self.sandbox,
            now,
        };
        let plan = plan::plan(&input);
        self.say_backoff(&plan.waiting);
        self.crashing = plan.waiting;
        let mut wake = [plan.wake_at, self.deadline()].into_iter().flatten().min();
        for action in plan.actions {
            self.act(action);
        }
        if self.stage != Stage::Running {
            return self.wind_up();
        }
        if let Some(at) = self.refresh_at.filter(|_| self.volumes == Volumes::Ready) {
            if at <= now {
                self.refresh_at = None;
                self.set_up_volumes();
            } else {
                wake = Some(wake.map_or(at, |w| w.min(at)));
            }
        }
        self.collect_dead();
        wake
    }

    /// A BackOff event when a container begins to wait.
    fn say_backoff(&mut self, waiting: &BTreeMap<String, Waiting>) {
        for name in waiting.keys().filter(|name| !self.crashing.contains_key(*name)) {
            let message = format!("Back-off restarting failed container {name} in pod {}", spec::format(&self.pod));
            self.agent.recorder.container(&self.pod, name, Type::Warning, "BackOff", message);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::SetUpVolumes => self.set_up_volumes(),
            Action::CreateSandbox { attempt } => self.create_sandbox(attempt),
            Action::EnsureImage { slot } => self.ensure_image(slot),
            Action::Start { slot, restarts, finished_at } => self.start(slot, restarts, finished_at),
            Action::Kill { id, slot, message, reason } => self.kill(id, slot, message, reason),
            Action::KillPod => self.stage = Stage::Ending,
        }
    }

    fn set_up_volumes(&mut self) {
        // A renewal leaves the volumes usable meanwhile.
        if self.volumes != Volumes::Ready {
            self.volumes = Volumes::Underway;
        }
        let (agent, pod) = (self.agent.clone(), self.pod.clone());
        self.spawn(async move { Op::Volumes(volumes::set_up(&agent, &pod).await) }, "volumes");
    }

    fn create_sandbox(&mut self, attempt: u32) {
        self.sandbox = SandboxWork::Underway;
        if attempt > 0 {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.agent.recorder.pod(&self.pod, Type::Normal, "SandboxChanged", message);
        }
        let old: Vec<String> = self.sandboxes.iter().map(|s| s.id.clone()).collect();
        let (agent, pod) = (self.agent.clone(), self.pod.clone());
        let work = async move {
            if let Err(why) = agent.runtime.network_ready().await
                && !spec::host_network(&pod)
            {
                return Op::Sandbox(Err(format!("network is not ready: {why}")));
            }
            let made = match sandbox::create(&agent, &pod, attempt, &old).await {
                Ok(id) => agent.runtime.pod_sandbox_status(&id).await.map_err(|e| e.to_string()),
                Err(error) => Err(error),
            };
            Op::Sandbox(made)
        };
        self.spawn(work, "sandbox");
    }

    fn ensure_image(&mut self, slot: Slot) {
        let Some(container) = spec::container(&self.pod, slot) else { return };
        let name = container.name.clone();
        self.images.insert(name.clone(), Image::Underway);
        let (agent, pod) = (self.agent.clone(), self.pod.clone());
        let work = async move {
            let result = images::ensure(&agent, &pod, &container).await;
            Op::Image(container.name, result)
        };
        let handle = self.spawn(work, "image");
        self.pulls.insert(name, handle);
    }

    fn start(&mut self, slot: Slot, restarts: Option<u32>, finished_at: Nanos) {
        let Some(container) = spec::container(&self.pod, slot) else { return };
        let name = container.name.clone();
        let (Some(image), Some(sandbox)) = (self.pulled.get(&name).cloned(), self.sandboxes.first()) else {
            self.images.remove(&name);
            return;
        };
        if finished_at > 0 {
            let next = backoff::RESTART.next(self.backoff.get(&name), finished_at, time::now());
            self.backoff.insert(name.clone(), next);
        }
        self.starting.insert(name.clone());
        // The next attempt looks for its image again.
        self.images.remove(&name);
        let start = Start {
            pod: self.pod.clone(),
            container,
            restarts,
            sandbox_id: sandbox.id.clone(),
            pod_ips: sandbox.ips.clone(),
            image,
            volumes: self.mounted.clone(),
        };
        let agent = self.agent.clone();
        self.spawn(async move { Op::Started(name, start::start(&agent, &start).await) }, "start");
    }

    fn kill(&mut self, id: String, slot: Slot, message: String, reason: KillReason) {
        let found = self.containers.iter().find(|c| c.id == id).cloned();
        let (Some(container), Some(status)) = (spec::container(&self.pod, slot), found) else { return };
        self.stopping.insert(id.clone());
        let (agent, pod, pod_ip) = (self.agent.clone(), self.pod.clone(), self.pod_ip());
        let grace = stop::grace(&pod, &container, reason);
        let work = async move {
            let one = Stop { status: &status, grace, message };
            let result = stop::stop(&agent, &pod, &one, &pod_ip, std::future::ready(())).await;
            Op::Stopped(id, result)
        };
        self.spawn(work, "kill");
    }

    pub(super) fn pod_ip(&self) -> String {
        if spec::host_network(&self.pod) {
            return self.agent.host_ip();
        }
        self.sandboxes.first().and_then(|s| s.ips.first()).cloned().unwrap_or_default()
    }

    /// Takes in what an operation came to.
    pub(super) async fn complete(&mut self, done: Done) {
        let took = time::now() - done.began;
        tracing::debug!(pod = %spec::format(&self.pod), op = done.name, micros = took / 1000, "done");
        match done.op {
            Op::Volumes(result) => self.volumes_done(result),
            Op::Sandbox(result) => self.sandbox_done(result),
            Op::Image(name, result) => self.image_done(&name, result),
            Op::Started(name, result) => self.started(name, result).await,
            Op::PostStart(name, id, result) => self.post_started(&name, id, result),
            Op::Stopped(id, result) => {
                if let Err(error) = result {
                    tracing::warn!(pod = %spec::format(&self.pod), %error, "stopping a container failed");
                }
                self.stopping.remove(&id);
                self.refresh(&id).await;
                self.read_messages().await;
            }
            Op::Collected(id, result) => match result {
                Ok(()) => {
                    self.containers.retain(|c| c.id != id);
                    self.sandboxes.retain(|s| s.id != id);
                    self.stopping.remove(&id);
                }
                // It is left for the Pod's end.
                Err(error) => tracing::warn!(id, error, "removing what is dead failed"),
            },
            Op::Killed(result) => self.killed(result).await,
            Op::Cleaned(result) => self.advance(result, Stage::Clean, Stage::Killed, "cleaning up"),
            Op::Removed(result) => self.advance(result, Stage::Gone, Stage::Clean, "removing"),
            Op::Released(result) => {
                self.publisher.releasing = false;
                self.advance(result, Stage::Released, Stage::Gone, "deleting from the API");
            }
            Op::Written(result) => self.written(result),
        }
    }

    fn volumes_done(&mut self, result: Result<volumes::Mounted, Vec<volumes::Error>>) {
        let now = time::now();
        match result {
            Ok(mounted) => {
                let again = self.refresh_at.filter(|_| self.volumes == Volumes::Underway);
                self.refresh_at = [again, mounted.refresh_at].into_iter().flatten().min();
                self.mounted = mounted.paths;
                self.volumes = Volumes::Ready;
                self.volume_backoff = None;
            }
            Err(errors) => {
                for error in &errors {
                    self.agent.recorder.pod(&self.pod, Type::Warning, "FailedMount", error.to_string());
                }
                let next = backoff::VOLUME.next(self.volume_backoff.as_ref(), now, now);
                self.volume_backoff = Some(next);
                // What was mounted stays usable while a renewal fails.
                if self.volumes == Volumes::Ready {
                    self.refresh_at = Some(now + next.wait);
                } else {
                    self.volumes = Volumes::RetryAt(now + next.wait);
                }
            }
        }
    }

    fn sandbox_done(&mut self, result: Result<PodSandboxStatus, String>) {
        match result {
            Ok(status) => {
                self.sandbox = SandboxWork::Idle;
                self.sandbox_backoff = None;
                for old in &mut self.sandboxes {
                    old.state = kubelet_runtime::cri::SandboxState::NotReady;
                }
                self.sandboxes.retain(|s| s.id != status.id);
                self.sandboxes.insert(0, status);
                // Containers start anew in it, and with them their failures.
                self.blocked.clear();
            }
            Err(error) => {
                let now = time::now();
                let next = backoff::VOLUME.next(self.sandbox_backoff.as_ref(), now, now);
                self.sandbox_backoff = Some(next);
                self.sandbox = SandboxWork::RetryAt(now + next.wait);
                let (reason, message) = match error.strip_prefix("network is not ready: ") {
                    Some(_) => ("NetworkNotReady", error),
                    None => ("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {error}")),
                };
                if self.stage == Stage::Running {
                    self.agent.recorder.pod(&self.pod, Type::Warning, reason, message);
                }
            }
        }
    }

    fn image_done(&mut self, name: &str, result: Result<images::Ready, images::Failure>) {
        self.pulls.remove(name);
        match result {
            Ok(ready) => {
                self.images.insert(name.to_owned(), Image::Present(ready.id.clone()));
                self.pulled.insert(name.to_owned(), ready);
                if self.failures.get(name).is_some_and(|w| w.reason.contains("Image")) {
                    self.failures.remove(name);
                }
            }
            Err(failure) => {
                self.images.insert(name.to_owned(), Image::RetryAt(failure.retry_at));
                let waiting = Waiting { reason: failure.reason, message: failure.message };
                self.failures.insert(name.to_owned(), waiting);
            }
        }
    }

    async fn started(&mut self, name: String, result: Result<String, Failure>) {
        match result {
            Ok(id) => {
                self.refresh(&id).await;
                self.read_messages().await;
                self.failures.remove(&name);
                self.blocked.remove(&name);
                match self.post_start_hook(&name) {
                    Some((container, hook)) => self.post_start(container, hook, id),
                    None => drop(self.starting.remove(&name)),
                }
            }
            Err(failure) => {
                self.starting.remove(&name);
                self.blocked.insert(name.clone(), time::now() + RETRY);
                self.failures.insert(name, Waiting { reason: failure.reason, message: failure.message });
            }
        }
    }

    fn post_start_hook(&self, name: &str) -> Option<(Container, LifecycleHandler)> {
        let container = spec::container(&self.pod, spec::slot_of(&self.pod, name)?)?;
        let hook = container.lifecycle.as_ref()?.post_start.clone()?;
        Some((container, hook))
    }

    /// The hook runs while the container counts as starting: those behind it wait.
    fn post_start(&mut self, container: Container, hook: LifecycleHandler, id: String) {
        let (agent, pod_ip) = (self.agent.clone(), self.pod_ip());
        let work = async move {
            let result = hooks::run(&*agent.runtime, &id, &container, &hook, &pod_ip).await;
            Op::PostStart(container.name, id, result)
        };
        let handle = self.spawn(work, "postStart");
        self.hooks.push(handle);
    }

    fn post_started(&mut self, name: &str, id: String, result: Result<(), String>) {
        self.starting.remove(name);
        self.hooks.clear();
        let Err(error) = result else { return };
        tracing::warn!(pod = %spec::format(&self.pod), container = name, %error, "postStart hook failed");
        self.agent.recorder.container(&self.pod, name, Type::Warning, "FailedPostStartHook", "PostStartHook failed");
        let waiting = Waiting { reason: "PostStartHookError", message: error };
        self.failures.insert(name.to_owned(), waiting);
        if let Some(slot) = spec::slot_of(&self.pod, name) {
            self.kill(id, slot, "FailedPostStartHook".to_owned(), KillReason::Changed);
        }
    }

    /// Probes of the containers that run; those of others end.
    pub(super) fn watch_probes(&mut self) {
        let running = |id: &String| self.containers.iter().any(|c| c.id == *id && c.state == ContainerState::Running);
        let live = self.stage == Stage::Running;
        self.probe_tasks.retain(|id, task| {
            let keep = live && running(id);
            if !keep {
                task.abort();
            }
            keep
        });
        if !live {
            return;
        }
        let mut fresh = Vec::new();
        for status in self.containers.iter().filter(|c| c.state == ContainerState::Running) {
            if self.probe_tasks.contains_key(&status.id) {
                continue;
            }
            let Some(container) = spec::slot_of(&self.pod, &status.name).and_then(|s| spec::container(&self.pod, s))
            else {
                continue;
            };
            if probes::has_probes(&container) {
                fresh.push((status.id.clone(), status.started_at, container));
            }
        }
        for (id, started_at, container) in fresh {
            let subject = probes::Subject {
                agent: self.agent.clone(),
                mailbox: self.entry.mailbox.clone(),
                pod: self.pod.clone(),
                container,
                container_id: id.clone(),
                pod_ip: self.pod_ip(),
                started_at,
                was_started: self.probes.get(&id).is_some_and(|p| p.startup == Some(true)),
            };
            let task = client::spawn(probes::run(subject));
            self.probe_tasks.insert(id, task.abort_handle());
        }
    }

    /// Of each name the newest container and the one before are kept; older dead ones go, with their logs.
    fn collect_dead(&mut self) {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut old = Vec::new();
        for status in &self.containers {
            let count = seen.entry(&status.name).or_default();
            *count += 1;
            if *count > 2 && status.state == ContainerState::Exited && !self.stopping.contains(&status.id) {
                old.push(status.clone());
            }
        }
        for status in old {
            self.stopping.insert(status.id.clone());
            let (agent, pod) = (self.agent.clone(), self.pod.clone());
            let work = async move {
                let removed = agent.runtime.remove_container(&status.id).await;
                if removed.is_ok() {
                    crate::logs::rotate::remove(&status.log_path).await;
                    start::unlink_log(&agent, &pod, &status.name, &status.id).await;
                }
                Op::Collected(status.id, removed.map_err(|e| e.to_string()))
            };
            self.spawn(work, "collect");
        }
        self.collect_sandboxes();
    }

    /// Sandboxes that were replaced go when the last of their containers has gone.
    fn collect_sandboxes(&mut self) {
        let used = |id: &str| self.containers.iter().any(|c| c.sandbox_id == id);
        let replaced = self.sandboxes.iter().skip(1).map(|s| s.id.clone());
        let old: Vec<String> = replaced.filter(|id| !used(id) && !self.stopping.contains(id)).collect();
        for id in old {
            self.stopping.insert(id.clone());
            let agent = self.agent.clone();
            let work = async move {
                let removed = agent.runtime.remove_pod_sandbox(&id).await.map_err(|e| e.to_string());
                Op::Collected(id, removed)
            };
            self.spawn(work, "collect");
        }
    }
}
