//! The node lifecycle controller: taints Nodes by their conditions, calls silent ones Unknown, and removes Pods that do
//! not tolerate the taints of their Node.

mod plan;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use api::NamespacedName;
use client::informer::key_of;
use client::{Api, EventType, Recorder, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt};
use parking_lot::Mutex;
use plan::Leave;
use tokio::time::Instant;

use crate::context::{Context, gone_is_fine, is_code};
use crate::pods;

const NAME: &str = "node-controller";

/// When each Node was last heard of, by this process's clock.
type Heard = Arc<Mutex<HashMap<String, Instant>>>;

struct Controller {
    context: Arc<Context>,
    client: Client,
    recorder: Recorder,
    heard: Heard,
    /// When each Node will be looked at again: one timer for each, however many events there are.
    due: Mutex<HashMap<String, Instant>>,
    nodes: WorkQueue<NamespacedName>,
    pods: WorkQueue<NamespacedName>,
}

pub fn start(context: &Arc<Context>) {
    let (nodes, evictions) = (context.queue(), context.queue());
    let heard = Heard::default();
    watch(context, &nodes, &evictions, &heard);
    announce(context);
    let controller = Arc::new(Controller {
        context: Arc::clone(context),
        client: context.client(NAME),
        recorder: context.recorder(NAME),
        heard,
        due: Mutex::default(),
        nodes: nodes.clone(),
        pods: evictions.clone(),
    });
    let synced = |context: &Arc<Context>| {
        let (nodes, pods, leases) = (context.nodes.clone(), context.pods.clone(), context.node_leases.clone());
        async move {
            nodes.synced().await;
            pods.synced().await;
            leases.synced().await;
        }
    };
    let for_nodes = Arc::clone(&controller);
    context.spawn("node-lifecycle", nodes, 2, synced(context), move |key| {
        let controller = Arc::clone(&for_nodes);
        async move { controller.sync_node(&key.name).await }
    });
    context.spawn("taint-eviction", evictions, 4, synced(context), move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.sync_pod(&key).await }
    });
}

fn watch(
    context: &Arc<Context>,
    nodes: &WorkQueue<NamespacedName>,
    evictions: &WorkQueue<NamespacedName>,
    heard: &Heard,
) {
    let (to, ears) = (nodes.clone(), Arc::clone(heard));
    let (leaving, all_pods) = (evictions.clone(), context.pods.clone());
    context.nodes.on_change(move |change| {
        let node = change.object();
        let name = node.name_any();
        let beat = |node: &Node| plan::condition(node, "Ready").and_then(|ready| ready.last_heartbeat_time.clone());
        let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
        let retainted = match change {
            client::Change::Added(_) => {
                ears.lock().insert(name.clone(), Instant::now());
                taints(node).is_some()
            }
            client::Change::Updated { old, new } => {
                if beat(old) != beat(new) {
                    ears.lock().insert(name.clone(), Instant::now());
                }
                taints(old) != taints(new)
            }
            client::Change::Deleted(_) => {
                ears.lock().remove(&name);
                false
            }
        };
        if retainted {
            let on_it = all_pods.filter(|pod| pods::node_name(pod) == name);
            on_it.iter().for_each(|pod| leaving.add(key_of(&**pod)));
        }
        to.add(key_of(&**node));
    });
    let ears = Arc::clone(heard);
    let to = nodes.clone();
    context.node_leases.on_change(move |change| {
        let name = change.object().name_any();
        if ears.lock().insert(name.clone(), Instant::now()).is_none_or(|last| last.elapsed() > plan::GRACE) {
            to.add(NamespacedName::new("", &name));
        }
    });
    let leaving = evictions.clone();
    let all_nodes = context.nodes.clone();
    context.pods.on_change(move |change| {
        let pod = change.object();
        let node = all_nodes.get("", pods::node_name(pod));
        let tainted = node.is_some_and(|node| node.spec.as_ref().is_some_and(|spec| spec.taints.is_some()));
        if tainted {
            leaving.add(key_of(&**pod));
        }
    });
}

/// Says which Nodes come and go, as `kubectl describe node` shows it.
fn announce(context: &Arc<Context>) {
    let recorder = context.recorder(NAME);
    context.nodes.on_change(move |change| {
        let (node, name) = (&**change.object(), change.object().name_any());
        let (reason, event) = match change {
            client::Change::Added(_) => ("RegisteredNode", format!("Registered Node {name} in Controller")),
            client::Change::Updated { .. } => return,
            client::Change::Deleted(_) => ("RemovingNode", format!("Removing Node {name} from Controller")),
        };
        recorder.about(node, EventType::Normal, reason, format!("Node {name} event: {event}"));
    });
}

