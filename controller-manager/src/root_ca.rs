//! Publishes the cluster's CA in each namespace as ConfigMap `kube-root-ca.crt`, which Pods' tokens come with.

use std::sync::Arc;

use anyhow::Context as _;
use api::NamespacedName;
use client::Api;
use client::informer::key_of;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{ObjectMeta, PostParams};

use crate::context::{Context, is_code};

const NAME: &str = "root-ca-cert-publisher";
const MAP: &str = "kube-root-ca.crt";
const ABOUT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints \
    such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of \
    Kubernetes clusters.";

pub fn start(context: &Arc<Context>) {
    let queue = context.queue();
    let changed = queue.clone();
    context.namespaces.on_change(move |change| changed.add(key_of(&**change.object())));
    let changed = queue.clone();
    context.root_cas.on_change(move |change| {
        changed.add(NamespacedName::new("", &change.object().namespace().unwrap_or_default()));
    });
    let (namespaces, maps) = (context.namespaces.clone(), context.root_cas.clone());
    let ready = async move {
        namespaces.synced().await;
        maps.synced().await;
    };
    let (client, context_) = (context.client(NAME), Arc::clone(context));
    context.spawn(NAME, queue, 1, ready, move |key| {
        let (client, context) = (client.clone(), Arc::clone(&context_));
        async move { sync(&client, &context, &key.name).await }
    });
}

async fn sync(client: &kube::Client, context: &Context, namespace: &str) -> anyhow::Result<()> {
    let there = context.namespaces.get("", namespace);
    if there.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
        return Ok(());
    }
    let data = Some([("ca.crt".to_owned(), context.config.ca_pem.clone())].into());
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let written = match context.root_cas.get(namespace, MAP) {
        Some(map) if map.data == data => return Ok(()),
        Some(map) => {
            let mut fresh = (*map).clone();
            fresh.data = data;
            api.replace(MAP, &PostParams::default(), &fresh).await
        }
        None => {
            let annotations = [("kubernetes.io/description".to_owned(), ABOUT.to_owned())].into();
            let metadata =
                ObjectMeta { name: Some(MAP.to_owned()), annotations: Some(annotations), ..ObjectMeta::default() };
            api.create(&PostParams::default(), &ConfigMap { metadata, data, ..ConfigMap::default() }).await
        }
    };
    match written {
        // The namespace goes, or the informer is behind: its next event brings us back.
        Err(error) if is_code(&error, 409) || is_code(&error, 404) || is_code(&error, 403) => Ok(()),
        result => result.map(drop).with_context(|| format!("publish the CA in Namespace {namespace}")),
    }
}
