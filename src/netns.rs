//! The network namespace that a cluster lives in: commands about it must see its links and reach its API, wherever they
//! are typed.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

use crate::layout::{Layout, write_or_keep};

/// Where `ip netns` keeps namespaces that have names.
const NAMED: &str = "/run/netns";

/// Identity of a namespace: its inode.
fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|meta| meta.ino())
}

/// The name of the namespace that this process is in, if it has one.
fn own_name() -> Option<PathBuf> {
    let own = inode(Path::new("/proc/self/ns/net"))?;
    let named = fs::read_dir(NAMED).ok()?.flatten().map(|entry| entry.path());
    named.into_iter().find(|path| inode(path) == Some(own))
}

/// Writes down where the cluster runs, so that it is found after a crash too.
pub fn remember(layout: &Layout) -> Result<()> {
    let network = own_name().map(|path| path.to_string_lossy().into_owned());
    let config = serde_json::json!({"networkNamespace": network});
    write_or_keep(&layout.started_as(), format!("{config:#}\n").as_bytes()).map(drop)
}

/// Goes where the cluster is. Must be called before any thread is started: it moves this thread only.
pub fn enter(layout: &Layout) -> Result<()> {
    let running = layout.running().map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net")));
    let remembered = || -> Option<PathBuf> {
        let text = fs::read_to_string(layout.started_as()).ok()?;
        let config: serde_json::Value = serde_json::from_str(&text).ok()?;
        config["networkNamespace"].as_str().map(PathBuf::from)
    };
    let Some(path) = running.or_else(remembered).filter(|path| path.exists()) else { return Ok(()) };
    if inode(&path) == inode(Path::new("/proc/self/ns/net")) {
        return Ok(());
    }
    let namespace = File::open(&path).with_context(|| format!("open network namespace {}", path.display()))?;
    setns(namespace, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter network namespace {}", path.display()))
}
