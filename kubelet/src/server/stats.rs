//! `/stats/summary`: what Pods use, from the runtime's statistics; and the usage that metrics are made from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use kubelet_runtime::cri::ContainerStats;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::node::machine;
use crate::pod::registry::Snapshot;
use crate::spec;

use super::route::{Answer, json as answer, text};

/// Between two readings of CPU time that a rate is made of.
const WINDOW: Duration = Duration::from_millis(250);

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

/// Memory in use that cannot be taken back, bytes.
pub(super) fn node_memory_bytes() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name| machine::field(&meminfo, name).unwrap_or(0);
    u64::try_from((field("MemTotal:") - field("MemAvailable:")) * 1024).unwrap_or(0)
}

pub(super) async fn summary(agent: &Arc<Agent>) -> Answer {
    let node_before = node_cpu_nanos();
    let first = match usage(agent).await {
        Ok(usage) => usage,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error),
    };
    tokio::time::sleep(WINDOW).await;
    let second = match usage(agent).await {
        Ok(usage) => usage,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error),
    };
    let before: BTreeMap<&str, u64> =
        first.iter().flat_map(|p| &p.containers).map(|c| (c.id.as_str(), c.cpu_usage_nanos)).collect();
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let pods: Vec<Value> = second.iter().map(|pod| pod_summary(pod, &before, &now)).collect();
    let node_now = node_cpu_nanos();
    let total = u64::try_from(agent.machine.memory_bytes).unwrap_or(0);
    answer(&json!({
        "node": {
            "nodeName": agent.config.node_name,
            "startTime": now,
            "cpu": cpu(&now, node_now, rate(node_before, node_now)),
            "memory": {"time": now, "workingSetBytes": node_memory_bytes(),
                "availableBytes": total.saturating_sub(node_memory_bytes())},
        },
        "pods": pods,
    }))
}

/// Nanoseconds of CPU for each second.
fn rate(before: u64, after: u64) -> u64 {
    after.saturating_sub(before).saturating_mul(1000) / u64::try_from(WINDOW.as_millis()).unwrap_or(1)
}

fn cpu(time: &str, total: u64, rate: u64) -> Value {
    json!({"time": time, "usageNanoCores": rate, "usageCoreNanoSeconds": total})
}

fn pod_summary(pod: &PodUsage, before: &BTreeMap<&str, u64>, now: &str) -> Value {
    let object = &pod.snapshot.pod;
    let rate_of = |c: &ContainerStats| before.get(c.id.as_str()).map_or(0, |b| rate(*b, c.cpu_usage_nanos));
    let sum = |of: &dyn Fn(&ContainerStats) -> u64| -> u64 { pod.containers.iter().map(of).sum() };
    let containers: Vec<Value> = pod
        .containers
        .iter()
        .map(|c| {
            json!({
                "name": c.name,
                "startTime": pod.snapshot.status.start_time,
                "cpu": cpu(now, c.cpu_usage_nanos, rate_of(c)),
                "memory": memory(now, c.memory_usage_bytes, c.memory_working_set_bytes, c.memory_rss_bytes),
                "rootfs": {"time": now, "usedBytes": c.fs_used_bytes, "inodesUsed": c.fs_inodes_used},
            })
        })
        .collect();
    json!({
        "podRef": {"name": spec::name(object), "namespace": spec::namespace(object), "uid": spec::uid(object)},
        "startTime": pod.snapshot.status.start_time,
        "containers": containers,
        "cpu": cpu(now, sum(&|c| c.cpu_usage_nanos), sum(&rate_of)),
        "memory": memory(
            now,
            sum(&|c| c.memory_usage_bytes),
            sum(&|c| c.memory_working_set_bytes),
            sum(&|c| c.memory_rss_bytes),
        ),
        "process_stats": {"process_count": sum(&|c| c.pids)},
    })
}

fn memory(time: &str, usage: u64, working_set: u64, rss: u64) -> Value {
    json!({"time": time, "usageBytes": usage, "workingSetBytes": working_set, "rssBytes": rss})
}
