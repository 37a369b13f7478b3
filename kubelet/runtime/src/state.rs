//! What is kept on disk of sandboxes and containers, for a core that comes after this one.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cri::{ContainerConfig, PodSandboxConfig};
use crate::files;
use crate::shim::protocol::{Exit, Network};

const FILE: &str = "state.json";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxState {
    pub id: String,
    pub config: PodSandboxConfig,
    /// Unix nanoseconds.
    pub created_at: i64,
    pub network: Option<Network>,
    /// Written once it is whole; a sandbox without it was half-made and is removed.
    pub ready: bool,
    /// The Pod's control group was made here, so it is removed here.
    pub made_cgroup: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub id: String,
    pub sandbox_id: String,
    pub config: ContainerConfig,
    /// Unix nanoseconds.
    pub created_at: i64,
    pub image_id: String,
    /// `name@sha256:…`, or the image's id where it has no such name.
    pub image_ref: String,
    /// Chain ids; images keep what is named here.
    pub layers: Vec<String>,
    /// Absolute.
    pub log_path: String,
    pub cgroup: String,
    pub own_pid_namespace: bool,
    /// Signal number that asks it to end.
    pub stop_signal: i32,
}

pub fn save<T: Serialize>(directory: &Path, state: &T) -> std::io::Result<()> {
    files::replace(&directory.join(FILE), &serde_json::to_vec(state)?)
}

/// `None` when it is not there or not whole.
pub fn load<T: for<'a> Deserialize<'a>>(directory: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(directory.join(FILE)).ok()?).ok()
}

/// How the container ended, as its shim, or the core itself, left it.
pub fn load_exit(directory: &Path) -> Option<Exit> {
    serde_json::from_slice(&std::fs::read(directory.join(crate::shim::EXIT_FILE)).ok()?).ok()
}

pub fn save_exit(directory: &Path, exit: &Exit) -> std::io::Result<()> {
    files::replace(&directory.join(crate::shim::EXIT_FILE), &serde_json::to_vec(exit)?)
}
