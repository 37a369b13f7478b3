//! fsGroup: a volume's files belong to the Pod's group, and the group may do with them what their owner may.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

/// Gives the tree to `group`: files rw (r when read-only), directories with set-group-id so that new files inherit it.
///
/// # Errors
/// The group is no valid id, or the file system refuses.
pub fn apply(root: &Path, group: i64, read_only: bool) -> io::Result<()> {
    let gid = u32::try_from(group)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{group} is no group id")))?;
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path)?;
        lchown(&path, None, Some(gid))?;
        if meta.file_type().is_symlink() {
            continue;
        }
        let mask = if read_only { 0o440 } else { 0o660 };
        let mut mode = (meta.mode() & 0o7777) | mask;
        if meta.is_dir() {
            mode |= 0o2110;
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Whether the root already is as [`apply`] leaves it (`fsGroupChangePolicy: OnRootMismatch`).
pub fn matches(root: &Path, group: i64) -> bool {
    fs::metadata(root).is_ok_and(|m| i64::from(m.gid()) == group && m.mode() & 0o2770 == 0o2770)
}
