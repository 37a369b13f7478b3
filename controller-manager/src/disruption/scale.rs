//! How many Pods the controllers of given Pods want.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use client::Api;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::GroupVersionKind;
use kube::{Client, Resource, ResourceExt};

use crate::context::{Context, is_code};
use crate::owner;

pub struct Total {
    pub total: i32,
    /// Some Pod has no controller.
    pub unmanaged: bool,
}

/// The sum over the different controllers of the Pods.
pub async fn of(context: &Context, client: &Client, pods: &[Arc<Pod>]) -> anyhow::Result<Total> {
    let mut unmanaged = false;
    // By UID of what the Pod refers to, what is scaled (its UID) and to how many.
    let mut known: HashMap<String, (String, i32)> = HashMap::new();
    for pod in pods {
        let Some(controller) = owner::controller_of(&**pod) else {
            unmanaged = true;
            continue;
        };
        if known.contains_key(&controller.uid) {
            continue;
        }
        let namespace = pod.namespace().unwrap_or_default();
        let Some(scale) = find(context, client, &namespace, controller).await? else {
            bail!("found no controllers for pod {:?}", pod.name_any());
        };
        known.insert(controller.uid.clone(), scale);
    }
    let scaled: HashMap<String, i32> = known.into_values().collect();
    Ok(Total { total: scaled.values().sum(), unmanaged })
}

type Found = Option<(String, i32)>;

async fn find(
    context: &Context,
    client: &Client,
    namespace: &str,
    controller: &OwnerReference,
) -> anyhow::Result<Found> {
    let (group, version) = controller.api_version.split_once('/').unwrap_or(("", &controller.api_version));
    let counted = |uid: Option<String>, replicas: Option<i32>| {
        uid.filter(|uid| *uid == controller.uid).map(|uid| (uid, replicas.unwrap_or(1)))
    };
    match (group, controller.kind.as_str()) {
        ("apps", "ReplicaSet") => {
            let Some(set) = context.replica_sets.get(namespace, &controller.name) else { return Ok(None) };
            let parent = owner::controller_of(&*set).filter(|parent| parent.kind == "Deployment");
            let deployment = parent.and_then(|parent| {
                let found = context.deployments.get(namespace, &parent.name)?;
                (found.metadata.uid.as_ref() == Some(&parent.uid)).then_some(found)
            });
            Ok(match deployment {
                Some(deployment) => {
                    let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
                    deployment.uid().map(|uid| (uid, replicas.unwrap_or(1)))
                }
                None => counted(set.uid(), set.spec.as_ref().and_then(|spec| spec.replicas)),
            })
        }
        ("", "ReplicationController") => {
            let found = context.replication_controllers.get(namespace, &controller.name);
            Ok(found.and_then(|found| counted(found.uid(), found.spec.as_ref().and_then(|spec| spec.replicas))))
        }
        ("apps", "StatefulSet") => {
            let api: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
            let found = api.get_opt(&controller.name).await;
            let found = found.with_context(|| format!("read StatefulSet {namespace}/{}", controller.name))?;
            Ok(found.and_then(|found| counted(found.uid(), found.spec.as_ref().and_then(|spec| spec.replicas))))
        }
        (group, kind) => {
            let kind = GroupVersionKind::gvk(group, version, kind);
            let scale = scale_of(client, namespace, &controller.name, &kind).await?;
            Ok(scale.and_then(|scale| counted(scale.meta().uid.clone(), scale.spec.and_then(|spec| spec.replicas))))
        }
    }
}

/// The subresource `scale` of an object of any kind that has one.
async fn scale_of(
    client: &Client,
    namespace: &str,
    name: &str,
    kind: &GroupVersionKind,
) -> anyhow::Result<Option<Scale>> {
    let (resource, _) = kube::discovery::pinned_kind(client, kind)
        .await
        .with_context(|| format!("discover {} in {}", kind.kind, kind.api_version()))?;
    let prefix = if kind.group.is_empty() { "/api" } else { "/apis" };
    let path = format!("{prefix}/{}/namespaces/{namespace}/{}/{name}/scale", resource.api_version, resource.plural);
    let request = http::Request::get(path).body(Vec::new()).context("make the request for a scale")?;
    match client.request::<Scale>(request).await {
        Ok(scale) => Ok(Some(scale)),
        Err(error) if is_code(&error, 404) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read the scale of {} {namespace}/{name}", kind.kind)),
    }
}
