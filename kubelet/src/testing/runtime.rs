//! A container runtime in memory. It records its calls; tests end containers and set what execs and pulls come to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use kubelet_runtime::cri::{
    Auth, ContainerConfig, ContainerState, ContainerStats, ContainerStatus, Error, Event, EventType, ExecOutput, Image,
    PodSandboxConfig, PodSandboxStatus, Resources, Result, Runtime, SandboxState, Streams,
};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::labels;
use crate::time;

#[derive(Default)]
struct State {
    serial: u32,
    sandboxes: BTreeMap<String, PodSandboxStatus>,
    containers: BTreeMap<String, ContainerStatus>,
    configs: BTreeMap<String, ContainerConfig>,
    images: BTreeSet<String>,
    broken_images: BTreeSet<String>,
    stubborn: BTreeSet<String>,
    calls: Vec<String>,
}

pub struct Fake {
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
}

impl Fake {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), events: broadcast::channel(256).0 })
    }

    /// Calls so far, `start web`, in order.
    pub fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }

    pub fn break_image(&self, image: &str) {
        self.state.lock().broken_images.insert(image.to_owned());
    }

    pub fn mend_image(&self, image: &str) {
        self.state.lock().broken_images.remove(image);
    }

    pub fn config(&self, id: &str) -> ContainerConfig {
        self.state.lock().configs[id].clone()
    }

    /// The running container of that name.
    pub fn running(&self, name: &str) -> Option<ContainerStatus> {
        let state = self.state.lock();
        state.containers.values().find(|c| c.name == name && c.state == ContainerState::Running).cloned()
    }

    /// A container's process ends by itself.
    pub fn exit(&self, name: &str, code: i32) {
        let id = self.running(name).expect("it runs").id;
        self.end(&id, code);
    }

    fn end(&self, id: &str, code: i32) {
        let event = {
            let mut state = self.state.lock();
            let Some(status) = state.containers.get_mut(id) else { return };
            if status.state == ContainerState::Exited {
                return;
            }
            status.state = ContainerState::Exited;
            status.exit_code = code;
            status.finished_at = time::now();
            status.reason = if code == 0 { "Completed" } else { "Error" }.to_owned();
            Event {
                kind: EventType::ContainerStopped,
                sandbox_id: status.sandbox_id.clone(),
                container_id: id.to_owned(),
                pod_uid: status.labels[labels::POD_UID].clone(),
            }
        };
        // Nobody may listen.
        let _ = self.events.send(event);
    }

    fn record(&self, call: String) {
        self.state.lock().calls.push(call);
    }
}

#[async_trait]
impl Runtime for Fake {
    fn version(&self) -> (String, String) {
        ("cox".to_owned(), "0".to_owned())
    }

