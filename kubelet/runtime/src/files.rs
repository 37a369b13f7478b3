//! Files that are private and replaced whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Replaces the file's content; a reader, or a restart after a kill, sees the old or the new. Not forced to disk: what
/// is kept so describes running processes, which a power cut ends too.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    write(path, content, false)
}

/// As [`replace`], and on disk when it returns.
pub fn replace_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    write(path, content, true)
}

fn write(path: &Path, content: &[u8], durably: bool) -> io::Result<()> {
    match write_anew(path, content, durably) {
        // There is no room for another copy, and none is needed.
        Err(error) if is_full(&error) && fs::read(path).is_ok_and(|there| there == content) => Ok(()),
        other => other,
    }
}

/// Whether an error is that of a full disk.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn write_anew(path: &Path, content: &[u8], durably: bool) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("write {}: {error}", path.display()));
    let temporary = path.with_extension("tmp");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary).map_err(named)?;
    file.write_all(content).map_err(named)?;
    if durably {
        file.sync_data().map_err(named)?;
    }
    fs::rename(&temporary, path).map_err(named)?;
    match path.parent().filter(|_| durably) {
        Some(parent) => File::open(parent)?.sync_all().map_err(named),
        None => Ok(()),
    }
}

/// Writes a file for root alone that nobody looks at before it is named elsewhere.
pub fn private(path: &Path, content: &[u8]) -> io::Result<()> {
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content));
    written.map_err(|error| io::Error::new(error.kind(), format!("write {}: {error}", path.display())))
}

/// Makes a directory for root alone, with its parents; there already is fine.
pub fn private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| io::Error::new(error.kind(), format!("make directory {}: {error}", path.display())))
}

/// Removes a file or a directory with all in it; gone already is fine.
pub fn remove(path: &Path) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("remove {}: {error}", path.display()));
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(named(error)),
    };
    let removed = if kind.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(named),
    }
}

/// A file that containers read as whoever they are.
pub fn public(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::write(path, content)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o644)))
        .map_err(|error| io::Error::new(error.kind(), format!("write {}: {error}", path.display())))
}

/// Lets everyone enter the directory and list it.
pub fn open_to_all(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// Bytes and inodes below a directory; what vanishes meanwhile does not count.
pub fn usage(path: &Path) -> (u64, u64) {
    let (mut bytes, mut inodes) = (0, 1);
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            let (inner_bytes, inner_inodes) = usage(&entry.path());
            bytes += inner_bytes;
            inodes += inner_inodes;
        } else {
            inodes += 1;
        }
        bytes += metadata.blocks() * 512;
    }
    (bytes, inodes)
}
