//! Controllers and scheduler: a large Deployment over many nodes that exist in the API only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::http::Connection;
use crate::load::{self, CLIENTS, Next};
use crate::side::Target;

const NODES: u64 = 1000;
const PODS: usize = 2000;
/// Marks the nodes; the Pods ask for it, so that none lands on a node that would run it.
const MARK: &str = "bench.cox/fake";
/// What new nodes set in motion (networks, slices of the cluster's DNS) comes to rest before the measurement begins.
const SETTLE: Duration = Duration::from_secs(5);
/// Ends a run that hangs.
const PATIENCE: Duration = Duration::from_secs(240);
/// What a watch's line of a new object begins with: with a field selector, an object is new when it comes to match.
const ADDED: &[u8] = br#""type":"ADDED""#;

/// Pods made and bound per second, from the Deployment's creation to the last binding.
pub async fn deployment(target: &Target) -> Result<f64> {
    let namespace = target.namespace().await?;
    let access = target.access()?;
    let nodes: Next = Arc::new(|_, number| ("POST", "/api/v1/nodes".to_owned(), node(number)));
    load::once_each(&access, CLIENTS, NODES, nodes).await.context("make the nodes")?;
    let mut connection = access.connect().await?;
    schedulable(&mut connection).await?;
    tokio::time::sleep(SETTLE).await;
    let mut watch = access.connect().await?;
    let bound = "watch=true&fieldSelector=spec.nodeName%21%3D";
    watch.watch(&format!("/api/v1/namespaces/{namespace}/pods?{bound}")).await?;
    let start = Instant::now();
    let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
    connection.json("POST", &path, object().to_string().as_bytes()).await?;
    let seen = tokio::time::timeout(PATIENCE, added(&mut watch, PODS)).await;
    seen.with_context(|| format!("not all Pods were bound within {PATIENCE:?}"))??;
    let rate = PODS as f64 / start.elapsed().as_secs_f64();
    remove(target, &mut connection, &namespace).await?;
    Ok(rate)
}

/// A Node that says it is ready.
fn node(number: u64) -> String {
    let now = "2100-01-01T00:00:00Z";
    let conditions = json!([{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "fake",
        "lastHeartbeatTime": now, "lastTransitionTime": now}]);
    let resources = json!({"cpu": "32", "memory": "256Gi", "pods": "110", "ephemeral-storage": "100Gi"});
    json!({
        "metadata": {"name": format!("fake-{number}"),
            "labels": {MARK: "", "kubernetes.io/hostname": format!("fake-{number}")}},
        "status": {"conditions": conditions, "capacity": resources, "allocatable": resources},
    })
    .to_string()
}

fn object() -> Value {
    let labels = json!({"app": "bench"});
    let requests = json!({"cpu": "10m", "memory": "16Mi"});
    let container = json!({"name": "c", "image": "nginx:1.25", "resources": {"requests": requests}});
    json!({
        "metadata": {"name": "bench"},
        "spec": {"replicas": PODS, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"nodeSelector": {MARK: ""}, "containers": [container]}}},
    })
}

/// Returns when no node has a taint any more that admission or the node controller put on a new one.
async fn schedulable(connection: &mut Connection) -> Result<()> {
    let start = Instant::now();
    loop {
        let nodes = connection.json("GET", &format!("/api/v1/nodes?labelSelector={MARK}"), b"").await?;
        let items = nodes["items"].as_array().context("a list of nodes")?;
        if items.iter().all(|node| node["spec"]["taints"].is_null()) {
            return Ok(());
        }
        ensure!(start.elapsed() < PATIENCE, "the nodes keep their taints");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Returns when a watch has told of so many new objects.
async fn added(watch: &mut Connection, count: usize) -> Result<()> {
    let (mut seen, mut carry) = (0, Vec::new());
    while seen < count {
        carry.extend_from_slice(watch.more().await?);
        seen += memchr::memmem::find_iter(&carry, ADDED).count();
        // What may be the beginning of the next mark.
        let rest = carry.len().saturating_sub(ADDED.len() - 1);
        carry.drain(..rest);
    }
    Ok(())
}

/// Removes Deployment, Pods (no kubelet ends them) and nodes. A cluster of ours goes with the row.
async fn remove(target: &Target, connection: &mut Connection, namespace: &str) -> Result<()> {
    if target.own().is_ok() {
        return Ok(());
    }
    let deployment = format!("/apis/apps/v1/namespaces/{namespace}/deployments/bench");
    connection.json("DELETE", &deployment, br#"{"propagationPolicy":"Background"}"#).await?;
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let start = Instant::now();
    loop {
        connection.json("DELETE", &format!("{pods}?gracePeriodSeconds=0"), b"").await?;
        let sets = format!("/apis/apps/v1/namespaces/{namespace}/replicasets");
        let left = [&pods, &sets];
        let mut count = 0;
        for path in left {
            count += connection.json("GET", path, b"").await?["items"].as_array().map_or(0, Vec::len);
        }
        if count == 0 {
            break;
        }
        ensure!(start.elapsed() < PATIENCE, "the Pods are not gone");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    connection.json("DELETE", &format!("/api/v1/nodes?labelSelector={MARK}"), b"").await?;
    target.remove(namespace).await
}
