//! The template of shims: has the program loaded, waits, and forks itself into a shim whenever the core wants one.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use super::protocol::{TemplateReply, TemplateRequest};
use crate::syscall::process::{self, Title};
use crate::syscall::socket;

/// The last argument of the template, for people who look at `ps`; a shim has its sandbox's id there, by which it is
/// told from other processes. As long as an id is.
pub const TITLE: &str = "----------------------------------------------------------------";

/// Serves the core until it goes. `shim` is what each child does, with its own socket.
pub fn serve(core: OwnedFd, shim: impl Fn(OwnedFd) -> i32) -> Result<(), String> {
    let title = Title::of_last_argument(TITLE);
    process::ignore_children().map_err(|error| format!("leave children alone: {error}"))?;
    // In an option for the child to close it.
    let mut core = Some(core);
    while let Some(socket) = &core {
        let mut buffer = [0u8; 4096];
        let (length, fds) = match socket::receive(socket.as_fd(), &mut buffer) {
            Ok((0, _)) => return Ok(()),
            Ok(received) => received,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(format!("receive a request: {errno}")),
        };
        let done = match serde_json::from_slice(buffer.get(..length).unwrap_or(&[])) {
            Ok(TemplateRequest::Join { cgroups }) => join(&cgroups),
            Ok(TemplateRequest::Fork { id }) => match fds.into_iter().next() {
                Some(fd) => fork(&mut core, &id, title.as_ref(), fd, &shim),
                None => Err("the shim's socket did not come along".into()),
            },
            Err(error) => Err(format!("read a request: {error}")),
        };
        let Some(socket) = &core else { return Ok(()) };
        let message = serde_json::to_vec(&TemplateReply { error: done.err() }).map_err(|error| error.to_string())?;
        socket::send(socket.as_fd(), &message, &[]).map_err(|error| format!("answer the core: {error}"))?;
    }
    Ok(())
}

fn join(cgroups: &[std::path::PathBuf]) -> Result<(), String> {
    cgroups
        .iter()
        .try_for_each(|file| fs::write(file, "0").map_err(|error| format!("join cgroup {}: {error}", file.display())))
}

fn fork(
    core: &mut Option<OwnedFd>,
    id: &str,
    title: Option<&Title>,
    socket: OwnedFd,
    shim: impl Fn(OwnedFd) -> i32,
) -> Result<(), String> {
    let forked = process::fork(|| {
        drop(core.take());
        if process::care_for_children().is_err() {
            return 1;
        }
        if let Some(title) = title {
            title.set(id);
        }
        shim(socket)
    });
    forked.map(drop).map_err(|error| format!("fork: {error}"))
}
