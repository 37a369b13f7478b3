//! Control groups, version 1 (also hybrid) and version 2, by their files: where a group is, its limits, its end.

mod device_program;
mod devices;
mod end;
mod limits;
mod placement;
mod stats;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use devices::{ANY_ACCESS, DeviceKind, DeviceRule, MKNOD, access};
pub use end::{kill_all, processes};
pub use limits::Limits;
pub use placement::Placement;
pub use stats::{Usage, oom_killed, usage};

/// How the node's control groups are mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    V1 {
        /// Mount points with their controllers, the one with `memory` first.
        controllers: Vec<(PathBuf, Vec<String>)>,
        /// Hierarchies without controllers, by which an init system tells services apart.
        named: Vec<PathBuf>,
    },
    V2 {
        root: PathBuf,
    },
}

/// Controllers of version 2 without which Pods' limits would be empty words.
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];

/// Controllers that containers are placed under; the same that libcontainer knows.
const CONTROLLERS: [&str; 12] = [
    "memory",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "hugetlb",
    "pids",
    "perf_event",
    "blkio",
    "net_prio",
    "net_cls",
    "freezer",
];

impl Layout {
    pub fn detect() -> io::Result<Layout> {
        Layout::parse(&fs::read_to_string("/proc/self/mountinfo")?)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no control groups are mounted"))
    }

    /// From the text of /proc/self/mountinfo.
    fn parse(mountinfo: &str) -> Option<Layout> {
        let mut controllers = Vec::new();
        let mut named = Vec::new();
        let mut v2 = None;
        for line in mountinfo.lines() {
            let (left, right) = line.split_once(" - ")?;
            let mount_point = PathBuf::from(left.split(' ').nth(4)?);
            let mut right = right.split(' ');
            match right.next()? {
                // Later ones are the same tree, shown to somebody else.
                "cgroup2" => v2 = v2.or(Some(mount_point)),
                "cgroup" => {
                    let options = right.nth(1)?;
                    let of: Vec<String> =
                        options.split(',').filter(|o| CONTROLLERS.contains(o)).map(String::from).collect();
                    if of.is_empty() { named.push(mount_point) } else { controllers.push((mount_point, of)) }
                }
                _ => {}
            }
        }
        // Somebody may have mounted a controller like net_cls of version 1 on a machine that has version 2.
        let limits = controllers.iter().any(|(_, of)| of.iter().any(|name| name == "memory" || name == "cpu"));
        if let Some(root) = v2.clone().filter(|_| !limits) {
            return Some(Layout::V2 { root });
        }
        if controllers.is_empty() {
            return None;
        }
        controllers.sort_by_key(|(_, of)| !of.iter().any(|name| name == "memory"));
        named.extend(v2);
        Some(Layout::V1 { controllers, named })
    }

    /// The group's directory in each hierarchy with controllers; the first is where memory is.
    pub fn directories(&self, path: &str) -> Vec<PathBuf> {
        let path = path.trim_start_matches('/');
        match self {
            Layout::V1 { controllers, .. } => controllers.iter().map(|(mount, _)| mount.join(path)).collect(),
            Layout::V2 { root } => vec![root.join(path)],
        }
    }

    /// The directory under one controller of version 1; under version 2 the only one.
    pub(crate) fn directory(&self, controller: &str, path: &str) -> Option<PathBuf> {
        let path = path.trim_start_matches('/');
        match self {
            Layout::V1 { controllers, .. } => {
                let mount = controllers.iter().find(|(_, of)| of.iter().any(|name| name == controller));
                mount.map(|(mount, _)| mount.join(path))
            }
            Layout::V2 { root } => Some(root.join(path)),
        }
    }

    /// Directories of a group that only says whose a process is, for an init system that ends services by it.
    pub fn marker_directories(&self, path: &str) -> Vec<PathBuf> {
        let path = path.trim_start_matches('/');
        match self {
            Layout::V1 { named, .. } => named.iter().map(|mount| mount.join(path)).collect(),
            Layout::V2 { root } => vec![root.join(path)],
        }
    }

    /// Every directory that a group of this path may have, in all hierarchies.
    pub fn all_directories(&self, path: &str) -> Vec<PathBuf> {
        let mut all = self.directories(path);
        all.extend(self.marker_directories(path));
        all.sort();
        all.dedup();
        all
    }

    /// Makes the group with its parents; on version 2 the parents hand on every controller that they have.
    pub fn create(&self, path: &str) -> io::Result<()> {
        for directory in self.directories(path) {
            fs::create_dir_all(&directory).map_err(|error| named(error, "make control group", &directory))?;
        }
        if let Layout::V1 { .. } = self {
            return self.inherit_cpuset(path);
        }
        self.delegate(path)
    }

