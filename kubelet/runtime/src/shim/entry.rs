//! What a process takes on when it is inside a container, before its program: streams, user, directory, environment.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use libcontainer::oci_spec::runtime::Process;
use nix::errno::Errno;

use crate::syscall::process;

/// Device number of /dev/null, 1:3.
const NULL: u64 = 0x103;

/// The container's /dev/null, which must be one: its content would be written to, or mounted over what is to be hidden.
pub fn open_null() -> Result<OwnedFd, String> {
    let open = || -> std::io::Result<fs::File> {
        let file = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
        let metadata = file.metadata()?;
        if !metadata.file_type().is_char_device() || metadata.rdev() != NULL {
            return Err(std::io::Error::other("it is another file"));
        }
        Ok(file)
    };
    open().map(OwnedFd::from).map_err(|error| format!("open /dev/null: {error}"))
}

/// Makes them stdin, stdout and stderr; an absent one is /dev/null.
pub fn connect_streams(streams: &[Option<OwnedFd>; 3]) -> Result<(), String> {
    let null = open_null()?;
    for (number, stream) in streams.iter().enumerate() {
        let fd = stream.as_ref().unwrap_or(&null).as_raw_fd();
        process::duplicate_onto(fd, number as i32).map_err(|error| format!("connect streams: {error}"))?;
    }
    Ok(())
}

/// Becomes the process's user in its working directory.
pub fn take_identity(container: &Process) -> Result<(), String> {
    let user = container.user();
    let groups = user.additional_gids().clone().unwrap_or_default();
    // Root may enter where the user may not, or, on a network's file system, the other way round.
    let entered = nix::unistd::chdir(container.cwd());
    process::set_user(user.uid(), user.gid(), &groups).map_err(|error| format!("set user {}: {error}", user.uid()))?;
    let entered = match entered {
        Err(Errno::EACCES | Errno::EPERM) => nix::unistd::chdir(container.cwd()),
        other => other,
    };
    entered.map_err(|error| format!("chdir to cwd ({:?}): {}", container.cwd(), error.desc().to_lowercase()))?;
    stay_inside(container.cwd())
}

/// A directory's name may be that of a descriptor which leads out of the container (CVE-2024-21626).
fn stay_inside(wanted: &Path) -> Result<(), String> {
    match nix::unistd::getcwd() {
        Ok(path) if path.is_absolute() => Ok(()),
        _ => Err(format!("chdir to cwd ({wanted:?}): it is outside of the container")),
    }
}

/// # Safety
/// No other thread may exist.
pub unsafe fn set_environment(container: &Process) {
    let names: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in names {
        // SAFETY: promised by the caller.
        unsafe { std::env::remove_var(name) };
    }
    for entry in container.env().iter().flatten() {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        if !name.is_empty() {
            // SAFETY: promised by the caller.
            unsafe { std::env::set_var(name, value) };
        }
    }
}
