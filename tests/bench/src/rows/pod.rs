//! Pods on a node: how soon they run and are gone, how many at once, what each weighs beside its container.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use testkit::Image;
use tokio::sync::mpsc;

use crate::http::Connection;
use crate::process;
use crate::side::Target;

/// Pods that are started one after another, and at once.
const SINGLE: usize = 100;
const MANY: usize = 60;
/// Ends a run that hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a Pod runs before it is deleted, and all before they are weighed.
const PAUSE: Duration = Duration::from_millis(100);
const SETTLE: Duration = Duration::from_secs(5);

/// What a watcher sees of a Pod.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Running,
    Gone,
}

/// Pods of one namespace, and what is seen of them.
struct Pods {
    connection: Connection,
    path: String,
    news: mpsc::UnboundedReceiver<(String, Step, Instant)>,
    seen: BTreeMap<(String, Step), Instant>,
}

impl Pods {
    /// Loads the image, of which the program ends at once on SIGTERM, and begins to watch.
    async fn new(target: &Target) -> Result<Self> {
        let script = "trap 'exit 0' TERM; sleep 100000 & wait";
        let image = Image::named("docker.io/library/bench:dev").busybox()?.entrypoint(&["/bin/sh", "-c", script]);
        target.own()?.load(&image)?;
        let path = format!("/api/v1/namespaces/{}/pods", target.namespace().await?);
        let access = target.access()?;
        let mut watch = access.connect().await?;
        watch.watch(&format!("{path}?watch=true")).await?;
        let (sender, news) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut input = Vec::new();
            while let Ok(bytes) = watch.more().await {
                let now = Instant::now();
                input.extend_from_slice(bytes);
                let events: Vec<_> = take_events(&mut input).iter().filter_map(step).collect();
                if events.into_iter().any(|(name, step)| sender.send((name, step, now)).is_err()) {
                    return;
                }
            }
        });
        let mut pods = Self { connection: access.connect().await?, path, news, seen: BTreeMap::new() };
        // The first one finds nothing warm.
        pods.create("warm").await?;
        pods.wait("warm", Step::Running).await?;
        Ok(pods)
    }

    async fn create(&mut self, name: &str) -> Result<()> {
        let body = format!(
            r#"{{"metadata":{{"name":"{name}"}},"spec":{{"containers":[
            {{"name":"c","image":"bench:dev","imagePullPolicy":"Never"}}]}}}}"#
        );
        self.connection.json("POST", &self.path, body.as_bytes()).await.map(drop)
    }

    async fn delete(&mut self, name: &str) -> Result<()> {
        self.connection.json("DELETE", &format!("{}/{name}", self.path), b"").await.map(drop)
    }

    /// When the watcher saw it.
    async fn wait(&mut self, name: &str, step: Step) -> Result<Instant> {
        let wanted = (name.to_owned(), step);
        loop {
            if let Some(at) = self.seen.get(&wanted) {
                return Ok(*at);
            }
            let next = tokio::time::timeout(PATIENCE, self.news.recv()).await;
            let (name, step, at) =
                next.with_context(|| format!("waited for Pod {name}"))?.context("the watch ended")?;
            self.seen.entry((name, step)).or_insert(at);
        }
    }

    async fn run_many(&mut self) -> Result<f64> {
        let start = Instant::now();
        for number in 0..MANY {
            self.create(&format!("many-{number}")).await?;
        }
        let mut last = start;
        for number in 0..MANY {
            last = last.max(self.wait(&format!("many-{number}"), Step::Running).await?);
        }
        Ok(MANY as f64 / (last - start).as_secs_f64())
    }
}

/// Takes whole events off a watch's bytes. Between them are the marks of chunks.
fn take_events(input: &mut Vec<u8>) -> Vec<Value> {
    let Some(end) = memchr::memrchr(b'\n', input) else { return Vec::new() };
    let whole: Vec<u8> = input.drain(..=end).collect();
    whole.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

fn step(event: &Value) -> Option<(String, Step)> {
    let name = event.pointer("/object/metadata/name")?.as_str()?.to_owned();
    match (event["type"].as_str()?, event.pointer("/object/status/phase").and_then(Value::as_str)) {
        ("DELETED", _) => Some((name, Step::Gone)),
        (_, Some("Running")) => Some((name, Step::Running)),
        _ => None,
    }
}

/// Milliseconds from the request that makes a Pod until a watcher sees it Running: at this part of a hundred of all.
pub async fn start(target: &Target, percent: usize) -> Result<f64> {
    lives(target, percent, |life| life.0).await
}

/// Milliseconds from the request that deletes a Pod, whose process ends at once, until a watcher sees it gone.
pub async fn delete(target: &Target, percent: usize) -> Result<f64> {
    lives(target, percent, |life| life.1).await
}

async fn lives(target: &Target, percent: usize, figure: impl Fn((f64, f64)) -> f64) -> Result<f64> {
    let mut pods = Pods::new(target).await?;
    let mut figures = Vec::with_capacity(SINGLE);
    for number in 0..SINGLE {
        let (name, start) = (format!("one-{number}"), Instant::now());
        pods.create(&name).await?;
        let up = pods.wait(&name, Step::Running).await? - start;
        tokio::time::sleep(PAUSE).await;
        let end = Instant::now();
        pods.delete(&name).await?;
        let down = pods.wait(&name, Step::Gone).await? - end;
        figures.push(figure((up.as_secs_f64() * 1000.0, down.as_secs_f64() * 1000.0)));
        tokio::time::sleep(PAUSE).await;
    }
    figures.sort_by(f64::total_cmp);
    Ok(figures[(SINGLE * percent / 100).min(SINGLE - 1)])
}

/// Pods a second, of many that are made at once, until the last is seen Running.
pub async fn many(target: &Target) -> Result<f64> {
    Pods::new(target).await?.run_many().await
}

/// MB for each running Pod: its shim, and what the cluster's process and the template of shims grew by.
pub async fn memory(target: &Target) -> Result<f64> {
    let cluster = target.own()?;
    let pid = cluster.pid()?;
    let mut pods = Pods::new(target).await?;
    tokio::time::sleep(SETTLE).await;
    let before = weight(pid, &cluster.dir)?;
    pods.run_many().await?;
    tokio::time::sleep(SETTLE).await;
    Ok((weight(pid, &cluster.dir)? - before) / MANY as f64)
}

/// MB of the process, its children and the shims, each shim leaving its number in a file.
fn weight(pid: i32, data: &Path) -> Result<f64> {
    let mut whole = process::pss(pid)?;
    let children = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(&children).with_context(|| format!("read {children}"))?;
    for child in children.split_ascii_whitespace() {
        whole += process::pss(child.parse().context("a child's number")?)?;
    }
    let folder = data.join("run/shim");
    for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry.context("read the shims' folder")?.path();
        if path.extension().is_some_and(|extension| extension == "pid") {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            whole += process::pss(text.trim().parse().map_err(|_| anyhow!("{} holds no number", path.display()))?)?;
        }
    }
    Ok(whole)
}
