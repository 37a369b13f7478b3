//! Pipes of which this side does not block.

use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;

/// (ours to read, theirs to write)
pub fn pair() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    super::socket::set_nonblocking(&ours)?;
    Ok((ours, theirs))
}
