//! Descriptors that tokio waits for.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// The descriptor should not block; it closes with the value.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor stays the same one, and open, until the value that owns it is dropped.
    Ok(unsafe { AsyncFd::register(fd) }?)
}
