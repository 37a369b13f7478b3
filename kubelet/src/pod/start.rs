//! Starting one container: its environment, mounts and security context put together, then created and started.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use kubelet_runtime::cri::{self, ContainerConfig, Mount, Propagation};

use crate::agent::Agent;
use crate::downward::Addresses;
use crate::events::Type;
use crate::images::Ready;
use crate::{dns, env, expand, labels, qos, security, spec, volumes};

/// Why a container did not start: its waiting state.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub reason: &'static str,
    pub message: String,
}

/// What a start needs to know of its Pod.
pub(super) struct Start {
    pub pod: std::sync::Arc<Pod>,
    pub container: Container,
    /// `None`: no earlier container of this name is known.
    pub restarts: Option<u32>,
    pub sandbox_id: String,
    pub pod_ips: Vec<String>,
    pub image: Ready,
    pub volumes: volumes::Paths,
}

/// Creates and starts the container; its id.
pub(super) async fn start(agent: &Agent, start: &Start) -> Result<String, Failure> {
    let (pod, container) = (&*start.pod, &start.container);
    let fail = |reason, message: String| {
        agent.recorder.container(pod, &container.name, Type::Warning, "Failed", format!("Error: {message}"));
        Failure { reason, message }
    };
    let config = config(agent, start).await.map_err(|m| fail("CreateContainerConfigError", m))?;
    let logs = agent.config.pod_logs(spec::namespace(pod), spec::name(pod), spec::uid(pod));
    let log = logs.join(&config.log_path);
    let id = agent
        .runtime
        .create_container(&start.sandbox_id, config)
        .await
        .map_err(|e| fail("CreateContainerError", e.description()))?;
    agent.recorder.container(pod, &container.name, Type::Normal, "Created", "Container created");
    let linking = link_log(agent, pod, &container.name, &id, &log);
    let (started, ()) = tokio::join!(agent.runtime.start_container(&id), linking);
    if let Err(error) = started {
        return Err(fail("RunContainerError", error.description()));
    }
    agent.recorder.container(pod, &container.name, Type::Normal, "Started", "Container started");
    Ok(id)
}

/// `containers/POD_NAMESPACE_CONTAINER-ID.log`, by which log collectors find the container's log.
async fn link_log(agent: &Agent, pod: &Pod, container: &str, id: &str, log: &Path) {
    let Some(link) = link_of(agent, pod, container, id) else { return };
    if let Err(error) = tokio::fs::symlink(log, link).await {
        tracing::debug!(id, %error, "a container's log is not linked");
    }
}

/// Removes the link to a container's log.
pub(super) async fn unlink_log(agent: &Agent, pod: &Pod, container: &str, id: &str) {
    let Some(link) = link_of(agent, pod, container, id) else { return };
    match tokio::fs::remove_file(link).await {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            tracing::debug!(id, error = %e, "the link to a container's log stays");
        }
        _ => {}
    }
}

fn link_of(agent: &Agent, pod: &Pod, container: &str, id: &str) -> Option<PathBuf> {
    let name = format!("{}_{}_{container}-{id}.log", spec::name(pod), spec::namespace(pod));
    Some(agent.config.container_links()?.join(name))
}

async fn config(agent: &Agent, start: &Start) -> Result<ContainerConfig, String> {
    let (pod, container) = (&*start.pod, &start.container);
    let user = &start.image.user;
    security::verify_non_root(pod, container, user)?;
    let envs = environment(agent, start).await?;
    let (command, args) = env::command(container, &envs);
    let logs = agent.config.pod_logs(spec::namespace(pod), spec::name(pod), spec::uid(pod)).join(&container.name);
    let restarts = match start.restarts {
        Some(restarts) => restarts,
        None => restarts_by_logs(&logs),
    };
    let seccomp_root = agent.config.root_dir.join("seccomp");
    let mounts = mounts(agent, start, &envs, restarts, logs).await?;
    Ok(ContainerConfig {
        name: container.name.clone(),
        attempt: restarts,
        image: start.image.id.clone(),
        user_image: container.image.clone().unwrap_or_default(),
        command,
        args,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs,
        mounts,
        devices: Vec::new(),
        labels: labels::container_labels(pod, container),
        annotations: labels::container_annotations(pod, container, restarts),
        log_path: format!("{}/{restarts}.log", container.name),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        resources: cri::Resources {
            unified: agent.cgroups.container_files(),
            ..qos::container_resources(pod, container, agent.machine.memory_bytes)
        },
        security: security::context(pod, container, user, &seccomp_root),
        stop_signal: container.lifecycle.as_ref().and_then(|l| l.stop_signal.clone()).unwrap_or_default(),
    })
}

async fn environment(agent: &Agent, start: &Start) -> Result<Vec<(String, String)>, String> {
    let (pod, container) = (&*start.pod, &start.container);
    let (namespace, uid) = (spec::namespace(pod), spec::uid(pod));
    let mut sources = env::Sources::default();
    let (maps, secrets) = env::references(container);
    for name in maps {
        let found = agent.config_maps.get(namespace, name, uid).await?;
        sources.config_maps.insert(name.to_owned(), found);
    }
    for name in secrets {
        let found = agent.secrets.get(namespace, name, uid).await?;
        sources.secrets.insert(name.to_owned(), found);
    }
    let links = spec::spec(pod).enable_service_links != Some(false);
    let services = agent.services.variables(namespace, links).await;
    let pod_ips = if spec::host_network(pod) { vec![agent.host_ip()] } else { start.pod_ips.clone() };
    let addresses = Addresses { pod_ips, host_ip: agent.host_ip() };
    let context = env::Context { pod, addresses: &addresses, node: agent.allocatable(), services: &services };
    env::environment(&context, container, &sources)
}

