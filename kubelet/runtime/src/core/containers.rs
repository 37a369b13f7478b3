//! Containers: made as files, started, stopped and removed through their sandbox's shim.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::sandboxes::{KILL_TIMEOUT, blocking, new_id};
use super::{Container, Core, Phase, volumes};
use crate::cgroup::Limits;
use crate::cri::{self, ContainerConfig, ContainerState, ContainerStatus, Error, EventType};
use crate::faults;
use crate::files;
use crate::seccomp;
use crate::shim::protocol::{Exit, Reply, Request, StartSpec};
use crate::shim::unix_nanos;
use crate::spec;
use crate::state::{self, ContainerRecord, SandboxState};

impl Core {
    pub(super) async fn make_container(
        self: &Arc<Self>,
        sandbox: &str,
        config: ContainerConfig,
    ) -> cri::Result<String> {
        let sandbox = self.sandbox(sandbox)?;
        sandbox.connection("create container")?;
        let state = sandbox.state.lock().clone();
        let core = Arc::clone(self);
        let record = blocking("create container", move || {
            let id = new_id();
            let made = core.prepare_container(&id, &state, config);
            if made.is_err() {
                // The first reason counts; what is left is cleared at the next start.
                drop(core.clean_container(&id, &core.cgroup_of(&state, &id)));
            }
            made
        })
        .await?;
        let (id, sandbox_id) = (record.id.clone(), record.sandbox_id.clone());
        self.containers.lock().insert(id.clone(), Container::new(record, Phase::Created));
        self.announce(EventType::ContainerCreated, &sandbox_id, &id);
        Ok(id)
    }

    fn prepare_container(
        &self,
        id: &str,
        sandbox: &SandboxState,
        config: ContainerConfig,
    ) -> io::Result<ContainerRecord> {
        let not_found = || io::Error::new(io::ErrorKind::NotFound, format!("image {:?} not found", config.image));
        let (image_id, image) = self.images.find(&config.image)?.ok_or_else(not_found)?;
        let image_config = self.images.config(&image_id)?;
        let directory = self.config.container_directory(id);
        for part in ["", "rootfs", "upper", "work"] {
            files::private_directory(&directory.join(part))?;
        }
        faults::here("container directory made");
        // It becomes the container's `/`, which others than root enter.
        files::open_to_all(&directory.join("upper"))?;
        volumes::prepare(&directory, &config)?;
        let stop_signal = [config.stop_signal.as_str(), &image_config.stop_signal, "SIGTERM"];
        let stop_signal = stop_signal.into_iter().find(|name| !name.is_empty()).unwrap_or("SIGTERM");
        let mut record = ContainerRecord {
            id: id.to_owned(),
            sandbox_id: sandbox.id.clone(),
            created_at: unix_nanos(),
            image_ref: image.digests.first().unwrap_or(&image_id).clone(),
            layers: image.layers.clone(),
            log_path: log_path(sandbox, &config),
            cgroup: self.cgroup_of(sandbox, id),
            own_pid_namespace: !sandbox.config.namespaces.host_pid && !sandbox.config.namespaces.pod_pid,
            stop_signal: signal_number(stop_signal).map_err(io::Error::other)?,
            image_id,
            config,
        };
        let (mut specification, filter) = self.specification(sandbox, &record, &image_config)?;
        if let Some(profile) = filter {
            let program = seccomp::compiled(&profile, &self.config.root.join("seccomp"))?;
            spec::annotate(&mut specification, spec::FILTER, &program.to_string_lossy());
        }
        files::private(&directory.join("config.json"), &serde_json::to_vec(&specification)?)?;
        record.config.envs.clear();
        faults::here("container prepared");
        state::save(&directory, &record)?;
        faults::here("container recorded");
        self.layout.create(&record.cgroup)?;
        self.layout.set(&record.cgroup, &Limits::from(&record.config.resources))?;
        self.layout.set_devices(&record.cgroup, &spec::device_rules(&record.config))?;
        faults::here("container's group made");
        // An image that was removed meanwhile has not seen that its layers are used.
        self.images.find(&record.image_id)?.map(|_| record).ok_or_else(|| io::Error::other("the image was removed"))
    }

