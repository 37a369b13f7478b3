//! In whose name a component stands for election. A data directory is a slot that one process at a time can have: what
//! has the slot bears the slot's identity, and takes over at once the lease that its killed predecessor held.
//!
//! Two living processes never bear the same identity: it is made of what the lock on the slot's file excludes by, the
//! file itself (device and inode) on this running kernel (boot id). A copy of the directory, or the same directory seen
//! from another machine, is another slot. After a reboot it is another one too, and the old lease is waited out.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

use anyhow::{Context, Result};
use nix::fcntl::Flock;
use sha2::{Digest, Sha256};

use crate::layout::{Layout, wait_for};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A component's slot, or a place beside it. Must live as long as the process may lead.
pub struct Slot {
    identity: String,
    _lock: Option<Flock<File>>,
}

impl Slot {
    /// Takes a component's slot of a data directory. When another process has it, this one is a further candidate, with
    /// an identity that nobody had before.
    ///
    /// # Errors
    /// The slot's file cannot be made or locked.
    pub fn take(layout: &Layout, component: &str, host: &str) -> Result<Self> {
        let path = layout.dir().join(format!("run/{component}.slot"));
        let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = open.with_context(|| format!("open {}", path.display()))?;
        let meta = file.metadata().with_context(|| format!("look at {}", path.display()))?;
        let lock = wait_for(file).with_context(|| format!("lock {}", path.display()))?;
        let boot = fs::read_to_string(BOOT_ID).with_context(|| format!("read {BOOT_ID}"))?;
        let identity = match lock {
            Some(_) => format!("{host}_{}", digest(&format!("{} {} {}", boot.trim(), meta.dev(), meta.ino()))),
            None => format!("{host}_{}", uuid::Uuid::new_v4()),
        };
        Ok(Self { identity, _lock: lock })
    }

    /// What stands in the Lease as its holder.
    pub fn identity(&self) -> &str {
        &self.identity
    }
}

/// The first 16 hex digits of a text's SHA-256.
fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_next_process_has_the_same_identity_and_one_beside_it_never() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(&dir.path().join("a")).unwrap();
        let first = Slot::take(&layout, "scheduler", "host").unwrap();
        let beside = Slot::take(&layout, "scheduler", "host").unwrap();
        assert_ne!(first.identity(), beside.identity());
        let identity = first.identity().to_owned();
        assert!(identity.starts_with("host_"));
        drop(first);
        assert_eq!(Slot::take(&layout, "scheduler", "host").unwrap().identity(), identity);
        let copy = Layout::create(&dir.path().join("b")).unwrap();
        assert_ne!(Slot::take(&copy, "scheduler", "host").unwrap().identity(), identity, "another directory");
    }
}
