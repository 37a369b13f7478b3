//! Secret files: written whole or not at all, readable by their owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::certificate::PkiError;

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PkiError {
    let path = path.display().to_string();
    move |source| PkiError::File { operation, path, source }
}

/// Makes a directory, mode 0700, and those above it.
pub fn make_dir(path: &Path) -> Result<(), PkiError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create directory", path))
}

/// Content of a file; `None` when there is none.
pub fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Writes a file, mode 0600: after a crash it has the old content or the new, never a part.
pub fn write(path: &Path, content: &str) -> Result<(), PkiError> {
    write_together(&[(path, content)])
}

/// As [`write`], for files that belong together: all are on the disk before the first is replaced, so that a disk
/// without room for them leaves all as they were.
pub fn write_together(files: &[(&Path, &str)]) -> Result<(), PkiError> {
    let staged: Vec<PathBuf> = files.iter().map(|(path, _)| temporary(path)).collect();
    let written = stage(files, &staged).and_then(|()| replace(files, &staged));
    if written.is_err() {
        // The first error is the one to tell; the next write truncates what is left over.
        staged.iter().for_each(|path| drop(fs::remove_file(path)));
    }
    written
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

fn stage(files: &[(&Path, &str)], staged: &[PathBuf]) -> Result<(), PkiError> {
    for ((path, content), temporary) in files.iter().zip(staged) {
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
            file.write_all(content.as_bytes())?;
            file.sync_all()
        };
        write().map_err(failed("write", path))?;
    }
    Ok(())
}

fn replace(files: &[(&Path, &str)], staged: &[PathBuf]) -> Result<(), PkiError> {
    for ((path, _), temporary) in files.iter().zip(staged) {
        let replace = || {
            fs::rename(temporary, path)?;
            path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
        };
        replace().map_err(failed("write", path))?;
    }
    Ok(())
}
