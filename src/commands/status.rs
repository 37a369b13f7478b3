//! `cox status`: on one screen, what runs, what it uses and what is wrong.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use client::Api;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Client, ResourceExt};

use crate::block;
use crate::cli::DirArgs;
use crate::layout::Layout;
use crate::netns;
use crate::node::is_ready;
use crate::progress::print;

/// The API server's checks, of which one fails when the store refuses writes.
const CHECKS: [&str; 4] = ["etcd", "etcd-readiness", "informer-sync", "shutdown"];
/// What the store says when its disk is full, as etcd does.
const FULL: &str = "database space exceeded";
/// Warnings in the log that are shown.
const LOG_LINES: usize = 5;

pub fn run(args: &DirArgs) -> Result<()> {
    let layout = Layout::at(&args.data_dir)?;
    let Some(pid) = layout.running() else {
        print(&format!("no cluster runs from {}", layout.dir().display()))?;
        return Ok(());
    };
    netns::enter(&layout)?;
    print(&format!("cluster    {} (id {})", layout.dir().display(), layout.cluster_id()))?;
    print(&format!("process    {pid}, {}", usage(pid)?))?;
    print(&format!("disk       {}", megabytes(size_of(layout.dir()))))?;
    let (text, wrong) = if layout.kubeconfig().exists() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
        block::on(&runtime, Box::pin(ask(&layout)))?
    } else {
        ("node       an agent's: `cox status` on the server shows how the cluster is\n".to_owned(), Vec::new())
    };
    print(text.trim_end())?;
    let wrong: Vec<String> = wrong.into_iter().chain(log_warnings(&layout)).collect();
    if wrong.is_empty() {
        print("wrong      nothing")?;
    }
    for line in wrong {
        print(&format!("wrong      {line}"))?;
    }
    Ok(())
}

/// Memory (proportional set size) and CPU time of a process.
fn usage(pid: i32) -> Result<String> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("read the process's memory")?;
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).and_then(|rest| rest.split_whitespace().next());
    let kilobytes: u64 = pss.and_then(|text| text.parse().ok()).unwrap_or(0);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("read the process's times")?;
    // Fields are counted behind the name, which may hold blanks.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let seconds = (ticks(11) + ticks(12)) / 100;
    Ok(format!("memory {} MB, CPU time {seconds} s", kilobytes / 1024))
}

fn size_of(path: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(meta) = std::fs::symlink_metadata(path) else { return 0 };
    let own = meta.blocks() * 512;
    let below = std::fs::read_dir(path).into_iter().flatten().flatten();
    if meta.is_dir() { own + below.map(|entry| size_of(&entry.path())).sum::<u64>() } else { own }
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

async fn ask(layout: &Layout) -> Result<(String, Vec<String>)> {
    let client: Client = client::from_kubeconfig(&layout.kubeconfig()).await?;
    let (mut text, mut wrong) = (String::new(), Vec::new());
    let nodes: Api<Node> = Api::all(client.clone());
    let nodes = match nodes.list(&ListParams::default()).await {
        Ok(nodes) => nodes,
        Err(error) => return Ok((text, vec![format!("the API does not answer: {error}")])),
    };
    for node in &nodes {
        let ready = if is_ready(node) { "Ready" } else { "NotReady" };
        writeln!(text, "node       {} {ready}", node.name_any()).context("format")?;
        if !is_ready(node) {
            wrong.push(format!("node {} is not Ready", node.name_any()));
        }
    }
    wrong.extend(unready(&client).await);
    let pods: Api<Pod> = Api::all(client);
    let pods = pods.list(&ListParams::default()).await.context("list the Pods")?;
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
    let count = |wanted: &str| pods.iter().filter(|pod| phase(pod) == wanted).count();
    let phases = ["Running", "Pending", "Succeeded", "Failed", "Unknown"];
    let counted: Vec<String> =
        phases.iter().map(|p| (*p, count(p))).filter(|(_, n)| *n > 0).map(|(p, n)| format!("{n} {p}")).collect();
    let all = if counted.is_empty() { "none".to_owned() } else { counted.join(", ") };
    writeln!(text, "Pods       {all}").context("format")?;
    wrong.extend(pods.iter().filter_map(trouble));
    Ok((text, wrong))
}

/// The API server's checks that fail, each with why.
async fn unready(client: &Client) -> Vec<String> {
    let get = async |path: &str| {
        let request = http::Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
        client.request_text(request).await.map_err(|error| match error {
            // The server's own words.
            kube::Error::Api(status) => status.message.clone(),
            other => other.to_string(),
        })
    };
    let Err(text) = get("/readyz").await else { return Vec::new() };
    let failing: Vec<&str> = CHECKS.into_iter().filter(|check| text.contains(&format!("[-]{check} "))).collect();
    if failing.is_empty() {
        return vec![format!("the API server is not ready: {text}")];
    }
    let mut wrong = Vec::new();
    for check in failing {
        let why = get(&format!("/readyz/{check}")).await.err().unwrap_or_default();
        let why = why.trim().trim_start_matches("internal server error: ");
        wrong.push(match why.contains(FULL) {
            true => format!("the store refuses writes, for its disk is full; reads go on ({check}: {why})"),
            false => format!("the API server is not ready: {check}: {why}"),
        });
    }
    wrong
}

/// Why a Pod does not run, if it says.
fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    let waiting = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    let reason = waiting
        .filter_map(|c| c.state.as_ref()?.waiting.as_ref()?.reason.clone())
        .find(|reason| !matches!(reason.as_str(), "ContainerCreating" | "PodInitializing"));
    if let Some(reason) = reason {
        return Some(format!("Pod {name}: {reason}"));
    }
    let scheduled = status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    Some(format!("Pod {name}: {}", scheduled.message.clone().unwrap_or_default()))
}

/// The newest errors in the log.
fn log_warnings(layout: &Layout) -> Vec<String> {
    let text = std::fs::read_to_string(layout.log_file()).unwrap_or_default();
    let errors: Vec<&str> = text.lines().filter(|line| line.contains(" ERROR ")).collect();
    errors[errors.len().saturating_sub(LOG_LINES)..].iter().map(|line| format!("log: {line}")).collect()
}
