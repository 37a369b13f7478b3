//! The cgroups that the kubelet owns: `kubepods`, one for each QoS class, one for each Pod; in v1 and v2 hierarchies.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::Arc;

use kubelet_runtime::cgroup::{Layout, Limits};
use kubelet_runtime::cri::Resources;

/// The kubelet's part of the cgroup tree.
#[derive(Clone, Debug)]
pub struct Cgroups {
    layout: Arc<Layout>,
    root: String,
}

impl Cgroups {
    /// Looks at how this machine's hierarchies are mounted.
    ///
    /// # Errors
    /// None is.
    pub fn detect(root: &str) -> io::Result<Self> {
        Ok(Self::at(Layout::detect()?, root))
    }

    fn at(layout: Layout, root: &str) -> Self {
        Self { layout: Arc::new(layout), root: root.trim_end_matches('/').to_owned() }
    }

    /// Makes `kubepods` and the classes below it.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn ensure_roots(&self) -> io::Result<()> {
        for name in ["kubepods", "kubepods/burstable", "kubepods/besteffort"] {
            let shares = if name.ends_with("besteffort") { 2 } else { 0 };
            let resources = Resources { cpu_shares: shares, ..Resources::default() };
            self.ensure(&format!("{}/{name}", self.root), &resources)?;
        }
        Ok(())
    }

    /// Gives the class Burstable its weight against the others, in CPU shares.
    ///
    /// # Errors
    /// The file system refuses; the text names the file.
    pub fn weigh_burstable(&self, shares: i64) -> io::Result<()> {
        let resources = Resources { cpu_shares: shares, ..Resources::default() };
        self.layout.set(&format!("{}/kubepods/burstable", self.root), &self.limits(&resources))
    }

    /// Makes a cgroup with these limits. Done twice, the second changes nothing.
    ///
    /// # Errors
    /// The file system refuses; the text names the file.
    pub fn ensure(&self, name: &str, resources: &Resources) -> io::Result<()> {
        self.layout.create(name)?;
        self.layout.set(name, &self.limits(resources))
    }

    fn limits(&self, resources: &Resources) -> Limits {
        let mut limits = Limits::from(resources);
        if matches!(*self.layout, Layout::V2 { .. }) && limits.cpu_shares > 0 {
            limits.unified.insert("cpu.weight".to_owned(), weight(limits.cpu_shares).to_string());
            limits.cpu_shares = 0;
        }
        limits
    }

    /// What upstream has the runtime write for each container on cgroup v2: memory that is used up ends all processes
    /// of the container (`singleProcessOOMKill: false`), and none of it is swapped (`swapBehavior: NoSwap`).
    pub fn container_files(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        if let Layout::V2 { .. } = *self.layout {
            files.insert("memory.oom.group".to_owned(), "1".to_owned());
            // Kernels without swap, or told not to account for it, have no such file.
            let kubepods = self.layout.directories(&format!("{}/kubepods", self.root));
            if kubepods.iter().any(|directory| directory.join("memory.swap.max").exists()) {
                files.insert("memory.swap.max".to_owned(), "0".to_owned());
            }
        }
        files
    }

    /// Removes a cgroup and those below it; processes that are still in it are killed. Blocks.
    ///
    /// # Errors
    /// It stayed busy, or the file system refuses.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.layout.remove(name)
    }

    /// UIDs of Pods that have a cgroup, with the cgroup's name.
    pub fn pods(&self) -> Vec<(String, String)> {
        let mut found = BTreeMap::new();
        for class in ["kubepods", "kubepods/burstable", "kubepods/besteffort"] {
            let name = format!("{}/{class}", self.root);
            let directories = self.layout.directories(&name);
            for entry in directories.iter().filter_map(|d| fs::read_dir(d).ok()).flatten().flatten() {
                let file = entry.file_name().to_string_lossy().into_owned();
                if let Some(uid) = file.strip_prefix("pod").filter(|u| !u.is_empty()) {
                    found.insert(uid.to_owned(), format!("{name}/{file}"));
                }
            }
        }
        found.into_iter().collect()
    }
}

/// CPU shares (2–262144) as a v2 weight (1–10000): upstream's kubelet has a straight line for the groups of Pods, where
/// runtimes have a curve for those of containers.
fn weight(shares: i64) -> i64 {
    1 + ((shares.clamp(2, 262_144) - 2) * 9999) / 262_142
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn resources() -> Resources {
        Resources {
            cpu_shares: 1024,
            cpu_period: 100_000,
            cpu_quota: 50_000,
            memory_limit_bytes: 1 << 20,
            ..Resources::default()
        }
    }

    #[test]
    fn v1_hierarchies_get_each_their_directory() {
        let dir = tempfile::tempdir().unwrap();
        let controllers = ["cpu", "memory"].map(|name| (dir.path().join(name), vec![name.to_owned()]));
        let cgroups = Cgroups::at(Layout::V1 { controllers: controllers.to_vec(), named: vec![] }, "/cox-1");
        cgroups.ensure("/cox-1/kubepods/podu", &resources()).unwrap();
        let read = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
        assert_eq!(read("cpu/cox-1/kubepods/podu/cpu.shares"), "1024");
        assert_eq!(read("cpu/cox-1/kubepods/podu/cpu.cfs_quota_us"), "50000");
        assert_eq!(read("memory/cox-1/kubepods/podu/memory.limit_in_bytes"), "1048576");
        cgroups.ensure("/cox-1/kubepods/burstable", &Resources::default()).unwrap();
        cgroups.weigh_burstable(1792).unwrap();
        assert_eq!(read("cpu/cox-1/kubepods/burstable/cpu.shares"), "1792");
        assert_eq!(cgroups.pods(), [("u".to_owned(), "/cox-1/kubepods/podu".to_owned())]);
        assert!(cgroups.container_files().is_empty());
    }

    #[test]
    fn v2_has_weights_and_files_for_containers() {
        let dir = tempfile::tempdir().unwrap();
        for group in ["", "cox-1", "cox-1/kubepods"] {
            fs::create_dir_all(dir.path().join(group)).unwrap();
            fs::write(dir.path().join(group).join("cgroup.controllers"), "cpu memory pids").unwrap();
            fs::write(dir.path().join(group).join("cgroup.subtree_control"), "").unwrap();
        }
        let cgroups = Cgroups::at(Layout::V2 { root: dir.path().to_owned() }, "/cox-1");
        cgroups.ensure("/cox-1/kubepods/podu", &resources()).unwrap();
        let read = |path: &str| fs::read_to_string(dir.path().join("cox-1/kubepods/podu").join(path)).unwrap();
        assert_eq!((read("cpu.weight"), read("cpu.max")), ("39".to_owned(), "50000 100000".to_owned()));
        assert_eq!(cgroups.pods(), [("u".to_owned(), "/cox-1/kubepods/podu".to_owned())]);
        cgroups.ensure("/cox-1/kubepods/burstable", &Resources::default()).unwrap();
        cgroups.weigh_burstable(1024).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("cox-1/kubepods/burstable/cpu.weight")).unwrap(), "39");
        let names = || cgroups.container_files().into_keys().collect::<Vec<_>>();
        assert_eq!(names(), ["memory.oom.group"]);
        fs::write(dir.path().join("cox-1/kubepods/memory.swap.max"), "max").unwrap();
        assert_eq!(names(), ["memory.oom.group", "memory.swap.max"]);
    }

    #[test]
    fn weights_span_the_range() {
        assert_eq!((weight(2), weight(1024), weight(262_144)), (1, 39, 10_000));
    }
}