    /// The control group of a container.
    fn cgroup_of(&self, sandbox: &SandboxState, container: &str) -> String {
        match sandbox.config.cgroup_parent.trim_end_matches('/') {
            "" => format!("/{}/{}/{container}", self.config.cgroup_root, sandbox.id),
            parent => format!("{parent}/{container}"),
        }
    }

    fn specification(
        &self,
        sandbox: &SandboxState,
        record: &ContainerRecord,
        image: &crate::images::ImageConfig,
    ) -> io::Result<(serde_json::Value, Option<serde_json::Value>)> {
        let layers = self.lower_directories(&record.layers);
        let files = spec::LayerFiles { layers: &layers };
        let (passwd, group) = (files.read("etc", "passwd"), files.read("etc", "group"));
        let identity = spec::resolve_user(&record.config.security, &image.user, &passwd, &group);
        let identity = identity.map_err(io::Error::other)?;
        let directory = self.config.sandbox_directory(&sandbox.id);
        let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
        let shared_memory = if sandbox.config.namespaces.host_ipc { "/dev/shm".to_owned() } else { path("shm") };
        let files = spec::SandboxFiles {
            resolv_conf: path("resolv.conf"),
            hostname: path("hostname"),
            shared_memory,
            pid_namespace: sandbox.config.namespaces.pod_pid.then(|| path("pid")),
        };
        let rootfs = self.config.container_directory(&record.id).join("rootfs");
        let directory = self.config.container_directory(&record.id);
        spec::build(&spec::Input {
            sandbox: &sandbox.config,
            files: &files,
            config: &volumes::inside(&directory, &record.config),
            image,
            identity: &identity,
            rootfs: &rootfs.to_string_lossy(),
            cgroup: &record.cgroup,
            layout: &self.layout,
        })
        .map_err(io::Error::other)
    }

    /// Topmost first.
    fn lower_directories(&self, layers: &[String]) -> Vec<PathBuf> {
        let record = crate::images::Record { layers: layers.to_vec(), ..Default::default() };
        let mut directories = self.images.layer_directories(&record);
        directories.reverse();
        directories
    }

    pub(super) async fn start(self: &Arc<Self>, id: &str) -> cri::Result<()> {
        const OPERATION: &str = "start container";
        let container = self.container(id)?;
        let _mine = container.turn.lock().await;
        let record = &container.record;
        match &*container.phase.borrow() {
            Phase::Created => {}
            // A repeated request: it is running, or ran.
            Phase::Running { .. } => return Ok(()),
            Phase::Starting | Phase::Exited(_) => {
                let message = format!("container {id} is not in the state created");
                return Err(Error::Failed { operation: OPERATION, message });
            }
        }
        let shim = self.sandbox(&record.sandbox_id)?.connection(OPERATION)?;
        container.phase.send_replace(Phase::Starting);
        let answer = self.ask_to_start(&shim, record).await;
        faults::here("container started");
        let message = match answer {
            Ok((Reply::Started { pid, started_at }, _)) => {
                // Its exit may have come first.
                container.phase.send_if_modified(|phase| {
                    let fresh = *phase == Phase::Starting;
                    if fresh {
                        *phase = Phase::Running { pid, started_at };
                    }
                    fresh
                });
                self.announce(EventType::ContainerStarted, &record.sandbox_id, id);
                return Ok(());
            }
            Ok((Reply::NotStarted { message }, _)) => message,
            Ok(_) => "an unexpected answer from the shim".into(),
            Err(error) => error.to_string(),
        };
        let message = format!(
            "failed to create containerd task: failed to create shim task: OCI runtime create failed: \
            unable to start container process: {message}"
        );
        self.not_started(&container, &message);
        Err(Error::Failed { operation: OPERATION, message })
    }

    async fn ask_to_start(
        &self,
        shim: &crate::connection::Connection,
        record: &ContainerRecord,
    ) -> cri::Result<crate::connection::Answer> {
        let failed = |message: String| Error::Failed { operation: "start container", message };
        let mut trees = Vec::new();
        for mount in volumes::bidirectional(&record.config) {
            let tree = crate::syscall::mount::clone_tree(Path::new(&mount.host_path));
            trees.push(tree.map_err(|error| failed(format!("open mount source {}: {error}", mount.host_path)))?);
        }
        let fds: Vec<_> = trees.iter().map(std::os::fd::AsRawFd::as_raw_fd).collect();
        shim.call("start container", Request::Start(self.start_spec(record)), &fds).await
    }

