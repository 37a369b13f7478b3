//! Pod garbage collection: Pods on nodes that are gone or out of service, Pods that were to end before they got a node,
//! and ended Pods beyond a number.

mod plan;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use api::NamespacedName;
use client::informer::{Change, key_of};
use client::{Api, WorkQueue};
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt};
use parking_lot::Mutex;
use plan::Why;
use serde_json::json;
use tokio::time::Instant;

use crate::context::{Context, gone_is_fine, is_code};
use crate::pods;

const NAME: &str = "pod-garbage-collector";
const WORKERS: usize = 4;
/// How long a node must have been missing before its Pods are removed.
const QUARANTINE: Duration = Duration::from_secs(40);
/// Ended Pods are counted at most this often.
const COUNT_PERIOD: Duration = Duration::from_secs(20);
const SURPLUS_AT_ONCE: usize = 16;

struct Controller {
    context: Arc<Context>,
    client: Client,
    queue: WorkQueue<NamespacedName>,
    /// Since when each Node that Pods name has been missing.
    missing: Mutex<HashMap<String, Instant>>,
}

pub fn start(context: &Arc<Context>) {
    let queue = context.queue();
    watch(context, &queue);
    let controller = Arc::new(Controller {
        context: Arc::clone(context),
        client: context.client(NAME),
        queue: queue.clone(),
        missing: Mutex::default(),
    });
    let (all_pods, nodes) = (context.pods.clone(), context.nodes.clone());
    let ready = async move {
        all_pods.synced().await;
        nodes.synced().await;
    };
    count_ended(&controller);
    context.spawn(NAME, queue, WORKERS, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.sync(&key).await }
    });
}

fn watch(context: &Arc<Context>, queue: &WorkQueue<NamespacedName>) {
    let (to, nodes) = (queue.clone(), context.nodes.clone());
    context.pods.on_change(move |change| {
        let pod = change.object();
        let node = nodes.get("", pods::node_name(pod));
        if !matches!(change, Change::Deleted(_)) && plan::judge(pod, node.as_deref()).is_some() {
            to.add(key_of(&**pod));
        }
    });
    let (to, all_pods) = (queue.clone(), context.pods.clone());
    context.nodes.on_change(move |change| {
        let node = change.object();
        let concerned = match change {
            Change::Added(_) => false,
            Change::Deleted(_) => true,
            Change::Updated { new, .. } => plan::is_out_of_service(new),
        };
        if concerned {
            let name = node.name_any();
            let on_it = all_pods.filter(|pod| pods::node_name(pod) == name);
            on_it.iter().for_each(|pod| to.add(key_of(&**pod)));
        }
    });
}

/// Counts ended Pods some time after one ended, and removes those beyond the threshold.
fn count_ended(controller: &Arc<Controller>) {
    let due = Arc::new(AtomicBool::new(false));
    let weak = Arc::downgrade(controller);
    controller.context.pods.on_change(move |change| {
        let ended = !matches!(change, Change::Deleted(_)) && pods::is_terminal(change.object());
        if !ended || due.swap(true, Ordering::AcqRel) {
            return;
        }
        let (weak, due) = (weak.clone(), Arc::clone(&due));
        client::spawn(async move {
            tokio::time::sleep(COUNT_PERIOD).await;
            due.store(false, Ordering::Release);
            let Some(controller) = weak.upgrade().filter(|c| !c.context.stop.is_cancelled()) else { return };
            if let Err(error) = controller.remove_surplus().await {
                tracing::debug!(
                    error = format!("{error:#}"),
                    "some ended Pods could not be removed; the next try is due"
                );
            }
        });
    });
}

impl Controller {
    async fn remove_surplus(&self) -> anyhow::Result<()> {
        let ended = self.context.pods.filter(pods::is_terminal);
        let surplus = plan::surplus(ended, plan::TERMINATED);
        let removed = futures::stream::iter(surplus)
            .map(|pod| async move { self.remove(&pod, &key_of(&*pod), false).await })
            .buffer_unordered(SURPLUS_AT_ONCE);
        let removed: Vec<_> = removed.collect().await;
        removed.into_iter().collect()
    }

    async fn sync(&self, key: &NamespacedName) -> anyhow::Result<()> {
        let Some(pod) = self.context.pods.get(&key.namespace, &key.name) else { return Ok(()) };
        let name = pods::node_name(&pod);
        let node = self.context.nodes.get("", name);
        if node.is_some() {
            self.missing.lock().remove(name);
        }
        match plan::judge(&pod, node.as_deref()) {
            None => Ok(()),
            Some(Why::Unscheduled | Why::OutOfService) => self.remove(&pod, key, false).await,
            Some(Why::Orphaned) => self.remove_orphan(&pod, key, name).await,
        }
    }

    async fn remove_orphan(&self, pod: &Pod, key: &NamespacedName, node: &str) -> anyhow::Result<()> {
        let since = *self.missing.lock().entry(node.to_owned()).or_insert_with(Instant::now);
        let left = QUARANTINE.saturating_sub(since.elapsed());
        if !left.is_zero() {
            self.queue.add_after(key.clone(), left);
            return Ok(());
        }
        let api: Api<Node> = Api::all(self.client.clone());
        let there = api.get_opt(node).await.with_context(|| format!("make sure that Node {node} is gone"))?;
        if there.is_some() {
            self.missing.lock().remove(node);
            anyhow::bail!("Node {node} is there, but its watch has not shown it yet");
        }
        self.remove(pod, key, true).await?;
        let others = self.context.pods.filter(|other| pods::node_name(other) == node && other.uid() != pod.uid());
        if others.is_empty() {
            self.missing.lock().remove(node);
        }
        Ok(())
    }

    /// Calls a Pod failed, since no kubelet will say what became of it, and removes it at once.
    async fn remove(&self, pod: &Pod, key: &NamespacedName, orphaned: bool) -> anyhow::Result<()> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        if !pods::is_terminal(pod) {
            let mut status = json!({"phase": "Failed"});
            if orphaned {
                status["conditions"] = json!([{
                    "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                    "message": "PodGC: node no longer exists", "lastTransitionTime": Timestamp::now(),
                }]);
            }
            let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": status}));
            match api.patch_status(&key.name, &PatchParams::default(), &patch).await {
                // It is gone, or another by now.
                Err(error) if is_code(&error, 404) || is_code(&error, 409) => return Ok(()),
                result => result.map(drop).with_context(|| format!("call Pod {key} failed"))?,
            }
        }
        let preconditions = Some(Preconditions { uid: pod.uid(), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() }.grace_period(0);
        gone_is_fine(api.delete(&key.name, &params).await).with_context(|| format!("remove Pod {key}"))
    }
}
