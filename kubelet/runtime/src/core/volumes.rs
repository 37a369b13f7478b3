//! Volumes on their way into a container. Bidirectional ones are mounted by their shim from a copy of the node's own
//! mount tree, as the shim's mount namespace otherwise only receives.

use std::io;
use std::path::{Path, PathBuf};

use crate::cri::{ContainerConfig, Mount, Propagation};
use crate::syscall::socket::MAX_FDS;

pub fn bidirectional(config: &ContainerConfig) -> impl Iterator<Item = &Mount> {
    config.mounts.iter().filter(|mount| mount.propagation == Propagation::Bidirectional)
}

/// Where the shim attaches the trees, in the order of [`bidirectional`].
pub fn targets(directory: &Path, config: &ContainerConfig) -> Vec<PathBuf> {
    bidirectional(config).enumerate().map(|(number, _)| target(directory, number)).collect()
}

fn target(directory: &Path, number: usize) -> PathBuf {
    directory.join("volumes").join(number.to_string())
}

/// The configuration with sources as the shim sees them.
pub fn inside(directory: &Path, config: &ContainerConfig) -> ContainerConfig {
    let mut config = config.clone();
    let mounts = config.mounts.iter_mut().filter(|mount| mount.propagation == Propagation::Bidirectional);
    for (number, mount) in mounts.enumerate() {
        mount.host_path = target(directory, number).to_string_lossy().into_owned();
    }
    config
}

/// Makes what is to be mounted where it is missing, as containerd does, and the places for trees.
pub fn prepare(directory: &Path, config: &ContainerConfig) -> io::Result<()> {
    for mount in &config.mounts {
        let source = Path::new(&mount.host_path);
        if std::fs::metadata(source).is_err() {
            make(source)?;
        }
    }
    if bidirectional(config).count() > MAX_FDS {
        return Err(io::Error::other(format!("a container may have {MAX_FDS} bidirectional mounts at most")));
    }
    for (mount, target) in bidirectional(config).zip(targets(directory, config)) {
        if std::fs::metadata(&mount.host_path)?.is_dir() {
            make(&target)?;
        } else {
            make(&directory.join("volumes"))?;
            std::fs::write(&target, "")?;
        }
    }
    Ok(())
}

fn make(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
        .map_err(|error| io::Error::new(error.kind(), format!("make mount source {}: {error}", path.display())))
}
