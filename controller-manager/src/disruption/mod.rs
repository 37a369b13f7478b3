//! The disruption controller: how many Pods of each PodDisruptionBudget may be evicted now. Also takes the mark of a
//! coming disruption off Pods that nobody disrupted.

mod plan;
mod scale;

use std::sync::Arc;

use anyhow::Context as _;
use api::NamespacedName;
use client::informer::{Change, key_of};
use client::{Api, EventType, Recorder, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::context::{Context, gone_is_fine, is_code};
use crate::owner;

const NAME: &str = "disruption-controller";
const WORKERS: usize = 2;

struct Controller {
    context: Arc<Context>,
    client: Client,
    recorder: Recorder,
    budgets: WorkQueue<NamespacedName>,
    marks: WorkQueue<NamespacedName>,
}

pub fn start(context: &Arc<Context>) {
    let (budgets, marks) = (context.queue(), context.queue());
    watch(context, &budgets, &marks);
    let controller = Arc::new(Controller {
        context: Arc::clone(context),
        client: context.client(NAME),
        recorder: context.recorder(NAME),
        budgets: budgets.clone(),
        marks: marks.clone(),
    });
    let synced = |context: &Arc<Context>| {
        let (all, pods) = (context.budgets.clone(), context.pods.clone());
        let (sets, deployments) = (context.replica_sets.clone(), context.deployments.clone());
        async move {
            all.synced().await;
            pods.synced().await;
            sets.synced().await;
            deployments.synced().await;
        }
    };
    let for_budgets = Arc::clone(&controller);
    context.spawn(NAME, budgets, WORKERS, synced(context), move |key| {
        let controller = Arc::clone(&for_budgets);
        async move { controller.sync(&key).await }
    });
    context.spawn("stale-disruption", marks, 1, synced(context), move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.clear_mark(&key).await }
    });
}

/// Whether a budget covers a Pod. An empty selector covers all of the namespace.
fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    budget.metadata.namespace == pod.metadata.namespace
        && owner::selects(budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()), pod.labels())
}

fn watch(context: &Arc<Context>, budgets: &WorkQueue<NamespacedName>, marks: &WorkQueue<NamespacedName>) {
    let changed = budgets.clone();
    context.budgets.on_change(move |change| changed.add(key_of(&**change.object())));
    let (changed, all, marked) = (budgets.clone(), context.budgets.clone(), marks.clone());
    context.pods.on_change(move |change| {
        let pod = change.object();
        let concerned = all.filter(|budget| {
            covers(budget, pod) || matches!(change, Change::Updated { old, .. } if covers(budget, old))
        });
        concerned.iter().for_each(|budget| changed.add(key_of(&**budget)));
        if !matches!(change, Change::Deleted(_)) && plan::stale_at(pod).is_some() {
            marked.add(key_of(&**pod));
        }
    });
    // What a Pod's controller wants is a share's denominator.
    let in_namespace = |context: &Arc<Context>, budgets: &WorkQueue<NamespacedName>| {
        let (changed, all) = (budgets.clone(), context.budgets.clone());
        move |namespace: Option<&str>| {
            let counting = all.filter(|b| b.metadata.namespace.as_deref() == namespace && plan::needs_scale(b));
            counting.iter().for_each(|budget| changed.add(key_of(&**budget)));
        }
    };
    let scaled = in_namespace(context, budgets);
    context.replica_sets.on_change(move |change| {
        if is_scaled(change, |set| set.spec.as_ref().and_then(|spec| spec.replicas)) {
            scaled(change.object().metadata.namespace.as_deref());
        }
    });
    let scaled = in_namespace(context, budgets);
    context.deployments.on_change(move |change| {
        if is_scaled(change, |deployment| deployment.spec.as_ref().and_then(|spec| spec.replicas)) {
            scaled(change.object().metadata.namespace.as_deref());
        }
    });
}

fn is_scaled<K>(change: &Change<'_, K>, replicas: impl Fn(&K) -> Option<i32>) -> bool {
    match change {
        Change::Updated { old, new } => replicas(old) != replicas(new),
        Change::Added(_) | Change::Deleted(_) => true,
    }
}

impl Controller {
    async fn sync(&self, key: &NamespacedName) -> anyhow::Result<()> {
        let Some(budget) = self.context.budgets.get(&key.namespace, &key.name) else { return Ok(()) };
        let now = Timestamp::now();
        let pods = self.context.pods.filter(|pod| covers(&budget, pod));
        if pods.is_empty() {
            self.recorder.about(&*budget, EventType::Normal, "NoPods", "No matching pods found");
        }
        let (status, recheck) = match self.expected(&budget, &pods).await {
            Ok(expected) => plan::status(&budget, &pods, expected, now),
            Err(error) => {
                let message = format!("Failed to calculate the number of expected pods: {error:#}");
                self.recorder.about(&*budget, EventType::Warning, "CalculateExpectedPodCountFailed", message);
                (plan::failed(&budget, &format!("{error:#}"), now), None)
            }
        };
        if let Some(at) = recheck {
            self.budgets.add_after(key.clone(), now.duration_until(at).unsigned_abs());
        }
        self.write(&budget, key, status).await
    }

    async fn expected(&self, budget: &PodDisruptionBudget, pods: &[Arc<Pod>]) -> anyhow::Result<plan::Expected> {
        let mut total = 0;
        if plan::needs_scale(budget) {
            let scale = scale::of(&self.context, &self.client, pods).await?;
            total = scale.total;
            if scale.unmanaged {
                let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                let message = format!(
                    "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, \
                     the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To \
                     account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.",
                    serde_json::to_string(&selector).context("encode a selector")?
                );
                self.recorder.about(budget, EventType::Warning, "UnmanagedPods", message);
            }
        }
        plan::expected(budget, pods.len(), total).map_err(anyhow::Error::msg)
    }

    async fn write(
        &self,
        budget: &PodDisruptionBudget,
        key: &NamespacedName,
        status: PodDisruptionBudgetStatus,
    ) -> anyhow::Result<()> {
        if budget.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let fresh = PodDisruptionBudget { status: Some(status), ..budget.clone() };
        let api: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), &key.namespace);
        match api.replace_status(&key.name, &PostParams::default(), &fresh).await {
            // An eviction was counted meanwhile, or the budget went: its next event brings us back.
            Err(error) if is_code(&error, 404) || is_code(&error, 409) => Ok(()),
            result => result.map(drop).with_context(|| format!("write the status of PodDisruptionBudget {key}")),
        }
    }

    async fn clear_mark(&self, key: &NamespacedName) -> anyhow::Result<()> {
        let Some(pod) = self.context.pods.get(&key.namespace, &key.name) else { return Ok(()) };
        let Some(at) = plan::stale_at(&pod) else { return Ok(()) };
        let now = Timestamp::now();
        if at > now {
            self.marks.add_after(key.clone(), now.duration_until(at).unsigned_abs());
            return Ok(());
        }
        let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [{
            "type": "DisruptionTarget", "status": "False", "reason": null, "message": null, "lastTransitionTime": now,
        }]}}));
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let cleared = api.patch_status(&key.name, &PatchParams::default(), &patch).await;
        gone_is_fine(cleared).with_context(|| format!("take the stale mark of a disruption off Pod {key}"))
    }
}
