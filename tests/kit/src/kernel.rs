//! What a cluster has of its Pods in the kernel and on disk, to be compared with the Pods that it should have.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::net::run;

/// Traces of Pods. Names that hold a Pod's UID are that UID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// Pods' control groups, in all hierarchies.
    pub cgroups: BTreeSet<String>,
    /// Volumes' folders.
    pub volumes: BTreeSet<String>,
    /// Logs' folders.
    pub logs: BTreeSet<String>,
    /// Process ids of shims.
    pub shims: BTreeSet<i32>,
    /// Network namespaces of all processes in the cluster's groups.
    pub namespaces: BTreeSet<u64>,
    /// Pods' links on the node.
    pub links: BTreeSet<String>,
    /// Files of shims: sockets and process ids.
    pub sockets: BTreeSet<String>,
    pub sandboxes: BTreeSet<String>,
    pub containers: BTreeSet<String>,
    /// Mounts below the data directory that are seen outside of Pods.
    pub mounts: BTreeSet<String>,
}

impl Traces {
    pub fn of(cluster: &Cluster) -> Result<Self> {
        let (dir, id) = (&cluster.dir, cluster.id()?);
        let groups = groups(&id)?;
        let mut processes = BTreeSet::new();
        for group in &groups {
            // A group may go while it is looked at.
            let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            processes.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
        // The process that shims are forked from is no Pod's.
        processes.retain(|pid| !is_template(*pid));
        let shims = processes.iter().copied().filter(|pid| name(*pid) == "cox-shim").collect();
        let links = run(cluster.network.command("ip").args(["-brief", "link"]))?;
        let links = links.lines().filter_map(|line| line.split(['@', ' ']).next());
        let (gateway, peer) = (format!("cox{id}gw"), format!("cox{id}gp"));
        let pods = links.filter(|link| link.starts_with(&format!("cox{id}")) && *link != gateway && *link != peer);
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("read this process's mounts")?;
        let below = dir.to_string_lossy().into_owned() + "/";
        // The kubelet's directory is a mount of its own, so that volumes show in containers.
        let kubelet = dir.join("kubelet");
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        Ok(Self {
            cgroups: groups.iter().filter_map(|group| pod_of(group)).collect(),
            volumes: entries(&dir.join("kubelet/pods")),
            logs: entries(&dir.join("log/pods"))
                .iter()
                .filter_map(|name| Some(name.rsplit_once('_')?.1.into()))
                .collect(),
            shims,
            namespaces: processes.iter().filter_map(|pid| namespace(*pid)).collect(),
            links: pods.map(str::to_owned).collect(),
            sockets: entries(&dir.join("run/shim")),
            sandboxes: entries(&dir.join("runtime/sandboxes")),
            containers: entries(&dir.join("runtime/containers")),
            mounts: places
                .filter(|place| place.starts_with(&below) && Path::new(place) != kubelet)
                .map(str::to_owned)
                .collect(),
        })
    }

    /// What is missing or too much for these Pods of one container each, all of them running. Empty when all is well.
    pub fn differences(&self, pods: &BTreeSet<String>) -> Vec<String> {
        let mut found = Vec::new();
        for (what, set) in [("control groups", &self.cgroups), ("volumes", &self.volumes), ("logs", &self.logs)] {
            let (more, less): (Vec<_>, Vec<_>) = (set.difference(pods).collect(), pods.difference(set).collect());
            if !more.is_empty() || !less.is_empty() {
                found.push(format!("{what}: left behind {more:?}, missing {less:?}"));
            }
        }
        let counts = [
            ("shims", self.shims.len()),
            ("network namespaces", self.namespaces.len()),
            ("links", self.links.len()),
            ("sandboxes", self.sandboxes.len()),
            ("containers", self.containers.len()),
            ("shims' files", self.sockets.len() / 2),
        ];
        let wrong = counts.iter().filter(|(_, count)| *count != pods.len());
        found.extend(wrong.map(|(what, count)| format!("{count} {what} for {} Pods", pods.len())));
        if !self.mounts.is_empty() {
            found.push(format!("mounts are left: {:?}", self.mounts));
        }
        found
    }
}

/// The cluster's control groups in every hierarchy.
fn groups(id: &str) -> Result<Vec<PathBuf>> {
    let root = Path::new("/sys/fs/cgroup");
    let mut left = vec![root.join(format!("cox-{id}"))];
    for hierarchy in fs::read_dir(root).context("read the control groups")? {
        left.push(hierarchy.context("read the control groups")?.path().join(format!("cox-{id}")));
    }
    let mut found = Vec::new();
    while let Some(group) = left.pop() {
        let Ok(below) = fs::read_dir(&group) else { continue };
        left.extend(below.flatten().filter(|entry| entry.path().is_dir()).map(|entry| entry.path()));
        found.push(group);
    }
    Ok(found)
}

/// The Pod whose group this is.
fn pod_of(group: &Path) -> Option<String> {
    Some(group.file_name()?.to_str()?.strip_prefix("pod")?.to_owned())
}

/// Where a shim has its sandbox's id, the template has dashes.
fn is_template(pid: i32) -> bool {
    name(pid) == "cox-shim" && fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().ends_with(b"----\0")
}

fn name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// The inode of a process's network namespace.
fn namespace(pid: i32) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|found| found.ino())
}

/// Names in a folder; one that is not there is empty.
fn entries(dir: &Path) -> BTreeSet<String> {
    let all = fs::read_dir(dir).into_iter().flatten().flatten();
    all.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