    /// As containerd has it: exit code 128 and no start time.
    fn not_started(&self, container: &Arc<Container>, message: &str) {
        let exit = Exit { code: 128, finished_at: unix_nanos(), start_error: message.to_owned(), ..Exit::default() };
        // Without the file a later core finds the container as never started.
        drop(state::save_exit(&self.config.container_directory(&container.record.id), &exit));
        if container.end(exit) {
            self.announce(EventType::ContainerStopped, &container.record.sandbox_id, &container.record.id);
        }
    }

    fn start_spec(&self, record: &ContainerRecord) -> StartSpec {
        StartSpec {
            id: record.id.clone(),
            bundle: self.config.container_directory(&record.id),
            lower: self.lower_directories(&record.layers),
            log_path: record.log_path.clone().into(),
            tty: record.config.tty,
            stdin: record.config.stdin,
            trees: volumes::targets(&self.config.container_directory(&record.id), &record.config),
            oom_score_adj: record.config.resources.oom_score_adj,
            cgroups: self.layout.directories(&record.cgroup),
            placement: self.layout.placement(&record.cgroup),
            own_pid_namespace: record.own_pid_namespace,
        }
    }

    pub(super) async fn stop(self: &Arc<Self>, id: &str, timeout_seconds: i64) -> cri::Result<()> {
        let Ok(container) = self.container(id) else { return Ok(()) };
        let Some(shim) = self.running_shim(&container)? else { return Ok(()) };
        let grace = u64::try_from(timeout_seconds).unwrap_or(0);
        if grace > 0 {
            let signal = container.record.stop_signal;
            shim.call("stop container", Request::Signal { container: id.to_owned(), signal, all: false }, &[]).await?;
            if tokio::time::timeout(Duration::from_secs(grace), container.ended()).await.is_ok() {
                return Ok(());
            }
        }
        self.stop_container_now(&container).await
    }

    /// The shim of a container that runs; `None` when it does not.
    fn running_shim(&self, container: &Arc<Container>) -> cri::Result<Option<Arc<crate::connection::Connection>>> {
        if !matches!(*container.phase.borrow(), Phase::Running { .. } | Phase::Starting) {
            return Ok(None);
        }
        match self.sandbox(&container.record.sandbox_id)?.connection("stop container") {
            Ok(shim) => Ok(Some(shim)),
            Err(_) => {
                self.end_without_shim(container);
                Ok(None)
            }
        }
    }

