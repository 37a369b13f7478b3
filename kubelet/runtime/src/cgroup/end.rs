//! The end of a group: its processes killed, itself and those below it removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Attempts at removing a group whose last processes are still dying, and the pause between them.
const REMOVE_ATTEMPTS: u32 = 40;
const REMOVE_PAUSE: Duration = Duration::from_millis(5);
/// Rounds of killing; a process may fork while the list is read.
const KILL_ROUNDS: u32 = 16;

/// Removes the group of this directory. Gone already is fine.
pub(super) fn remove_tree(directory: &Path) -> io::Result<()> {
    let mut attempt = 0;
    loop {
        match remove_once(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && attempt < REMOVE_ATTEMPTS => {
                attempt += 1;
                kill_group(directory);
                std::thread::sleep(REMOVE_PAUSE);
            }
            other => return other,
        }
    }
}

fn remove_once(directory: &Path) -> io::Result<()> {
    for child in children(directory)? {
        match remove_once(&child) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    fs::remove_dir(directory)
}

fn children(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Kills every process in a group, given by its directories, and in those below it. In each hierarchy they are the same
/// processes: the first says all.
pub fn kill_all(directories: &[PathBuf]) {
    if let Some(directory) = directories.first() {
        kill_group(directory);
    }
}

fn kill_group(directory: &Path) {
    if fs::write(directory.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let mut killed = std::collections::BTreeSet::new();
    for _ in 0..KILL_ROUNDS {
        let fresh: Vec<i32> = processes(directory).into_iter().filter(|pid| killed.insert(*pid)).collect();
        if fresh.is_empty() {
            return;
        }
        for pid in fresh {
            // Fails only for a signal that does not exist; a process that is gone meanwhile is as good.
            let _ = crate::syscall::process::signal(pid, libc::SIGKILL);
        }
    }
}

/// Processes in the group and below.
pub fn processes(directory: &Path) -> Vec<i32> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect();
    for child in children(directory).unwrap_or_default() {
        found.extend(processes(&child));
    }
    found
}
