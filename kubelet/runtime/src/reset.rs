//! Removes everything of one cluster's runtime: processes, control groups, links, mounts and files. Finds it by name,
//! not by records, so that it works after any crash, and twice.

use std::collections::BTreeSet;
use std::io;

use crate::cgroup::Layout;
use crate::config::Config;
use crate::{files, network, syscall};

/// Takes all away. No core may have the directory open. The error names what could not be removed; the rest is gone.
pub fn reset(config: &Config) -> io::Result<()> {
    let layout = Layout::detect()?;
    let mut first = Ok(());
    let mut keep = |result: io::Result<()>| {
        if first.is_ok() {
            first = result;
        }
    };
    // Containers first: a shim that sees one die only writes that down.
    keep(layout.remove(&config.cgroup_root));
    keep(end_shims(config));
    keep(network::ports::remove(&config.cluster_id));
    keep(network::delete_other_links(&config.cluster_id, &BTreeSet::new()));
    keep(syscall::mount::detach_below(&config.root));
    keep(files::remove(&config.root));
    keep(files::remove(&config.socket_directory()));
    first
}

fn end_shims(config: &Config) -> io::Result<()> {
    let entries = match std::fs::read_dir(config.socket_directory()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(id) = name.strip_suffix(".pid") {
            let text = std::fs::read_to_string(config.socket_directory().join(&name))?;
            if let Ok(pid) = text.trim().parse() {
                syscall::process::kill_and_wait(pid, |command_line| command_line.contains(id))?;
            }
        }
    }
    Ok(())
}
