//! Images: their names, their layers on disk, and how they come here: from a registry or from an archive. Works beside
//! a running node as well as without one.

mod archive;
mod bounds;
mod config;
mod index;
mod layer;
mod manifest;
mod pull;
pub(crate) mod reference;
mod registry;
mod transfer;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

pub use config::ImageConfig;
use index::IndexFile;
pub use index::{Images, Record};
pub use layer::Unpacked;
use reference::Reference;

use crate::{cri, files, syscall};

/// A place to ask before, or instead of, a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// `docker.io`
    pub registry: String,
    /// `http://HOST:PORT` or `https://HOST[:PORT]`.
    pub url: String,
}

impl Mirror {
    /// Reads `docker.io=http://HOST:PORT`.
    pub fn parse(text: &str) -> Result<Mirror, String> {
        let bad = || format!("invalid registry mirror {text:?}: REGISTRY=http[s]://HOST[:PORT] is wanted");
        let (registry, url) = text.split_once('=').ok_or_else(bad)?;
        let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).ok_or_else(bad)?;
        if registry.is_empty() || host.trim_end_matches('/').is_empty() || host.trim_end_matches('/').contains('/') {
            return Err(bad());
        }
        Ok(Mirror { registry: registry.to_owned(), url: url.trim_end_matches('/').to_owned() })
    }
}

/// Reads a name that somebody wrote, for the fuzz targets.
///
/// # Errors
/// It is no name of an image.
pub fn untrusted_reference(text: &str) -> Result<String, String> {
    let reference = Reference::parse(text)?;
    Ok(format!("{} {:?} {:?}", reference.name(), reference.tagged(), reference.digested()))
}

/// Reads a manifest or index that a registry sent, for the fuzz targets.
///
/// # Errors
/// It is none.
pub fn untrusted_manifest(bytes: &[u8]) -> io::Result<String> {
    manifest::Manifest::parse(bytes).map(|manifest| format!("{manifest:?}"))
}

/// The images below one directory.
pub struct Store {
    root: PathBuf,
    index: IndexFile,
    mirrors: Vec<Mirror>,
    pulls: transfer::Turns,
}

/// Directories of layers that containers are made of, in the containers' own state.
const CONTAINERS: &str = "containers";

impl Store {
    /// `root` is DIR/runtime; made if missing.
    pub fn open(root: &Path, mirrors: Vec<Mirror>) -> io::Result<Store> {
        for directory in ["", "content/sha256", "layers", "tmp"] {
            files::private_directory(&root.join(directory))?;
        }
        let store =
            Store { root: root.to_owned(), index: IndexFile::new(root), mirrors, pulls: transfer::Turns::default() };
        store.clear_temporary()?;
        Ok(store)
    }