impl Controller {
    async fn sync_node(&self, name: &str) -> anyhow::Result<()> {
        let Some(node) = self.context.nodes.get("", name) else {
            self.due.lock().remove(name);
            return Ok(());
        };
        let last = self.heard.lock().get(name).copied().unwrap_or_else(Instant::now);
        let silent = last.elapsed();
        let ready = plan::condition(&node, "Ready").map(|ready| ready.status.clone());
        if silent >= plan::GRACE && ready.as_deref() != Some("Unknown") {
            return self.call_unknown(&node).await;
        }
        self.taint(&node).await?;
        if ready.as_deref() == Some("Unknown") || ready.as_deref() == Some("False") {
            self.unready_pods(name).await?;
        }
        if silent < plan::GRACE {
            self.look_again(name, plan::GRACE - silent + Duration::from_millis(100));
        }
        Ok(())
    }

    /// Looks again when the Node would have been silent too long; a beat meanwhile makes that a glance.
    fn look_again(&self, name: &str, left: Duration) {
        let now = Instant::now();
        let mut due = self.due.lock();
        if due.get(name).is_some_and(|at| *at > now) {
            return;
        }
        due.insert(name.to_owned(), now + left);
        self.nodes.add_after(NamespacedName::new("", name), left + Duration::from_millis(1));
    }

    async fn call_unknown(&self, node: &Node) -> anyhow::Result<()> {
        let name = node.name_any();
        let conditions = plan::unknown_conditions(node, Timestamp::now());
        let patch = serde_json::json!({"status": {"conditions": conditions}});
        let api: Api<Node> = Api::all(self.client.clone());
        gone_is_fine(api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await)
            .with_context(|| format!("call Node {name} Unknown"))?;
        let message = format!("Node {name} status is now: NodeNotReady");
        self.recorder.about(node, EventType::Normal, "NodeNotReady", message);
        Ok(())
    }

    async fn taint(&self, node: &Node) -> anyhow::Result<()> {
        let Some(taints) = plan::taints(node, Timestamp::now()) else { return Ok(()) };
        let name = node.name_any();
        // The whole list with the version it was made from: somebody else's taint must not be lost.
        let version = node.resource_version();
        let patch = serde_json::json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
        let api: Api<Node> = Api::all(self.client.clone());
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
            // The informer is behind: its next event brings us back.
            Err(error) if is_code(&error, 409) || is_code(&error, 404) => Ok(()),
            result => result.map(drop).with_context(|| format!("taint Node {name}")),
        }
    }

    /// Pods of a Node that is not ready are not ready themselves: Services must not lead to them.
    async fn unready_pods(&self, node: &str) -> anyhow::Result<()> {
        for pod in self.context.pods.filter(|pod| pods::node_name(pod) == node && pods::is_ready(pod)) {
            let condition = PodCondition {
                type_: "Ready".to_owned(),
                status: "False".to_owned(),
                last_transition_time: Some(Time(Timestamp::now())),
                ..pods::condition(&pod, "Ready").cloned().unwrap_or_default()
            };
            self.patch_status(&pod, condition).await?;
            self.recorder.about(&*pod, EventType::Warning, "NodeNotReady", "Node is not ready");
        }
        Ok(())
    }

    async fn patch_status(&self, pod: &Pod, condition: PodCondition) -> anyhow::Result<()> {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let patch = serde_json::json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
        match api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Err(error) if is_code(&error, 404) || is_code(&error, 409) => Ok(()),
            result => result.map(drop).with_context(|| format!("write the status of Pod {namespace}/{name}")),
        }
    }

    async fn sync_pod(&self, key: &NamespacedName) -> anyhow::Result<()> {
        let Some(pod) = self.context.pods.get(&key.namespace, &key.name) else { return Ok(()) };
        if pod.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let Some(node) = self.context.nodes.get("", pods::node_name(&pod)) else { return Ok(()) };
        let now = Timestamp::now();
        match plan::leave(&pod, &node, now) {
            Leave::Never => Ok(()),
            Leave::At(at) => {
                self.pods.add_after(key.clone(), now.duration_until(at).unsigned_abs());
                Ok(())
            }
            Leave::Now => self.evict(&pod, key).await,
        }
    }

    async fn evict(&self, pod: &Pod, key: &NamespacedName) -> anyhow::Result<()> {
        let condition = PodCondition {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
            reason: Some("DeletionByTaintManager".to_owned()),
            message: Some("Taint manager: deleting due to NoExecute taint".to_owned()),
            last_transition_time: Some(Time(Timestamp::now())),
            ..PodCondition::default()
        };
        self.patch_status(pod, condition).await?;
        let message = format!("Marking for deletion Pod {key}");
        self.recorder.about(pod, EventType::Normal, "TaintManagerEviction", message);
        let preconditions = Preconditions { uid: pod.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        match api.delete(&key.name, &params).await {
            Err(error) if is_code(&error, 404) || is_code(&error, 409) => Ok(()),
            result => result.map(drop).with_context(|| format!("remove Pod {key} from its tainted Node")),
        }
    }
}
