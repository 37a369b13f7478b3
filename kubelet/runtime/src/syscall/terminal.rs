//! Terminals: the far end of a multiplexer, control, window size.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// Unlocks the terminal behind the master and opens it, without going through any path.
pub fn peer<F: AsRawFd>(master: &F) -> nix::Result<OwnedFd> {
    let unlock: libc::c_int = 0;
    // SAFETY: the integer lives until the call returns.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &unlock) })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: integers only.
    let raw = Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) })?;
    // SAFETY: the ioctl returned a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Makes it the controlling terminal of this process's session.
pub fn take_control(slave: &OwnedFd) -> nix::Result<()> {
    // SAFETY: integers only.
    Errno::result(unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

pub fn resize<F: AsRawFd>(master: &F, columns: u16, rows: u16) -> nix::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure lives until the call returns.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &size) }).map(drop)
}
