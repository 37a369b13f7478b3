//! Taking a Pod's directory away: first its mounts, then its files; and what Pods long gone have left.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

use crate::config::Config;

use super::blocking;

/// Mount points at or below a directory, the deepest first.
fn mounts_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let mut found: Vec<PathBuf> =
        table.lines().filter_map(mount_point).filter(|point| point.starts_with(dir)).collect();
    found.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    Ok(found)
}

/// The fifth field of a line of mountinfo, its octal escapes resolved.
pub(super) fn mount_point(line: &str) -> Option<PathBuf> {
    let field = line.split(' ').nth(4)?;
    let mut out = String::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|d| u8::from_str_radix(d, 8).ok())?;
        out.push(char::from(code));
        rest = &rest[at + 4..];
    }
    out.push_str(rest);
    Some(PathBuf::from(out))
}

/// Whether something is mounted exactly there.
pub(super) fn is_mount(path: &Path) -> bool {
    mounts_below(path).is_ok_and(|list| list.iter().any(|point| point == path))
}

fn remove(dir: &Path) -> Result<(), String> {
    let mounts = mounts_below(dir).map_err(|e| format!("reading mounts below {}: {e}", dir.display()))?;
    for point in mounts {
        umount2(&point, MntFlags::MNT_DETACH).map_err(|e| format!("unmounting {}: {e}", point.display()))?;
    }
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(format!("removing {}: {e}", dir.display())),
        _ => Ok(()),
    }
}

/// Unmounts and removes the volumes of a Pod; with `all` its whole directory. Done twice, the second does nothing.
///
/// # Errors
/// A mount or file could not be removed; what is left is tried again by the next call.
pub async fn tear_down(config: &Config, uid: &str, all: bool) -> Result<(), String> {
    let dir = config.pod_dir(uid);
    blocking(move || {
        if all {
            return remove(&dir);
        }
        remove(&dir.join("volume-subpaths"))?;
        remove(&dir.join("volumes"))
    })
    .await
}

/// Pods whose directories lie on the node though they are none of these.
///
/// # Errors
/// The directory of Pods cannot be read.
pub fn orphans(config: &Config, known: &BTreeSet<String>) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(config.pods_dir()) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !known.contains(&name) {
            found.push(name);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_escapes() {
        let line = "36 35 98:0 / /mnt/a\\040b rw,noatime shared:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some(PathBuf::from("/mnt/a b")));
    }
}
