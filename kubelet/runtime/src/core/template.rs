//! The core's side of the shims' template: one process that has the program loaded and forks itself into shims, so that
//! a Pod does not wait for a program to start, and shims share the memory that they never write to.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::Stdio;

use nix::errno::Errno;
use parking_lot::Mutex;

use crate::shim::TITLE;
use crate::shim::protocol::{TemplateReply, TemplateRequest};
use crate::syscall::{process, socket, watched};

/// A template that does not answer so long, in seconds, is stuck.
const PATIENCE: i64 = 30;

/// Started when the first shim is wanted, and again when it was killed.
pub struct Template {
    program: Vec<OsString>,
    /// `cgroup.procs` files that shims are in.
    cgroups: Vec<PathBuf>,
    socket: Mutex<Option<OwnedFd>>,
}

enum Failure {
    /// It is gone, or does not answer.
    Lost(io::Error),
    Refused(String),
}

impl Template {
    /// `program` and first arguments run [`crate::shim::main`].
    pub fn new(program: Vec<OsString>, cgroups: Vec<PathBuf>) -> Template {
        Template { program, cgroups, socket: Mutex::new(None) }
    }

    /// A new shim; returns the socket to it, which does not block. Blocks itself. To be called within a tokio runtime.
    pub fn fork(&self, id: &str) -> io::Result<OwnedFd> {
        let (ours, theirs) = socket::pair()?;
        socket::set_nonblocking(&ours)?;
        let request = TemplateRequest::Fork { id: id.to_owned() };
        let mut kept = self.socket.lock();
        if let Some(socket) = kept.take() {
            match ask(&socket, &request, &[theirs.as_raw_fd()]) {
                Ok(()) => {
                    *kept = Some(socket);
                    return Ok(ours);
                }
                Err(Failure::Lost(error)) => {
                    tracing::warn!(%error, "the template of shims is lost: another is started")
                }
                Err(Failure::Refused(text)) => {
                    *kept = Some(socket);
                    return Err(io::Error::other(format!("start shim: {text}")));
                }
            }
        }
        let socket = self.start()?;
        ask(&socket, &request, &[theirs.as_raw_fd()]).map_err(|failure| failure.named("start shim"))?;
        *kept = Some(socket);
        Ok(ours)
    }

    fn start(&self) -> io::Result<OwnedFd> {
        let (ours, theirs) = socket::pair()?;
        socket::set_patience(&ours, PATIENCE)?;
        let (program, arguments) =
            self.program.split_first().ok_or_else(|| io::Error::other("no program to run as shim"))?;
        let mut child = std::process::Command::new(program)
            .args(arguments)
            .arg(TITLE)
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("start the template of shims: {error}")))?;
        let pidfd = process::pidfd(child.id() as i32)?;
        tokio::runtime::Handle::current().spawn(async move {
            if let Ok(pidfd) = watched::watch(pidfd) {
                drop(pidfd.readable().await);
            }
            // Dead by now, so this does not wait.
            drop(child.wait());
        });
        let join = TemplateRequest::Join { cgroups: self.cgroups.clone() };
        ask(&ours, &join, &[]).map_err(|failure| failure.named("start the template of shims"))?;
        Ok(ours)
    }
}

impl Failure {
    fn named(self, operation: &str) -> io::Error {
        match self {
            Failure::Lost(error) => io::Error::new(error.kind(), format!("{operation}: {error}")),
            Failure::Refused(text) => io::Error::other(format!("{operation}: {text}")),
        }
    }
}

fn ask(socket: &OwnedFd, request: &TemplateRequest, fds: &[RawFd]) -> Result<(), Failure> {
    let lost = |errno: Errno| Failure::Lost(errno.into());
    let message = serde_json::to_vec(request).map_err(|error| Failure::Refused(error.to_string()))?;
    socket::send(socket.as_fd(), &message, fds).map_err(lost)?;
    let mut buffer = [0u8; 4096];
    let length = loop {
        match socket::receive(socket.as_fd(), &mut buffer) {
            Ok((0, _)) => return Err(lost(Errno::EPIPE)),
            Ok((length, _)) => break length,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(lost(errno)),
        }
    };
    match serde_json::from_slice(buffer.get(..length).unwrap_or(&[])) {
        Ok(TemplateReply { error: None }) => Ok(()),
        Ok(TemplateReply { error: Some(text) }) => Err(Failure::Refused(text)),
        Err(error) => Err(Failure::Lost(error.into())),
    }
}
