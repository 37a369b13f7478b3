//! Programs that `scripts/install test` put into target/tools, because no package of the system has them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The workspace's folder of such programs.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools")
}

/// `$PATH` with further folders and the workspace's tools before it.
pub fn search_path(first: &[&Path]) -> OsString {
    let system = std::env::var_os("PATH").unwrap_or_default();
    let first = first.iter().map(|folder| (*folder).to_owned()).chain([folder()]);
    let folders = first.chain(std::env::split_paths(&system));
    std::env::join_paths(folders).unwrap_or(system)
}

/// A program of that folder; by its name alone, as the system finds it, when it is not there.
pub fn program(name: &str) -> PathBuf {
    let path = folder().join(name);
    if path.exists() { path } else { PathBuf::from(name) }
}
