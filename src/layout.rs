//! The data directory: which file lies where, and the short id that marks what a cluster makes in the kernel.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

/// A killed process's lock lives on for a moment in a child that was forked and has not come to its exec yet.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Where a cluster lives when no `--data-dir` is given.
pub const DEFAULT_DIR: &str = "/var/lib/cox";
/// The store's place in it.
pub const DEFAULT_STORE: &str = "/var/lib/cox/store";

/// The folders and files of one cluster's data directory (docs/ARCHITECTURE.md lists them).
#[derive(Clone, Debug)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The layout at `dir`, which need not exist.
    pub fn at(dir: &Path) -> Result<Self> {
        let dir = match fs::canonicalize(dir) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::path::absolute(dir).with_context(|| format!("resolve {}", dir.display()))?
            }
            Err(error) => return Err(error).with_context(|| format!("resolve {}", dir.display())),
        };
        Ok(Self { dir })
    }

    /// Makes the directory, private to root, and resolves its path: the cluster's id depends on it.
    pub fn create(dir: &Path) -> Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(dir).with_context(|| format!("make the data directory {}", dir.display()))?;
        let layout = Self::at(dir)?;
        // First of all, so that whatever is made here can be told from what others keep in such a directory.
        let mark = layout.lock_file();
        private_file().open(&mark).with_context(|| format!("make {}", mark.display()))?;
        for sub in ["pki", "store", "runtime", "run", "kubelet", "kubelet/manifests", "log", "log/pods"] {
            let path = layout.dir.join(sub);
            builder.create(&path).with_context(|| format!("make {}", path.display()))?;
        }
        Ok(layout)
    }

    /// Whether a cluster, or its images, were ever here.
    pub fn is_ours(&self) -> bool {
        self.lock_file().exists()
    }

    fn lock_file(&self) -> PathBuf {
        self.dir.join("cox.lock")
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    pub fn pid_file(&self) -> PathBuf {
        self.dir.join("cox.pid")
    }

    pub fn started_as(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    pub fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    pub fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    pub fn runtime(&self) -> PathBuf {
        self.dir.join("runtime")
    }

    pub fn kubelet(&self) -> PathBuf {
        self.dir.join("kubelet")
    }

    pub fn log_file(&self) -> PathBuf {
        self.dir.join("log/cox.log")
    }

    pub fn pod_logs(&self) -> PathBuf {
        self.dir.join("log/pods")
    }

    /// First eight hex digits of the SHA-256 of the directory's path.
    pub fn cluster_id(&self) -> String {
        let digest = Sha256::digest(self.dir.as_os_str().as_encoded_bytes());
        digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Takes the directory for this process; a second one is refused. The lock goes with the process, however it ends.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.lock_file();
        let file = private_file().open(&path).with_context(|| format!("open {}", path.display()))?;
        match wait_for(file).with_context(|| format!("lock {}", path.display()))? {
            Some(lock) => Ok(Lock { _file: lock, pid_file: self.pid_file() }),
            None => match self.running() {
                Some(pid) => bail!("a cluster runs already from {} (process {pid})", self.dir.display()),
                None => bail!("{} is in use by another process", self.dir.display()),
            },
        }
    }

    /// Whether a process has the directory. It has it a moment longer than its pid is written.
    pub fn is_taken(&self) -> bool {
        let Ok(lock) = OpenOptions::new().write(true).open(self.lock_file()) else { return false };
        matches!(Flock::lock(lock, FlockArg::LockExclusiveNonblock), Err((_, Errno::EWOULDBLOCK)))
    }

    /// The process that runs this cluster, if one does.
    pub fn running(&self) -> Option<i32> {
        if !self.is_taken() {
            return None;
        }
        let written = fs::read_to_string(self.pid_file()).ok().and_then(|text| text.trim().parse().ok());
        written.or_else(|| holder(&self.lock_file()))
    }
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    options
}

/// The process that holds a file's lock, as the kernel lists them: on a full disk there may be no pid file.
fn holder(path: &Path) -> Option<i32> {
    use std::os::unix::fs::MetadataExt as _;

    use nix::sys::stat::{major, minor};
    let of = fs::metadata(path).ok()?;
    // As fs/locks.c writes it: inodes are told apart by their file system only.
    let file = format!("{:02x}:{:02x}:{}", major(of.dev()), minor(of.dev()), of.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let held = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut ours = held.filter(|words| words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&file.as_str()));
    ours.next()?.get(4)?.parse().ok()
}

/// Locks a file for this process; `None` when another process has it for longer than a killed one's children could.
pub fn wait_for(mut file: File) -> io::Result<Option<Flock<File>>> {
    let start = Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Some(lock)),
            Err((back, Errno::EWOULDBLOCK)) if start.elapsed() < LOCK_PATIENCE => file = back,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(errno.into()),
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

/// The data directory is this process's until the lock is dropped.
pub struct Lock {
    _file: Flock<File>,
    pid_file: PathBuf,
}

impl Lock {
    /// Writes who holds the lock. On a full disk the cluster does without.
    pub fn write_pid(&self) -> Result<()> {
        let pid = format!("{}\n", std::process::id());
        match write_private(&self.pid_file, pid.as_bytes()) {
            Err(error) if is_full(&error) => {
                // Another process's would be worse than none.
                if let Err(error) = fs::remove_file(&self.pid_file) {
                    tracing::debug!(%error, "remove the pid file");
                }
                Ok(())
            }
            other => other,
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Left behind it does no harm: `running` trusts the lock, not this file.
        if let Err(error) = fs::remove_file(&self.pid_file) {
            tracing::debug!(%error, "remove the pid file");
        }
    }
}

/// Writes a file that only root may read, whole or not at all.
pub fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    use std::io::Write as _;
    if fs::read(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    let tmp = path.with_extension("tmp");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&tmp)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&tmp, path)
    };
    let written = write();
    if written.is_err()
        && let Err(error) = fs::remove_file(&tmp)
    {
        tracing::debug!(%error, "remove a file that was not finished");
    }
    written.with_context(|| format!("write {}", path.display()))
}

/// As [`write_private`], but on a full disk what is there is kept: a cluster must come up on one, to be read.
/// Whether it was written.
pub fn write_or_keep(path: &Path, content: &[u8]) -> Result<bool> {
    match write_private(path, content) {
        Err(error) if is_full(&error) && path.exists() => {
            tracing::warn!(error = format!("{error:#}"), "the file stays as it was");
            Ok(false)
        }
        other => other.map(|()| true),
    }
}

/// Whether an error is that of a full disk.
pub fn is_full(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_second_process_is_refused_and_the_pid_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(&dir.path().join("cluster")).unwrap();
        assert_eq!(layout.running(), None);
        let lock = layout.lock().unwrap();
        lock.write_pid().unwrap();
        assert_eq!(layout.running(), Some(std::process::id().try_into().unwrap()));
        fs::remove_file(layout.pid_file()).unwrap();
        assert_eq!(layout.running(), Some(std::process::id().try_into().unwrap()), "the kernel knows it, too");
        assert!(layout.lock().is_err());
        drop(lock);
        assert_eq!(layout.running(), None);
        layout.lock().unwrap();
    }

    #[test]
    fn the_id_is_of_the_path_by_whatever_name() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(&dir.path().join("a")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("a"), dir.path().join("b")).unwrap();
        let other_name = Layout::create(&dir.path().join("b")).unwrap();
        assert_eq!(layout.cluster_id(), other_name.cluster_id());
        assert_eq!(layout.cluster_id().len(), 8);
    }
}
