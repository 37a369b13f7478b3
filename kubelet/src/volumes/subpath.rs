//! subPath: a file or directory inside a volume, found without following links out of it, and held by a bind mount so
//! that nobody can swap it between the check and the container's start (CVE-2017-1002101).

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, fstatat, mkdirat};

use super::teardown;

/// Makes `target` show `sub` of the volume; a directory is made where nothing is.
///
/// # Errors
/// The path leaves the volume, or cannot be made or mounted.
pub fn bind(volume: &Path, sub: &str, target: &Path) -> Result<PathBuf, String> {
    let failed = |what: &str, e: &dyn std::fmt::Display| format!("failed to prepare subPath {sub:?}: {what}: {e}");
    let sub_path = Path::new(sub);
    if sub_path.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err(failed("checking", &"must be a relative path without '..'"));
    }
    let root = open_root(volume).map_err(|e| failed("opening the volume", &e))?;
    let mode = fs::metadata(volume).map_err(|e| failed("reading the volume", &e))?.permissions();
    let opened = open_or_make(&root, sub_path, &mode).map_err(|e| failed("opening", &e))?;
    let is_dir = {
        let stat = fstatat(&opened, "", AtFlags::AT_EMPTY_PATH).map_err(|e| failed("reading", &e))?;
        stat.st_mode & libc::S_IFMT == libc::S_IFDIR
    };
    if teardown::is_mount(target) {
        return Ok(target.to_owned());
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(|e| failed("making the mount point", &e))?;
    }
    let made = if is_dir { fs::create_dir_all(target) } else { fs::File::create(target).map(drop) };
    made.map_err(|e| failed("making the mount point", &e))?;
    let source = format!("/proc/self/fd/{}", opened.as_raw_fd());
    let none: Option<&str> = None;
    mount(Some(source.as_str()), target, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
        .map_err(|e| failed("mounting", &e))?;
    Ok(target.to_owned())
}

fn open_root(volume: &Path) -> nix::Result<OwnedFd> {
    nix::fcntl::open(volume, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
}

fn beneath(root: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root, path, how)
}

/// Opens the path, making the directories that are missing, each below one that was opened inside the volume, with the
/// volume's mode.
fn open_or_make(root: &OwnedFd, path: &Path, mode: &fs::Permissions) -> nix::Result<OwnedFd> {
    match beneath(root, path) {
        Err(Errno::ENOENT) => {}
        opened => return opened,
    }
    let mut here = beneath(root, Path::new("."))?;
    let mut walked = PathBuf::new();
    for component in path.components().filter(|c| matches!(c, Component::Normal(_))) {
        walked.push(component);
        here = match beneath(root, &walked) {
            Err(Errno::ENOENT) => {
                let made = match mkdirat(&here, Path::new(component.as_os_str()), Mode::from_bits_truncate(0o750)) {
                    Err(Errno::EEXIST) => false,
                    made => made.map(|()| true)?,
                };
                let inner = beneath(root, &walked)?;
                if made {
                    let own = format!("/proc/self/fd/{}", inner.as_raw_fd());
                    fs::set_permissions(own, mode.clone())
                        .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
                }
                inner
            }
            opened => opened?,
        };
    }
    Ok(here)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn links_out_of_the_volume_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        let root = open_root(dir.path()).unwrap();
        let mode = fs::metadata(dir.path()).unwrap().permissions();
        assert_eq!(open_or_make(&root, Path::new("out/passwd"), &mode).unwrap_err(), Errno::EXDEV);
        assert!(open_or_make(&root, Path::new("a/b"), &mode).is_ok());
        assert!(dir.path().join("a/b").is_dir());
        assert!(bind(dir.path(), "../x", &dir.path().join("t")).is_err());
    }
}
