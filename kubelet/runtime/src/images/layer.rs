//! Unpacks one layer into a directory of its own, fit to be a lower directory of an overlay. The archive is not
//! trusted: nothing it names is reached outside that directory, and what it says of its size is not believed.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};
use tar::{Entry, EntryType};

use super::bounds::{Meter, Metered, Room, zstd_decoder};
use crate::syscall::fs as at;

/// Most bytes and entries that one layer may unpack to.
const BYTES_LIMIT: u64 = 64 << 30;
const ENTRIES_LIMIT: u64 = 4_000_000;
/// Longest path of an entry, as in Linux.
const PATH_LIMIT: usize = libc::PATH_MAX as usize;
/// Memory for the paths of directories whose times are set in the end, in bytes.
const PATHS_LIMIT: usize = 64 << 20;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Overlayfs's own marks; an archive does not set them.
const RESERVED_XATTRS: [&str; 2] = ["trusted.overlay.", "user.overlay."];

/// What was unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Digest of the bytes as they came.
    pub digest: String,
    /// Digest of the archive without compression.
    pub diff_id: String,
    /// Bytes of its files.
    pub size: u64,
}

/// Unpacks the stream, of which compression is told by its first bytes, into `directory`, which is empty.
pub fn unpack(stream: impl Read, directory: &Path) -> io::Result<Unpacked> {
    let mut outer = Hashing::new(stream);
    let mut start = [0u8; 4];
    let length = read_start(&mut outer, &mut start)?;
    let whole = start.get(..length).unwrap_or(&[]).chain(&mut outer);
    let (diff_id, size) = match start {
        [0x1f, 0x8b, ..] => unpack_plain(flate2::read::MultiGzDecoder::new(whole), directory)?,
        [0x28, 0xb5, 0x2f, 0xfd] => unpack_plain(zstd_decoder(whole)?, directory)?,
        _ => unpack_plain(whole, directory)?,
    };
    io::copy(&mut outer, &mut io::sink())?;
    Ok(Unpacked { digest: outer.digest(), diff_id, size })
}

fn read_start(stream: &mut impl Read, start: &mut [u8; 4]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = start.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest)? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

fn unpack_plain(stream: impl Read, directory: &Path) -> io::Result<(String, u64)> {
    let mut hashing = Hashing::new(stream.take(BYTES_LIMIT + 1));
    let mut layer = Layer::open(directory)?;
    let meter = Meter::default();
    let mut archive = tar::Archive::new(Metered(&mut hashing, &meter));
    let mut entries = archive.entries()?;
    loop {
        meter.headers();
        let Some(entry) = entries.next() else { break };
        meter.content();
        let mut entry = entry?;
        let path = entry.path_bytes().into_owned();
        // What an entry has that its kind has no use for must not be taken for headers.
        let added = layer.add(&mut entry).and_then(|()| io::copy(&mut entry, &mut io::sink()));
        added.map_err(|error| {
            io::Error::new(error.kind(), format!("unpack {:?}: {error}", String::from_utf8_lossy(&path)))
        })?;
    }
    layer.finish()?;
    // The digest is of the whole stream, padding too.
    io::copy(&mut hashing, &mut io::sink())?;
    if hashing.length > BYTES_LIMIT {
        return Err(bad("the layer is too large"));
    }
    Ok((hashing.digest(), layer.size))
}

/// A numeric field that holds nothing is 0, as Go's reader has it; some writers leave those empty that they have no
/// value for.
fn blank(field: &[u8]) -> bool {
    field.iter().all(|byte| matches!(byte, 0 | b' '))
}

fn mode(header: &tar::Header) -> io::Result<u32> {
    if blank(&header.as_old().mode) { Ok(0) } else { header.mode() }
}

fn owner(header: &tar::Header) -> io::Result<(u32, u32)> {
    let old = header.as_old();
    let uid = if blank(&old.uid) { 0 } else { header.uid()? };
    let gid = if blank(&old.gid) { 0 } else { header.gid()? };
    Ok((uid as u32, gid as u32))
}

fn device(header: &tar::Header) -> io::Result<(u32, u32)> {
    let fields = header.as_ustar().map(|ustar| (ustar.dev_major, ustar.dev_minor));
    let fields = fields.or_else(|| header.as_gnu().map(|gnu| (gnu.dev_major, gnu.dev_minor)));
    let (no_major, no_minor) = fields.map_or((true, true), |(major, minor)| (blank(&major), blank(&minor)));
    let major = if no_major { None } else { header.device_major()? };
    let minor = if no_minor { None } else { header.device_minor()? };
    Ok((major.unwrap_or(0), minor.unwrap_or(0)))
}