    /// Removes what killed processes left half-made. What others work on is locked.
    fn clear_temporary(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.root.join("tmp"))? {
            let path = entry?.path();
            let Ok(directory) = File::open(&path) else { continue };
            if Flock::lock(directory, FlockArg::LockExclusiveNonblock).is_ok() {
                files::remove(&path)?;
            }
        }
        Ok(())
    }

    /// A directory that is removed with the value.
    fn temporary(&self) -> io::Result<Temporary> {
        let path = self.root.join("tmp").join(uuid::Uuid::new_v4().simple().to_string());
        files::private_directory(&path)?;
        let lock = Flock::lock(File::open(&path)?, FlockArg::LockShared).map_err(|(_, errno)| errno)?;
        Ok(Temporary { path, _lock: lock })
    }

    fn blob_path(&self, digest: &str) -> PathBuf {
        self.root.join("content").join(digest.replacen(':', "/", 1))
    }

    /// Keeps a small blob (a config or manifest), whose digest is made here.
    fn put_blob(&self, bytes: &[u8]) -> io::Result<String> {
        let digest = digest_of(bytes);
        files::replace_durably(&self.blob_path(&digest), bytes)?;
        Ok(digest)
    }

    fn layer_path(&self, chain_id: &str) -> PathBuf {
        self.root.join("layers").join(chain_id.trim_start_matches("sha256:"))
    }

    /// Directories to mount, lowest first.
    pub fn layer_directories(&self, record: &Record) -> Vec<PathBuf> {
        record.layers.iter().map(|chain_id| self.layer_path(chain_id).join("fs")).collect()
    }

    fn has_layer(&self, chain_id: &str) -> bool {
        self.layer_path(chain_id).join("size").exists()
    }

    /// Unpacks a layer under its chain id, unless it is there. `blob` and `diff_id` are what its digests must be.
    fn unpack(&self, stream: impl io::Read, chain_id: &str, blob: Option<&str>, diff_id: &str) -> io::Result<()> {
        let temporary = self.temporary()?;
        let directory = temporary.path.join("fs");
        fs::create_dir(&directory)?;
        set_open_mode(&directory)?;
        let unpacked = layer::unpack(stream, &directory)?;
        let mismatch = |what: &str, wanted: &str, got: &str| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{what} is {got}, not {wanted} as it should be"))
        };
        if let Some(blob) = blob.filter(|blob| *blob != unpacked.digest) {
            return Err(mismatch("the digest of a layer", blob, &unpacked.digest));
        }
        if diff_id != unpacked.diff_id {
            return Err(mismatch("the digest of an unpacked layer", diff_id, &unpacked.diff_id));
        }
        fs::write(temporary.path.join("size"), unpacked.size.to_string())?;
        let target = self.layer_path(chain_id);
        match fs::rename(&temporary.path, &target) {
            // Someone else was faster with the same layer.
            Err(_) if self.has_layer(chain_id) => Ok(()),
            other => other,
        }
    }

    fn layer_size(&self, chain_id: &str) -> u64 {
        let text = fs::read_to_string(self.layer_path(chain_id).join("size")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Makes an image known once all its layers are there, on disk. Returns its id.
    fn commit(
        &self,
        config: &[u8],
        layers: Vec<String>,
        tags: Vec<String>,
        digests: Vec<String>,
    ) -> io::Result<String> {
        let id = self.put_blob(config)?;
        syscall::fs::sync_filesystem(&File::open(&self.root)?)?;
        let size = layers.iter().map(|chain_id| self.layer_size(chain_id)).sum::<u64>() + config.len() as u64;
        self.index.change(|images| {
            if let Some(gone) = layers.iter().find(|chain_id| !self.has_layer(chain_id)) {
                let text = format!("layer {gone} was removed while the image was brought in; try again");
                return Err(io::Error::new(io::ErrorKind::NotFound, text));
            }
            images.put(&id, Record { tags, digests, layers, size });
            Ok(())
        })??;
        Ok(id)
    }

    /// By id or reference.
    pub fn find(&self, name: &str) -> io::Result<Option<(String, Record)>> {
        let images = self.index.read()?;
        Ok(images.find(name).map(|(id, record)| (id.to_owned(), record.clone())))
    }

    /// All images, by id.
    pub fn all(&self) -> io::Result<Arc<Images>> {
        self.index.read()
    }

    pub fn config(&self, id: &str) -> io::Result<ImageConfig> {
        let path = self.blob_path(id);
        let bytes = fs::read(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("read image config {}: {error}", path.display())))?;
        if digest_of(&bytes) != id {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("image config {id} is damaged on disk")));
        }
        ImageConfig::parse(&bytes)
    }

    pub fn status(&self, name: &str) -> io::Result<Option<cri::Image>> {
        let Some((id, record)) = self.find(name)? else { return Ok(None) };
        self.describe(&id, &record).map(Some)
    }

    pub fn list(&self) -> io::Result<Vec<cri::Image>> {
        self.index.read()?.by_id.iter().map(|(id, record)| self.describe(id, record)).collect()
    }

    fn describe(&self, id: &str, record: &Record) -> io::Result<cri::Image> {
        let user = self.config(id)?.user;
        let name = user.split(':').next().unwrap_or("");
        let uid = if name.is_empty() { Some(0) } else { name.parse().ok() };
        Ok(cri::Image {
            id: id.to_owned(),
            repo_tags: record.tags.clone(),
            repo_digests: record.digests.clone(),
            size: record.size,
            uid,
            username: if uid.is_none() { name.to_owned() } else { String::new() },
        })
    }

    /// Removes an image with all its names, and layers that neither another image nor a container has. Gone already is
    /// fine.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let trash = self.temporary()?;
        self.index.change(|images| {
            let Some(id) = images.find(name).map(|(id, _)| id.to_owned()) else { return Ok(()) };
            let Some(record) = images.by_id.remove(&id) else { return Ok(()) };
            let mut used = self.layers_of_containers();
            used.extend(images.by_id.values().flat_map(|record| record.layers.iter().cloned()));
            for chain_id in record.layers.iter().filter(|chain_id| !used.contains(*chain_id)) {
                let from = self.layer_path(chain_id);
                match fs::rename(&from, trash.path.join(chain_id.trim_start_matches("sha256:"))) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            files::remove(&self.blob_path(&id))
        })?
    }

    /// Takes one name off an image, and the image with its last; an id, or the beginning of one, takes all. False:
    /// there is no such image.
    pub fn remove_name(&self, name: &str) -> io::Result<bool> {
        let images = self.index.read()?;
        let Some(id) = images.find(name).map(|(id, _)| id).or_else(|| images.begins_with(name)) else {
            return Ok(false);
        };
        let tag = Reference::parse(name).ok().and_then(|reference| reference.tagged());
        let others_stay = self.index.change(|images| {
            let record = images.by_id.get_mut(id).filter(|record| record.tags.len() > 1);
            record.is_some_and(|record| {
                let before = record.tags.len();
                record.tags.retain(|known| Some(known) != tag.as_ref());
                record.tags.len() < before
            })
        })?;
        if !others_stay {
            self.remove(id)?;
        }
        Ok(true)
    }

    fn layers_of_containers(&self) -> BTreeSet<String> {
        let mut used = BTreeSet::new();
        for entry in fs::read_dir(self.root.join(CONTAINERS)).into_iter().flatten().flatten() {
            let text = fs::read(entry.path().join("state.json")).unwrap_or_default();
            let state: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
            let layers = state.get("layers").and_then(serde_json::Value::as_array);
            used.extend(layers.into_iter().flatten().filter_map(|layer| layer.as_str().map(str::to_owned)));
        }
        used
    }

    /// Loads a docker-archive or an OCI layout. Returns the names, or ids where there are none, of what came.
    pub fn load(&self, file: &Path) -> io::Result<Vec<String>> {
        archive::load(self, file)
            .map_err(|error| io::Error::new(error.kind(), format!("load {}: {error}", file.display())))
    }

    /// Brings an image from its registry, or a mirror; returns its id. Two pulls of the same wait for each other.
    pub async fn pull(self: &Arc<Self>, name: &str, auth: Option<cri::Auth>) -> cri::Result<String> {
        let reference = Reference::parse(name).map_err(cri::Error::Image)?;
        let turn = self.pulls.of(&reference.to_string());
        let _mine = turn.lock().await;
        pull::pull(self, &reference, auth).await
    }
}

struct Temporary {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What is left is cleared at the next start.
        drop(files::remove(&self.path));
    }
}

/// A layer's root is the container's `/`, which others than root have to enter.
fn set_open_mode(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// `sha256:…` of the bytes.
pub fn digest_of(bytes: &[u8]) -> String {
    hex_digest(Sha256::new_with_prefix(bytes))
}

fn hex_digest(hash: Sha256) -> String {
    use std::fmt::Write;
    let mut text = String::from("sha256:");
    for byte in hash.finalize() {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
