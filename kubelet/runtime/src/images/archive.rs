//! Loads images from tar files: docker-archive (`docker save`, also its legacy layouts with links between layers) and
//! OCI image layouts, plain or compressed, with any number of images and tags.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use tar::EntryType;

use super::bounds::{Meter, Metered, Room, zstd_decoder};
use super::config::ImageConfig;
use super::manifest::{Descriptor, Image, Manifest, Platform};
use super::reference::{Reference, is_digest};
use super::{Store, digest_of};

/// Longest manifest, index or config.
const DOCUMENT_LIMIT: u64 = 16 << 20;
/// Most entries of an archive, and the memory that their names may take, in bytes.
const ENTRIES_LIMIT: usize = 100_000;
const NAMES_LIMIT: usize = 16 << 20;
/// Links between entries followed for one name.
const LINKS_LIMIT: usize = 8;
/// Layers unpacked at the same time.
const PARALLEL: usize = 4;

/// The archive's files by name.
struct Archive {
    file: Arc<File>,
    entries: BTreeMap<String, Place>,
}

enum Place {
    /// Offset and length in the file.
    At(u64, u64),
    Link(String),
}

/// One image found in the archive.
struct Found {
    config: Vec<u8>,
    /// Names of the layers' entries, and their digests where the archive gives them.
    layers: Vec<(String, Option<String>)>,
    tags: Vec<String>,
    digests: Vec<String>,
}

pub(super) fn load(store: &Store, path: &Path) -> io::Result<Vec<String>> {
    let temporary = store.temporary()?;
    let file = plain(File::open(path)?, &temporary.path)?;
    let archive = Archive::read(file)?;
    let mut whole = Vec::new();
    for found in archive.images()? {
        let config = ImageConfig::parse(&found.config)?;
        if config.diff_ids.len() != found.layers.len() {
            return Err(bad("an image has another number of layers than its config says"));
        }
        unpack_layers(store, &archive, &config, &found.layers)?;
        whole.push((found, config));
    }
    // No image is there before all of them are good.
    let mut loaded = Vec::new();
    for (found, config) in whole {
        let names = found.tags.clone();
        let id = store.commit(&found.config, config.chain_ids(), found.tags, found.digests)?;
        if names.is_empty() { loaded.push(id) } else { loaded.extend(names) }
    }
    Ok(loaded)
}

