//! Mounts of a container: the kernel's file systems, the sandbox's files, and the kubelet's volumes over them.

use serde_json::{Value, json};

use super::Input;
use crate::cgroup::Layout;
use crate::cri::{ContainerConfig, Mount, Propagation};

/// In the order in which they are made: outer paths before inner ones.
pub fn of(input: &Input<'_>) -> Vec<Value> {
    let config = input.config;
    let mut mounts = kernel(config.security.privileged);
    mounts.extend(control_groups(input));
    let files = [
        ("/etc/hostname", &input.files.hostname),
        ("/etc/resolv.conf", &input.files.resolv_conf),
        ("/dev/shm", &input.files.shared_memory),
    ];
    let taken = |path: &str| config.mounts.iter().any(|mount| mount.container_path == path);
    for (path, source) in files.into_iter().filter(|(path, source)| !source.is_empty() && !taken(path)) {
        let access = if config.security.readonly_rootfs && path.starts_with("/etc") { "ro" } else { "rw" };
        mounts.push(json!({
            "destination": path, "type": "bind", "source": source, "options": ["rbind", "rprivate", access],
        }));
    }
    let mut volumes: Vec<&Mount> = config.mounts.iter().collect();
    volumes.sort_by_key(|mount| depth(&mount.container_path));
    // A volume over one of the kernel's takes its place.
    mounts.retain(|mount| !mount["destination"].as_str().is_some_and(taken));
    mounts.extend(volumes.into_iter().map(volume));
    mounts
}

fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

fn kernel(privileged: bool) -> Vec<Value> {
    let access = if privileged { "rw" } else { "ro" };
    vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] }),
        json!({
            "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        }),
        json!({
            "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        }),
        json!({
            "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"],
        }),
        json!({
            "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", access],
        }),
    ]
}

/// Version 2: the container's own tree. Version 1: its directory of each hierarchy, named one by one, as libcontainer
/// looks the paths up under a PID that is another process's when the Pod shares a PID namespace.
fn control_groups(input: &Input<'_>) -> Vec<Value> {
    let access = if input.config.security.privileged { "rw" } else { "ro" };
    let options = json!(["nosuid", "noexec", "nodev", "relatime", access]);
    let Layout::V1 { controllers, .. } = input.layout else {
        return vec![json!({
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options,
        })];
    };
    let mut mounts = vec![json!({
        "destination": "/sys/fs/cgroup", "type": "tmpfs", "source": "tmpfs",
        "options": ["nosuid", "noexec", "nodev", "mode=755", "size=64k"],
    })];
    for (mount_point, _) in controllers {
        let name = mount_point.file_name().unwrap_or_default().to_string_lossy();
        mounts.push(json!({
            "destination": format!("/sys/fs/cgroup/{name}"), "type": "bind",
            "source": mount_point.join(input.cgroup.trim_start_matches('/')),
            "options": ["bind", "rprivate", "nosuid", "noexec", "nodev", access],
        }));
    }
    mounts
}

fn volume(mount: &Mount) -> Value {
    let propagation = match mount.propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    };
    let access = if mount.readonly { "ro" } else { "rw" };
    json!({
        "destination": mount.container_path, "type": "bind", "source": mount.host_path,
        "options": ["rbind", propagation, access],
    })
}

/// What the root must be for its volumes' propagation to work.
pub fn root_propagation(config: &ContainerConfig) -> Option<&'static str> {
    let any = |wanted| config.mounts.iter().any(|mount| mount.propagation == wanted);
    if any(Propagation::Bidirectional) {
        Some("shared")
    } else if any(Propagation::HostToContainer) {
        Some("slave")
    } else {
        None
    }
}
