//! `cox image`: the node's images, whether a cluster runs or not.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use kubelet_runtime::images::{Mirror, Store};

use super::require_root;
use crate::block;
use crate::cli::{DirArgs, ImageAction};
use crate::layout::Layout;
use crate::progress::print;

/// The images of a directory that is there: a mistyped one is no empty one.
fn existing(dir: &DirArgs) -> Result<Store> {
    let layout = Layout::at(&dir.data_dir)?;
    if !layout.is_ours() {
        bail!("there is no cluster in {}", layout.dir().display());
    }
    open(dir, &[])
}

/// Images may be loaded before the cluster is started for the first time.
fn open(dir: &DirArgs, mirrors: &[(String, String)]) -> Result<Store> {
    require_root("image")?;
    let layout = Layout::create(&dir.data_dir)?;
    let mirrors =
        mirrors.iter().map(|(registry, url)| Mirror { registry: registry.clone(), url: url.clone() }).collect();
    let root = layout.runtime();
    Store::open(&root, mirrors).with_context(|| format!("open the images in {}", root.display()))
}

pub fn run(action: ImageAction) -> Result<()> {
    match action {
        ImageAction::Load { file, dir } => load(&open(&dir, &[])?, &file),
        ImageAction::List(dir) => list(&existing(&dir)?),
        ImageAction::Pull { image, dir, registry_mirror } => pull(open(&dir, &registry_mirror)?, &image),
        ImageAction::Remove { image, dir } => {
            if !existing(&dir)?.remove_name(&image).with_context(|| format!("remove image {image}"))? {
                bail!("there is no image {image}");
            }
            print(&format!("removed {image}"))?;
            Ok(())
        }
    }
}

fn load(store: &Store, file: &Path) -> Result<()> {
    for name in store.load(file).with_context(|| format!("load {}", file.display()))? {
        print(&format!("loaded {name}"))?;
    }
    Ok(())
}

fn list(store: &Store) -> Result<()> {
    print(&format!("{:<60} {:<16} SIZE", "IMAGE", "ID"))?;
    for image in store.list().context("list the images")? {
        let id = image.id.trim_start_matches("sha256:");
        let id = id.get(..12).unwrap_or(id);
        let names = if image.repo_tags.is_empty() { &image.repo_digests } else { &image.repo_tags };
        for name in names {
            print(&format!("{name:<60} {id:<16} {}", size(image.size)))?;
        }
    }
    Ok(())
}

/// A size in the units that people expect of images: powers of a thousand.
fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{}{name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes}B"),
    }
}

fn pull(store: Store, image: &str) -> Result<()> {
    // The registries' client speaks TLS with whichever provider the process chose.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        bail!("another cryptography provider is installed already");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let id = block::on(&runtime, Box::pin(Arc::new(store).pull(image, None)))?;
    print(&format!("pulled {image} ({id})"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes() {
        for (bytes, expected) in [(5, "5B"), (1_500, "1.5kB"), (22_340_000, "22.3MB"), (7_000_000_000, "7.0GB")] {
            assert_eq!(size(bytes), expected);
        }
    }
}
