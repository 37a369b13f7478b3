//! Making the Node object, following it, and writing its status: at once when something changes, else every five
//! minutes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::watch::{self, Event, Unread, Watch};
use client::{Api, Backoff};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::agent::Agent;
use crate::events::Type;
use crate::time;

use super::status;

fn labels(agent: &Agent) -> BTreeMap<String, String> {
    let arch = status::arch();
    let mut labels: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", agent.config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .collect();
    labels.extend(agent.config.node_labels.clone());
    labels
}

/// Registers the node and keeps its status.
pub(super) async fn run(agent: &Arc<Agent>) {
    let mut wait = Backoff::default();
    let mut sent = loop {
        match register(agent).await {
            Ok(status) => break status,
            Err(error) => tracing::warn!(error = %crate::text(&error), "registering the node failed"),
        }
        tokio::time::sleep(wait.wait()).await;
    };
    let report = Duration::from_secs(agent.config.node_status_report_seconds);
    let mut retry = None;
    loop {
        // A status that could not be written is tried again soon; otherwise a change or the period brings the next.
        let due = retry.unwrap_or(report);
        let forced = tokio::select! {
            () = agent.node_changed.notified() => false,
            () = tokio::time::sleep(due) => true,
        };
        let fresh = status::status(agent, sent.as_ref(), &time::api_time(time::now())).await;
        if !forced && sent.as_ref().is_some_and(|old| same(old, &fresh)) {
            continue;
        }
        say_changes(agent, sent.as_ref(), &fresh);
        match write(agent, &fresh).await {
            Ok(()) => {
                sent = Some(fresh);
                (retry, wait) = (None, Backoff::default());
            }
            Err(error) => {
                tracing::warn!(error = %crate::text(&error), "writing the node's status failed");
                retry = Some(wait.wait());
            }
        }
    }
}

/// The same but for the times of its heartbeats.
fn same(old: &NodeStatus, fresh: &NodeStatus) -> bool {
    let mut old = old.clone();
    let (Some(before), Some(now)) = (&mut old.conditions, &fresh.conditions) else { return false };
    for (condition, current) in before.iter_mut().zip(now) {
        condition.last_heartbeat_time = current.last_heartbeat_time.clone();
    }
    old == *fresh
}

/// Events of conditions, by the condition's type: when it holds, and when it does not.
const SAID: [(&str, &str, &str); 4] = [
    ("MemoryPressure", "NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
    ("DiskPressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
    ("PIDPressure", "NodeHasInsufficientPID", "NodeHasSufficientPID"),
    ("Ready", "NodeReady", "NodeNotReady"),
];

/// Says which conditions changed; a node that comes up says what is good.
fn say_changes(agent: &Agent, old: Option<&NodeStatus>, fresh: &NodeStatus) {
    let holds = |s: &NodeStatus, ty: &str| s.conditions.iter().flatten().any(|c| c.type_ == ty && c.status == "True");
    let name = &agent.config.node_name;
    for (ty, yes, no) in SAID {
        let now = holds(fresh, ty);
        let is_news = match old {
            Some(old) => holds(old, ty) != now,
            None => ty != "Ready" || now,
        };
        if is_news {
            let reason = if now { yes } else { no };
            agent.recorder.node(name, Type::Normal, reason, format!("Node {name} status is now: {reason}"));
        }
    }
}

/// Makes the Node with its status, or brings the one that is there up to date.
async fn register(agent: &Arc<Agent>) -> kube::Result<Option<NodeStatus>> {
    let api: Api<Node> = Api::all(agent.client.clone());
    let name = agent.config.node_name.clone();
    let status = status::status(agent, None, &time::api_time(time::now())).await;
    let taints = agent.config.register_taints.clone();
    let node = Node {
        metadata: ObjectMeta { name: Some(name.clone()), labels: Some(labels(agent)), ..ObjectMeta::default() },
        spec: Some(NodeSpec { taints: (!taints.is_empty()).then_some(taints), ..NodeSpec::default() }),
        status: Some(status.clone()),
    };
    match api.create(&PostParams::default(), &node).await {
        Ok(node) => {
            follow_node(agent, node).await;
            say_changes(agent, None, &status);
            return Ok(Some(status));
        }
        Err(kube::Error::Api(s)) if s.code == 409 => {}
        Err(error) => return Err(error),
    }
    let found = api.get(&name).await?;
    let have = found.metadata.labels.clone().unwrap_or_default();
    let mut wanted = labels(agent);
    wanted.retain(|key, value| have.get(key) != Some(value));
    if !wanted.is_empty() {
        let body = json!({"metadata": {"labels": wanted}});
        api.patch(&name, &PatchParams::default(), &Patch::Strategic(&body)).await?;
    }
    let old = found.status.clone();
    follow_node(agent, found).await;
    let fresh = status::status(agent, old.as_ref(), &time::api_time(time::now())).await;
    write(agent, &fresh).await?;
    Ok(Some(fresh))
}

async fn write(agent: &Agent, status: &NodeStatus) -> kube::Result<()> {
    let api: Api<Node> = Api::all(agent.client.clone());
    let body = json!({"status": status});
    api.patch_status(&agent.config.node_name, &PatchParams::default(), &Patch::Strategic(&body)).await.map(drop)
}

/// Follows the node's own object: its Pod CIDR goes to the runtime as soon as there is one.
pub(super) async fn follow(agent: &Arc<Agent>) {
    let api: Api<Node> = Api::all(agent.client.clone());
    let config = watch::Config::default().fields(&format!("metadata.name={}", agent.config.node_name));
    let mut events = Watch::new(api, config);
    while let Some(event) = events.next().await {
        match event {
            Event::InitApply(node) | Event::Apply(node) => follow_node(agent, node).await,
            // Somebody deleted it: it is made again.
            Event::Delete(_) | Event::Unread(Unread { deleted: true, .. }) => {
                if let Err(error) = register(agent).await {
                    tracing::warn!(error = %crate::text(&error), "registering the node again failed");
                }
            }
            Event::Init | Event::InitDone | Event::Unread(_) => {}
        }
    }
}

async fn follow_node(agent: &Agent, node: Node) {
    let cidr = node.spec.as_ref().and_then(|s| s.pod_cidr.clone()).filter(|c| !c.is_empty());
    agent.node.send_replace(Some(Arc::new(node)));
    let Some(cidr) = cidr else { return };
    match agent.runtime.update_pod_cidr(&cidr).await {
        Ok(()) => agent.node_changed.notify_one(),
        Err(error) => tracing::warn!(cidr, %error, "giving the runtime its Pod CIDR failed"),
    }
}
