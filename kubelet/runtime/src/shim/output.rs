//! A container's output on its way to the log and to those who are attached.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use super::log::{Lines, LogFile, Stream, timestamp, unix_nanos};

/// Read at once; a pipe's page run.
const CHUNK: usize = 16 * 1024;
/// Chunks read in one go, so that one container cannot keep the others waiting.
const CHUNKS: usize = 8;
/// How far an attached client may be behind.
const PENDING_LIMIT: usize = 1 << 20;

/// One of a container's output streams.
pub struct Output {
    pub token: u64,
    pub stream: Stream,
    pub fd: OwnedFd,
    lines: Lines,
}

/// Where a client's copy of a stream goes.
pub struct Tap {
    pub token: u64,
    pub stream: Stream,
    pub fd: OwnedFd,
    pending: Vec<u8>,
    overrun: bool,
}

/// What became of a read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// There may be more.
    More,
    /// All that is there was taken.
    Idle,
    /// The other side is gone.
    Ended,
}

impl Output {
    pub fn new(token: u64, stream: Stream, fd: OwnedFd) -> Output {
        Output { token, stream, fd, lines: Lines::new(stream) }
    }

    /// Moves what is there to the log and the taps. Write errors of the log (a full disk) lose lines, not the
    /// container.
    pub fn pump(&mut self, log: &mut LogFile, taps: &mut [Tap]) -> Flow {
        let mut chunk = [0u8; CHUNK];
        let mut entries = Vec::new();
        let mut flow = Flow::More;
        for _ in 0..CHUNKS {
            let now = timestamp(unix_nanos());
            match nix::unistd::read(&self.fd, &mut chunk) {
                Ok(length) if length > 0 => {
                    let bytes = chunk.get(..length).unwrap_or(&[]);
                    self.lines.feed(bytes, &now, &mut entries);
                    for tap in taps.iter_mut().filter(|tap| tap.stream == self.stream) {
                        tap.write(bytes);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    flow = Flow::Idle;
                    break;
                }
                // A terminal whose last user has gone gives EIO.
                Ok(_) | Err(_) => {
                    self.lines.finish(&now, &mut entries);
                    flow = Flow::Ended;
                    break;
                }
            }
        }
        if !entries.is_empty() {
            drop(log.write(&entries));
        }
        flow
    }
}

impl Tap {
    pub fn new(token: u64, stream: Stream, fd: OwnedFd) -> Tap {
        Tap { token, stream, fd, pending: Vec::new(), overrun: false }
    }

    /// The client has not taken what it was given.
    pub fn blocked(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The client is so far behind that something of the output was not kept for it.
    pub fn overrun(&self) -> bool {
        self.overrun
    }

    fn write(&mut self, mut bytes: &[u8]) {
        while self.pending.is_empty() && !bytes.is_empty() {
            match nix::unistd::write(self.fd.as_fd(), bytes) {
                Ok(length) => bytes = bytes.get(length..).unwrap_or(&[]),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                // The poll reports the hang-up; what is written meanwhile has no reader.
                Err(_) => return,
            }
        }
        if self.pending.len() + bytes.len() <= PENDING_LIMIT {
            self.pending.extend_from_slice(bytes);
        } else {
            self.overrun = true;
        }
    }

    /// Tries again to hand over what is pending.
    pub fn flush(&mut self) -> Flow {
        while !self.pending.is_empty() {
            match nix::unistd::write(self.fd.as_fd(), &self.pending) {
                Ok(length) => drop(self.pending.drain(..length)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Flow::More,
                Err(_) => return Flow::Ended,
            }
        }
        self.pending = Vec::new();
        Flow::Idle
    }
}
