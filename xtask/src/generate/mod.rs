//! Writes `api/data/` from the published documents of a Kubernetes version: schemas, resources, descriptions.

mod descriptions;
mod facts;
mod parameters;
mod protobuf;
mod resources;
mod schemas;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

/// The published documents, parsed.
struct Documents {
    /// OpenAPI v2.
    swagger: Value,
    /// Aggregated discovery of `/apis`; the core group has none.
    discovery: Value,
    /// Definitions of all OpenAPI v3 documents by name.
    definitions: BTreeMap<String, Value>,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where the published documents of our version are, beside the repository.
pub fn published() -> PathBuf {
    let beside = repository().join("../shared/kubernetes-1.36");
    let worktree = repository().join("../../shared/kubernetes-1.36");
    if beside.exists() { beside } else { worktree }
}

fn read_json(path: &Path) -> anyhow::Result<Value> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("parsing {}", path.display()))
}

impl Documents {
    fn read(from: &Path) -> anyhow::Result<Self> {
        let mut definitions = BTreeMap::new();
        let directory = from.join("openapi-v3");
        let entries = fs::read_dir(&directory).with_context(|| format!("listing {}", directory.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("listing {}", directory.display()))?.path();
            let document = read_json(&path)?;
            if let Some(schemas) = document.pointer("/components/schemas").and_then(Value::as_object) {
                definitions.extend(schemas.iter().map(|(name, schema)| (name.clone(), schema.clone())));
            }
        }
        let swagger = read_json(&from.join("swagger.json"))?;
        Ok(Self { swagger, discovery: read_json(&from.join("discovery-aggregated-v2.json"))?, definitions })
    }
}

/// The data files by name, as they belong into `api/data/`.
fn files(from: &Path) -> anyhow::Result<Vec<(&'static str, Vec<u8>)>> {
    let documents = Documents::read(from)?;
    Ok(vec![
        ("schemas.txt", schemas::text(&documents.definitions, &documents.swagger)?.into_bytes()),
        ("parameters.txt", parameters::text(&documents.swagger)?.into_bytes()),
        ("resources.txt", resources::text(&documents)?.into_bytes()),
        ("descriptions.deflate", descriptions::deflated(&documents.definitions)?),
    ])
}

/// Writes the data files; those of protobuf when it is said where the messages are described.
pub fn write(from: &Path, protos: Option<&Path>) -> anyhow::Result<()> {
    let to = repository().join("api/data");
    fs::create_dir_all(&to).with_context(|| format!("making {}", to.display()))?;
    let mut files = files(from)?;
    if let Some(protos) = protos {
        files.push(("protobuf.txt", protobuf::text(protos, &Documents::read(from)?.definitions)?.into_bytes()));
    }
    for (name, bytes) in files {
        let path = to.join(name);
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn committed_data_is_what_the_published_documents_give() {
        let from = published();
        if !from.exists() {
            eprintln!("skipped: the published documents are not at {}", from.display());
            return;
        }
        for (name, bytes) in files(&from).unwrap() {
            let committed = fs::read(repository().join("api/data").join(name)).unwrap();
            assert!(committed == bytes, "api/data/{name} is not up to date: run `cargo xtask generate`");
        }
    }
}
