//! What the runtime core and a shim say to each other: one JSON message a packet, descriptors beside it.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cgroup::Placement;

/// A Pod's place in the network.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Network {
    pub address: Ipv4Addr,
    pub gateway: Ipv4Addr,
    /// The node's end of the pair.
    pub host_link: String,
    pub mtu: u32,
}

/// What the core asks of the template of shims.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum TemplateRequest {
    /// The first request: `cgroup.procs` files to join, in which all shims are born.
    Join { cgroups: Vec<PathBuf> },
    /// A new shim with this id. The descriptor beside it is the shim's socket.
    Fork { id: String },
}

/// The template's answer to each request; a text says why it could not be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TemplateReply {
    pub error: Option<String>,
}

/// The first message to a new shim: what it has to make and hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxSpec {
    pub id: String,
    pub hostname: String,
    /// `None` shares the node's network.
    pub network: Option<Network>,
    pub host_ipc: bool,
    pub pod_pid: bool,
    pub sysctls: Vec<(String, String)>,
    /// Directory of the sockets; the shim listens at `ID.sock` there and writes its pid to `ID.pid`.
    pub socket_directory: PathBuf,
    /// Where the Pod's shared memory is mounted; its directory exists.
    pub shared_memory: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StartSpec {
    pub id: String,
    /// Directory of the container: holds `config.json`, `rootfs`, `upper`, `work`; the exit is written there.
    pub bundle: PathBuf,
    /// Layers, topmost first.
    pub lower: Vec<PathBuf>,
    pub log_path: PathBuf,
    pub tty: bool,
    pub stdin: bool,
    pub oom_score_adj: i64,
    /// The container's cgroup directories, each hierarchy's; the first is where an out-of-memory kill shows.
    pub cgroups: Vec<PathBuf>,
    /// How its processes get there.
    pub placement: Placement,
    /// Where mount trees are attached that come as descriptors beside the message: volumes that are the node's own, so
    /// that mounts in the container get out.
    pub trees: Vec<PathBuf>,
    /// It has a PID namespace of its own, so its first process takes all others with it.
    pub own_pid_namespace: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecSpec {
    pub container: String,
    pub args: Vec<String>,
    pub tty: bool,
    /// Which of stdin, stdout, stderr come as descriptors beside the message, in this order.
    pub streams: [bool; 3],
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    Sandbox(SandboxSpec),
    Start(StartSpec),
    /// To the container's first process, or to every process of it.
    Signal {
        container: String,
        signal: i32,
        all: bool,
    },
    /// Unmounts what the container had and forgets it.
    Remove {
        container: String,
    },
    Exec(ExecSpec),
    /// To the process of the exec with this request number, and to all its children.
    KillExec {
        exec: u64,
    },
    /// Descriptors: where copies of the output go, as `streams` says (stdin never). Answered when that is so, and at
    /// the end.
    Attach {
        container: String,
        streams: [bool; 3],
    },
    /// Answered with the container's stdin, or its terminal.
    Stdin {
        container: String,
        close: bool,
    },
    ReopenLog {
        container: String,
    },
    PortForward {
        port: u16,
    },
    /// What runs, for a core that was away.
    List,
    /// Ends every process of the Pod, and the shim; its namespaces and its network go with it.
    Shutdown,
}

/// How a container ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Exit {
    pub code: i32,
    pub signal: i32,
    pub oom_killed: bool,
    /// Unix nanoseconds; 0 when its program never ran.
    pub started_at: i64,
    pub finished_at: i64,
    /// Why its program could not be run.
    #[serde(default)]
    pub start_error: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listed {
    pub id: String,
    pub pid: i32,
    pub started_at: i64,
    pub exit: Option<Exit>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    Done,
    Started {
        pid: i32,
        started_at: i64,
    },
    /// The process could not be started; the text is for the user.
    NotStarted {
        message: String,
    },
    /// An exec has begun: with a terminal, its descriptor comes along.
    ExecStarted,
    /// The client sees all output from now on.
    Attached,
    ExecEnded {
        code: i32,
    },
    Listed(Vec<Listed>),
    Failed {
        message: String,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    pub number: u64,
    pub request: Request,
}

/// From the shim.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    Reply { number: u64, reply: Reply },
    Exited { container: String, exit: Exit },
}
