//! The cgroups that the kubelet owns: `kubepods`, one for each QoS class, one for each Pod; in v1 and v2 hierarchies.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kubelet_runtime::cri::Resources;

const ROOT: &str = "/sys/fs/cgroup";
const CONTROLLERS_V1: [&str; 8] = ["cpu", "cpuset", "memory", "pids", "blkio", "devices", "freezer", "hugetlb"];

/// How the machine's cgroups are laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Layout {
    /// One directory for each controller that Pods are limited in.
    V1(Vec<PathBuf>),
    V2,
}

/// The kubelet's part of the cgroup tree.
#[derive(Clone, Debug)]
pub struct Cgroups {
    mount: PathBuf,
    layout: Layout,
    root: String,
}

impl Cgroups {
    /// Looks at how this machine's hierarchies are mounted.
    pub fn detect(root: &str) -> Self {
        Self::at(Path::new(ROOT), root)
    }

    fn at(mount: &Path, root: &str) -> Self {
        let layout = if mount.join("cgroup.controllers").exists() {
            Layout::V2
        } else {
            let found = CONTROLLERS_V1.iter().map(|c| mount.join(c)).filter(|p| p.is_dir());
            Layout::V1(found.collect())
        };
        Self { mount: mount.to_owned(), layout, root: root.to_owned() }
    }

    /// Every directory that a cgroup of this name is.
    fn dirs(&self, name: &str) -> Vec<PathBuf> {
        let name = name.trim_start_matches('/');
        match &self.layout {
            Layout::V1(controllers) => controllers.iter().map(|c| c.join(name)).collect(),
            Layout::V2 => vec![self.mount.join(name)],
        }
    }

    /// Makes `kubepods` and the classes below it.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn ensure_roots(&self) -> io::Result<()> {
        let root = self.root.trim_end_matches('/');
        for name in ["kubepods", "kubepods/burstable", "kubepods/besteffort"] {
            let shares = if name.ends_with("besteffort") { 2 } else { 0 };
            self.ensure(&format!("{root}/{name}"), &Resources { cpu_shares: shares, ..Resources::default() })?;
        }
        Ok(())
    }

    /// Makes a cgroup with these limits. Done twice, the second changes nothing.
    ///
    /// # Errors
    /// The file system refuses; the text names the file.
    pub fn ensure(&self, name: &str, resources: &Resources) -> io::Result<()> {
        for dir in self.dirs(name) {
            self.make(&dir)?;
        }
        match &self.layout {
            Layout::V1(_) => self.limit_v1(name, resources),
            Layout::V2 => self.limit_v2(name, resources),
        }
    }

    /// Makes the directory; in v2 every parent passes its controllers on, in v1 cpusets are inherited by hand.
    fn make(&self, dir: &Path) -> io::Result<()> {
        let top = match &self.layout {
            Layout::V2 => self.mount.clone(),
            Layout::V1(controllers) => {
                controllers.iter().find(|c| dir.starts_with(c)).cloned().unwrap_or_else(|| self.mount.clone())
            }
        };
        let below = dir.strip_prefix(&top).unwrap_or(dir);
        let mut here = top;
        for part in below.components() {
            let parent = here.clone();
            here.push(part);
            if self.layout == Layout::V2 {
                pass_controllers_on(&parent)?;
            }
            match fs::create_dir(&here) {
                Ok(()) => inherit_cpuset(&parent, &here)?,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(about(&here, e)),
            }
        }
        Ok(())
    }

    fn limit_v1(&self, name: &str, r: &Resources) -> io::Result<()> {
        let name = name.trim_start_matches('/');
        let file = |controller: &str, file: &str| self.mount.join(controller).join(name).join(file);
        if r.cpu_shares > 0 {
            put(&file("cpu", "cpu.shares"), r.cpu_shares)?;
        }
        if r.cpu_period > 0 && r.cpu_quota > 0 {
            put(&file("cpu", "cpu.cfs_period_us"), r.cpu_period)?;
            put(&file("cpu", "cpu.cfs_quota_us"), r.cpu_quota)?;
        }
        if r.memory_limit_bytes > 0 {
            put(&file("memory", "memory.limit_in_bytes"), r.memory_limit_bytes)?;
        }
        if r.pids_limit > 0 {
            put(&file("pids", "pids.max"), r.pids_limit)?;
        }
        Ok(())
    }

    fn limit_v2(&self, name: &str, r: &Resources) -> io::Result<()> {
        let dir = self.mount.join(name.trim_start_matches('/'));
        if r.cpu_shares > 0 {
            put(&dir.join("cpu.weight"), weight(r.cpu_shares))?;
        }
        if r.cpu_period > 0 && r.cpu_quota > 0 {
            put(&dir.join("cpu.max"), format!("{} {}", r.cpu_quota, r.cpu_period))?;
        }
        if r.memory_limit_bytes > 0 {
            put(&dir.join("memory.max"), r.memory_limit_bytes)?;
        }
        if r.pids_limit > 0 {
            put(&dir.join("pids.max"), r.pids_limit)?;
        }
        Ok(())
    }

    /// Removes a cgroup and those below it; processes that are still in it are killed. Blocks.
    ///
    /// # Errors
    /// It stayed busy, or the file system refuses.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.everywhere(name).iter().try_for_each(|dir| remove_tree(dir))
    }

    /// The cgroup in every hierarchy that is mounted: the runtime makes it in more of them than Pods are limited in.
    fn everywhere(&self, name: &str) -> Vec<PathBuf> {
        if self.layout == Layout::V2 {
            return self.dirs(name);
        }
        let name = name.trim_start_matches('/');
        let hierarchies = fs::read_dir(&self.mount).into_iter().flatten().flatten();
        hierarchies.map(|entry| entry.path().join(name)).filter(|dir| dir.is_dir()).collect()
    }

    /// UIDs of Pods that have a cgroup, with the cgroup's name.
    pub fn pods(&self) -> Vec<(String, String)> {
        let root = self.root.trim_end_matches('/');
        let mut found = std::collections::BTreeMap::new();
        for class in ["kubepods", "kubepods/burstable", "kubepods/besteffort"] {
            let name = format!("{root}/{class}");
            for entry in self.dirs(&name).iter().filter_map(|d| fs::read_dir(d).ok()).flatten().flatten() {
                let file = entry.file_name().to_string_lossy().into_owned();
                if let Some(uid) = file.strip_prefix("pod").filter(|u| !u.is_empty()) {
                    found.insert(uid.to_owned(), format!("{name}/{file}"));
                }
            }
        }
        found.into_iter().collect()
    }
}

