//! The EndpointSlice controller: which addresses answer for a Service.

mod plan;

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context as _;
use api::NamespacedName;
use client::WorkQueue;
use client::informer::{Change, key_of};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;

use crate::context::{Context, gone_is_fine, is_code};

pub use plan::target_port;

const NAME: &str = "endpointslice-controller";
const WORKERS: usize = 5;

/// Newest resource version written for each slice: an informer that shows an older one is behind, and planning from it
/// would make the same endpoints twice.
type Written = Arc<Mutex<HashMap<NamespacedName, HashMap<String, Arc<EndpointSlice>>>>>;

pub fn start(context: &Arc<Context>) {
    let queue = context.queue();
    let written = Written::default();
    watch(context, &queue, &written);
    let (services, pods, slices) = (context.services.clone(), context.pods.clone(), context.endpoint_slices.clone());
    let ready = async move {
        services.synced().await;
        pods.synced().await;
        slices.synced().await;
    };
    let (client, context_) = (context.client(NAME), Arc::clone(context));
    context.spawn(NAME, queue, WORKERS, ready, move |key| {
        let (client, context, written) = (client.clone(), Arc::clone(&context_), Arc::clone(&written));
        async move { sync(&client, &context, &written, &key).await }
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

fn watch(context: &Arc<Context>, queue: &WorkQueue<NamespacedName>, written: &Written) {
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
    let (changed, written) = (queue.clone(), Arc::clone(written));
    context.endpoint_slices.on_change(move |change| {
        let slice = change.object();
        if slice.labels().get(plan::MANAGED_BY).map(String::as_str) != Some(plan::MANAGER) {
            return;
        }
        let Some(service) = slice.labels().get(plan::SERVICE_NAME) else { return };
        let key = NamespacedName::new(&slice.namespace().unwrap_or_default(), service);
        let mut written = written.lock();
        let name = slice.name_any();
        let expected = written.get(&key).and_then(|mine| mine.get(&name)).map(|slice| slice.resource_version());
        let seen = expected.is_some_and(|version| version == slice.resource_version());
        if let Some(mine) = written.get_mut(&key)
            && (seen || matches!(change, Change::Deleted(_)))
        {
            mine.remove(&name);
        }
        if !seen {
            changed.add(key);
        }
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

/// The Service's slices: what the informer shows, overlaid with what was written and is not shown yet.
fn slices_of(context: &Context, written: &Written, key: &NamespacedName) -> Vec<Arc<EndpointSlice>> {
    let shown = context.endpoint_slices.filter(|slice| {
        slice.namespace().as_deref() == Some(&*key.namespace)
            && slice.labels().get(plan::SERVICE_NAME) == Some(&key.name)
            && slice.labels().get(plan::MANAGED_BY).map(String::as_str) == Some(plan::MANAGER)
    });
    let mut all: HashMap<String, Arc<EndpointSlice>> = shown.into_iter().map(|s| (s.name_any(), s)).collect();
    let newest = |slice: &EndpointSlice| slice.resource_version().and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
    if let Some(mine) = written.lock().get_mut(key) {
        mine.retain(|name, slice| all.get(name).is_none_or(|shown| newest(shown) < newest(slice)));
        all.extend(mine.iter().map(|(name, slice)| (name.clone(), Arc::clone(slice))));
    }
    all.into_values().collect()
}

async fn sync(client: &Client, context: &Context, written: &Written, key: &NamespacedName) -> anyhow::Result<()> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), &key.namespace);
    let existing = slices_of(context, written, key);
    let Some(service) = context.services.get(&key.namespace, &key.name) else {
        written.lock().remove(key);
        for slice in existing {
            gone_is_fine(api.delete(&slice.name_any(), &DeleteParams::default()).await)
                .with_context(|| format!("delete a slice of the gone Service {key}"))?;
        }
        return Ok(());
    };
    let spec = service.spec.as_ref();
    let selects = spec.and_then(|spec| spec.selector.as_ref()).is_some_and(|selector| !selector.is_empty());
    if !selects || spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        // Without a selector somebody else names the endpoints.
        return Ok(());
    }
    let pods = context.pods.filter(|pod| is_selected(&service, pod));
    let plan = plan::plan(&service, &pods, &existing, |name| context.nodes.get("", name));
    let remember = |slice: EndpointSlice| {
        written.lock().entry(key.clone()).or_default().insert(slice.name_any(), Arc::new(slice));
    };
    for slice in plan.create {
        match api.create(&PostParams::default(), &slice).await {
            Ok(made) => remember(made),
            // The namespace goes.
            Err(error) if is_code(&error, 403) || is_code(&error, 404) => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("make a slice of Service {key}")),
        }
    }
    for slice in plan.update {
        let updated = api.replace(&slice.name_any(), &PostParams::default(), &slice).await;
        remember(updated.with_context(|| format!("update a slice of Service {key}"))?);
    }
    for name in plan.delete {
        if let Some(mine) = written.lock().get_mut(key) {
            mine.remove(&name);
        }
        gone_is_fine(api.delete(&name, &DeleteParams::default()).await)
            .with_context(|| format!("delete slice {name} of Service {key}"))?;
    }
    Ok(())
}
