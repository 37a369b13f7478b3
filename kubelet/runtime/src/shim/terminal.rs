//! The terminal of a process, made in the container's devpts.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use crate::syscall::process;
use crate::syscall::terminal as kernel;

/// Device number of the terminal multiplexer, 5:2 (mknod_ptmx in the kernel's devpts).
const MULTIPLEXER: u64 = 0x502;

/// Opens a terminal, makes it this session's controlling one and the standard streams, and returns its master and
/// itself.
pub fn open(uid: u32) -> std::io::Result<(OwnedFd, OwnedFd)> {
    let master = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open("/dev/pts/ptmx")?;
    let metadata = master.metadata()?;
    if !metadata.file_type().is_char_device() || metadata.rdev() != MULTIPLEXER {
        return Err(std::io::Error::other("/dev/pts/ptmx is not a terminal multiplexer"));
    }
    let slave = kernel::peer(&master)?;
    nix::unistd::fchown(&slave, Some(nix::unistd::Uid::from_raw(uid)), None)?;
    kernel::take_control(&slave)?;
    for number in 0..3 {
        process::duplicate_onto(slave.as_raw_fd(), number)?;
    }
    Ok((master.into(), slave))
}
