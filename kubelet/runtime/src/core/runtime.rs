//! The Container Runtime Interface over the core.

use std::os::fd::OwnedFd;

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::sandboxes::blocking;
use super::{Core, Phase, Sandbox};
use crate::cgroup::Limits;
use crate::cri::{
    Auth, ContainerConfig, ContainerStats, ContainerStatus, Error, Event, ExecOutput, Image, PodSandboxConfig,
    PodSandboxStatus, Resources, Result, Runtime, SandboxState, Streams,
};
use crate::network::{self, ipam::Cidr};
use crate::shim::protocol::Request;

#[async_trait]
impl Runtime for Core {
    fn version(&self) -> (String, String) {
        ("cox".into(), env!("CARGO_PKG_VERSION").into())
    }

    async fn network_ready(&self) -> std::result::Result<(), String> {
        match self.ipam.lock().cidr {
            Some(_) => Ok(()),
            None => Err("the node has no Pod CIDR yet".into()),
        }
    }

    async fn update_pod_cidr(&self, cidr: &str) -> Result<()> {
        let failed = |message: String| Error::Failed { operation: "update Pod CIDR", message };
        let cidr = Cidr::parse(cidr).map_err(failed)?;
        let cluster_id = self.config.cluster_id.clone();
        blocking("update Pod CIDR", move || network::prepare_node(&cluster_id, cidr.gateway())).await?;
        let mut ipam = self.ipam.lock();
        if ipam.cidr != Some(cidr) {
            ipam.cidr = Some(cidr);
            ipam.save(&self.ipam_file()).map_err(|error| failed(error.to_string()))?;
        }
        Ok(())
    }

    async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<String> {
        self.handle().run_sandbox(config).await
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        self.handle().stop_sandbox(id).await
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        self.handle().remove_sandbox(id).await
    }

    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus> {
        let sandbox = self.sandbox(id)?;
        Ok(describe(&sandbox))
    }

    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandboxStatus>> {
        Ok(self.sandboxes.lock().values().map(|sandbox| describe(sandbox)).collect())
    }

    async fn create_container(&self, sandbox_id: &str, config: ContainerConfig) -> Result<String> {
        self.handle().make_container(sandbox_id, config).await
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        self.handle().start(id).await
    }

    async fn stop_container(&self, id: &str, timeout_seconds: i64) -> Result<()> {
        self.handle().stop(id, timeout_seconds).await
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        self.handle().remove(id).await
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        let container = self.container(id)?;
        Ok(self.describe(&container))
    }

    async fn list_containers(&self) -> Result<Vec<ContainerStatus>> {
        let containers: Vec<_> = self.containers.lock().values().cloned().collect();
        Ok(containers.iter().map(|container| self.describe(container)).collect())
    }

    async fn update_container_resources(&self, id: &str, resources: Resources) -> Result<()> {
        let container = self.container(id)?;
        let (core, cgroup) = (self.handle(), container.record.cgroup.clone());
        let limits = Limits::from(&resources);
        blocking("update container resources", move || core.layout.set(&cgroup, &limits)).await
    }

    async fn reopen_container_log(&self, id: &str) -> Result<()> {
        let container = self.container(id)?;
        let shim = self.sandbox(&container.record.sandbox_id)?.connection("reopen log")?;
        shim.call("reopen log", Request::ReopenLog { container: id.to_owned() }, &[]).await.map(drop)
    }

    async fn container_stats(&self) -> Result<Vec<ContainerStats>> {
        let core = self.handle();
        blocking("read stats", move || Ok(core.all_stats())).await
    }

    async fn exec_sync(&self, id: &str, command: Vec<String>, timeout_seconds: u64) -> Result<ExecOutput> {
        self.run_exec_sync(id, command, timeout_seconds).await
    }

    async fn exec(&self, id: &str, command: Vec<String>, streams: Streams) -> Result<i32> {
        self.run_exec(id, command, streams).await
    }

    async fn attach(&self, id: &str, streams: Streams) -> Result<()> {
        self.run_attach(id, streams).await
    }

    async fn port_forward(&self, sandbox_id: &str, port: u16) -> Result<OwnedFd> {
        self.forward(sandbox_id, port).await
    }

    async fn pull_image(&self, reference: &str, auth: Option<Auth>) -> Result<String> {
        self.images.pull(reference, auth).await
    }

    async fn image_status(&self, reference: &str) -> Result<Option<Image>> {
        self.images.status(reference).map_err(|error| image_error(&error))
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        self.images.list().map_err(|error| image_error(&error))
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        let (core, reference) = (self.handle(), reference.to_owned());
        blocking("remove image", move || core.images.remove(&reference)).await
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.subscribe()
    }
}

fn image_error(error: &std::io::Error) -> Error {
    Error::Image(error.to_string())
}

fn describe(sandbox: &Sandbox) -> PodSandboxStatus {
    let ready = sandbox.shim.lock().as_ref().is_some_and(|shim| !shim.is_lost());
    let state = sandbox.state.lock();
    let config = &state.config;
    PodSandboxStatus {
        id: state.id.clone(),
        name: config.name.clone(),
        namespace: config.namespace.clone(),
        uid: config.uid.clone(),
        attempt: config.attempt,
        state: if ready && state.ready { SandboxState::Ready } else { SandboxState::NotReady },
        created_at: state.created_at,
        ips: state.network.iter().map(|network| network.address.to_string()).collect(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
    }
}

impl Core {
    fn all_stats(&self) -> Vec<ContainerStats> {
        let containers: Vec<_> = self.containers.lock().values().cloned().collect();
        let running = containers.iter().filter(|container| matches!(*container.phase.borrow(), Phase::Running { .. }));
        running
            .map(|container| {
                let record = &container.record;
                let usage = crate::cgroup::usage(&self.layout, &record.cgroup);
                let writable = self.config.container_directory(&record.id).join("upper");
                let (fs_used_bytes, fs_inodes_used) = crate::files::usage(&writable);
                ContainerStats {
                    id: record.id.clone(),
                    name: record.config.name.clone(),
                    sandbox_id: record.sandbox_id.clone(),
                    cpu_usage_nanos: usage.cpu_nanos,
                    memory_usage_bytes: usage.memory_bytes,
                    memory_working_set_bytes: usage.working_set_bytes,
                    memory_rss_bytes: usage.rss_bytes,
                    pids: usage.pids,
                    fs_used_bytes,
                    fs_inodes_used,
                }
            })
            .collect()
    }
}