    async fn network_ready(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    async fn update_pod_cidr(&self, cidr: &str) -> Result<()> {
        self.record(format!("cidr {cidr}"));
        Ok(())
    }

    async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<String> {
        let mut state = self.state.lock();
        state.serial += 1;
        let id = format!("s{}", state.serial);
        state.calls.push(format!("sandbox {}", config.name));
        let status = PodSandboxStatus {
            id: id.clone(),
            name: config.name,
            namespace: config.namespace,
            uid: config.uid,
            attempt: config.attempt,
            state: SandboxState::Ready,
            created_at: time::now(),
            ips: if config.namespaces.host_network { vec![] } else { vec!["10.244.0.7".to_owned()] },
            labels: config.labels,
            annotations: config.annotations,
        };
        state.sandboxes.insert(id.clone(), status);
        Ok(id)
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        let inside: Vec<String> = {
            let mut state = self.state.lock();
            state.calls.push("stop sandbox".to_owned());
            let Some(sandbox) = state.sandboxes.get_mut(id) else { return Ok(()) };
            sandbox.state = SandboxState::NotReady;
            state.containers.values().filter(|c| c.sandbox_id == id).map(|c| c.id.clone()).collect()
        };
        inside.iter().for_each(|c| self.end(c, 137));
        Ok(())
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        self.state.lock().sandboxes.remove(id);
        Ok(())
    }

    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus> {
        self.state.lock().sandboxes.get(id).cloned().ok_or_else(|| Error::NotFound(id.to_owned()))
    }

    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandboxStatus>> {
        Ok(self.state.lock().sandboxes.values().cloned().collect())
    }

    async fn create_container(&self, sandbox_id: &str, config: ContainerConfig) -> Result<String> {
        let mut state = self.state.lock();
        state.serial += 1;
        let id = format!("c{}", state.serial);
        state.calls.push(format!("create {}", config.name));
        let status = ContainerStatus {
            id: id.clone(),
            sandbox_id: sandbox_id.to_owned(),
            name: config.name.clone(),
            attempt: config.attempt,
            state: ContainerState::Created,
            created_at: time::now(),
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            signal: 0,
            reason: String::new(),
            message: String::new(),
            image: config.user_image.clone(),
            image_ref: config.image.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            log_path: String::new(),
        };
        state.containers.insert(id.clone(), status);
        state.configs.insert(id.clone(), config);
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let mut state = self.state.lock();
        let status = state.containers.get_mut(id).ok_or_else(|| Error::NotFound(id.to_owned()))?;
        status.state = ContainerState::Running;
        status.started_at = time::now();
        let call = format!("start {}", status.name);
        state.calls.push(call);
        Ok(())
    }

    async fn stop_container(&self, id: &str, timeout_seconds: i64) -> Result<()> {
        let name = {
            let mut state = self.state.lock();
            let Some(name) = state.containers.get(id).map(|c| c.name.clone()) else { return Ok(()) };
            state.calls.push(format!("stop {name} {timeout_seconds}"));
            name
        };
        if self.state.lock().stubborn.contains(&name) {
            tokio::time::sleep(std::time::Duration::from_secs(u64::try_from(timeout_seconds).unwrap_or(0))).await;
        }
        self.end(id, 143);
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        self.state.lock().containers.remove(id);
        Ok(())
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        self.state.lock().containers.get(id).cloned().ok_or_else(|| Error::NotFound(id.to_owned()))
    }

    async fn list_containers(&self) -> Result<Vec<ContainerStatus>> {
        Ok(self.state.lock().containers.values().cloned().collect())
    }

    async fn update_container_resources(&self, _: &str, _: Resources) -> Result<()> {
        Ok(())
    }

    async fn reopen_container_log(&self, _: &str) -> Result<()> {
        Ok(())
    }

    async fn container_stats(&self) -> Result<Vec<ContainerStats>> {
        Ok(Vec::new())
    }

    async fn exec_sync(&self, id: &str, command: Vec<String>, _: u64) -> Result<ExecOutput> {
        self.record(format!("exec {id} {}", command.join(" ")));
        let exit_code = i32::from(command.first().is_some_and(|c| c == "false"));
        Ok(ExecOutput { exit_code, ..ExecOutput::default() })
    }

    /// Copies stdin to stdout, then ends with the number that the command's second word is.
    async fn exec(&self, _: &str, command: Vec<String>, streams: Streams) -> Result<i32> {
        let code = command.get(1).and_then(|c| c.parse().ok()).unwrap_or(0);
        let copy = move || {
            if let (Some(stdin), Some(stdout)) = (streams.stdin, streams.stdout) {
                let (mut from, mut to) = (std::fs::File::from(stdin), std::fs::File::from(stdout));
                std::io::copy(&mut from, &mut to).map(drop)
            } else {
                Ok(())
            }
        };
        tokio::task::spawn_blocking(copy)
            .await
            .expect("it ends")
            .map_err(|e| Error::Failed { operation: "exec", message: e.to_string() })?;
        Ok(code)
    }

    async fn attach(&self, id: &str, streams: Streams) -> Result<()> {
        self.exec(id, Vec::new(), streams).await.map(drop)
    }

    /// Everything that is written comes back.
    async fn port_forward(&self, _: &str, port: u16) -> Result<OwnedFd> {
        if port == 1 {
            return Err(Error::Failed { operation: "port forward", message: "connection refused".to_owned() });
        }
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        std::thread::spawn(move || {
            let mut reader = ours.try_clone().expect("a clone");
            let mut writer = ours;
            // The other side may be gone.
            let _ = std::io::copy(&mut reader, &mut writer);
            let _ = writer.shutdown(std::net::Shutdown::Write);
        });
        Ok(theirs.into())
    }

    async fn pull_image(&self, reference: &str, _: Option<Auth>) -> Result<String> {
        let mut state = self.state.lock();
        state.calls.push(format!("pull {reference}"));
        if state.broken_images.contains(reference) {
            return Err(Error::Pull(format!("{reference}: not found")));
        }
        state.images.insert(reference.to_owned());
        Ok(reference.to_owned())
    }

    async fn image_status(&self, reference: &str) -> Result<Option<Image>> {
        let there = self.state.lock().images.contains(reference);
        Ok(there.then(|| Image { id: reference.to_owned(), size: 7, ..Image::default() }))
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        Ok(Vec::new())
    }

    async fn remove_image(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
}
