//! Volumes that are directories of the node: emptyDir and hostPath with its types.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource};
use nix::mount::{MsFlags, mount};

use crate::quantity;

use super::{blocking, ownership};

/// The root directory of a volume that the kubelet fills.
pub(super) fn make_root(path: &Path) -> Result<(), String> {
    if path.is_dir() {
        // Its mode may since have been changed for a group, or by a container.
        return Ok(());
    }
    fs::create_dir_all(path).map_err(|e| format!("making directory {}: {e}", path.display()))?;
    set_mode(path, 0o777)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), String> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|e| format!("setting mode of {}: {e}", path.display()))
}

pub(super) async fn empty_dir(path: PathBuf, source: &EmptyDirVolumeSource, group: Option<i64>) -> Result<(), String> {
    let medium = source.medium.clone().unwrap_or_default();
    let limit = source.size_limit.as_ref().and_then(|q| quantity::value(&q.0)).filter(|v| *v > 0);
    blocking(move || {
        let fresh = !path.exists();
        make_root(&path)?;
        match medium.as_str() {
            "" => {}
            "Memory" => tmpfs(&path, limit)?,
            other => return Err(format!("unknown storage medium {other:?}")),
        }
        match group {
            Some(group) if fresh => ownership::apply(&path, group, false).map_err(|e| format!("applying fsGroup: {e}")),
            _ => Ok(()),
        }
    })
    .await
}

fn tmpfs(path: &Path, limit: Option<i64>) -> Result<(), String> {
    if super::teardown::is_mount(path) {
        return Ok(());
    }
    let mut options = "mode=0777".to_owned();
    if let Some(limit) = limit {
        options.push_str(&format!(",size={limit}"));
    }
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options.as_str()))
        .map_err(|e| format!("mounting tmpfs at {}: {e}", path.display()))
}

pub(super) async fn host_path(source: &HostPathVolumeSource) -> Result<PathBuf, String> {
    let path = PathBuf::from(&source.path);
    let kind = source.type_.clone().unwrap_or_default();
    if path.components().any(|c| c == std::path::Component::ParentDir) {
        return Err(format!("invalid HostPath `{}`: must not contain '..'", source.path));
    }
    blocking(move || check_type(&path, &kind).map(|()| path)).await
}

/// Upstream's check of `hostPath.type`; the OrCreate types make what is missing.
fn check_type(path: &Path, kind: &str) -> Result<(), String> {
    let meta = fs::metadata(path).ok();
    let shown = path.display();
    let is = |ok: bool, what: &str| {
        if ok { Ok(()) } else { Err(format!("hostPath type check failed: {shown} is not {what}")) }
    };
    let test = |f: fn(&fs::FileType) -> bool| meta.as_ref().is_some_and(|m| f(&m.file_type()));
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" if meta.is_none() => {
            fs::create_dir_all(path).map_err(|e| format!("making directory {shown}: {e}"))?;
            set_mode(path, 0o755)
        }
        "DirectoryOrCreate" | "Directory" => is(test(fs::FileType::is_dir), "a directory"),
        "FileOrCreate" if meta.is_none() => {
            fs::File::create_new(path).map_err(|e| format!("making file {shown}: {e}"))?;
            set_mode(path, 0o644)
        }
        "FileOrCreate" | "File" => is(test(fs::FileType::is_file), "a file"),
        "Socket" => is(test(FileTypeExt::is_socket), "a socket file"),
        "CharDevice" => is(test(FileTypeExt::is_char_device), "a character device"),
        "BlockDevice" => is(test(FileTypeExt::is_block_device), "a block device"),
        _ => Err(format!("{kind} is an invalid volume type")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn host_path_types() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert!(check_type(&at("none"), "").is_ok());
        let got = check_type(&at("none"), "Directory").unwrap_err();
        assert_eq!(got, format!("hostPath type check failed: {} is not a directory", at("none").display()));
        assert!(check_type(&at("d"), "DirectoryOrCreate").is_ok() && at("d").is_dir());
        assert!(check_type(&at("f"), "FileOrCreate").is_ok() && at("f").is_file());
        assert!(check_type(&at("f"), "DirectoryOrCreate").is_err());
        assert!(check_type(Path::new("/dev/null"), "CharDevice").is_ok());
        assert!(check_type(&at("d"), "Nonsense").is_err());
    }
}
