//! `/stats/summary`: what Pods use, from the runtime's statistics; and the usage that metrics are made from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use kubelet_runtime::cri::ContainerStats;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::node::machine;
use crate::pod::registry::Snapshot;
use crate::spec;

use super::route::{Answer, json as answer, text};

/// At least so long, and at most so long, is between two readings of CPU time that a rate is made of.
const WINDOW: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(60);

/// What one Pod's containers use.
pub(super) struct PodUsage {
    pub snapshot: Arc<Snapshot>,
    pub containers: Vec<ContainerStats>,
}

/// The usage of every Pod that runs.
///
/// # Errors
/// The runtime could not tell.
pub(super) async fn usage(agent: &Agent) -> Result<Vec<PodUsage>, String> {
    let all = agent.runtime.container_stats().await.map_err(|e| e.to_string())?;
    let mut by_sandbox: BTreeMap<String, Vec<ContainerStats>> = BTreeMap::new();
    for stats in all {
        by_sandbox.entry(stats.sandbox_id.clone()).or_default().push(stats);
    }
    let pods = agent.pods.all().into_iter().map(|e| e.snapshot()).filter(|s| s.active);
    Ok(pods
        .filter_map(|snapshot| {
            let containers = by_sandbox.remove(snapshot.sandbox_id.as_ref()?)?;
            Some(PodUsage { snapshot, containers })
        })
        .collect())
}

/// CPU seconds that the machine was busy since it started.
pub(super) fn node_cpu_nanos() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let Some(line) = stat.lines().next() else { return 0 };
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|v| v.parse().ok()).collect();
    // user, nice, system, irq, softirq, steal; the fourth and fifth are idle and waiting. A tick is 10 ms.
    let busy: u64 = ticks.iter().enumerate().filter(|(i, _)| !matches!(i, 3 | 4)).take(6).map(|(_, t)| t).sum();
    busy * 10_000_000
}

/// What the machine's memory is used for, in bytes, as upstream counts it on cgroup v2: in use, and in use without file
/// pages that were not used lately.
pub(super) fn node_memory() -> (u64, u64) {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    memory_of(&meminfo)
}

fn memory_of(meminfo: &str) -> (u64, u64) {
    let field = |name| machine::field(meminfo, name).and_then(|kib| u64::try_from(kib * 1024).ok()).unwrap_or(0);
    let usage = field("MemTotal:").saturating_sub(field("MemFree:"));
    (usage, usage.saturating_sub(field("Inactive(file):")))
}

/// CPU time that was read at one moment: what rates are made from.
pub(super) struct Reading {
    at: Instant,
    node: u64,
    containers: BTreeMap<String, u64>,
}

impl Reading {
    fn now(usage: &[PodUsage]) -> Self {
        let containers = usage.iter().flat_map(|p| &p.containers).map(|c| (c.id.clone(), c.cpu_usage_nanos));
        Self { at: Instant::now(), node: node_cpu_nanos(), containers: containers.collect() }
    }
}

/// Nanoseconds of CPU for each second between a reading and now.
fn rate(before: u64, after: u64, window: Duration) -> u64 {
    let rate = u128::from(after.saturating_sub(before)) * 1_000_000_000 / window.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// Answers `/stats/summary`. `kept` is the reading of whoever asked last; without a recent one it takes a moment.
pub(super) async fn summary(agent: &Arc<Agent>, kept: &Mutex<Option<Reading>>, short: bool) -> Answer {
    let recent = |r: &Reading| (WINDOW..LONGEST).contains(&r.at.elapsed());
    let last = kept.lock().take().filter(recent);
    let before = match last {
        Some(reading) => reading,
        None => match usage(agent).await {
            Ok(usage) => {
                let reading = Reading::now(&usage);
                tokio::time::sleep(WINDOW).await;
                reading
            }
            Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error),
        },
    };
    let usage = match usage(agent).await {
        Ok(usage) => usage,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error),
    };
    let reading = Reading::now(&usage);
    let since = Since { before: &before, window: reading.at - before.at };
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let pods: Vec<Value> = usage.iter().map(|pod| pod_summary(pod, &since, &now, short)).collect();
    let node = node_summary(agent, &since, reading.node, &now, short);
    *kept.lock() = Some(reading);
    answer(&json!({"node": node, "pods": pods}))
}

struct Since<'a> {
    before: &'a Reading,
    window: Duration,
}

impl Since<'_> {
    /// Of a container that was not there before it is not known.
    fn container(&self, c: &ContainerStats) -> Option<u64> {
        let before = self.before.containers.get(&c.id)?;
        Some(rate(*before, c.cpu_usage_nanos, self.window))
    }
}

