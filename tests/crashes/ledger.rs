//! Writers, and the ledger of what was acknowledged to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::Request;
use kube::{Client, Error};
use serde_json::{Value, json};
use testkit::Cluster;

use crate::CONFIG_MAPS;
use crate::api::{PAUSE, Session, Stop};
use crate::watcher::Event;

/// Between writes: the processor is needed for what is tested.
const REST: Duration = Duration::from_millis(5);

/// How far a ConfigMap is in its life. Each is made, changed once, and deleted, by one writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Made,
    Changed,
    Deleted,
}

pub type Stages = BTreeMap<String, Stage>;

/// What was begun, and what was acknowledged.
#[derive(Default)]
pub struct Ledger {
    begun: Mutex<Stages>,
    done: Mutex<Stages>,
}

impl Ledger {
    /// What has been acknowledged so far.
    pub fn done(&self) -> Stages {
        self.done.lock().unwrap().clone()
    }

    /// Compares a listing with what had been acknowledged before and what has been begun since.
    pub fn check(&self, kept: &Stages, listed: &Stages) -> Result<()> {
        let begun = self.begun.lock().unwrap();
        for (name, stage) in kept {
            let at_most = begun.get(name).context("begun before it is done")?;
            match listed.get(name) {
                Some(found) => {
                    ensure!(found >= stage && found <= at_most, "{name} is {found:?}, acknowledged {stage:?}");
                }
                None => ensure!(*at_most == Stage::Deleted, "{name} is lost, acknowledged {stage:?}"),
            }
        }
        for name in listed.keys() {
            ensure!(begun.contains_key(name), "{name} was never written");
        }
        Ok(())
    }
}

/// The ConfigMaps that are there.
pub fn listed(cluster: &Cluster) -> Result<Stages> {
    let list: Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw", CONFIG_MAPS])?).context("a list")?;
    let items = list["items"].as_array().context("items")?.iter();
    let ours = items.filter(|item| item["data"]["number"].is_string());
    Ok(ours
        .map(|item| {
            let stage = if item["data"]["changed"].is_string() { Stage::Changed } else { Stage::Made };
            (item["metadata"]["name"].as_str().unwrap_or_default().to_owned(), stage)
        })
        .collect())
}

/// A write that was acknowledged, with its revision where the answer says it.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    pub name: String,
    pub stage: Stage,
    pub revision: Option<u64>,
}

pub struct Writer(Session<Vec<Acknowledged>>);

impl Writer {
    pub fn start(cluster: &Cluster, name: &'static str, ledger: Arc<Ledger>) -> Self {
        Self(Session::start(cluster, async move |client, stop| {
            let mut acknowledged = Vec::new();
            for number in 0_u32.. {
                let name = |back: u32| Some(format!("{name}-{:06}", number.checked_sub(back)?));
                for (name, stage) in [(name(0), Stage::Made), (name(2), Stage::Changed), (name(10), Stage::Deleted)] {
                    let Some(name) = name else { continue };
                    if stop.is_set() {
                        return Ok(acknowledged);
                    }
                    acknowledged.extend(write(&client, &stop, &ledger, name, stage).await?);
                    tokio::time::sleep(REST).await;
                }
            }
            Ok(acknowledged)
        }))
    }

    /// Everything that was acknowledged to it.
    pub fn end(self) -> Result<Vec<Acknowledged>> {
        self.0.end()
    }
}

fn request(name: &str, stage: Stage) -> Result<Request<Vec<u8>>> {
    let object = json!({"metadata": {"name": name}, "data": {"number": name}});
    let path = format!("{CONFIG_MAPS}/{name}");
    let request = match stage {
        Stage::Made => Request::post(CONFIG_MAPS).header("content-type", "application/json").body(object.to_string()),
        Stage::Changed => Request::patch(path)
            .header("content-type", "application/merge-patch+json")
            .body(json!({"data": {"changed": "yes"}}).to_string()),
        Stage::Deleted => Request::delete(path).body(String::new()),
    };
    Ok(request.context("make a request")?.map(String::into_bytes))
}

/// Writes until it is acknowledged. After an answer that never came, one that says it is done already is as good.
async fn write(
    client: &Client,
    stop: &Stop,
    ledger: &Ledger,
    name: String,
    stage: Stage,
) -> Result<Option<Acknowledged>> {
    ledger.begun.lock().unwrap().insert(name.clone(), stage);
    let mut in_doubt = false;
    let revision = loop {
        match client.request_text(request(&name, stage)?).await {
            Ok(text) if stage == Stage::Deleted => {
                ensure!(text.contains("Success"), "{name}: {text}");
                break None;
            }
            Ok(text) => {
                let object: Value = serde_json::from_str(&text).context("the answer")?;
                break object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
            }
            Err(Error::Api(status)) => match status.code {
                409 if stage == Stage::Made && in_doubt => break None,
                404 if stage == Stage::Deleted && in_doubt => break None,
                // Shutting down, or not yet ready.
                429 | 500.. => in_doubt = true,
                _ => bail!("{stage:?} {name}: {status:?}"),
            },
            Err(_) => in_doubt = true,
        }
        if stop.is_set() {
            return Ok(None);
        }
        tokio::time::sleep(PAUSE).await;
    };
    ledger.done.lock().unwrap().insert(name.clone(), stage);
    Ok(Some(Acknowledged { name, stage, revision }))
}

/// Every acknowledged write was seen by a watch exactly once, at its revision.
pub fn all_seen(acknowledged: &[Acknowledged], events: &[Event]) -> Result<()> {
    let mut seen: BTreeMap<(&str, Stage), Vec<u64>> = BTreeMap::new();
    for event in events {
        let stage = match event.kind.as_str() {
            "ADDED" => Stage::Made,
            "MODIFIED" => Stage::Changed,
            _ => Stage::Deleted,
        };
        seen.entry((&event.name, stage)).or_default().push(event.revision);
    }
    for Acknowledged { name, stage, revision } in acknowledged {
        let at = seen.get(&(name.as_str(), *stage)).map(Vec::as_slice).unwrap_or_default();
        ensure!(at.len() == 1, "{stage:?} {name} was seen {} times: {at:?}", at.len());
        ensure!(revision.is_none_or(|revision| revision == at[0]), "{stage:?} {name}: {revision:?} was seen as {at:?}");
    }
    Ok(())
}