    /// Kills it and waits for the end.
    pub(super) async fn stop_container_now(self: &Arc<Self>, container: &Arc<Container>) -> cri::Result<()> {
        // A start that is under way comes to its end first.
        let _mine = container.turn.lock().await;
        let Some(shim) = self.running_shim(container)? else { return Ok(()) };
        let id = container.record.id.clone();
        let kill = Request::Signal { container: id, signal: libc::SIGKILL, all: true };
        shim.call("stop container", kill, &[]).await?;
        faults::here("container killed");
        match tokio::time::timeout(KILL_TIMEOUT, container.ended()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::Timeout { operation: "kill container", seconds: KILL_TIMEOUT.as_secs() }),
        }
    }

    pub(super) async fn remove(self: &Arc<Self>, id: &str) -> cri::Result<()> {
        let Ok(container) = self.container(id) else { return Ok(()) };
        self.stop_container_now(&container).await?;
        self.remove_stopped(&container).await
    }

    pub(super) async fn remove_stopped(self: &Arc<Self>, container: &Arc<Container>) -> cri::Result<()> {
        let _mine = container.turn.lock().await;
        let record = &container.record;
        if let Ok(shim) = self.sandbox(&record.sandbox_id).and_then(|sandbox| sandbox.connection("remove container")) {
            shim.call("remove container", Request::Remove { container: record.id.clone() }, &[]).await?;
        }
        let (core, own) = (Arc::clone(self), record.clone());
        blocking("remove container", move || core.clean_container(&own.id, &own.cgroup)).await?;
        if self.containers.lock().remove(&record.id).is_some() {
            self.announce(EventType::ContainerDeleted, &record.sandbox_id, &record.id);
        }
        Ok(())
    }

    /// Takes away what a container has on disk and its control group.
    pub(super) fn clean_container(&self, id: &str, cgroup: &str) -> io::Result<()> {
        self.layout.remove(cgroup)?;
        faults::here("container's group removed");
        files::remove(&self.config.container_directory(id))
    }

    pub(super) fn describe(&self, container: &Container) -> ContainerStatus {
        let record = &container.record;
        let phase = container.phase.borrow().clone();
        let (state, started_at, exit) = match phase {
            Phase::Created | Phase::Starting => (ContainerState::Created, 0, Exit::default()),
            Phase::Running { started_at, .. } => (ContainerState::Running, started_at, Exit::default()),
            Phase::Exited(exit) => (ContainerState::Exited, exit.started_at, exit),
        };
        ContainerStatus {
            id: record.id.clone(),
            sandbox_id: record.sandbox_id.clone(),
            name: record.config.name.clone(),
            attempt: record.config.attempt,
            state,
            created_at: record.created_at,
            started_at,
            finished_at: exit.finished_at,
            exit_code: exit.code,
            signal: exit.signal,
            reason: if state == ContainerState::Exited { reason(&exit).to_owned() } else { String::new() },
            message: exit.start_error,
            image: record.config.user_image.clone(),
            image_ref: record.image_ref.clone(),
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
            log_path: record.log_path.clone(),
        }
    }
}

/// containerd's reasons.
fn reason(exit: &Exit) -> &'static str {
    if !exit.start_error.is_empty() {
        "StartError"
    } else if exit.oom_killed && exit.code != 0 {
        "OOMKilled"
    } else if exit.code == 0 {
        "Completed"
    } else if exit.code == 255 && exit.started_at == 0 {
        "Unknown"
    } else {
        "Error"
    }
}

fn log_path(sandbox: &SandboxState, config: &ContainerConfig) -> String {
    if config.log_path.is_empty() {
        return "/dev/null".into();
    }
    Path::new(&sandbox.config.log_directory).join(&config.log_path).to_string_lossy().into_owned()
}

/// `SIGTERM`, `TERM` or `15`; real-time signals as `RTMIN+3`.
fn signal_number(name: &str) -> Result<i32, String> {
    let bad = || format!("unknown signal {name:?}");
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Ok(number) = bare.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(bad()) };
    }
    if let Some(offset) = bare.strip_prefix("RTMIN") {
        let offset = offset.trim_start_matches('+');
        let offset = if offset.is_empty() { 0 } else { offset.parse::<i32>().map_err(|_| bad())? };
        return if (0..=30).contains(&offset) { Ok(34 + offset) } else { Err(bad()) };
    }
    if let Some(offset) = bare.strip_prefix("RTMAX") {
        let offset = offset.trim_start_matches('-');
        let offset = if offset.is_empty() { 0 } else { offset.parse::<i32>().map_err(|_| bad())? };
        return if (0..=30).contains(&offset) { Ok(64 - offset) } else { Err(bad()) };
    }
    format!("SIG{bare}").parse::<nix::sys::signal::Signal>().map(|signal| signal as i32).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for (name, number) in [("SIGTERM", 15), ("quit", 3), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)] {
            assert_eq!(signal_number(name).unwrap(), number, "{name}");
        }
        for name in ["", "SIGNOPE", "0", "99", "RTMIN+99"] {
            assert!(signal_number(name).is_err(), "{name}");
        }
    }

    #[test]
    fn reasons_are_containerds() {
        let exit = |code, oom_killed, start_error: &str| Exit {
            code,
            oom_killed,
            started_at: 1,
            start_error: start_error.into(),
            ..Exit::default()
        };
        assert_eq!(reason(&exit(0, false, "")), "Completed");
        assert_eq!(reason(&exit(0, true, "")), "Completed");
        assert_eq!(reason(&exit(137, true, "")), "OOMKilled");
        assert_eq!(reason(&exit(3, false, "")), "Error");
        assert_eq!(reason(&exit(128, false, "exec: no")), "StartError");
    }
}
