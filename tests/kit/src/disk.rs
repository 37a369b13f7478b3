//! A small disk: an ext4 file system in a file, mounted by a loop device.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::fcntl::{FallocateFlags, fallocate};
use tempfile::TempDir;

use crate::net::run;

/// Unmounted when dropped.
pub struct SmallDisk {
    home: TempDir,
}

impl SmallDisk {
    pub fn new(megabytes: u64) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("cox-disk-").tempdir().context("make a folder for the disk")?;
        let (image, disk) = (home.path().join("image"), Self { home });
        let file = File::create(&image).with_context(|| format!("make {}", image.display()))?;
        file.set_len(megabytes << 20).context("size the disk")?;
        std::fs::create_dir(disk.path()).context("make the mount point")?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-O", "^has_journal"]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(disk.path()))?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.home.path().join("mounted")
    }

    /// Takes all the room that is left.
    pub fn fill(&self) -> Result<()> {
        let filler = File::options().create(true).append(true).open(self.filler()).context("make the filler")?;
        let mut at = i64::try_from(filler.metadata().context("the filler's length")?.len()).context("length")?;
        let mut step = 16 << 20;
        while step >= 4096 {
            match fallocate(&filler, FallocateFlags::empty(), at, step) {
                Ok(()) => at += step,
                Err(nix::errno::Errno::ENOSPC) => step /= 2,
                Err(error) => return Err(error).context("fill the disk"),
            }
        }
        filler.sync_all().context("sync the filler")
    }

    /// Gives the room back.
    pub fn make_room(&self) -> Result<()> {
        std::fs::remove_file(self.filler()).context("remove the filler")
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mounted: &Path = &self.path();
        if let Err(error) = run(Command::new("umount").arg(mounted)) {
            eprintln!("{} stays mounted: {error:#}", mounted.display());
        }
    }
}