fn node_summary(agent: &Agent, since: &Since<'_>, cpu_now: u64, now: &str, short: bool) -> Value {
    let (usage, working_set) = node_memory();
    let total = u64::try_from(agent.machine.memory_bytes).unwrap_or(0);
    let mut node = json!({
        "nodeName": agent.config.node_name,
        "startTime": boot_time(),
        "cpu": cpu(now, cpu_now, Some(rate(since.before.node, cpu_now, since.window))),
        "memory": {"time": now, "availableBytes": total.saturating_sub(working_set), "usageBytes": usage,
            "workingSetBytes": working_set},
    });
    if !short {
        if let Ok(fs) = nix::sys::statvfs::statvfs(&agent.config.root_dir) {
            let bytes = |blocks: u64| blocks.saturating_mul(fs.fragment_size());
            node["fs"] = json!({"time": now, "availableBytes": bytes(fs.blocks_available()),
                "capacityBytes": bytes(fs.blocks()), "usedBytes": bytes(fs.blocks() - fs.blocks_free()),
                "inodesFree": fs.files_free(), "inodes": fs.files(), "inodesUsed": fs.files() - fs.files_free()});
        }
        if let Some(pids) = crate::node::pressure::pids() {
            node["rlimit"] = json!({"time": now, "maxpid": pids.limit, "curproc": pids.used});
        }
    }
    node
}

/// When the machine was started.
fn boot_time() -> Option<String> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let seconds: i64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(jiff::Timestamp::from_second(seconds).ok()?.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn cpu(time: &str, total: u64, rate: Option<u64>) -> Value {
    let mut cpu = json!({"time": time, "usageCoreNanoSeconds": total});
    if let Some(rate) = rate {
        cpu["usageNanoCores"] = rate.into();
    }
    cpu
}

/// When a container of a Pod was started, in Unix nanoseconds.
pub(super) fn started_at(pod: &PodUsage, id: &str) -> Option<i64> {
    pod.snapshot.containers.iter().find(|c| c.id == id).map(|c| c.started_at).filter(|at| *at > 0)
}

fn pod_summary(pod: &PodUsage, since: &Since<'_>, now: &str, short: bool) -> Value {
    let object = &pod.snapshot.pod;
    let sum = |of: &dyn Fn(&ContainerStats) -> u64| -> u64 { pod.containers.iter().map(of).sum() };
    let container = |c: &ContainerStats| {
        let started = started_at(pod, &c.id).and_then(|at| jiff::Timestamp::from_nanosecond(at.into()).ok());
        let mut summary = json!({
            "name": c.name,
            "startTime": started.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            "cpu": cpu(now, c.cpu_usage_nanos, since.container(c)),
            "memory": memory(now, c.memory_usage_bytes, c.memory_working_set_bytes, c.memory_rss_bytes),
        });
        if !short {
            summary["rootfs"] = json!({"time": now, "usedBytes": c.fs_used_bytes, "inodesUsed": c.fs_inodes_used});
        }
        summary
    };
    let containers: Vec<Value> = pod.containers.iter().map(container).collect();
    let rates: Option<u64> = pod.containers.iter().map(|c| since.container(c)).sum();
    let mut summary = json!({
        "podRef": {"name": spec::name(object), "namespace": spec::namespace(object), "uid": spec::uid(object)},
        "startTime": pod.snapshot.status.start_time,
        "containers": containers,
        "cpu": cpu(now, sum(&|c| c.cpu_usage_nanos), rates),
        "memory": memory(
            now,
            sum(&|c| c.memory_usage_bytes),
            sum(&|c| c.memory_working_set_bytes),
            sum(&|c| c.memory_rss_bytes),
        ),
    });
    if !short {
        summary["process_stats"] = json!({"process_count": sum(&|c| c.pids)});
    }
    summary
}

fn memory(time: &str, usage: u64, working_set: u64, rss: u64) -> Value {
    json!({"time": time, "usageBytes": usage, "workingSetBytes": working_set, "rssBytes": rss})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_machines_working_set_is_without_idle_file_pages() {
        let meminfo = "MemTotal:  1000 kB\nMemFree:  300 kB\nInactive(file):  200 kB\n";
        assert_eq!(memory_of(meminfo), (700 * 1024, 500 * 1024));
        assert_eq!(memory_of(""), (0, 0));
    }

    #[test]
    fn rates_are_for_each_second() {
        assert_eq!(rate(1_000, 501_000, Duration::from_millis(500)), 1_000_000);
        assert_eq!(rate(5, 3, Duration::from_secs(1)), 0, "a counter that began anew");
    }
}
