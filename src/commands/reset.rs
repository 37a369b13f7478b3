//! `cox reset`: removes every process, mount, link, rule, cgroup and file that the cluster made, and nothing else.

use std::fs;
use std::io;

use anyhow::{Context, Result, bail};

use super::{down, require_root};
use crate::cli::ResetArgs;
use crate::layout::Layout;
use crate::netns;
use crate::node;
use crate::progress::say;

/// What the cluster put into its data directory. Anything else there is somebody's own, and stays.
const OURS: [&str; 13] = [
    "kubeconfig",
    "kubeconfig.tmp",
    "config.tmp",
    "cox.pid",
    "cox.tmp",
    "config.json",
    "pki",
    "store",
    "runtime",
    "run",
    "kubelet",
    "log",
    // The mark of our directories goes last: a reset that was cut off can be repeated.
    "cox.lock",
];

pub fn run(args: &ResetArgs) -> Result<()> {
    require_root("reset")?;
    let layout = Layout::at(&args.dir.data_dir)?;
    let dir = layout.dir().display();
    if !args.yes {
        bail!("this removes the cluster in {dir} with all its Pods and data; say --yes if you mean it");
    }
    if !layout.is_ours() {
        say(&format!("there is no cluster in {dir}"));
        return Ok(());
    }
    netns::enter(&layout)?;
    if let Some(pid) = layout.running() {
        down::end(&layout, pid)?;
    }
    // The lock keeps another `up` from starting in the middle of this.
    let lock = layout.lock()?;
    node::reset(&layout)?;
    remove_files(&layout)?;
    drop(lock);
    match fs::remove_dir(layout.dir()) {
        Ok(()) => say(&format!("removed the cluster in {dir}")),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            say(&format!("removed the cluster; {dir} stays, for there are files in it that it did not make"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("remove {dir}")),
    }
    Ok(())
}

/// Removes the cluster's files and folders from its directory.
pub fn remove_files(layout: &Layout) -> Result<()> {
    for name in OURS {
        let path = layout.dir().join(name);
        let removed = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}
