//! inotify without blocking: what happens to files wakes a task.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;

/// The descriptor as tokio wants it.
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A set of watched files and directories.
pub struct Watch {
    inner: AsyncFd<Descriptor>,
}

impl Watch {
    /// # Errors
    /// The limit of inotify instances or files is reached.
    pub fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // SAFETY: `Descriptor` owns its file and always gives the same one, which is open until it is dropped.
        let inner = unsafe { AsyncFd::register(Descriptor(inotify)) }?;
        Ok(Self { inner })
    }

    /// # Errors
    /// The path is not there, or the limit of watches is reached.
    pub fn add(&self, path: &Path, flags: AddWatchFlags) -> io::Result<WatchDescriptor> {
        Ok(self.inner.get_ref().0.add_watch(path, flags)?)
    }

    /// What happened, at least one event.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub async fn changed(&self) -> io::Result<Vec<InotifyEvent>> {
        loop {
            let mut guard = self.inner.readable().await?;
            match guard.try_io(|fd| fd.get_ref().0.read_events().map_err(io::Error::from)) {
                Ok(events) => return events,
                Err(_would_block) => {}
            }
        }
    }
}
