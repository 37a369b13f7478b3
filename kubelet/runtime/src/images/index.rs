//! What images are there: one file, replaced whole under a lock, so that `cox image` and a running node share it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::reference::Reference;
use crate::files;

/// One image, under the digest of its config.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Whole references with tag.
    pub tags: Vec<String>,
    /// Whole references with the manifest's digest.
    pub digests: Vec<String>,
    /// Chain ids of its layers, lowest first: names of directories below `layers`.
    pub layers: Vec<String>,
    /// Bytes of the unpacked layers.
    pub size: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    pub by_id: BTreeMap<String, Record>,
}

impl Images {
    /// Adds what an image is also called. A tag moves away from the image that had it.
    pub fn put(&mut self, id: &str, fresh: Record) {
        for (other, record) in &mut self.by_id {
            if other != id {
                record.tags.retain(|tag| !fresh.tags.contains(tag));
            }
        }
        let record = self.by_id.entry(id.to_owned()).or_default();
        for tag in fresh.tags {
            if !record.tags.contains(&tag) {
                record.tags.push(tag);
            }
        }
        for digest in fresh.digests {
            if !record.digests.contains(&digest) {
                record.digests.push(digest);
            }
        }
        record.layers = fresh.layers;
        record.size = fresh.size;
    }

    /// By id, with or without `sha256:`, or by reference.
    pub fn find(&self, name: &str) -> Option<(&str, &Record)> {
        let id = if name.starts_with("sha256:") { name.to_owned() } else { format!("sha256:{name}") };
        if let Some((id, record)) = self.by_id.get_key_value(&id) {
            return Some((id, record));
        }
        let reference = Reference::parse(name).ok()?;
        let (tagged, digested) = (reference.tagged(), reference.digested());
        let matches = |record: &&Record| match &digested {
            Some(digest) => record.digests.contains(digest),
            None => tagged.as_ref().is_some_and(|tag| record.tags.contains(tag)),
        };
        self.by_id.iter().find(|(_, record)| matches(record)).map(|(id, record)| (id.as_str(), record))
    }

    /// The one image whose id begins so, as people copy it from a list.
    pub fn begins_with(&self, id: &str) -> Option<&str> {
        let prefix = format!("sha256:{}", id.trim_start_matches("sha256:"));
        let mut found = self.by_id.keys().filter(|known| known.starts_with(&prefix));
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }
}

/// The file, and what was last read of it.
pub struct IndexFile {
    path: PathBuf,
    lock: PathBuf,
    cached: Mutex<Option<(Stamp, Arc<Images>)>>,
}

/// Tells whether the file was replaced.
type Stamp = (u64, i64, i64, u64);

impl IndexFile {
    pub fn new(root: &std::path::Path) -> IndexFile {
        IndexFile { path: root.join("images.json"), lock: root.join("images.lock"), cached: Mutex::new(None) }
    }

    /// What is there now.
    pub fn read(&self) -> io::Result<Arc<Images>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Arc::default()),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let stamp = (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len());
        let mut cached = self.cached.lock();
        if let Some((of, images)) = cached.as_ref().filter(|(of, _)| *of == stamp) {
            debug_assert_eq!(*of, stamp);
            return Ok(Arc::clone(images));
        }
        let text = io::read_to_string(file)?;
        let images: Arc<Images> = Arc::new(serde_json::from_str(&text).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("read {}: {error}", self.path.display()))
        })?);
        *cached = Some((stamp, Arc::clone(&images)));
        Ok(images)
    }

    /// Changes the file while no one else can.
    pub fn change<T>(&self, change: impl FnOnce(&mut Images) -> T) -> io::Result<T> {
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&self.lock)?;
        let _held = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| io::Error::from(errno))?;
        let mut images = (*self.read()?).clone();
        let result = change(&mut images);
        files::replace_durably(&self.path, &serde_json::to_vec_pretty(&images)?)?;
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn tagged(tags: &[&str]) -> Record {
        Record { tags: tags.iter().map(|tag| (*tag).to_owned()).collect(), ..Record::default() }
    }

    #[test]
    fn a_tag_names_one_image() {
        let mut images = Images::default();
        let (a, b) = (format!("sha256:{}", "a".repeat(64)), format!("sha256:{}", "b".repeat(64)));
        images.put(&a, tagged(&["docker.io/library/x:latest", "docker.io/library/x:1"]));
        images.put(&b, tagged(&["docker.io/library/x:latest"]));
        assert_eq!(images.find("x").unwrap().0, b);
        assert_eq!(images.find("x:1").unwrap().0, a);
        assert_eq!(images.find(&a).unwrap().0, a);
        assert_eq!(images.find(&"b".repeat(64)).unwrap().0, b);
        assert!(images.find("y").is_none());
        assert!(images.find("not a name").is_none());
        assert_eq!((images.begins_with("bbbb"), images.begins_with("sha256:b")), (Some(&*b), Some(&*b)));
        assert!(images.begins_with("c").is_none() && images.begins_with("").is_none());
    }
}
