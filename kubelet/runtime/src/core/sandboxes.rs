//! Sandboxes: made by starting a shim, ended with it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Container, Core, Sandbox};
use crate::connection::{Connection, News};
use crate::cri::{self, Error, EventType, PodSandboxConfig};
use crate::faults;
use crate::files;
use crate::network;
use crate::shim::protocol::{Exit, Network, Request, SandboxSpec};
use crate::shim::unix_nanos;
use crate::state::{self, SandboxState};
use crate::sysctl;

/// A container that has not ended so long after SIGKILL is stuck in the kernel.
pub(super) const KILL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// `runtime-spec`-like ids as containerd's: 64 hexadecimal digits.
pub(super) fn new_id() -> String {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

impl Core {
    pub(super) async fn run_sandbox(self: &Arc<Self>, config: PodSandboxConfig) -> cri::Result<String> {
        let refused = config.sysctls.keys().find_map(|name| sysctl::refused(name, &config.namespaces));
        if let Some(message) = refused {
            return Err(Error::Failed { operation: "run pod sandbox", message });
        }
        let id = new_id();
        let made = self.make_sandbox(&id, config).await;
        if let Err(error) = made {
            self.sandboxes.lock().remove(&id);
            // The reason that the caller needs is the first one; what cannot be cleaned now is at the next start.
            drop(self.clean_sandbox(&id).await);
            return Err(error);
        }
        Ok(id)
    }

    async fn make_sandbox(self: &Arc<Self>, id: &str, config: PodSandboxConfig) -> cri::Result<()> {
        let failed = |error: io::Error| Error::Failed { operation: "run pod sandbox", message: error.to_string() };
        let core = Arc::clone(self);
        let own = id.to_owned();
        // The shim is forked while its files are written.
        let (socket, state) = tokio::try_join!(
            blocking("run pod sandbox", {
                let core = Arc::clone(self);
                let own = own.clone();
                move || core.template.fork(&own)
            }),
            blocking("run pod sandbox", move || core.prepare_sandbox(&own, config)),
        )?;
        let spec = self.sandbox_spec(&state);
        let sandbox = Sandbox::new(state);
        self.sandboxes.lock().insert(id.to_owned(), Arc::clone(&sandbox));
        let connection = self.connect(id, socket).map_err(failed)?;
        *sandbox.shim.lock() = Some(Arc::clone(&connection));
        faults::here("shim forked");
        connection.call("run pod sandbox", Request::Sandbox(spec), &[]).await?;
        faults::here("sandbox made");
        let state = {
            let mut state = sandbox.state.lock();
            state.ready = true;
            state.clone()
        };
        if !state.config.port_mappings.is_empty() {
            self.lead_ports().await?;
        }
        state::save(&self.config.sandbox_directory(id), &state).map_err(failed)
    }

    /// Files, address and control group of a new sandbox.
    fn prepare_sandbox(&self, id: &str, config: PodSandboxConfig) -> io::Result<SandboxState> {
        let directory = self.config.sandbox_directory(id);
        files::private_directory(&directory)?;
        faults::here("sandbox directory made");
        let made_cgroup = !config.cgroup_parent.is_empty() && !self.layout.exists(&config.cgroup_parent);
        let network = if config.namespaces.host_network { None } else { Some(self.allocate(id)?) };
        let state =
            SandboxState { id: id.to_owned(), config, created_at: unix_nanos(), network, ready: false, made_cgroup };
        state::save(&directory, &state)?;
        faults::here("sandbox recorded");
        std::fs::create_dir_all(directory.join("shm"))?;
        files::public(&directory.join("hostname"), format!("{}\n", state.config.hostname).as_bytes())?;
        files::public(&directory.join("resolv.conf"), self.resolv_conf(&state.config)?.as_bytes())?;
        if made_cgroup {
            self.layout.create(&state.config.cgroup_parent)?;
        }
        faults::here("sandbox prepared");
        Ok(state)
    }

    fn allocate(&self, id: &str) -> io::Result<Network> {
        let mut ipam = self.ipam.lock();
        let (address, used_before) = ipam.allocate(id).map_err(io::Error::other)?;
        let gateway = ipam.cidr.map(network::ipam::Cidr::gateway).ok_or_else(|| io::Error::other("no Pod CIDR"))?;
        drop(ipam);
        let host_link = network::link_name(&self.config.cluster_id, address);
        if used_before {
            // The kernel takes a namespace apart some time after its last process, and later still while somebody
            // holds a connection in it.
            network::delete_link(&host_link)?;
        }
        Ok(Network { address, gateway, host_link, mtu: self.config.mtu })
    }

    fn resolv_conf(&self, config: &PodSandboxConfig) -> io::Result<String> {
        let dns = &config.dns;
        if dns.servers.is_empty() && dns.searches.is_empty() && dns.options.is_empty() {
            return match std::fs::read_to_string(&self.config.resolv_conf) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
                other => other,
            };
        }
        let mut text = String::new();
        if !dns.searches.is_empty() {
            text.push_str(&format!("search {}\n", dns.searches.join(" ")));
        }
        for server in &dns.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !dns.options.is_empty() {
            text.push_str(&format!("options {}\n", dns.options.join(" ")));
        }
        Ok(text)
    }

    /// Follows a shim's news.
    pub(super) fn connect(self: &Arc<Self>, id: &str, socket: OwnedFd) -> io::Result<Arc<Connection>> {
        let (core, id) = (Arc::downgrade(self), id.to_owned());
        Connection::new(socket, move |news| {
            let Some(core) = core.upgrade() else { return };
            match news {
                News::Exited { container, exit } => core.container_exited(&container, exit),
                News::Lost => core.shim_lost(&id),
            }
        })
    }

    pub(super) fn container_exited(&self, id: &str, exit: Exit) {
        let Ok(container) = self.container(id) else { return };
        if container.end(exit) {
            self.announce(EventType::ContainerStopped, &container.record.sandbox_id, id);
        }
    }

    /// The Pod's namespaces are gone, so nothing of it may go on.
    fn shim_lost(&self, id: &str) {
        let Ok(sandbox) = self.sandbox(id) else { return };
        if sandbox.shim.lock().take().is_none() {
            // Stopped on purpose.
            return;
        }
        for container in self.containers_of(id) {
            self.end_without_shim(&container);
        }
        self.announce(EventType::SandboxStopped, id, "");
    }

    /// Ends a container of which the shim is gone. It may have left the exit; a container that was never started stays.
    pub(super) fn end_without_shim(&self, container: &Arc<Container>) {
        let record = &container.record;
        let directory = self.config.container_directory(&record.id);
        crate::cgroup::kill_all(&self.layout.directories(&record.cgroup));
        // As containerd has it: with a dead shim a container that ran was killed; after the node's restart nobody
        // knows.
        let (code, signal, started_at) = match *container.phase.borrow() {
            super::Phase::Running { started_at, .. } => (128 + libc::SIGKILL, libc::SIGKILL, started_at),
            _ => (255, 0, 0),
        };
        let unknown = Exit { code, signal, started_at, finished_at: unix_nanos(), ..Exit::default() };
        let exit = state::load_exit(&directory).unwrap_or(unknown);
        // The next core comes to the same end by itself.
        drop(state::save_exit(&directory, &exit));
        self.container_exited(&record.id, exit);
    }

    fn sandbox_spec(&self, state: &SandboxState) -> SandboxSpec {
        let config = &state.config;
        let directory = self.config.sandbox_directory(&state.id);
        SandboxSpec {
            id: state.id.clone(),
            hostname: config.hostname.clone(),
            network: state.network.clone(),
            host_ipc: config.namespaces.host_ipc,
            pod_pid: config.namespaces.pod_pid,
            sysctls: config.sysctls.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            socket_directory: self.config.socket_directory(),
            shared_memory: directory.join("shm"),
        }
    }

    pub(super) async fn stop_sandbox(self: &Arc<Self>, id: &str) -> cri::Result<()> {
        let Ok(sandbox) = self.sandbox(id) else { return Ok(()) };
        let _mine = sandbox.turn.lock().await;
        self.stop_sandbox_locked(id, &sandbox).await
    }

    async fn stop_sandbox_locked(self: &Arc<Self>, id: &str, sandbox: &Arc<Sandbox>) -> cri::Result<()> {
        for container in self.containers_of(id) {
            self.stop_container_now(&container).await?;
        }
        let shim = sandbox.shim.lock().take();
        let was_running = shim.is_some();
        if let Some(shim) = shim.filter(|shim| !shim.is_lost()) {
            shim.call("stop pod sandbox", Request::Shutdown, &[]).await?;
        }
        faults::here("sandbox stopped");
        if was_running && !sandbox.state.lock().config.port_mappings.is_empty() {
            self.lead_ports().await?;
        }
        self.release(id)?;
        if was_running {
            self.announce(EventType::SandboxStopped, id, "");
        }
        Ok(())
    }

    /// Makes the node's ports lead to the Pods that run now.
    pub(super) async fn lead_ports(self: &Arc<Self>) -> cri::Result<()> {
        let core = Arc::clone(self);
        blocking("lead host ports", move || {
            // Held until the kernel has taken them, so that an older state never comes after a newer one.
            let _turn = core.ports.lock();
            let running: Vec<_> = core.sandboxes.lock().values().filter(|s| s.shim.lock().is_some()).cloned().collect();
            let mut leads = BTreeSet::new();
            for sandbox in running {
                let state = sandbox.state.lock();
                let (Some(network), false) = (&state.network, state.config.port_mappings.is_empty()) else { continue };
                match network::ports::open_loopback(&network.host_link) {
                    // Its shim is just about to go.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    opened => opened?,
                }
                let mappings = state.config.port_mappings.iter();
                leads.extend(mappings.filter_map(|mapping| network::ports::Lead::new(mapping, network.address)));
            }
            network::ports::apply(&core.config.cluster_id, &leads)
        })
        .await
    }

    fn release(&self, id: &str) -> cri::Result<()> {
        let mut ipam = self.ipam.lock();
        if !ipam.release(id) {
            return Ok(());
        }
        ipam.save(&self.ipam_file())
            .map_err(|error| Error::Failed { operation: "release address", message: error.to_string() })
    }

    pub(super) async fn remove_sandbox(self: &Arc<Self>, id: &str) -> cri::Result<()> {
        let Ok(sandbox) = self.sandbox(id) else { return Ok(()) };
        let _mine = sandbox.turn.lock().await;
        self.stop_sandbox_locked(id, &sandbox).await?;
        for container in self.containers_of(id) {
            self.remove_stopped(&container).await?;
        }
        self.clean_sandbox(id).await?;
        self.sandboxes.lock().remove(id);
        Ok(())
    }

    /// Takes away what a sandbox has outside its shim, whole or half-made, the shim itself too.
    pub(super) async fn clean_sandbox(self: &Arc<Self>, id: &str) -> cri::Result<()> {
        let (core, own) = (Arc::clone(self), id.to_owned());
        blocking("remove pod sandbox", move || {
            let directory = core.config.sandbox_directory(&own);
            let state: Option<SandboxState> = state::load(&directory);
            core.kill_shim(&own)?;
            if let Some(state) = state.filter(|state| state.made_cgroup) {
                core.layout.remove(&state.config.cgroup_parent)?;
            }
            faults::here("sandbox taken apart");
            files::remove(&directory)
        })
        .await?;
        self.release(id)
    }

    /// Ends a shim that does not answer, if it is there, by the pid it left.
    pub(super) fn kill_shim(&self, id: &str) -> io::Result<()> {
        let directory = self.config.socket_directory();
        let pid_file = directory.join(format!("{id}.pid"));
        let pid = std::fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse::<i32>().ok());
        if let Some(pid) = pid {
            crate::syscall::process::kill_and_wait(pid, |command_line| command_line.contains(id))?;
        }
        files::remove(&pid_file)?;
        files::remove(&directory.join(format!("{id}.sock")))
    }
}

/// Runs work that waits for files on a thread for such.
pub(super) async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> cri::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| Error::Failed { operation, message: error.to_string() }),
        Err(error) => Err(Error::Failed { operation, message: format!("the work was not finished: {error}") }),
    }
}
