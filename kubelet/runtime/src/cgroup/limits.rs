//! Limits of a group, written to its files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::Layout;
use crate::cri::Resources;

/// Limits as `LinuxContainerResources` has them; 0 leaves what is there, a negative quota or limit takes it away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub cpu_shares: i64,
    /// Microseconds.
    pub cpu_quota: i64,
    pub cpu_period: i64,
    pub memory_bytes: i64,
    pub pids: i64,
    /// Further files of version 2, by name.
    pub unified: BTreeMap<String, String>,
}

impl From<&Resources> for Limits {
    fn from(wanted: &Resources) -> Limits {
        Limits {
            cpu_shares: wanted.cpu_shares,
            cpu_quota: wanted.cpu_quota,
            cpu_period: wanted.cpu_period,
            memory_bytes: wanted.memory_limit_bytes,
            pids: wanted.pids_limit,
            unified: wanted.unified.clone(),
        }
    }
}

/// The weight of version 2 for shares of version 1: 2–262144 onto 1–10000 with 1024 at 100, the default of each, by the
/// curve of the OCI runtimes (KEP-2254, as amended for v1.35).
fn weight(shares: i64) -> i64 {
    let shares = shares.clamp(2, 262_144);
    if shares == 2 {
        return 1;
    }
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    (10f64.powf(exponent).ceil() as i64).min(10_000)
}

impl Layout {
    /// Changes the limits of a group that is there.
    pub fn set(&self, path: &str, limits: &Limits) -> io::Result<()> {
        for (controller, file, value) in self.writes(limits) {
            let directory = self.directory(controller, path);
            let Some(directory) = directory else {
                let text = format!("limit {file} of {path}: controller {controller} is not mounted");
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            };
            write(&directory.join(file), &value)?;
        }
        Ok(())
    }

    /// (controller, file, value) in the order in which they are written.
    fn writes(&self, limits: &Limits) -> Vec<(&'static str, String, String)> {
        let unlimited = |value: i64, name: &str| if value < 0 { name.to_owned() } else { value.to_string() };
        let mut writes = Vec::new();
        match self {
            Layout::V1 { .. } => {
                if limits.cpu_shares > 0 {
                    writes.push(("cpu", "cpu.shares".to_owned(), limits.cpu_shares.max(2).to_string()));
                }
                if limits.cpu_period > 0 {
                    writes.push(("cpu", "cpu.cfs_period_us".to_owned(), limits.cpu_period.to_string()));
                }
                if limits.cpu_quota != 0 {
                    writes.push(("cpu", "cpu.cfs_quota_us".to_owned(), unlimited(limits.cpu_quota, "-1")));
                }
                if limits.memory_bytes != 0 {
                    writes.push(("memory", "memory.limit_in_bytes".to_owned(), unlimited(limits.memory_bytes, "-1")));
                }
            }
            Layout::V2 { .. } => {
                if limits.cpu_shares > 0 {
                    writes.push(("cpu", "cpu.weight".to_owned(), weight(limits.cpu_shares).to_string()));
                }
                if limits.cpu_quota != 0 {
                    let period = if limits.cpu_period > 0 { limits.cpu_period } else { 100_000 };
                    writes.push((
                        "cpu",
                        "cpu.max".to_owned(),
                        format!("{} {period}", unlimited(limits.cpu_quota, "max")),
                    ));
                }
                if limits.memory_bytes != 0 {
                    writes.push(("memory", "memory.max".to_owned(), unlimited(limits.memory_bytes, "max")));
                }
            }
        }
        if limits.pids != 0 {
            writes.push(("pids", "pids.max".to_owned(), unlimited(limits.pids, "max")));
        }
        if matches!(self, Layout::V2 { .. }) {
            writes.extend(limits.unified.iter().map(|(file, value)| ("", file.clone(), value.clone())));
        }
        writes
    }
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    fs::write(path, value)
        .map_err(|error| io::Error::new(error.kind(), format!("write {value} to {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights() {
        for (shares, expected) in [(0, 1), (2, 1), (102, 17), (1024, 100), (262_144, 10_000)] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }

    #[test]
    fn limits_are_files_of_each_version() {
        let unified = BTreeMap::from([("memory.oom.group".to_owned(), "1".to_owned())]);
        let limits = Limits {
            cpu_shares: 512,
            cpu_quota: 50_000,
            cpu_period: 100_000,
            memory_bytes: 1 << 20,
            pids: -1,
            unified,
        };
        let files = |layout: Layout| -> Vec<String> {
            layout.writes(&limits).into_iter().map(|(_, file, value)| format!("{file}={value}")).collect()
        };
        assert_eq!(
            files(Layout::V1 { controllers: vec![], named: vec![] }),
            [
                "cpu.shares=512",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "memory.limit_in_bytes=1048576",
                "pids.max=max"
            ]
        );
        assert_eq!(
            files(Layout::V2 { root: "/".into() }),
            ["cpu.weight=59", "cpu.max=50000 100000", "memory.max=1048576", "pids.max=max", "memory.oom.group=1"]
        );
    }
}
