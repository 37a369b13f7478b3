//! The Container Runtime Interface v1 as a Rust trait: the messages that the kubelet uses, field names as in
//! `runtime.v1`. Our runtime core implements it in process; a client of a CRI socket can stand in its place.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} not found")]
    NotFound(String),
    #[error("{operation}: {message}")]
    Failed { operation: &'static str, message: String },
    /// `ErrImagePull`'s text: the registry's answer, or why it could not be asked.
    #[error("{0}")]
    Pull(String),
    /// The image is not there and may not be pulled, its name is wrong, or its content is not what its digest says.
    #[error("{0}")]
    Image(String),
    #[error("{operation} took longer than {seconds} s")]
    Timeout { operation: &'static str, seconds: u64 },
}

impl Error {
    /// What the status of a gRPC answer would say: the operation is the caller's to name.
    pub fn description(&self) -> String {
        match self {
            Self::Failed { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// Which namespaces a sandbox shares with the node (`NamespaceOption`): false is "own for the Pod".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceOptions {
    pub host_network: bool,
    pub host_pid: bool,
    pub host_ipc: bool,
    /// The Pod's containers share one PID namespace (`shareProcessNamespace`).
    pub pod_pid: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// cgroup limits (`LinuxContainerResources`); 0 is "not set".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    pub cpu_period: i64,
    pub cpu_quota: i64,
    pub cpu_shares: i64,
    pub memory_limit_bytes: i64,
    pub oom_score_adj: i64,
    pub pids_limit: i64,
    /// Files of a group of version 2 and what is written to them; not for version 1.
    #[serde(default)]
    pub unified: BTreeMap<String, String>,
}

/// A port of the node that leads to a port of the Pod (`hostPort`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    pub container_port: u16,
    pub host_port: u16,
    /// Empty is every address of the node.
    pub host_ip: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PodSandboxConfig {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub attempt: u32,
    pub hostname: String,
    pub log_directory: String,
    pub dns: DnsConfig,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Parent cgroup of the Pod, relative to the hierarchy's root.
    pub cgroup_parent: String,
    pub namespaces: NamespaceOptions,
    pub port_mappings: Vec<PortMapping>,
    pub sysctls: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxState {
    Ready,
    NotReady,
}

#[derive(Clone, Debug)]
pub struct PodSandboxStatus {
    pub id: String,
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub attempt: u32,
    pub state: SandboxState,
    /// Unix nanoseconds.
    pub created_at: i64,
    /// The Pod's addresses, first the primary; empty on the host's network.
    pub ips: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Mount {
    pub container_path: String,
    pub host_path: String,
    pub readonly: bool,
    pub propagation: Propagation,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Device {
    pub container_path: String,
    pub host_path: String,
    /// cgroup permissions, `rwm`.
    pub permissions: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompProfile {
    #[default]
    Unconfined,
    RuntimeDefault,
    /// Absolute path of a profile on the node.
    Localhost(String),
}

/// Paths that a container sees empty unless its `procMount` is Unmasked or it is privileged (upstream's defaults).
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// Paths that such a container can only read.
pub const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// `LinuxContainerSecurityContext`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SecurityContext {
    pub privileged: bool,
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    pub run_as_user: Option<i64>,
    pub run_as_group: Option<i64>,
    /// A name from the image's /etc/passwd when the image names its user so.
    pub run_as_username: String,
    pub supplemental_groups: Vec<i64>,
    pub readonly_rootfs: bool,
    pub no_new_privs: bool,
    /// Used as they are: [`MASKED_PATHS`] and [`READONLY_PATHS`] for the default `procMount`, empty for Unmasked.
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    pub seccomp: SeccompProfile,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ContainerConfig {
    pub name: String,
    pub attempt: u32,
    /// The image's id, as [`Runtime::image_status`] gave it.
    pub image: String,
    /// The reference that the user wrote; reported back in the status.
    pub user_image: String,
    /// Replaces the image's entrypoint when not empty.
    pub command: Vec<String>,
    /// Replaces the image's arguments when not empty, or when `command` is set.
    pub args: Vec<String>,
    pub working_dir: String,
    pub envs: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Relative to the sandbox's log directory.
    pub log_path: String,
    pub stdin: bool,
    pub stdin_once: bool,
    pub tty: bool,
    pub resources: Resources,
    pub security: SecurityContext,
    /// Signal name; empty is the image's, else SIGTERM.
    pub stop_signal: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    Created,
    Running,
    Exited,
    Unknown,
}

#[derive(Clone, Debug)]
pub struct ContainerStatus {
    pub id: String,
    pub sandbox_id: String,
    pub name: String,
    pub attempt: u32,
    pub state: ContainerState,
    /// Unix nanoseconds; 0 is "not yet".
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    /// The signal that ended the process; 0 for none.
    pub signal: i32,
    /// `Completed`, `Error`, `OOMKilled`, `ContainerCannotRun`, `StartError`.
    pub reason: String,
    pub message: String,
    pub image: String,
    /// `name@sha256:…` of what runs.
    pub image_ref: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Absolute path of the log file on the node.
    pub log_path: String,
}

#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Digest of the image's config, `sha256:…`.
    pub id: String,
    /// `docker.io/library/nginx:latest`.
    pub repo_tags: Vec<String>,
    /// `docker.io/library/nginx@sha256:…`.
    pub repo_digests: Vec<String>,
    pub size: u64,
    pub uid: Option<i64>,
    pub username: String,
}

#[derive(Clone, Debug, Default)]
pub struct ContainerStats {
    pub id: String,
    pub name: String,
    pub sandbox_id: String,
    /// Cumulative nanoseconds of CPU.
    pub cpu_usage_nanos: u64,
    pub memory_usage_bytes: u64,
    pub memory_working_set_bytes: u64,
    pub memory_rss_bytes: u64,
    pub pids: u64,
    pub fs_used_bytes: u64,
    pub fs_inodes_used: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventType {
    ContainerCreated,
    ContainerStarted,
    ContainerStopped,
    ContainerDeleted,
    SandboxStopped,
}

/// A change, sent as it happens: there is no relist loop.
#[derive(Clone, Debug)]
pub struct Event {
    pub kind: EventType,
    pub sandbox_id: String,
    pub container_id: String,
    pub pod_uid: String,
}

/// What an exec or attach is connected to. `None` is "not connected".
#[derive(Debug, Default)]
pub struct Streams {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    pub tty: bool,
    /// Columns and rows, whenever the client's window changes.
    pub resize: Option<mpsc::Receiver<(u16, u16)>>,
}

#[derive(Clone, Debug, Default)]
pub struct ExecOutput {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit_code: i32,
}

/// Credentials for one pull.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    pub username: String,
    pub password: String,
    pub registry_token: String,
}

/// RuntimeService and ImageService of CRI v1, as far as the kubelet uses them. Every call may be repeated: stopping
/// what is stopped and removing what is gone succeed.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Name and version, `cox://0.1.0` in the node's status.
    fn version(&self) -> (String, String);
    /// `Err` says why the network is not ready yet (`NetworkReady`'s message): no Pod CIDR so far, for instance.
    async fn network_ready(&self) -> std::result::Result<(), String>;
    /// `UpdateRuntimeConfig`: the node's Pod CIDR, once the node has one. The same value again does nothing.
    async fn update_pod_cidr(&self, cidr: &str) -> Result<()>;

    async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<String>;
    /// Ends every container of the sandbox and gives back its network.
    async fn stop_pod_sandbox(&self, id: &str) -> Result<()>;
    async fn remove_pod_sandbox(&self, id: &str) -> Result<()>;
    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus>;
    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandboxStatus>>;

    async fn create_container(&self, sandbox_id: &str, config: ContainerConfig) -> Result<String>;
    async fn start_container(&self, id: &str) -> Result<()>;
    /// Stop signal, then SIGKILL after `timeout_seconds`; returns when the process is gone.
    async fn stop_container(&self, id: &str, timeout_seconds: i64) -> Result<()>;
    async fn remove_container(&self, id: &str) -> Result<()>;
    async fn container_status(&self, id: &str) -> Result<ContainerStatus>;
    async fn list_containers(&self) -> Result<Vec<ContainerStatus>>;
    async fn update_container_resources(&self, id: &str, resources: Resources) -> Result<()>;
    /// Called after the log file was renamed: writing goes on in a new one.
    async fn reopen_container_log(&self, id: &str) -> Result<()>;
    async fn container_stats(&self) -> Result<Vec<ContainerStats>>;

    async fn exec_sync(&self, id: &str, command: Vec<String>, timeout_seconds: u64) -> Result<ExecOutput>;
    /// Runs until the command ends; returns its exit code.
    async fn exec(&self, id: &str, command: Vec<String>, streams: Streams) -> Result<i32>;
    /// Runs until the container or the client ends.
    async fn attach(&self, id: &str, streams: Streams) -> Result<()>;
    /// A TCP connection to the port on the Pod's loopback.
    async fn port_forward(&self, sandbox_id: &str, port: u16) -> Result<OwnedFd>;

    async fn pull_image(&self, reference: &str, auth: Option<Auth>) -> Result<String>;
    /// By reference, digest or id; `None` when it is not there.
    async fn image_status(&self, reference: &str) -> Result<Option<Image>>;
    async fn list_images(&self) -> Result<Vec<Image>>;
    async fn remove_image(&self, reference: &str) -> Result<()>;

    /// Events from now on. A reader that lags loses the channel and must list again.
    fn events(&self) -> tokio::sync::broadcast::Receiver<Event>;
}