fn about(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn put(path: &Path, value: impl std::fmt::Display) -> io::Result<()> {
    fs::write(path, value.to_string()).map_err(|e| about(path, e))
}

/// CPU shares (2–262144) as a v2 weight (1–10000), by the formula of the OCI runtimes.
fn weight(shares: i64) -> i64 {
    1 + ((shares.clamp(2, 262_144) - 2) * 9999) / 262_142
}

fn pass_controllers_on(parent: &Path) -> io::Result<()> {
    let available = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
    let on = fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
    let missing: Vec<_> = available
        .split_whitespace()
        .filter(|c| !on.split_whitespace().any(|o| o == *c))
        .map(|c| format!("+{c}"))
        .collect();
    if missing.is_empty() { Ok(()) } else { put(&parent.join("cgroup.subtree_control"), missing.join(" ")) }
}

/// A new v1 cpuset is empty, and nothing can run in it.
fn inherit_cpuset(parent: &Path, child: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if let Ok(value) = fs::read_to_string(parent.join(file))
            && child.join(file).exists()
            && !child.join("cgroup.controllers").exists()
        {
            put(&child.join(file), value.trim())?;
        }
    }
    Ok(())
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        remove_tree(&entry.path())?;
    }
    for _ in 0..50 {
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => kill_all(dir),
            Err(e) => return Err(about(dir, e)),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    fs::remove_dir(dir).map_err(|e| about(dir, e))
}

fn kill_all(dir: &Path) {
    let Ok(list) = fs::read_to_string(dir.join("cgroup.procs")) else { return };
    for pid in list.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|pid| *pid > 1) {
        // It may have ended by itself meanwhile.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn weights_span_the_range() {
        assert_eq!((weight(2), weight(1024), weight(262_144)), (1, 39, 10_000));
    }

    #[test]
    fn v1_hierarchies_get_each_their_directory() {
        let dir = tempfile::tempdir().unwrap();
        for controller in ["cpu", "memory"] {
            fs::create_dir(dir.path().join(controller)).unwrap();
        }
        let cgroups = Cgroups::at(dir.path(), "/cox-1");
        let resources = Resources {
            cpu_shares: 102,
            cpu_period: 100_000,
            cpu_quota: 50_000,
            memory_limit_bytes: 1 << 20,
            ..Resources::default()
        };
        cgroups.ensure("/cox-1/kubepods/podu", &resources).unwrap();
        let read = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
        assert_eq!(read("cpu/cox-1/kubepods/podu/cpu.shares"), "102");
        assert_eq!(read("cpu/cox-1/kubepods/podu/cpu.cfs_quota_us"), "50000");
        assert_eq!(read("memory/cox-1/kubepods/podu/memory.limit_in_bytes"), "1048576");
        assert_eq!(cgroups.pods(), [("u".to_owned(), "/cox-1/kubepods/podu".to_owned())]);
    }
}
