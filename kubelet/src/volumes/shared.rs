//! The kubelet's directory as a shared mount: what is mounted below it later (a subPath, a memory-backed emptyDir)
//! shows
//! in mount namespaces that were made before, as those of Pods' sandboxes. Upstream does the same where the root is
//! private.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use super::teardown::mount_point;

/// Makes the directory a shared mount unless it lies on one. `cox reset` takes it away again.
///
/// # Errors
/// It cannot be made, or may not be mounted.
pub fn share_mounts(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let dir = dir.canonicalize()?;
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let Some((point, is_shared)) = mount_of(&table, &dir) else { return Ok(()) };
    if is_shared {
        return Ok(());
    }
    let none: Option<&str> = None;
    if point != dir {
        mount(Some(&dir), &dir, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
    }
    mount(none, &dir, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none)?;
    Ok(())
}

/// The mount that a path lies on, the last of several at the same place, and whether it is shared.
fn mount_of(table: &str, path: &Path) -> Option<(PathBuf, bool)> {
    let all = table.lines().filter_map(|line| Some((mount_point(line)?, is_shared(line))));
    all.filter(|(point, _)| path.starts_with(point)).max_by_key(|(point, _)| point.components().count())
}

/// Optional fields stand between the sixth and a lone `-` (proc(5)).
fn is_shared(line: &str) -> bool {
    line.split(' ').skip(6).take_while(|field| *field != "-").any(|field| field.starts_with("shared:"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_innermost_mount_counts() {
        let table = "20 1 8:1 / / rw,relatime - ext4 /dev/vda rw\n\
            30 20 8:1 /v /var/lib rw,relatime shared:5 - ext4 /dev/vda rw\n\
            31 20 8:1 /v /var/lib/x\\040y rw master:5 - ext4 /dev/vda rw\n";
        let of = |path: &str| mount_of(table, Path::new(path)).unwrap();
        assert_eq!(of("/home"), (PathBuf::from("/"), false));
        assert_eq!(of("/var/lib/cox/kubelet"), (PathBuf::from("/var/lib"), true));
        assert_eq!(of("/var/lib/x y/z"), (PathBuf::from("/var/lib/x y"), false));
        assert_eq!(of("/var/library"), (PathBuf::from("/"), false));
    }
}
