//! Files of a volume replaced all at once, in upstream's layout: readers see the old or the new set, never a mixture.
//!
//! `volume/key` → `..data/key`, `..data` → `..2006_01_02_15_04_05.123`. A new set is a new directory; the rename of a
//! symbolic link over `..data` switches to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub data: Vec<u8>,
    pub mode: u32,
    /// Owner of the file, where it is not root.
    pub user: Option<u32>,
}

/// Files by path relative to the volume.
pub type Files = BTreeMap<String, Content>;

/// Makes the volume hold exactly these files, owned by `group` when given. Does nothing when it does already.
///
/// # Errors
/// A path leaves the volume or begins with `..`, or the file system refuses; the old set then still stands.
pub fn write(volume: &Path, files: &Files, group: Option<i64>) -> io::Result<()> {
    for path in files.keys() {
        check_path(path)?;
    }
    let old = fs::read_link(volume.join(DATA)).ok();
    if let Some(old) = &old
        && unchanged(&volume.join(old), files)?
    {
        return links(volume, files);
    }
    let name = format!("..{}", jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%9f"));
    let fresh = volume.join(&name);
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    let written = fill(&fresh, files, group).and_then(|()| switch(volume, &name));
    if let Err(error) = written {
        // What could not be finished is of no use; the next try makes its own.
        drop(fs::remove_dir_all(&fresh));
        return Err(error);
    }
    links(volume, files)?;
    prune_links(volume, files)?;
    match old {
        Some(old) if Path::new(&name) != old => fs::remove_dir_all(volume.join(old)),
        _ => Ok(()),
    }
}

/// A path may neither leave the volume nor look like the writer's own names.
fn check_path(path: &str) -> io::Result<()> {
    let invalid = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid path {path:?}: {why}")));
    if path.is_empty() || path.len() > 4096 {
        return invalid("must not be empty or longer than 4096 bytes");
    }
    let path = Path::new(path);
    for component in path.components() {
        match component {
            Component::Normal(_) => {}
            Component::ParentDir => return invalid("must not contain \"..\""),
            _ => return invalid("must be relative"),
        }
    }
    if first(path).starts_with("..") {
        return invalid("must not start with \"..\"");
    }
    Ok(())
}

fn first(path: &Path) -> String {
    path.components().next().map(|c| c.as_os_str().to_string_lossy().into_owned()).unwrap_or_default()
}

fn unchanged(dir: &Path, files: &Files) -> io::Result<bool> {
    for (path, content) in files {
        match fs::read(dir.join(path)) {
            Ok(data) if data == content.data => {}
            Ok(_) => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        }
    }
    Ok(listed(dir)?.len() == files.len())
}

/// Every file below a directory.
fn listed(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = open.pop() {
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() { open.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    Ok(found)
}

fn fill(dir: &Path, files: &Files, group: Option<i64>) -> io::Result<()> {
    let gid = group.and_then(|g| u32::try_from(g).ok());
    let mut made = BTreeSet::new();
    for (path, content) in files {
        let target = dir.join(path);
        if let Some(parent) = target.parent()
            && made.insert(parent.to_owned())
        {
            fs::create_dir_all(parent)?;
            own_dir(parent, gid)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&target)?;
        file.write_all(&content.data)?;
        own_file(&file, &target, content, gid)?;
    }
    Ok(())
}

fn own_dir(dir: &Path, gid: Option<u32>) -> io::Result<()> {
    if let Some(gid) = gid {
        chown(dir, None, Some(gid))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o2755))?;
    }
    Ok(())
}

/// The mode is set against the umask; with a group, the group may read (these volumes are read-only to containers).
fn own_file(file: &File, path: &Path, content: &Content, gid: Option<u32>) -> io::Result<()> {
    if content.user.is_some() || gid.is_some() {
        chown(path, content.user, gid)?;
    }
    let mode = if gid.is_some() { content.mode | 0o440 } else { content.mode };
    file.set_permissions(fs::Permissions::from_mode(mode))
}

fn switch(volume: &Path, name: &str) -> io::Result<()> {
    let new = volume.join(NEW_DATA);
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    symlink(name, &new)?;
    fs::rename(&new, volume.join(DATA))
}

/// The names that users see: one link for each first component.
fn links(volume: &Path, files: &Files) -> io::Result<()> {
    for name in files.keys().map(|p| first(Path::new(p))).collect::<BTreeSet<_>>() {
        match symlink(Path::new(DATA).join(&name), volume.join(&name)) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

fn prune_links(volume: &Path, files: &Files) -> io::Result<()> {
    let keep: BTreeSet<_> = files.keys().map(|p| first(Path::new(p))).collect();
    for entry in fs::read_dir(volume)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !keep.contains(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let content = |text: &str| Content { data: text.into(), mode: 0o644, user: None };
        list.iter().map(|(p, t)| ((*p).to_owned(), content(t))).collect()
    }

    fn seen(dir: &Path) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for name in fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()) {
            if name.starts_with("..") {
                continue;
            }
            let path = dir.join(&name);
            if path.is_dir() {
                for (inner, text) in seen(&path) {
                    all.insert(format!("{name}/{inner}"), text);
                }
            } else {
                all.insert(name, fs::read_to_string(path).unwrap());
            }
        }
        all
    }

    #[test]
    fn sets_replace_each_other_whole() {
        let dir = tempfile::tempdir().unwrap();
        for set in [
            vec![("a", "1"), ("b/c", "2")],
            vec![("a", "3")],
            vec![("b/c", "4"), ("b/d", "5"), ("e", "")],
            vec![],
            vec![("a", "6")],
        ] {
            write(dir.path(), &files(&set), None).unwrap();
            let want: BTreeMap<_, _> = set.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned())).collect();
            assert_eq!(seen(dir.path()), want);
            let own = fs::read_dir(dir.path())
                .unwrap()
                .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(".."));
            assert_eq!(own.count(), 2, "..data and its one directory");
        }
    }

    #[test]
    fn the_same_set_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &files(&[("a", "1")]), None).unwrap();
        let before = fs::read_link(dir.path().join(DATA)).unwrap();
        write(dir.path(), &files(&[("a", "1")]), None).unwrap();
        assert_eq!(fs::read_link(dir.path().join(DATA)).unwrap(), before);
        assert!(before.to_string_lossy().starts_with(".."));
    }

    #[test]
    fn paths_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../x", "/x", "a/../../x", "..x", ""] {
            assert!(write(dir.path(), &files(&[(path, "1")]), None).is_err(), "{path}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn modes_are_set_against_the_umask() {
        let dir = tempfile::tempdir().unwrap();
        let set = [("k".to_owned(), Content { data: vec![1], mode: 0o466, user: None })].into();
        write(dir.path(), &set, None).unwrap();
        assert_eq!(fs::metadata(dir.path().join("k")).unwrap().permissions().mode() & 0o777, 0o466);
    }
}
