//! How a process on its way to its program tells the shim what became of it. The channel is a socket pair whose far
//! end closes at exec: first its pid or that it is ready, and the terminal, if there is one; then either the end, which
//! means that the program runs, or a text that says why it does not.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::syscall::socket;

/// Longest text that is passed on.
const TEXT_LIMIT: usize = 4096;

/// The end that is inherited by the starting process.
#[derive(Clone, Copy)]
pub struct Sender(RawFd);

impl Sender {
    pub fn new(fd: &OwnedFd) -> Sender {
        Sender(fd.as_raw_fd())
    }

    pub fn pid(self, pid: i32) {
        self.send(&[b"P".as_slice(), &pid.to_ne_bytes()].concat(), &[]);
    }

    /// All that can go wrong now is the exec.
    pub fn ready(self) {
        self.send(b"R", &[]);
    }

    pub fn terminal(self, master: RawFd) {
        self.send(b"T", &[master]);
    }

    pub fn error(self, text: &str) {
        let text = text.as_bytes();
        let text = text.get(..TEXT_LIMIT).unwrap_or(text);
        self.send(&[b"E".as_slice(), text].concat(), &[]);
    }

    /// Nothing can be done here when the shim is gone, so the result is not looked at: the process ends anyway.
    fn send(self, message: &[u8], fds: &[RawFd]) {
        // SAFETY: the descriptor stays open until exec or exit; this process never closes it.
        let fd = unsafe { BorrowedFd::borrow_raw(self.0) };
        let _ = socket::send(fd, message, fds);
    }
}

/// The shim's end, with what has come so far.
pub struct Receiver {
    fd: OwnedFd,
    pub pid: Option<i32>,
    pub ready: bool,
    pub terminal: Option<OwnedFd>,
    pub error: Option<String>,
}

impl Receiver {
    /// `fd` must not block.
    pub fn new(fd: OwnedFd) -> Receiver {
        Receiver { fd, pid: None, ready: false, terminal: None, error: None }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Takes in what is there; true once the channel has ended.
    pub fn advance(&mut self) -> bool {
        let mut buffer = [0u8; TEXT_LIMIT + 1];
        loop {
            match socket::receive(self.fd.as_fd(), &mut buffer) {
                Ok((0, _)) => return true,
                Ok((length, mut fds)) => self.take(buffer.get(..length).unwrap_or(&[]), fds.pop()),
                Err(nix::errno::Errno::EAGAIN) => return false,
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => {
                    self.error.get_or_insert(format!("lost the starting process: {errno}"));
                    return true;
                }
            }
        }
    }

    fn take(&mut self, message: &[u8], fd: Option<OwnedFd>) {
        match message.split_first() {
            Some((b'P', pid)) => {
                self.pid = pid.try_into().ok().map(i32::from_ne_bytes);
            }
            Some((b'R', _)) => self.ready = true,
            Some((b'T', _)) => self.terminal = fd,
            Some((_, text)) => {
                self.error.get_or_insert(String::from_utf8_lossy(text).into_owned());
            }
            None => {}
        }
    }
}
