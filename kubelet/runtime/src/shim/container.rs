//! One container as its shim sees it.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::log::LogFile;
use super::output::{Output, Tap};
use super::protocol::{Exit, Listed};
use crate::cgroup::Placement;

/// The file in the container's directory that says how it ended.
pub const EXIT_FILE: &str = "exit.json";

pub enum Phase {
    /// Its first process is being made; who asked waits for the answer.
    Starting {
        core: u64,
        number: u64,
    },
    Running {
        pid: i32,
        started_at: i64,
    },
    Ended {
        started_at: i64,
        exit: Exit,
    },
}

/// Someone who sees a copy of the output.
pub struct Client {
    pub core: u64,
    pub number: u64,
    /// Its copies, by token. A client without any sees only the end.
    pub taps: Vec<u64>,
}

pub struct Container {
    pub id: String,
    pub bundle: PathBuf,
    pub cgroups: Vec<PathBuf>,
    pub placement: Placement,
    pub own_pid_namespace: bool,
    pub phase: Phase,
    pub log: LogFile,
    pub outputs: Vec<Output>,
    pub taps: Vec<Tap>,
    pub clients: Vec<Client>,
    pub stdin: Option<OwnedFd>,
    pub terminal: Option<OwnedFd>,
}

impl Container {
    /// Of a container that runs.
    pub fn pid(&self) -> Option<i32> {
        match self.phase {
            Phase::Running { pid, .. } => Some(pid),
            Phase::Starting { .. } | Phase::Ended { .. } => None,
        }
    }

    /// `None` while it is starting: the one who asked for it gets the answer.
    pub fn listed(&self) -> Option<Listed> {
        let id = self.id.clone();
        match &self.phase {
            Phase::Starting { .. } => None,
            Phase::Running { pid, started_at } => Some(Listed { id, pid: *pid, started_at: *started_at, exit: None }),
            Phase::Ended { started_at, exit } => {
                Some(Listed { id, pid: 0, started_at: *started_at, exit: Some(exit.clone()) })
            }
        }
    }

    /// Leaves the exit for a core that is not there now.
    pub fn record(&self, exit: &Exit) -> std::io::Result<()> {
        let temporary = self.bundle.join(".exit.json");
        let bytes = serde_json::to_vec(exit)?;
        fs::File::create(&temporary)?.write_all(&bytes)?;
        fs::rename(temporary, self.bundle.join(EXIT_FILE))
    }
}
