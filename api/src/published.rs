//! The published documents of the version that we speak, for tests: present only where the shared folder is.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::builtin;
use crate::table::Table;

/// The folder of the published documents.
pub(crate) fn folder() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let candidates = ["../../shared/kubernetes-1.36", "../../../shared/kubernetes-1.36"];
    candidates.iter().map(|candidate| here.join(candidate)).find(|path| path.exists())
}

/// A published document by its path below the folder; `None` where there is no such folder.
pub(crate) fn document(path: &str) -> Option<Value> {
    let Some(folder) = folder() else {
        eprintln!("skipped: the published documents are not here");
        return None;
    };
    let read = || std::io::Result::Ok(serde_json::from_slice(&std::fs::read(folder.join(path))?)?);
    match read() {
        Ok(document) => Some(document),
        Err(error) => unreachable!("the published document {path} can be read: {error}"),
    }
}

/// The table with everything on but what metrics-server would add, which is what the published documents show.
pub(crate) fn everything() -> Table {
    let on = |row: &std::sync::Arc<crate::Resource>| crate::Resource { enabled: true, ..row.as_ref().clone() };
    let is_published = |row: &&std::sync::Arc<crate::Resource>| !row.measured;
    builtin::table().rows().filter(is_published).map(on).fold(Table::default(), Table::with)
}
