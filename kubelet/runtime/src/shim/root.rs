//! A container's root file system, made in the mount namespace that the container will have: layers, volumes, the
//! kernel's file systems and devices, by libcontainer; then what may not be seen or written there.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use libcontainer::oci_spec::runtime::{LinuxNamespaceType, Spec};
use libcontainer::rootfs::RootFS;
use libcontainer::syscall::syscall::create_syscall;
use nix::sched::{CloneFlags, unshare};

use super::entry;
use super::launch::chain;
use super::protocol::StartSpec;
use crate::syscall::{fs as files, mount};

/// Mounts everything and makes it this process's root.
pub fn make(start: &StartSpec, spec: &Spec, trees: &[OwnedFd]) -> Result<(), String> {
    let linux = spec.linux().as_ref().ok_or("the container has no Linux configuration")?;
    let rootfs = start.bundle.join("rootfs").canonicalize().map_err(|error| format!("find the root: {error}"))?;
    let (upper, work) = (start.bundle.join("upper"), start.bundle.join("work"));
    mount::overlay(&mount::Overlay { lower: &start.lower, upper: &upper, work: &work }, &rootfs)
        .map_err(|error| format!("mount root file system {}: {error}", rootfs.display()))?;
    for (tree, target) in trees.iter().zip(&start.trees) {
        mount::attach_tree(tree, target).map_err(|error| format!("mount {}: {error}", target.display()))?;
    }
    make_working_directory(spec, &rootfs)?;
    let namespaces = linux.namespaces().iter().flatten();
    let own_groups = namespaces.into_iter().any(|namespace| namespace.typ() == LinuxNamespaceType::Cgroup);
    if own_groups {
        unshare(CloneFlags::CLONE_NEWCGROUP).map_err(|error| format!("make cgroup namespace: {error}"))?;
    }
    // Nobody may make devices in a user namespace: there they are bind mounts.
    let bind_devices = libcontainer::utils::is_in_new_userns().map_err(|error| format!("read uid_map: {error}"))?;
    let root = RootFS::new();
    root.prepare_rootfs(spec, &rootfs, bind_devices, own_groups).map_err(|error| chain(&error))?;
    create_syscall().pivot_rootfs(&rootfs).map_err(|error| format!("change root: {}", chain(&error)))?;
    root.adjust_root_mount_propagation(linux).map_err(|error| chain(&error))
}

/// As runc does, the working directory is made when the image lacks it.
fn make_working_directory(spec: &Spec, rootfs: &Path) -> Result<(), String> {
    let Some(process) = spec.process() else { return Ok(()) };
    let root = fs::File::open(rootfs).map_err(|error| format!("open {}: {error}", rootfs.display()))?;
    files::make_directories(&root, process.cwd(), 0o755)
        .map(drop)
        .map_err(|error| format!("make working directory {}: {error}", process.cwd().display()))
}

/// Takes away what the container may not see or write. Its root is this process's.
pub fn restrict(spec: &Spec) -> Result<(), String> {
    let linux = spec.linux().as_ref().ok_or("the container has no Linux configuration")?;
    if spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false)) {
        mount::read_only_root().map_err(|error| format!("make the root read-only: {error}"))?;
    }
    for path in linux.readonly_paths().iter().flatten() {
        mount::read_only(path.as_ref()).map_err(|error| format!("make {path} read-only: {error}"))?;
    }
    let null = entry::open_null()?;
    for path in linux.masked_paths().iter().flatten() {
        let masked = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => mount::hide_directory(path.as_ref()),
            Ok(_) => mount::clone_file(&null).and_then(|tree| mount::attach_tree(&tree, path.as_ref())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => return Err(format!("mask {path}: {error}")),
        };
        masked.map_err(|error| format!("mask {path}: {error}"))?;
    }
    Ok(())
}
