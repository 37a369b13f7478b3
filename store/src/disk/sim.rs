//! A disk in memory that fails on demand: full, broken, or without power at any operation. What was not synced is kept
//! sector by sector, or not, by the seed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, DiskFile};

const SECTOR: usize = 512;

/// xorshift64*: the same seed gives the same run.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }
}

#[derive(Clone, Default)]
struct Content {
    durable: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

impl Content {
    fn now(&self) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        self.pending.iter().for_each(|(offset, written)| put(&mut bytes, *offset, written));
        bytes
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    if bytes.len() < offset + written.len() {
        bytes.resize(offset + written.len(), 0);
    }
    bytes[offset..offset + written.len()].copy_from_slice(written);
}

#[derive(Default)]
struct Inner {
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    contents: Vec<Content>,
    /// Files cannot grow.
    full: bool,
    fail_sync: bool,
    /// Operations until the power is cut.
    power: Option<u64>,
    operations: u64,
}

impl Inner {
    fn step(&mut self) -> io::Result<()> {
        self.operations += 1;
        match &mut self.power {
            Some(0) => Err(io::Error::other("no power")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[derive(Clone, Default)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

struct SimFile {
    inner: Arc<Mutex<Inner>>,
    content: usize,
}

impl SimDisk {
    pub fn set_full(&self, full: bool) {
        self.inner.lock().full = full;
    }

    pub fn set_fail_sync(&self, fail: bool) {
        self.inner.lock().fail_sync = fail;
    }

    pub fn cut_power_after(&self, operations: u64) {
        self.inner.lock().power = Some(operations);
    }

    /// Number of operations so far.
    pub fn operations(&self) -> u64 {
        self.inner.lock().operations
    }

    /// The power comes back: of what was not synced, some sectors are there and some are not.
    pub fn power_cycle(&self, random: &mut Random) {
        let mut inner = self.inner.lock();
        inner.power = None;
        for content in &mut inner.contents {
            for (offset, written) in std::mem::take(&mut content.pending) {
                let mut at = offset;
                while at < offset + written.len() {
                    let end = ((at / SECTOR + 1) * SECTOR).min(offset + written.len());
                    if random.below(2) == 0 {
                        put(&mut content.durable, at, &written[at - offset..end - offset]);
                    }
                    at = end;
                }
            }
        }
        if random.below(2) == 0 {
            inner.names = inner.durable_names.clone();
        } else {
            inner.durable_names = inner.names.clone();
        }
    }

    /// Changes the stored bytes behind everyone's back.
    pub fn corrupt(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.inner.lock();
        let content = inner.names[path];
        let mut bytes = inner.contents[content].now();
        change(&mut bytes);
        inner.contents[content] = Content { durable: bytes, pending: Vec::new() };
    }

    /// An independent copy of everything.
    pub fn fork(&self) -> SimDisk {
        let inner = self.inner.lock();
        let copy = Inner {
            names: inner.names.clone(),
            durable_names: inner.durable_names.clone(),
            contents: inner.contents.clone(),
            ..Inner::default()
        };
        SimDisk { inner: Arc::new(Mutex::new(copy)) }
    }

    fn content(&self, path: &Path) -> io::Result<usize> {
        self.inner.lock().names.get(path).copied().ok_or(io::ErrorKind::NotFound.into())
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        self.inner.lock().step()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let inner = self.inner.lock();
        let names = inner.names.keys().filter(|name| name.parent() == Some(path));
        Ok(names.filter_map(|name| Some(name.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut inner = self.inner.lock();
        inner.step()?;
        if inner.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.contents.push(Content::default());
        let content = inner.contents.len() - 1;
        inner.names.insert(path.to_owned(), content);
        Ok(Box::new(SimFile { inner: self.inner.clone(), content }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let content = self.content(path)?;
        Ok(Box::new(SimFile { inner: self.inner.clone(), content }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let content = self.content(path)?;
        Ok(self.inner.lock().contents[content].now())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.step()?;
        let content = inner.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        inner.names.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.step()?;
        inner.names.remove(path).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.step()?;
        let inside = |name: &PathBuf| name.parent() == Some(path);
        let current: Vec<_> =
            inner.names.iter().filter(|(name, _)| inside(name)).map(|(n, c)| (n.clone(), *c)).collect();
        inner.durable_names.retain(|name, _| !inside(name));
        inner.durable_names.extend(current);
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.inner.lock();
        // A write that loses power in the middle has reached the disk's cache or not, which the sectors decide.
        let result = inner.step();
        let full = inner.full;
        let content = &mut inner.contents[self.content];
        let offset = offset as usize;
        if full && offset + bytes.len() > content.now().len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        content.pending.push((offset, bytes.to_vec()));
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.step()?;
        if inner.fail_sync {
            return Err(io::Error::other("sync failed"));
        }
        let Content { durable, pending } = &mut inner.contents[self.content];
        pending.drain(..).for_each(|(offset, written)| put(durable, offset, &written));
        Ok(())
    }
}
