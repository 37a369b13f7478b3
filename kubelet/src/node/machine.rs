//! What the machine has, read once at start.

use std::fs;
use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;

/// The machine's identity and capacity.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub cpus: i64,
    pub memory_bytes: i64,
    /// Size of the file system that Pods write to.
    pub storage_bytes: i64,
    /// Huge pages that are set aside, by size: `2Mi` and how many bytes.
    pub hugepages: Vec<(String, i64)>,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel: String,
    pub os_image: String,
}

impl Machine {
    /// Reads what the machine is; `root` lies on the file system that counts as its storage.
    ///
    /// # Errors
    /// /proc or the file system cannot be read.
    pub fn read(root: &Path) -> io::Result<Self> {
        let trimmed = |path: &str| fs::read_to_string(path).map(|s| s.trim().to_owned()).unwrap_or_default();
        let machine_id = trimmed("/etc/machine-id");
        let boot_id = trimmed("/proc/sys/kernel/random/boot_id");
        let uuid = trimmed("/sys/class/dmi/id/product_uuid");
        let storage = statvfs(root).map_err(io::Error::from)?;
        Ok(Self {
            cpus: std::thread::available_parallelism().map_or(1, |n| i64::try_from(n.get()).unwrap_or(1)),
            memory_bytes: memory(&fs::read_to_string("/proc/meminfo")?),
            storage_bytes: i64::try_from(storage.blocks() * storage.fragment_size()).unwrap_or(i64::MAX),
            hugepages: hugepages(),
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id,
            kernel: trimmed("/proc/sys/kernel/osrelease"),
            os_image: os_image(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
        })
    }
}

/// `MemTotal` in bytes.
fn memory(meminfo: &str) -> i64 {
    field(meminfo, "MemTotal:").map_or(0, |kib| kib * 1024)
}

/// A value of /proc/meminfo in KiB.
pub fn field(meminfo: &str, name: &str) -> Option<i64> {
    meminfo.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

fn os_image(release: &str) -> String {
    let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    pretty.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

fn hugepages() -> Vec<(String, i64)> {
    let entries = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let kib: i64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let count: i64 = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?.trim().parse().ok()?;
            Some((size_name(kib), count * kib * 1024))
        })
        .collect();
    found.sort();
    found
}

fn size_name(kib: i64) -> String {
    match kib {
        k if k % (1 << 20) == 0 => format!("{}Gi", k >> 20),
        k if k % (1 << 10) == 0 => format!("{}Mi", k >> 10),
        k => format!("{k}Ki"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc() {
        assert_eq!(memory("MemTotal:       16384 kB\nMemFree: 1 kB\n"), 16384 * 1024);
        assert_eq!(os_image("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 13\"\n"), "Debian GNU/Linux 13");
        assert_eq!((size_name(2048), size_name(1 << 20), size_name(64)), ("2Mi".into(), "1Gi".into(), "64Ki".into()));
    }
}
