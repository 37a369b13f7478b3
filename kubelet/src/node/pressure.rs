//! Whether the machine runs short of memory, disk or process ids. Looked at whenever the node's lease is renewed, which
//! is as often as upstream's eviction manager looks, so that an idle node wakes up for nothing else.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;
use parking_lot::Mutex;

use super::machine;

/// Memory below 100 Mi as upstream.
const MEMORY_LOW: i64 = 100 << 20;
/// Disk and inodes below 5 % as k3s: machines with large disks work on well below 10 %. Of a disk 4 Gi are enough.
const DISK_LOW_PERCENT: u64 = 5;
const DISK_ENOUGH: u64 = 4 << 30;
/// Process ids below 5 %.
const PIDS_LOW_PERCENT: u64 = 5;
/// So long after the last time that it ran short a machine still counts as short (upstream's
/// `evictionPressureTransitionPeriod`).
const TRANSITION: Duration = Duration::from_secs(300);

/// Process ids of the machine; threads count too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pids {
    pub used: u64,
    pub limit: u64,
}

/// What the machine is short of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Short {
    pub memory: bool,
    pub disk: bool,
    pub pids: bool,
}

/// When the machine was last short of memory, disk and process ids.
#[derive(Debug, Default)]
struct Seen([Option<Instant>; 3]);

/// The node's pressure, over time.
#[derive(Debug, Default)]
pub struct Pressure(Mutex<Seen>);

impl Pressure {
    /// Looks at the machine; `root` lies on the file system that Pods write to. Blocks for as long as files of /proc
    /// do.
    pub fn look(&self, root: &Path) -> Short {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let now = Short { memory: memory_low(&meminfo), disk: disk_low(root), pids: pids().is_some_and(pids_low) };
        self.0.lock().step(now, Instant::now())
    }
}

impl Seen {
    /// What counts as short when this is seen now.
    fn step(&mut self, seen: Short, now: Instant) -> Short {
        let [memory, disk, pids] = &mut self.0;
        let counts = |last: &mut Option<Instant>, is_short: bool| {
            if is_short {
                *last = Some(now);
            }
            last.is_some_and(|last| now.duration_since(last) < TRANSITION)
        };
        Short { memory: counts(memory, seen.memory), disk: counts(disk, seen.disk), pids: counts(pids, seen.pids) }
    }
}

fn memory_low(meminfo: &str) -> bool {
    machine::field(meminfo, "MemAvailable:").is_some_and(|kib| kib * 1024 < MEMORY_LOW)
}

fn disk_low(root: &Path) -> bool {
    let Ok(stat) = statvfs(root) else { return false };
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    space_low(bytes(stat.blocks_available()), bytes(stat.blocks()))
        // Some file systems have as many inodes as they want, and say 0.
        || few(stat.files_available(), stat.files())
}

fn few(free: u64, all: u64) -> bool {
    u128::from(free) * 100 < u128::from(all) * u128::from(DISK_LOW_PERCENT)
}

fn space_low(free: u64, all: u64) -> bool {
    few(free, all) && free < DISK_ENOUGH
}

fn pids_low(pids: Pids) -> bool {
    pids.limit.saturating_sub(pids.used) * 100 < pids.limit * PIDS_LOW_PERCENT
}

/// Process ids in use, and how many there can be.
pub fn pids() -> Option<Pids> {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limit = number("/proc/sys/kernel/pid_max")?.min(number("/proc/sys/kernel/threads-max")?);
    Some(Pids { used: threads(&fs::read_to_string("/proc/loadavg").ok()?)?, limit })
}

/// How many threads there are: `0.20 0.18 0.12 1/80 11206`.
fn threads(loadavg: &str) -> Option<u64> {
    loadavg.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn thresholds() {
        assert!(memory_low("MemTotal: 9 kB\nMemAvailable:  102399 kB\n"));
        assert!(!memory_low("MemAvailable:  102400 kB\n") && !memory_low(""));
        assert!(pids_low(Pids { used: 951, limit: 1000 }) && !pids_low(Pids { used: 950, limit: 1000 }));
        let gib = |count: u64| count << 30;
        assert!(space_low(gib(1), gib(40)) && !space_low(gib(3), gib(40)), "5 %");
        assert!(space_low(gib(3), gib(500)) && !space_low(gib(4), gib(500)), "4 Gi are enough");
        assert!(few(4, 100) && !few(5, 100) && !few(0, 0));
        assert_eq!(threads("0.20 0.18 0.12 1/80 11206\n"), Some(80));
        assert!(pids().is_some_and(|pids| pids.used > 0 && pids.used < pids.limit));
    }

    #[test]
    fn a_machine_counts_as_short_for_a_while_after_it_was() {
        let (start, disk) = (Instant::now(), Short { disk: true, ..Short::default() });
        let mut seen = Seen::default();
        for (seconds, now, counts) in [
            (0, Short::default(), Short::default()),
            (10, disk, disk),
            (20, Short::default(), disk),
            (300, disk, disk),
            (599, Short::default(), disk),
            (600, Short::default(), Short::default()),
        ] {
            assert_eq!(seen.step(now, start + Duration::from_secs(seconds)), counts, "after {seconds} s");
        }
    }
}