    /// A cpuset of version 1 is empty until it is told, and an empty one takes no processes.
    fn inherit_cpuset(&self, path: &str) -> io::Result<()> {
        let (Some(root), Some(group)) = (self.directory("cpuset", ""), self.directory("cpuset", path)) else {
            return Ok(());
        };
        for file in ["cpuset.cpus", "cpuset.mems"] {
            cpuset(&group, &root, file)?;
        }
        Ok(())
    }

    fn delegate(&self, path: &str) -> io::Result<()> {
        let Layout::V2 { root } = self else { return Ok(()) };
        let mut current = root.clone();
        for part in Path::new(path.trim_start_matches('/')).components() {
            hand_on(&current).map_err(|error| named(error, "hand on controllers of", &current))?;
            current.push(part);
        }
        Ok(())
    }

    pub fn exists(&self, path: &str) -> bool {
        self.directories(path).iter().any(|directory| directory.exists())
    }

    /// Kills what is in the group and below, and removes both. A group that is not there is fine.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        if path.trim_matches('/').is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the root control group is not ours to remove"));
        }
        let directories = self.all_directories(path);
        for directory in &directories {
            end::remove_tree(directory).map_err(|error| named(error, "remove control group", directory))?;
        }
        Ok(())
    }
}

/// Lets the groups below this one of version 2 have all its controllers.
fn hand_on(group: &Path) -> io::Result<()> {
    let control = group.join("cgroup.subtree_control");
    let (has, on) = (fs::read_to_string(group.join("cgroup.controllers"))?, fs::read_to_string(&control)?);
    if let Some(name) = NEEDED.iter().find(|name| !has.split_whitespace().any(|has| has == **name)) {
        let text =
            format!("the kernel has no controller {name} there; see its parameters cgroup_enable, cgroup_disable");
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    let missing = || has.split_whitespace().filter(|name| !on.split_whitespace().any(|already| already == *name));
    let all: Vec<String> = missing().map(|name| format!("+{name}")).collect();
    if all.is_empty() || fs::write(&control, all.join(" ")).is_ok() {
        return Ok(());
    }
    // One that cannot be handed on (cpu while there are real-time processes, say) keeps back all that stand in one
    // line.
    for name in missing() {
        match fs::write(&control, format!("+{name}")) {
            Err(error) if NEEDED.contains(&name) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What the group's file says; an empty one is told what its parent has, which is asked first.
fn cpuset(group: &Path, root: &Path, file: &str) -> io::Result<String> {
    let path = group.join(file);
    let own = fs::read_to_string(&path).map_err(|error| named(error, "read", &path))?.trim().to_owned();
    let Some(parent) = group.parent().filter(|_| own.is_empty() && group != root) else { return Ok(own) };
    let inherited = cpuset(parent, root, file)?;
    fs::write(&path, &inherited).map_err(|error| named(error, "write", &path))?;
    Ok(inherited)
}

fn named(error: io::Error, operation: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{operation} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn hybrid_layout_is_version_1_with_markers() {
        let text = "\
31 23 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
32 23 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 23 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
34 23 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
35 23 0:31 / /proc rw - proc proc rw";
        let layout = Layout::parse(text).unwrap();
        assert_eq!(
            layout.directories("/cox-1/a"),
            [PathBuf::from("/sys/fs/cgroup/memory/cox-1/a"), PathBuf::from("/sys/fs/cgroup/cpu/cox-1/a")]
        );
        assert_eq!(
            layout.marker_directories("cox-1"),
            [PathBuf::from("/sys/fs/cgroup/systemd/cox-1"), PathBuf::from("/sys/fs/cgroup/unified/cox-1")]
        );
        assert_eq!(layout.directory("pids", "x"), None);
    }

    #[test]
    fn unified_layout_has_one_directory() {
        let text = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
        let layout = Layout::parse(text).unwrap();
        assert_eq!(layout.all_directories("/cox-1"), [PathBuf::from("/sys/fs/cgroup/cox-1")]);
        let more = "\n31 23 0:27 / /sys/fs/cgroup/net_cls rw - cgroup cgroup rw,net_cls\n\
            32 23 0:26 / /somewhere/else rw - cgroup2 cgroup2 rw";
        assert_eq!(Layout::parse(&format!("{text}{more}")), Some(layout), "what others mount besides changes nothing");
    }

    /// A tree of files as version 2 has them; the kernel would make them in each new directory.
    fn version_2(groups: &[&str]) -> (tempfile::TempDir, Layout) {
        let root = tempfile::tempdir().unwrap();
        for group in groups {
            let directory = root.path().join(group);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
            fs::write(directory.join("cgroup.subtree_control"), "").unwrap();
        }
        let layout = Layout::V2 { root: root.path().to_owned() };
        (root, layout)
    }

    #[test]
    fn version_2_hands_controllers_on_from_the_root_to_the_parent() {
        let (root, layout) = version_2(&["", "cox-1", "cox-1/pod"]);
        layout.create("/cox-1/pod/container").unwrap();
        let control = |group: &str| fs::read_to_string(root.path().join(group).join("cgroup.subtree_control"));
        for group in ["", "cox-1", "cox-1/pod"] {
            assert_eq!(control(group).unwrap(), "+cpu +memory +pids", "{group:?}");
        }
        assert!(control("cox-1/pod/container").is_err(), "a group with processes hands nothing on");
        assert!(layout.exists("cox-1/pod/container") && !layout.exists("cox-1/other"));
        fs::write(root.path().join("cgroup.controllers"), "cpu pids").unwrap();
        let error = layout.create("cox-1/pod/container").unwrap_err().to_string();
        assert!(error.contains("no controller memory"), "{error}");
    }

    #[test]
    fn version_2_has_its_own_files_for_limits_use_and_kills() {
        let (root, layout) = version_2(&["", "g"]);
        let limits =
            Limits { cpu_shares: 1024, cpu_quota: 50_000, memory_bytes: 1 << 20, pids: 7, ..Limits::default() };
        layout.set("g", &limits).unwrap();
        let directory = root.path().join("g");
        let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
        assert_eq!((read("cpu.weight"), read("cpu.max")), ("100".to_owned(), "50000 100000".to_owned()));
        assert_eq!((read("memory.max"), read("pids.max")), ("1048576".to_owned(), "7".to_owned()));
        // A group that may use all devices needs no filter, which this one, no real group, could not have.
        layout.set_devices("g", &[DeviceRule::everything(true)]).unwrap();
        assert!(layout.set_devices("g", &[DeviceRule::everything(false)]).is_err());

        for (name, text) in [
            ("cpu.stat", "usage_usec 5\nuser_usec 4\n"),
            ("memory.current", "900\n"),
            ("memory.stat", "anon 300\nfile 600\ninactive_file 200\n"),
            ("pids.current", "3\n"),
            ("cgroup.procs", "11\n12\n0\n"),
        ] {
            fs::write(directory.join(name), text).unwrap();
        }
        let used = Usage { cpu_nanos: 5000, memory_bytes: 900, working_set_bytes: 700, rss_bytes: 300, pids: 3 };
        assert_eq!(usage(&layout, "g"), used);
        assert_eq!(processes(&directory), [11, 12]);
        for (events, killed) in [("oom 1\noom_kill 0\n", false), ("oom 1\noom_kill 2\n", true)] {
            fs::write(directory.join("memory.events"), events).unwrap();
            assert_eq!(oom_killed(&directory), killed, "{events}");
        }
        kill_all(std::slice::from_ref(&directory));
        assert_eq!(read("cgroup.kill"), "1", "one write ends all, and no process is looked for");
    }

    #[test]
    fn processes_get_into_their_group_by_the_layouts_own_way() {
        let root = tempfile::tempdir().unwrap();
        let v2 = Layout::V2 { root: root.path().to_owned() };
        fs::create_dir(root.path().join("g")).unwrap();
        let placement = v2.placement("/g");
        assert!(placement.birthplace().unwrap().is_some());
        placement.join().unwrap();
        let v1 = Layout::V1 { controllers: vec![(root.path().to_owned(), vec!["cpu".into()])], named: vec![] };
        let placement = v1.placement("/g");
        assert!(placement.birthplace().unwrap().is_none());
        placement.join().unwrap();
        assert_eq!(fs::read_to_string(root.path().join("g/tasks")).unwrap(), "0");
    }

    #[test]
    fn an_empty_cpuset_has_what_the_nearest_parent_has() {
        let root = tempfile::tempdir().unwrap();
        for (group, cpus) in [("", "0-3\n"), ("a", "1\n"), ("a/b", "\n"), ("a/b/c", "\n")] {
            fs::create_dir_all(root.path().join(group)).unwrap();
            for file in ["cpuset.cpus", "cpuset.mems"] {
                fs::write(root.path().join(group).join(file), cpus).unwrap();
            }
        }
        let layout = Layout::V1 { controllers: vec![(root.path().to_owned(), vec!["cpuset".into()])], named: vec![] };
        layout.create("a/b/c").unwrap();
        for group in ["a/b", "a/b/c"] {
            assert_eq!(fs::read_to_string(root.path().join(group).join("cpuset.cpus")).unwrap(), "1", "{group}");
        }
    }

    #[test]
    fn the_root_is_never_removed() {
        assert!(Layout::detect().unwrap().remove("/").is_err());
    }
}
