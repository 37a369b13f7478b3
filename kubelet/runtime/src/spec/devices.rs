//! Devices of a container: those the kubelet names, or all of the node's for a privileged one.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde_json::{Value, json};

use crate::cgroup::{self, ANY_ACCESS, DeviceKind, DeviceRule, MKNOD};
use crate::cri::{ContainerConfig, Device};

/// Directories of /dev that are file systems of the container's own.
const OWN: [&str; 5] = ["pts", "shm", "fd", "mqueue", "console"];

/// Device nodes to make.
pub fn nodes(config: &ContainerConfig) -> Result<Vec<Value>, String> {
    let mut nodes = Vec::new();
    for device in &config.devices {
        let node = node(Path::new(&device.host_path), &device.container_path);
        nodes.push(node.ok_or_else(|| format!("{} is not a device", device.host_path))?);
    }
    if config.security.privileged {
        collect(Path::new("/dev"), &mut nodes);
    }
    Ok(nodes)
}

fn collect(directory: &Path, nodes: &mut Vec<Value>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let top = directory == Path::new("/dev");
        if top && OWN.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&path, nodes),
            Ok(kind) if kind.is_char_device() || kind.is_block_device() => {
                nodes.extend(node(&path, &path.to_string_lossy()));
            }
            _ => {}
        }
    }
}

fn node(host: &Path, inside: &str) -> Option<Value> {
    let metadata = fs::metadata(host).ok()?;
    let kind = kind(&metadata)?;
    Some(json!({
        "path": inside,
        "type": kind,
        "major": libc::major(metadata.rdev()),
        "minor": libc::minor(metadata.rdev()),
        "fileMode": metadata.mode() & 0o777,
        "uid": metadata.uid(),
        "gid": metadata.gid(),
    }))
}

fn kind(metadata: &fs::Metadata) -> Option<&'static str> {
    if metadata.file_type().is_char_device() {
        Some("c")
    } else if metadata.file_type().is_block_device() {
        Some("b")
    } else {
        None
    }
}

/// Character devices that every container may use (runc's list): null, zero, full, random, urandom, tty, console, ptmx
/// and the terminals of its own devpts.
const ALWAYS: [(u32, Option<u32>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

/// Rules of the device control group: any node may be made, and nothing opened but what is named and the few that every
/// container has.
pub fn rules(config: &ContainerConfig) -> Vec<DeviceRule> {
    if config.security.privileged {
        return vec![DeviceRule::everything(true)];
    }
    let make = |kind| DeviceRule::allow(kind, None, None, MKNOD);
    let mut rules = vec![DeviceRule::everything(false), make(DeviceKind::Character), make(DeviceKind::Block)];
    let always = ALWAYS.map(|(major, minor)| DeviceRule::allow(DeviceKind::Character, Some(major), minor, ANY_ACCESS));
    rules.extend(always);
    rules.extend(config.devices.iter().filter_map(rule));
    rules
}

fn rule(device: &Device) -> Option<DeviceRule> {
    let metadata = fs::metadata(&device.host_path).ok()?;
    let kind = if kind(&metadata)? == "b" { DeviceKind::Block } else { DeviceKind::Character };
    let number = metadata.rdev();
    let access = if device.permissions.is_empty() { ANY_ACCESS } else { cgroup::access(&device.permissions) };
    Some(DeviceRule::allow(kind, Some(libc::major(number)), Some(libc::minor(number)), access))
}
