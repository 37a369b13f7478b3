//! EndpointSlices for Endpoints that were written by hand, for Services without a selector: what reads slices sees
//! them.

mod plan;

use std::sync::Arc;

use api::NamespacedName;
use client::Api;
use client::informer::key_of;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;

use crate::context::Context;
use crate::endpointslice::Slices;

const NAME: &str = "endpointslicemirroring-controller";
const WORKERS: usize = 2;

pub fn start(context: &Arc<Context>) {
    let queue = context.queue();
    let slices = Arc::new(Slices::new(plan::MANAGER));
    let changed = queue.clone();
    context.endpoints.on_change(move |change| changed.add(key_of(&**change.object())));
    let changed = queue.clone();
    context.services.on_change(move |change| changed.add(key_of(&**change.object())));
    slices.watch(context, &queue);
    let (services, endpoints, shown) =
        (context.services.clone(), context.endpoints.clone(), context.endpoint_slices.clone());
    let ready = async move {
        services.synced().await;
        endpoints.synced().await;
        shown.synced().await;
    };
    let (client, context_) = (context.client(NAME), Arc::clone(context));
    context.spawn(NAME, queue, WORKERS, ready, move |key| {
        let (client, context, slices) = (client.clone(), Arc::clone(&context_), Arc::clone(&slices));
        async move { sync(&client, &context, &slices, &key).await }
    });
}

async fn sync(client: &Client, context: &Context, slices: &Slices, key: &NamespacedName) -> anyhow::Result<()> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), &key.namespace);
    let existing = slices.of(context, key);
    let endpoints = context.endpoints.get(&key.namespace, &key.name).filter(|endpoints| plan::is_mirrored(endpoints));
    let service = context.services.get(&key.namespace, &key.name);
    // Of a Service with a selector the slices are made from Pods.
    let by_hand = service.filter(|service| service.spec.as_ref().is_some_and(|spec| spec.selector.is_none()));
    match (endpoints, by_hand) {
        (Some(endpoints), Some(_)) => slices.apply(&api, key, plan::plan(&endpoints, &existing)).await,
        _ => slices.delete_all(&api, key, &existing).await,
    }
}
