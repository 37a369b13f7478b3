//! A client that lists once and watches ever after, each time from the last revision that it saw.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::AsyncBufReadExt as _;
use futures::TryStreamExt as _;
use http::Request;
use kube::{Client, Error};
use serde_json::Value;
use testkit::Cluster;
use testkit::cluster::PATIENCE;

use crate::api::{PAUSE, Session, Stop};

/// How often a watch that hears nothing looks whether it is to end.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Clone, Debug)]
pub struct Event {
    pub kind: String,
    pub name: String,
    pub revision: u64,
}

/// What a watcher has seen.
#[derive(Default)]
pub struct Seen {
    pub events: Vec<Event>,
    /// How often it went on after the server had been away.
    pub resumes: usize,
    /// Revision of each object that is there.
    objects: BTreeMap<String, u64>,
    /// Everything up to it was seen.
    revision: u64,
}

pub struct Watcher {
    pub path: &'static str,
    session: Session<Seen>,
}

fn revision(object: &Value) -> Result<u64> {
    let text = object["metadata"]["resourceVersion"].as_str().context("no resourceVersion")?;
    text.parse().with_context(|| format!("resourceVersion {text}"))
}

fn name(object: &Value) -> Result<String> {
    Ok(object["metadata"]["name"].as_str().context("no name")?.to_owned())
}

impl Watcher {
    /// Returns when it has listed.
    pub fn start(cluster: &Cluster, path: &'static str) -> Result<Self> {
        let (listed, told) = std::sync::mpsc::channel();
        let session = Session::start(cluster, async move |client, stop| {
            let mut seen = Seen::default();
            (seen.objects, seen.revision) = first_list(&client, path, &stop).await?;
            listed.send(()).context("nobody waits for the list")?;
            let mut finishing = None;
            loop {
                if stop.is_set() {
                    // What has happened until now is still to be seen.
                    let (objects, at) = list(&client, path).await.context("list after the watch")?;
                    let (last, since) = *finishing.get_or_insert((at, std::time::Instant::now()));
                    if seen.objects == objects {
                        return Ok(seen);
                    }
                    ensure!(
                        since.elapsed() < PATIENCE,
                        "{path}: seen up to {} of {last}, and it is not all",
                        seen.revision
                    );
                }
                watch(&client, path, &mut seen, &stop).await?;
                tokio::time::sleep(PAUSE).await;
            }
        });
        told.recv_timeout(PATIENCE).with_context(|| format!("list {path} before the watch"))?;
        Ok(Self { path, session })
    }

    /// Ends when it has seen everything: what it knows is what a list says.
    pub fn end(self) -> Result<Seen> {
        self.session.end().with_context(|| self.path)
    }
}

async fn list(client: &Client, path: &str) -> Result<(BTreeMap<String, u64>, u64)> {
    let list: Value = client.request(Request::get(path).body(Vec::new()).context("make a request")?).await?;
    let items = list["items"].as_array().context("items")?.iter();
    let objects = items.map(|item| Ok((name(item)?, revision(item)?))).collect::<Result<_>>()?;
    Ok((objects, revision(&list)?))
}

/// The process may be away.
async fn first_list(client: &Client, path: &str, stop: &Stop) -> Result<(BTreeMap<String, u64>, u64)> {
    loop {
        match list(client, path).await {
            Err(error) if stop.is_set() => return Err(error.context("list before the watch")),
            Err(_) => tokio::time::sleep(PAUSE).await,
            listed => return listed,
        }
    }
}

/// One watch, until it ends or nothing comes any more and there is to be an end.
async fn watch(client: &Client, path: &str, seen: &mut Seen, stop: &Stop) -> Result<()> {
    let path = format!("{path}?watch=1&allowWatchBookmarks=true&resourceVersion={}", seen.revision);
    let request = Request::get(&path).body(Vec::new()).context("make a request")?;
    let stream = match client.request_stream(request).await {
        Ok(stream) => stream,
        Err(Error::Api(status)) if status.code < 500 && status.code != 429 => bail!("{path}: {status:?}"),
        Err(_) => return Ok(()),
    };
    seen.resumes += 1;
    let mut lines = stream.lines();
    loop {
        let line = match tokio::time::timeout(LOOK, lines.try_next()).await {
            Err(_) if stop.is_set() => return Ok(()),
            Err(_) => continue,
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None) | Err(_)) => return Ok(()),
        };
        // The process died in the middle of a line.
        let Ok(event) = serde_json::from_str::<Value>(&line) else { return Ok(()) };
        seen.take(&event).with_context(|| path.clone())?;
    }
}

impl Seen {
    fn take(&mut self, event: &Value) -> Result<()> {
        let object = &event["object"];
        let kind = event["type"].as_str().context("no type")?.to_owned();
        ensure!(kind != "ERROR", "the watch ended: {object}");
        let at = revision(object)?;
        if kind == "BOOKMARK" {
            ensure!(at >= self.revision, "a bookmark at {at} after {}", self.revision);
            self.revision = at;
            return Ok(());
        }
        let name = name(object)?;
        ensure!(at > self.revision, "{kind} {name} at {at} after {}: repeated or out of order", self.revision);
        let known = match kind.as_str() {
            "DELETED" => self.objects.remove(&name),
            _ => self.objects.insert(name.clone(), at),
        };
        ensure!(known.is_some() == (kind != "ADDED"), "{kind} {name} at {at}, which was at {known:?}");
        self.revision = at;
        self.events.push(Event { kind, name, revision: at });
        Ok(())
    }
}