fn bad(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The file itself, or, when it is compressed, its content in a temporary one: it is read at many places.
fn plain(mut file: File, temporary: &Path) -> io::Result<File> {
    let mut start = [0u8; 4];
    let length = file.read(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    let mut reader: Box<dyn Read> = match start.get(..length) {
        Some([0x1f, 0x8b, ..]) => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some([0x28, 0xb5, 0x2f, 0xfd]) => Box::new(zstd_decoder(file)?),
        _ => return Ok(file),
    };
    let mut out = File::options().read(true).write(true).create_new(true).open(temporary.join("archive.tar"))?;
    let mut room = Room::new(out.try_clone()?);
    io::copy(&mut reader, &mut room.careful(&mut out))?;
    Ok(out)
}

fn unpack_layers(
    store: &Store,
    archive: &Archive,
    config: &ImageConfig,
    layers: &[(String, Option<String>)],
) -> io::Result<()> {
    let chain_ids = config.chain_ids();
    let jobs: Vec<_> = chain_ids.iter().zip(&config.diff_ids).zip(layers).collect();
    let missing: Vec<_> = jobs.into_iter().filter(|((chain_id, _), _)| !store.has_layer(chain_id)).collect();
    for group in missing.chunks(PARALLEL) {
        let results: Vec<io::Result<()>> = std::thread::scope(|scope| {
            let unpack = |((chain_id, diff_id), (name, blob)): &((&String, &String), &(String, Option<String>))| {
                let layer = archive.open(name)?;
                store
                    .unpack(layer, chain_id, blob.as_deref(), diff_id)
                    .map_err(|error| io::Error::new(error.kind(), format!("layer {name}: {error}")))
            };
            let threads: Vec<_> = group.iter().map(|job| scope.spawn(move || unpack(job))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(bad("unpacking failed")))).collect()
        });
        results.into_iter().collect::<io::Result<()>>()?;
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Archive {
    fn read(mut file: File) -> io::Result<Archive> {
        file.seek(SeekFrom::Start(0))?;
        let mut entries = BTreeMap::new();
        let meter = Meter::default();
        let mut archive = tar::Archive::new(Metered(&file, &meter));
        let mut iterator = archive.entries_with_seek()?;
        let mut names = 0;
        loop {
            meter.headers();
            let Some(entry) = iterator.next() else { break };
            let entry = entry?;
            let name = normal(&String::from_utf8_lossy(&entry.path_bytes()));
            let place = match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => Place::At(entry.raw_file_position(), entry.size()),
                EntryType::Symlink => {
                    let target = String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default()).into_owned();
                    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                    Place::Link(normal(&format!("{folder}/{target}")))
                }
                EntryType::Link => {
                    Place::Link(normal(&String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default())))
                }
                _ => continue,
            };
            names += name.len() + if let Place::Link(target) = &place { target.len() } else { 0 };
            entries.insert(name, place);
            if entries.len() > ENTRIES_LIMIT || names > NAMES_LIMIT {
                return Err(bad("the archive has too many entries"));
            }
        }
        Ok(Archive { file: Arc::new(file), entries })
    }

    fn open(&self, name: &str) -> io::Result<Section> {
        let mut name = normal(name);
        for _ in 0..LINKS_LIMIT {
            match self.entries.get(&name) {
                Some(Place::At(offset, length)) => {
                    return Ok(Section {
                        file: Arc::clone(&self.file),
                        at: *offset,
                        end: offset.saturating_add(*length),
                    });
                }
                Some(Place::Link(target)) => name.clone_from(target),
                None => break,
            }
        }
        Err(bad(&format!("the archive has no {name}")))
    }

    fn document(&self, name: &str) -> io::Result<Vec<u8>> {
        let section = self.open(name)?;
        if section.end - section.at > DOCUMENT_LIMIT {
            return Err(bad(&format!("{name} is larger than {DOCUMENT_LIMIT} bytes, which is the limit")));
        }
        let mut bytes = Vec::new();
        { section }.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A document under its digest, which must be its content's, as must its size where that is said.
    fn blob(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        let digest = descriptor.digest.as_str();
        if !is_digest(digest) {
            return Err(bad(&format!("{digest} is no sha256 digest")));
        }
        let bytes = self.document(&blob_name(digest))?;
        let actual = digest_of(&bytes);
        if actual != digest {
            return Err(bad(&format!("the content of blob {digest} has digest {actual}")));
        }
        if let Some(size) = descriptor.size.filter(|size| *size != bytes.len() as u64) {
            return Err(bad(&format!("blob {digest} has {} bytes, not {size} as its descriptor says", bytes.len())));
        }
        Ok(bytes)
    }

    fn images(&self) -> io::Result<Vec<Found>> {
        let mut found = if self.entries.contains_key("index.json") { self.oci_images()? } else { Vec::new() };
        if !self.entries.contains_key("manifest.json") {
            return if found.is_empty() { Err(bad("neither a docker-archive nor an OCI layout")) } else { Ok(found) };
        }
        let list: Vec<DockerImage> = parse(&self.document("manifest.json")?, "manifest.json")?;
        for image in list {
            let tags = whole_tags(image.repo_tags.unwrap_or_default())?;
            let config = self.document(&image.config)?;
            check_config_name(&image.config, &config)?;
            // `docker save` writes both; the layout has the digests, this list the tags.
            match found.iter_mut().find(|other| other.config == config) {
                Some(other) => other.tags.extend(tags),
                None => {
                    let layers = image.layers.into_iter().map(|name| (name, None)).collect();
                    found.push(Found { config, layers, tags, digests: Vec::new() });
                }
            }
        }
        for image in &mut found {
            image.tags.sort();
            image.tags.dedup();
        }
        Ok(found)
    }

    fn oci_images(&self) -> io::Result<Vec<Found>> {
        let Manifest::Index(list) = manifest(&self.document("index.json")?, "index.json")? else {
            return Err(bad("index.json is no index"));
        };
        let mut found = Vec::new();
        for descriptor in list {
            let names = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
            let name = names.iter().find_map(|key| descriptor.annotations.as_ref()?.get(*key)).cloned();
            // A bare tag, as skopeo writes, names no image.
            let name = name.filter(|name| name.contains(['/', ':']));
            let tags = whole_tags(name.into_iter().collect())?;
            if let Some(image) = self.oci_image(&descriptor, tags)? {
                found.push(image);
            }
        }
        Ok(found)
    }

    /// `None` when it is no image, such as an attestation.
    fn oci_image(&self, descriptor: &Descriptor, tags: Vec<String>) -> io::Result<Option<Found>> {
        let mut digest = descriptor.digest.clone();
        let mut document = manifest(&self.blob(descriptor)?, &digest)?;
        if let Manifest::Index(list) = document {
            let ours = list.into_iter().find(|entry| {
                entry.platform.as_ref().is_none_or(Platform::is_ours)
                    && self.entries.contains_key(&blob_name(&entry.digest))
            });
            let ours = ours.ok_or_else(|| bad("the archive has no image for linux and this machine's architecture"))?;
            document = manifest(&self.blob(&ours)?, &ours.digest)?;
            digest = ours.digest;
        }
        let Manifest::Image(Image { config, layers }) = document else { return Ok(None) };
        // OCI's and Docker's; an artifact's config is of another type.
        let kinds = ["image.config.v1+json", "image.v1+json"];
        if !config.media_type.is_empty() && !kinds.iter().any(|kind| config.media_type.ends_with(kind)) {
            return Ok(None);
        }
        let repository = |tag: &String| Reference::parse(tag).map(|reference| reference.name());
        let digests = tags.iter().filter_map(|tag| repository(tag).ok()).map(|name| format!("{name}@{digest}"));
        Ok(Some(Found {
            config: self.blob(&config)?,
            layers: layers.into_iter().map(|layer| (blob_name(&layer.digest), Some(layer.digest))).collect(),
            digests: digests.collect(),
            tags,
        }))
    }
}

fn blob_name(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn manifest(bytes: &[u8], name: &str) -> io::Result<Manifest> {
    Manifest::parse(bytes).map_err(|error| bad(&format!("{name}: {error}")))
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], name: &str) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(|error| bad(&format!("read {name}: {error}")))
}

/// A config named by its digest must have it.
fn check_config_name(name: &str, config: &[u8]) -> io::Result<()> {
    let stem = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".json");
    let named = format!("sha256:{stem}");
    if is_digest(&named) && digest_of(config) != named {
        return Err(bad(&format!("the content of image config {name} has digest {}", digest_of(config))));
    }
    Ok(())
}

fn whole_tags(names: Vec<String>) -> io::Result<Vec<String>> {
    let whole = |name: String| Reference::parse(&name).map_err(|text| bad(&text));
    names.into_iter().map(|name| Ok(whole(name)?.tagged().unwrap_or_default())).collect()
}

/// `./a/../b` as `b`.
fn normal(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A run of bytes in the archive.
struct Section {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        let read = self.file.read_at(buffer.get_mut(..length).unwrap_or(&mut []), self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
