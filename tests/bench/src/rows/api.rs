//! The API server under load: create, get, list, watch. Pods name a scheduler that does not exist: nothing runs them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::load::{self, CLIENTS, Next};
use crate::side::Target;

/// Objects of a list that is measured.
const LISTED: u64 = 3000;

/// Clients that list at once; more would only queue.
const LISTERS: usize = 4;

/// A watch that begins with what is new.
const NEW: &str = "watch=true&resourceVersion=0&sendInitialEvents=false&resourceVersionMatch=NotOlderThan";

fn path(namespace: &str, resource: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/{resource}")
}

fn object(resource: &str, name: &str) -> String {
    if resource == "pods" {
        return format!(
            r#"{{"metadata":{{"name":"{name}","labels":{{"app":"load","tier":"bench"}}}},
            "spec":{{"schedulerName":"none","containers":[{{"name":"c","image":"nginx:1.25","ports":[{{"containerPort":80}}],
            "env":[{{"name":"A","value":"b"}}],"resources":{{"requests":{{"cpu":"10m","memory":"16Mi"}}}}}}]}}}}"#
        );
    }
    let value = "x".repeat(800);
    format!(r#"{{"metadata":{{"name":"{name}","labels":{{"app":"load"}}}},"data":{{"k":"{value}"}}}}"#)
}

fn creating(namespace: &str, resource: &'static str) -> Next {
    let path = path(namespace, resource);
    Arc::new(move |client, number| ("POST", path.clone(), object(resource, &format!("load-{client}-{number}"))))
}

/// Objects created per second, each synced to disk before its answer.
pub async fn create(target: &Target, resource: &'static str) -> Result<f64> {
    let namespace = target.namespace().await?;
    let rate = load::throughput(&target.access()?, CLIENTS, target.time, creating(&namespace, resource)).await;
    target.remove(&namespace).await?;
    rate
}

/// Objects read per second.
pub async fn get(target: &Target, resource: &'static str) -> Result<f64> {
    let one = |path: &str, client| format!("{path}/one-{client}");
    read(target, resource, CLIENTS as u64, CLIENTS, one).await
}

/// Lists of 3,000 objects per second.
pub async fn list(target: &Target, resource: &'static str) -> Result<f64> {
    read(target, resource, LISTED, LISTERS, |path, _| path.to_owned()).await
}

/// Makes `count` objects, and lets clients read what `what` says of the collection's path and the client's number.
async fn read(
    target: &Target,
    resource: &'static str,
    count: u64,
    clients: usize,
    what: impl Fn(&str, usize) -> String + Send + Sync + 'static,
) -> Result<f64> {
    let namespace = target.namespace().await?;
    let path = path(&namespace, resource);
    let create = path.clone();
    let next: Next = Arc::new(move |_, number| ("POST", create.clone(), object(resource, &format!("one-{number}"))));
    load::once_each(&target.access()?, CLIENTS, count, next).await?;
    let next: Next = Arc::new(move |client, _| ("GET", what(&path, client), String::new()));
    let rate = load::throughput(&target.access()?, clients, target.time, next).await;
    target.remove(&namespace).await?;
    rate
}

/// Events delivered per second to many watchers of one namespace's ConfigMaps while they are created.
pub async fn watch(target: &Target, watchers: usize) -> Result<f64> {
    let namespace = target.namespace().await?;
    let watched = format!("{}?{NEW}", path(&namespace, "configmaps"));
    let events = Arc::new(AtomicU64::new(0));
    let access = target.access()?;
    let mut tasks = Vec::with_capacity(watchers);
    for _ in 0..watchers {
        let mut connection = access.connect().await?;
        connection.watch(&watched).await?;
        let events = Arc::clone(&events);
        tasks.push(tokio::spawn(async move {
            loop {
                let bytes = connection.more().await?;
                events.fetch_add(count(bytes), Ordering::Relaxed);
            }
            #[allow(unreachable_code, reason = "gives the task's type")]
            anyhow::Ok(())
        }));
    }
    let start = Instant::now();
    let writers = load::throughput(&access, 2, target.time, creating(&namespace, "configmaps"));
    let written = writers.await.context("create what is watched")?;
    // What was written before the end is delivered; watchers that lag get the time they need, within bounds.
    let due = (written * target.time.as_secs_f64()) as u64 * watchers as u64;
    while events.load(Ordering::Relaxed) < due && start.elapsed() < target.time * 10 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let rate = events.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    target.remove(&namespace).await?;
    Ok(rate)
}

/// Events in the bytes of a watch: each ends with a brace and a line feed.
fn count(bytes: &[u8]) -> u64 {
    memchr::memmem::find_iter(bytes, b"}\n").count() as u64
}