fn bad(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Passes bytes through and hashes them.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
    length: u64,
}

impl<R: Read> Hashing<R> {
    fn new(inner: R) -> Hashing<R> {
        Hashing { inner, hash: Sha256::new(), length: 0 }
    }

    fn digest(self) -> String {
        super::hex_digest(self.hash)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..length).unwrap_or(&[]));
        self.length += length as u64;
        Ok(length)
    }
}

/// The directory that a layer is unpacked into.
struct Layer {
    root: File,
    /// The directory that the last entry was in: entries come in runs. What is replaced lies below it, so its path
    /// keeps leading to it.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Directories get their times last, as adding to them changes these.
    times: Vec<(PathBuf, u64)>,
    /// Bytes that these paths take.
    paths: usize,
    room: Room,
    entries: u64,
    size: u64,
}

impl Layer {
    fn open(directory: &Path) -> io::Result<Layer> {
        let root = File::open(directory)?;
        let room = Room::new(root.try_clone()?);
        Ok(Layer { root, parent: None, times: Vec::new(), paths: 0, room, entries: 0, size: 0 })
    }

    fn add<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> io::Result<()> {
        self.entries += 1;
        self.size = self.size.saturating_add(entry.size());
        if self.entries > ENTRIES_LIMIT || self.size > BYTES_LIMIT {
            return Err(bad("the layer is too large"));
        }
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let path = inner_path(&entry.path_bytes())?;
        if path.as_os_str().len() >= PATH_LIMIT {
            return Err(bad("the path is too long"));
        }
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            return self.root_attributes(entry);
        };
        self.enter(path.parent().unwrap_or(Path::new("")))?;
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            return self.whiteout(name.as_bytes(), hidden);
        }
        let name = CString::new(name.as_bytes())?;
        let replaced_whiteout = self.make_room(&name, kind)?;
        self.create(entry, kind, &name)?;
        self.attributes(entry, kind, &name)?;
        if kind == EntryType::Directory {
            if replaced_whiteout {
                at::set_xattr(self.parent()?, &name, "trusted.overlay.opaque", b"y")?;
            }
            self.paths += size_of::<(PathBuf, u64)>() + path.as_os_str().len();
            if self.paths > PATHS_LIMIT {
                return Err(bad("the layer has too many directories"));
            }
            self.times.push((path, entry.header().mtime().unwrap_or(0)));
        }
        Ok(())
    }

    /// Makes `path` the directory that the next operations are in.
    fn enter(&mut self, path: &Path) -> io::Result<()> {
        if self.parent.as_ref().is_none_or(|(current, _)| current != path) {
            let fd = if path.as_os_str().is_empty() {
                self.root.try_clone()?.into()
            } else {
                at::make_directories(&self.root, path, 0o755)?
            };
            self.parent = Some((path.to_owned(), fd));
        }
        Ok(())
    }

    fn parent(&self) -> io::Result<&OwnedFd> {
        self.parent.as_ref().map(|(_, fd)| fd).ok_or_else(|| bad("no directory was entered"))
    }

    /// The layer's own root: mode and owner are the container's `/`.
    fn root_attributes<R: Read>(&mut self, entry: &Entry<'_, R>) -> io::Result<()> {
        if entry.header().entry_type() != EntryType::Directory {
            return Err(bad("the root is not a directory"));
        }
        let header = entry.header();
        let root: OwnedFd = self.root.try_clone()?.into();
        let (uid, gid) = owner(header)?;
        at::set_owner(&root, c".", uid, gid)?;
        at::set_mode(&root, c".", mode(header)? & 0o7777)
    }

    /// A mark that lower layers' files are hidden. It does not concern files of this layer (OCI image-spec, layer.md).
    fn whiteout(&mut self, name: &[u8], hidden: &[u8]) -> io::Result<()> {
        if name == OPAQUE {
            let path = self.parent.as_ref().map(|(path, _)| path.clone()).unwrap_or_default();
            return at::set_xattr(self.parent()?, c".", "trusted.overlay.opaque", b"y")
                .map_err(|error| io::Error::new(error.kind(), format!("make {} opaque: {error}", path.display())));
        }
        if hidden.starts_with(WHITEOUT) {
            // Other marks of aufs mean nothing here.
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(bad("a whiteout that names no file"));
        }
        let hidden = CString::new(hidden)?;
        match at::kind(self.parent()?, &hidden)? {
            None => at::make_node(self.parent()?, &hidden, libc::S_IFCHR, 0, 0),
            Some(at::Kind::Directory) => at::set_xattr(self.parent()?, &hidden, "trusted.overlay.opaque", b"y"),
            Some(_) => Ok(()),
        }
    }

    /// Takes away what an entry replaces. True when that was a whiteout.
    fn make_room(&mut self, name: &CStr, kind: EntryType) -> io::Result<bool> {
        let parent = self.parent()?;
        let there = at::kind(parent, name)?;
        match there {
            None => Ok(false),
            Some(at::Kind::Directory) if kind == EntryType::Directory => Ok(false),
            Some(found) => {
                at::remove(parent, name, found)?;
                Ok(found == at::Kind::Whiteout)
            }
        }
    }

    fn create<R: Read>(&mut self, entry: &mut Entry<'_, R>, kind: EntryType, name: &CStr) -> io::Result<()> {
        let header = entry.header();
        match kind {
            EntryType::Directory => at::make_directory(self.parent()?, name, 0o755),
            EntryType::Symlink => {
                let target = entry.link_name_bytes().ok_or_else(|| bad("a link without target"))?;
                at::make_symlink(self.parent()?, name, &CString::new(target.into_owned())?)
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().ok_or_else(|| bad("a link without target"))?;
                let target = inner_path(&target)?;
                self.hard_link(&target, name)
            }
            EntryType::Char | EntryType::Block => {
                let (major, minor) = device(header)?;
                let kind = if kind == EntryType::Char { libc::S_IFCHR } else { libc::S_IFBLK };
                at::make_node(self.parent()?, name, kind, major, minor)
            }
            EntryType::Fifo => at::make_node(self.parent()?, name, libc::S_IFIFO, 0, 0),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mut file = at::create_file(self.parent()?, name)?;
                io::copy(entry, &mut self.room.careful(&mut file)).map(drop)
            }
            other => Err(bad(&format!("an entry of unknown type {:?}", other.as_byte() as char))),
        }
    }

    fn hard_link(&self, target: &Path, name: &CStr) -> io::Result<()> {
        let target_name = target.file_name().ok_or_else(|| bad("a hard link to the root"))?;
        let directory = match target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => at::open_in_root(&self.root, parent, libc::O_PATH | libc::O_DIRECTORY, 0)?,
            None => self.root.try_clone()?.into(),
        };
        at::hard_link(&directory, &CString::new(target_name.as_bytes())?, self.parent()?, name)
    }

    fn attributes<R: Read>(&mut self, entry: &mut Entry<'_, R>, kind: EntryType, name: &CStr) -> io::Result<()> {
        if kind == EntryType::Link {
            return Ok(());
        }
        let (uid, gid) = owner(entry.header())?;
        let (mode, mtime) = (mode(entry.header())?, entry.header().mtime().unwrap_or(0));
        let parent = self.parent()?;
        at::set_owner(parent, name, uid, gid)?;
        if kind != EntryType::Symlink {
            at::set_mode(parent, name, mode & 0o7777)?;
        }
        for extension in entry.pax_extensions()?.into_iter().flatten() {
            let extension = extension?;
            let Some(key) = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) else { continue };
            if RESERVED_XATTRS.iter().any(|prefix| key.starts_with(prefix)) {
                continue;
            }
            match at::set_xattr(parent, name, key, extension.value_bytes()) {
                // The file system has none of this kind; images must unpack there too.
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                other => other?,
            }
        }
        at::set_time(parent, name, mtime)
    }

    fn finish(&mut self) -> io::Result<()> {
        for (path, mtime) in std::mem::take(&mut self.times).into_iter().rev() {
            let name = CString::new(path.as_os_str().as_bytes())?;
            // A path that leads through a link by now is left as it is.
            if at::open_in_root(&self.root, &path, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0).is_ok() {
                let fd = at::make_directories(&self.root, path.parent().unwrap_or(Path::new("")), 0o755)?;
                let base = path.file_name().map_or(name, |base| CString::new(base.as_bytes()).unwrap_or_default());
                at::set_time(&fd, &base, mtime)?;
            }
        }
        Ok(())
    }
}

/// The entry's path below the root. `/` at the front and `.` are dropped; `..` is refused.
fn inner_path(bytes: &[u8]) -> io::Result<PathBuf> {
    let mut inner = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(bytes)).components() {
        match part {
            Component::Normal(name) => inner.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(bad("the path leads out of the layer")),
        }
    }
    Ok(inner)
}
