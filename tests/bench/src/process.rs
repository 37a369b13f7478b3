//! What a process uses: memory shared out (PSS) and CPU time.

use std::fs;

use anyhow::{Context, Result};

/// Bytes in a megabyte, as the figures are given.
const MEGA: f64 = 1e6;

/// The proportional set size of a process, in MB.
pub fn pss(pid: i32) -> Result<f64> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).with_context(|| format!("{file} has no Pss"))?;
    let kibibytes: f64 =
        line.trim().trim_end_matches(" kB").trim().parse().with_context(|| format!("Pss in {file}"))?;
    Ok(kibibytes * 1024.0 / MEGA)
}

/// CPU time that the process's threads have used, in seconds.
pub fn cpu(pid: i32) -> Result<f64> {
    let folder = format!("/proc/{pid}/task");
    let mut nanoseconds = 0.0;
    for task in fs::read_dir(&folder).with_context(|| format!("read {folder}"))? {
        let file = task.with_context(|| format!("read {folder}"))?.path().join("schedstat");
        // A thread may end between the two reads; what it used is then no longer counted.
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let used: f64 = text.split_whitespace().next().unwrap_or("0").parse().context("schedstat")?;
        nanoseconds += used;
    }
    Ok(nanoseconds / 1e9)
}
