//! How a process gets into a group. Whoever writes a pid to `cgroup.procs` takes a lock against all forks of the node,
//! for which the kernel waits out an RCU grace period: 5 to 20 ms each time. Both ways here do without it.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Layout;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// Version 1: the process, which must be single-threaded, moves itself through these `tasks` files.
    Joins(Vec<PathBuf>),
    /// Version 2: it is born in the group of this directory (`CLONE_INTO_CGROUP`).
    BornIn(PathBuf),
}

impl Layout {
    /// The way into the group of this path.
    pub fn placement(&self, path: &str) -> Placement {
        match self {
            Layout::V1 { .. } => {
                Placement::Joins(self.directories(path).into_iter().map(|directory| directory.join("tasks")).collect())
            }
            Layout::V2 { root } => Placement::BornIn(root.join(path.trim_start_matches('/'))),
        }
    }
}

impl Placement {
    /// Where a process has to be born.
    pub fn birthplace(&self) -> io::Result<Option<OwnedFd>> {
        let Placement::BornIn(directory) = self else { return Ok(None) };
        let opened = File::open(directory);
        let named = |error: io::Error| io::Error::new(error.kind(), format!("open {}: {error}", directory.display()));
        opened.map(|file| Some(file.into())).map_err(named)
    }

    /// Moves this process; one that was born there has nothing to do.
    pub fn join(&self) -> io::Result<()> {
        let Placement::Joins(files) = self else { return Ok(()) };
        for file in files {
            fs::write(file, "0").map_err(|error| {
                io::Error::new(error.kind(), format!("join control group {}: {error}", file.display()))
            })?;
        }
        Ok(())
    }
}
