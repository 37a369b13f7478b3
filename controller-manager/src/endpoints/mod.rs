//! The Endpoints controller: the older form of what EndpointSlices say, still kept for each Service with a selector.

mod plan;

use std::sync::Arc;

use anyhow::Context as _;
use api::NamespacedName;
use client::informer::{Change, key_of};
use client::{Api, WorkQueue};
use k8s_openapi::api::core::v1::Endpoints;
use kube::Client;
use kube::api::{DeleteParams, PostParams};

use crate::context::{Context, gone_is_fine, is_code};
use crate::endpointslice::{is_selected, matters};
use crate::trigger_time::{TriggerTimes, annotate};

const NAME: &str = "endpoint-controller";
const WORKERS: usize = 5;

pub fn start(context: &Arc<Context>) {
    let queue = context.queue();
    watch(context, &queue);
    let (services, pods, endpoints) = (context.services.clone(), context.pods.clone(), context.endpoints.clone());
    let ready = async move {
        services.synced().await;
        pods.synced().await;
        endpoints.synced().await;
    };
    let (client, context_, times) = (context.client(NAME), Arc::clone(context), Arc::new(TriggerTimes::default()));
    context.spawn(NAME, queue, WORKERS, ready, move |key| {
        let (client, context, times) = (client.clone(), Arc::clone(&context_), Arc::clone(&times));
        async move { sync(&client, &context, &times, &key).await }
    });
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
            }
        });
        concerned.iter().for_each(|service| changed.add(key_of(&**service)));
    });
    let (changed, all) = (queue.clone(), context.endpoints.clone());
    context.endpoints.on_change(move |change| {
        let ours = plan::is_ours(change.object());
        let wanted = match change {
            // What was left behind while no controller ran. Later ones may be somebody's whose Service is to come.
            Change::Added(_) => ours && !all.is_synced(),
            Change::Updated { .. } => ours,
            Change::Deleted(_) => true,
        };
        if wanted {
            changed.add(key_of(&**change.object()));
        }
    });
}

async fn sync(client: &Client, context: &Context, times: &TriggerTimes, key: &NamespacedName) -> anyhow::Result<()> {
    let api: Api<Endpoints> = Api::namespaced(client.clone(), &key.namespace);
    let existing = context.endpoints.get(&key.namespace, &key.name);
    let Some(service) = context.services.get(&key.namespace, &key.name) else {
        times.forget(key);
        if existing.is_none() {
            return Ok(());
        }
        return gone_is_fine(api.delete(&key.name, &DeleteParams::default()).await)
            .with_context(|| format!("delete the Endpoints of the gone Service {key}"));
    };
    let spec = service.spec.as_ref();
    let selects = spec.and_then(|spec| spec.selector.as_ref()).is_some_and(|selector| !selector.is_empty());
    if !selects || spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        // Without a selector somebody else names the endpoints.
        return Ok(());
    }
    let pods = context.pods.filter(|pod| is_selected(&service, pod));
    let triggered = times.look(key, &service, &pods);
    let mut fresh = plan::desired(&service, &pods, existing.as_deref());
    if existing.as_deref().is_some_and(|existing| plan::is_same(existing, &fresh)) {
        return Ok(());
    }
    annotate(&mut fresh.metadata, triggered);
    let written = match &existing {
        Some(_) => api.replace(&key.name, &PostParams::default(), &fresh).await,
        None => api.create(&PostParams::default(), &fresh).await,
    };
    match written {
        // The namespace goes, or the informer is behind: its next event brings us back.
        Err(error) if is_code(&error, 403) || is_code(&error, 404) || is_code(&error, 409) => Ok(()),
        result => result.map(drop).with_context(|| format!("write the Endpoints of Service {key}")),
    }
}
