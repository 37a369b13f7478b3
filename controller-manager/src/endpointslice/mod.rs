//! The EndpointSlice controller: which addresses answer for a Service.

mod plan;
mod slices;

use std::sync::Arc;

use api::NamespacedName;
use client::informer::{Change, key_of};
use client::{Api, WorkQueue};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Client, ResourceExt};

use crate::context::Context;
use crate::trigger_time::{TriggerTimes, annotate};

pub use plan::{MANAGED_BY, Plan, SERVICE_NAME, target_port};
pub use slices::Slices;

const NAME: &str = "endpointslice-controller";
const WORKERS: usize = 5;

pub fn start(context: &Arc<Context>) {
    let queue = context.queue();
    let known = Arc::new(Slices::new(plan::MANAGER));
    watch(context, &queue);
    known.watch(context, &queue);
    let (services, pods, slices) = (context.services.clone(), context.pods.clone(), context.endpoint_slices.clone());
    let ready = async move {
        services.synced().await;
        pods.synced().await;
        slices.synced().await;
    };
    let (client, context_, times) = (context.client(NAME), Arc::clone(context), Arc::new(TriggerTimes::default()));
    context.spawn(NAME, queue, WORKERS, ready, move |key| {
        let (client, context, slices) = (client.clone(), Arc::clone(&context_), Arc::clone(&known));
        let times = Arc::clone(&times);
        async move { sync(&client, &context, &slices, &times, &key).await }
    });
}

/// Whether a Service selects a Pod.
pub fn is_selected(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    service.metadata.namespace == pod.metadata.namespace
        && selector.is_some_and(|selector| {
            !selector.is_empty() && selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
        })
}

fn watch(context: &Arc<Context>, queue: &WorkQueue<NamespacedName>) {
    let changed = queue.clone();
    context.services.on_change(move |change| changed.add(key_of(&**change.object())));
    let (changed, services) = (queue.clone(), context.services.clone());
    context.pods.on_change(move |change| {
        let concerned = services.filter(|service| match change {
            Change::Added(pod) | Change::Deleted(pod) => is_selected(service, pod),
            Change::Updated { old, new } => {
                matters(old, new) && (is_selected(service, old) || is_selected(service, new))
                    || is_selected(service, old) != is_selected(service, new)
            }
        });
        concerned.iter().for_each(|service| changed.add(key_of(&**service)));
    });
}

/// Whether a change of a Pod can change its endpoint.
pub fn matters(old: &Pod, new: &Pod) -> bool {
    let network = |pod: &Pod| {
        let status = pod.status.clone().unwrap_or_default();
        (status.pod_ip, status.pod_ips, status.phase, pod.spec.as_ref().and_then(|spec| spec.node_name.clone()))
    };
    network(old) != network(new)
        || crate::pods::is_ready(old) != crate::pods::is_ready(new)
        || old.metadata.deletion_timestamp != new.metadata.deletion_timestamp
        || old.metadata.labels != new.metadata.labels
}

async fn sync(
    client: &Client,
    context: &Context,
    slices: &Slices,
    times: &TriggerTimes,
    key: &NamespacedName,
) -> anyhow::Result<()> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), &key.namespace);
    let existing = slices.of(context, key);
    let Some(service) = context.services.get(&key.namespace, &key.name) else {
        times.forget(key);
        return slices.delete_all(&api, key, &existing).await;
    };
    let spec = service.spec.as_ref();
    let selects = spec.and_then(|spec| spec.selector.as_ref()).is_some_and(|selector| !selector.is_empty());
    if !selects || spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        // Without a selector somebody else names the endpoints.
        return Ok(());
    }
    let pods = context.pods.filter(|pod| is_selected(&service, pod));
    let triggered = times.look(key, &service, &pods);
    let mut plan = plan::plan(&service, &pods, &existing, |name| context.nodes.get("", name));
    plan.create.iter_mut().chain(&mut plan.update).for_each(|slice| annotate(&mut slice.metadata, triggered));
    slices.apply(&api, key, plan).await
}
