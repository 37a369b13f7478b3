//! Devices of a container: those the kubelet names, or all of the node's for a privileged one.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde_json::{Value, json};

use crate::cgroup::DeviceRule;
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

/// What every container may use: any node may be made, and these opened: null, zero, full, random, urandom, tty,
/// console, ptmx and the terminals of its own devpts (runc's list).
const ALWAYS: [&str; 11] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// Rules of the device control group: nothing but what is named and the few that every container has.
pub fn rules(config: &ContainerConfig) -> Vec<DeviceRule> {
    if config.security.privileged {
        return vec![DeviceRule::allow("a *:* rwm")];
    }
    let mut rules = vec![DeviceRule::deny("a *:* rwm")];
    rules.extend(ALWAYS.map(DeviceRule::allow));
    rules.extend(config.devices.iter().filter_map(rule));
    rules
}

fn rule(device: &Device) -> Option<DeviceRule> {
    let metadata = fs::metadata(&device.host_path).ok()?;
    let (kind, number) = (kind(&metadata)?, metadata.rdev());
    let access = if device.permissions.is_empty() { "rwm" } else { &device.permissions };
    Some(DeviceRule::allow(format!("{kind} {}:{} {access}", libc::major(number), libc::minor(number))))
}