/// The restart count of a container that the runtime has forgotten: one more than its last log.
fn restarts_by_logs(dir: &Path) -> u32 {
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    let last = names.filter_map(|n| n.split('.').next().and_then(|n| n.parse::<u32>().ok())).max();
    last.map_or(0, |n| n + 1)
}

async fn mounts(
    agent: &Agent,
    start: &Start,
    envs: &[(String, String)],
    restarts: u32,
    logs: PathBuf,
) -> Result<Vec<Mount>, String> {
    let (pod, container) = (start.pod.clone(), start.container.clone());
    let (paths, envs, ips) = (start.volumes.clone(), envs.to_vec(), start.pod_ips.clone());
    let pod_dir = agent.config.pod_dir(spec::uid(&pod));
    let domain = agent.config.cluster_domain.clone();
    let work = move || {
        fs::create_dir_all(&logs)
            .map_err(|e| format!("create container log directory for container {} failed: {e}", container.name))?;
        let mut mounts = Vec::new();
        for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
            let mut made = volume_mount(mount, index, &container, &paths, &envs, &pod_dir)?;
            made.readonly |= volumes::is_read_only(&pod, &mount.name);
            mounts.push(made);
        }
        if !mounts.iter().any(|m| m.container_path == "/etc/hosts") {
            mounts.push(hosts_mount(&pod, &pod_dir, &ips, &domain)?);
        }
        mounts.push(termination_mount(&container, &pod_dir, restarts)?);
        Ok(mounts)
    };
    tokio::task::spawn_blocking(work).await.map_err(|e| format!("preparing mounts was cut short: {e}"))?
}

fn volume_mount(
    mount: &VolumeMount,
    index: usize,
    container: &Container,
    paths: &volumes::Paths,
    envs: &[(String, String)],
    pod_dir: &Path,
) -> Result<Mount, String> {
    let volume = paths
        .get(&mount.name)
        .ok_or_else(|| format!("cannot find volume {:?} to mount into container {:?}", mount.name, container.name))?;
    let lookup = |name: &str| envs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let sub = match (&mount.sub_path, &mount.sub_path_expr) {
        (_, Some(expr)) if !expr.is_empty() => {
            if let Some(missing) = expand::missing(expr, lookup) {
                return Err(format!("missing value for {missing}"));
            }
            expand::expand(expr, lookup)
        }
        (Some(sub), _) => sub.clone(),
        _ => String::new(),
    };
    let host_path = if sub.is_empty() {
        volume.clone()
    } else {
        let target = pod_dir.join("volume-subpaths").join(&mount.name).join(&container.name).join(index.to_string());
        volumes::subpath::bind(volume, &sub, &target)?
    };
    let mut container_path = mount.mount_path.clone();
    if !container_path.starts_with('/') {
        container_path.insert(0, '/');
    }
    Ok(Mount {
        container_path,
        host_path: host_path.to_string_lossy().into_owned(),
        readonly: mount.read_only == Some(true),
        propagation: match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => Propagation::HostToContainer,
            Some("Bidirectional") => Propagation::Bidirectional,
            _ => Propagation::Private,
        },
    })
}

fn hosts_mount(pod: &Pod, pod_dir: &Path, ips: &[String], domain: &str) -> Result<Mount, String> {
    let (name, own_domain) = dns::hostname(pod, domain)?;
    let node_hosts = if spec::host_network(pod) {
        Some(fs::read_to_string("/etc/hosts").map_err(|e| format!("reading /etc/hosts: {e}"))?)
    } else {
        None
    };
    let text = dns::hosts_file(pod, ips, &name, &own_domain, node_hosts.as_deref());
    let path = pod_dir.join("etc-hosts");
    write_with_mode(&path, text.as_bytes(), 0o644)?;
    Ok(mount_of(&path, "/etc/hosts"))
}

/// The file that a container writes its termination message to: one for each attempt.
pub(super) fn termination_file(pod_dir: &Path, container: &str, restarts: u32) -> PathBuf {
    pod_dir.join("containers").join(container).join(restarts.to_string())
}

fn termination_mount(container: &Container, pod_dir: &Path, restarts: u32) -> Result<Mount, String> {
    let path = termination_file(pod_dir, &container.name, restarts);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(|e| format!("making {}: {e}", dir.display()))?;
    }
    write_with_mode(&path, b"", 0o666)?;
    Ok(mount_of(&path, spec::termination_message_path(container)))
}

fn write_with_mode(path: &Path, data: &[u8], mode: u32) -> Result<(), String> {
    fs::write(path, data)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(|e| format!("writing {}: {e}", path.display()))
}

fn mount_of(host: &Path, container: &str) -> Mount {
    Mount { container_path: container.to_owned(), host_path: host.to_string_lossy().into_owned(), ..Mount::default() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn restart_counts_go_on_after_the_runtime_forgot() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(restarts_by_logs(dir.path()), 0);
        for name in ["0.log", "2.log", "2.log.20260101-000000.gz"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(restarts_by_logs(dir.path()), 3);
    }
}
