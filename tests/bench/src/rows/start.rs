//! How fast a cluster is there, and what it uses when nothing is asked of it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::http::{Access, Connection};
use crate::process;
use crate::side::Target;

/// Ends a run that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a start is looked at; also what the figure may be wrong by.
const LOOK: Duration = Duration::from_millis(2);

/// Starts that are measured; the median counts.
const STARTS: usize = 5;

/// How long a cluster settles before its idle use counts, and how long it is counted for.
const SETTLE: Duration = Duration::from_secs(20);
const IDLE: Duration = Duration::from_secs(30);

/// Seconds from the start of the process to its first `ok` at /readyz, in a new data directory.
pub async fn api_ready(target: &Target) -> Result<f64> {
    starts(target, |seen| seen.0).await
}

/// Seconds from the start of the process to its Node being Ready, in a new data directory.
pub async fn node_ready(target: &Target) -> Result<f64> {
    starts(target, |seen| seen.1).await
}

async fn starts(target: &Target, figure: impl Fn((f64, f64)) -> f64) -> Result<f64> {
    let mut seen = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        seen.push(figure(one_start(target).await?));
    }
    seen.sort_by(f64::total_cmp);
    Ok(seen[STARTS / 2])
}

async fn one_start(target: &Target) -> Result<(f64, f64)> {
    let cluster = target.own()?;
    let mut command = cluster.cox(&["up", "--node-name", "n1", "--node-ip", &cluster.network.ip]);
    let start = Instant::now();
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("start cox up")?;
    let seen = look(&target.kubeconfig, start).await;
    process.kill().context("stop the process")?;
    process.wait().context("stop the process")?;
    testkit::net::run(&mut cluster.cox(&["reset", "--yes"]))?;
    seen
}

async fn look(kubeconfig: &std::path::Path, start: Instant) -> Result<(f64, f64)> {
    while !kubeconfig.exists() {
        ensure!(start.elapsed() < PATIENCE, "no kubeconfig after {PATIENCE:?}");
        tokio::time::sleep(LOOK).await;
    }
    let access = Access::read(kubeconfig)?;
    let mut connection = loop {
        if let Ok(mut connection) = access.connect().await
            && let Ok((200, _)) = connection.request("GET", "/readyz", b"", None).await
        {
            break connection;
        }
        ensure!(start.elapsed() < PATIENCE, "not ready after {PATIENCE:?}");
        tokio::time::sleep(LOOK).await;
    };
    let api = start.elapsed().as_secs_f64();
    while !ready(&mut connection).await? {
        ensure!(start.elapsed() < PATIENCE, "no node Ready after {PATIENCE:?}");
        tokio::time::sleep(LOOK).await;
    }
    Ok((api, start.elapsed().as_secs_f64()))
}

async fn ready(connection: &mut Connection) -> Result<bool> {
    let mut body = Vec::new();
    let (code, _) = connection.request("GET", "/api/v1/nodes/n1", b"", Some(&mut body)).await?;
    if code == 404 {
        return Ok(false);
    }
    let node: serde_json::Value = serde_json::from_slice(&body).context("a Node")?;
    Ok(testkit::kubectl::condition(&node, "Ready") == Some("True"))
}

/// MB that the process has for itself when nothing runs in the cluster.
pub async fn idle_memory(target: &Target) -> Result<f64> {
    let pid = target.own()?.pid()?;
    tokio::time::sleep(SETTLE).await;
    process::pss(pid)
}

/// Percent of a core that the process uses when nothing runs in the cluster.
pub async fn idle_cpu(target: &Target) -> Result<f64> {
    let pid = target.own()?.pid()?;
    tokio::time::sleep(SETTLE).await;
    let (before, start) = (process::cpu(pid)?, Instant::now());
    tokio::time::sleep(IDLE).await;
    Ok((process::cpu(pid)? - before) / start.elapsed().as_secs_f64() * 100.0)
}
