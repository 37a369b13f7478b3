//! What a group uses.

use std::fs;
use std::path::Path;

use super::Layout;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds of CPU since the group was made.
    pub cpu_nanos: u64,
    pub memory_bytes: u64,
    /// Without file pages that were not used lately.
    pub working_set_bytes: u64,
    pub rss_bytes: u64,
    pub pids: u64,
}

/// The group's usage; what its files do not say is 0.
pub fn usage(layout: &Layout, path: &str) -> Usage {
    let file = |controller: &str, name: &str| layout.directory(controller, path).map(|directory| directory.join(name));
    let number = |controller: &str, name: &str| {
        file(controller, name).and_then(|path| fs::read_to_string(path).ok()).and_then(|text| text.trim().parse().ok())
    };
    let field = |controller: &str, name: &str, key: &str| file(controller, name).map_or(0, |path| keyed(&path, key));
    let (cpu_nanos, memory_bytes, inactive, rss_bytes) = match layout {
        Layout::V1 { .. } => (
            number("cpuacct", "cpuacct.usage").unwrap_or(0),
            number("memory", "memory.usage_in_bytes").unwrap_or(0),
            field("memory", "memory.stat", "total_inactive_file"),
            field("memory", "memory.stat", "total_rss"),
        ),
        Layout::V2 { .. } => (
            field("cpu", "cpu.stat", "usage_usec") * 1000,
            number("memory", "memory.current").unwrap_or(0),
            field("memory", "memory.stat", "inactive_file"),
            field("memory", "memory.stat", "anon"),
        ),
    };
    Usage {
        cpu_nanos,
        memory_bytes,
        working_set_bytes: memory_bytes.saturating_sub(inactive),
        rss_bytes,
        pids: number("pids", "pids.current").unwrap_or(0),
    }
}

fn keyed(path: &Path, key: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key).and_then(|rest| rest.strip_prefix(' ')));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// Did the kernel kill a process of the group for its memory?
pub fn oom_killed(directory: &Path) -> bool {
    ["memory.events", "memory.oom_control"].iter().any(|file| {
        let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
        text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
    })
}
