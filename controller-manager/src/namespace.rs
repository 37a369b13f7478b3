//! Namespaces that are being deleted: removes what is in them, then the `kubernetes` finalizer. Says in conditions what
//! still stands in the way, as upstream.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use api::NamespacedName;
use client::informer::key_of;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::discovery::verbs;
use kube::discovery::{ApiCapabilities, ApiResource, Scope};
use kube::{Api, Client, Discovery, ResourceExt};

use crate::context::{Context, gone_is_fine, is_code};

const NAME: &str = "namespace-controller";
const FINALIZER: &str = "kubernetes";
/// How long Pods that end gracefully are waited for before looking again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
const PAGE: u32 = 500;

pub fn start(context: &Arc<Context>) {
    let queue = context.queue();
    let changed = queue.clone();
    context.namespaces.on_change(move |change| {
        if change.object().metadata.deletion_timestamp.is_some() {
            changed.add(key_of(&**change.object()));
        }
    });
    let namespaces = context.namespaces.clone();
    let ready = async move { namespaces.synced().await };
    let (client, again) = (context.client(NAME), queue.clone());
    let namespaces = context.namespaces.clone();
    context.spawn(NAME, queue, 4, ready, move |key| {
        let (client, again, namespaces) = (client.clone(), again.clone(), namespaces.clone());
        async move {
            let Some(namespace) = namespaces.get("", &key.name) else { return Ok(()) };
            if sync(&client, &namespace).await? == Progress::Waiting {
                again.add_after(NamespacedName::new("", &key.name), LOOK_AGAIN);
            }
            Ok(())
        }
    });
}

#[derive(PartialEq, Eq)]
enum Progress {
    Done,
    Waiting,
}

/// What is left in a namespace, after everything in it was told to go.
#[derive(Default)]
struct Remaining {
    /// Resource (`pods.` in the core group, `deployments.apps`) and how many.
    resources: BTreeMap<String, usize>,
    finalizers: BTreeMap<String, usize>,
    discovery_error: Option<String>,
    deletion_error: Option<String>,
}

async fn sync(client: &Client, namespace: &Namespace) -> anyhow::Result<Progress> {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
    if namespace.metadata.deletion_timestamp.is_none() || !finalizers.is_some_and(|f| f.iter().any(|f| f == FINALIZER))
    {
        return Ok(Progress::Done);
    }
    let name = namespace.name_any();
    let remaining = empty(client, &name).await;
    write_conditions(client, namespace, &remaining).await?;
    if remaining.resources.is_empty() && remaining.discovery_error.is_none() && remaining.deletion_error.is_none() {
        finalize(client, &name).await?;
        return Ok(Progress::Done);
    }
    Ok(Progress::Waiting)
}

/// Deletes all objects of all namespaced kinds, and counts what remains.
async fn empty(client: &Client, namespace: &str) -> Remaining {
    let mut remaining = Remaining::default();
    let discovered = match Discovery::new(client.clone()).run_aggregated().await {
        Ok(discovered) => discovered,
        Err(error) => {
            remaining.discovery_error = Some(error.to_string());
            return remaining;
        }
    };
    for group in discovered.groups() {
        for (resource, capabilities) in group.resources_by_stability() {
            if capabilities.scope != Scope::Namespaced || !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            if let Err(error) = empty_one(client, namespace, &resource, &capabilities, &mut remaining).await {
                remaining.deletion_error.get_or_insert(format!("{}: {error}", resource.plural));
            }
        }
    }
    remaining
}

async fn empty_one(
    client: &Client,
    namespace: &str,
    resource: &ApiResource,
    capabilities: &ApiCapabilities,
    remaining: &mut Remaining,
) -> Result<(), kube::Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
    let there = api.list_metadata(&ListParams::default().limit(1)).await?;
    if there.items.is_empty() || !capabilities.supports_operation(verbs::DELETE) {
        return Ok(());
    }
    if capabilities.supports_operation("deletecollection") {
        gone_is_fine(api.delete_collection(&DeleteParams::background(), &ListParams::default()).await)?;
    } else {
        for object in api.list_metadata(&ListParams::default().limit(PAGE)).await?.items {
            gone_is_fine(api.delete(&object.name_any(), &DeleteParams::background()).await)?;
        }
    }
    let left = api.list_metadata(&ListParams::default().limit(PAGE)).await?;
    if left.items.is_empty() {
        return Ok(());
    }
    let what = format!("{}.{}", resource.plural, resource.group);
    remaining.resources.insert(what, left.items.len());
    for finalizer in left.items.iter().flat_map(|object| object.finalizers()) {
        *remaining.finalizers.entry(finalizer.clone()).or_default() += 1;
    }
    Ok(())
}

/// One condition of a terminating namespace: type, reason and message when it holds, the same when it doesn't.
type Told = (&'static str, Option<(&'static str, String)>, (&'static str, &'static str));

fn conditions(remaining: &Remaining) -> [Told; 5] {
    let listed = |what: &BTreeMap<String, usize>, noun: &str| {
        let each: Vec<_> =
            what.iter().map(|(name, count)| format!("{name} {noun} {count} resource instances")).collect();
        each.join(", ")
    };
    let content = (!remaining.resources.is_empty()).then(|| {
        let what = listed(&remaining.resources, "has");
        ("SomeResourcesRemain", format!("Some resources are remaining: {what}"))
    });
    let finalizers = (!remaining.finalizers.is_empty()).then(|| {
        let what = listed(&remaining.finalizers, "in");
        ("SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {what}"))
    });
    let discovery = remaining.discovery_error.clone().map(|error| ("DiscoveryFailed", error));
    let deletion = remaining
        .deletion_error
        .clone()
        .map(|error| ("ContentDeletionFailed", format!("Failed to delete all resource types, 1 remaining: {error}")));
    [
        (
            "NamespaceDeletionDiscoveryFailure",
            discovery,
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            deletion,
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        ("NamespaceContentRemaining", content, ("ContentRemoved", "All content successfully removed")),
        (
            "NamespaceFinalizersRemaining",
            finalizers,
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    ]
}

async fn write_conditions(client: &Client, namespace: &Namespace, remaining: &Remaining) -> anyhow::Result<()> {
    let mut fresh = namespace.clone();
    let status = fresh.status.get_or_insert_default();
    let old = status.conditions.take().unwrap_or_default();
    let now = Timestamp::now();
    let new = conditions(remaining).map(|(kind, holds, otherwise)| {
        let status = if holds.is_some() { "True" } else { "False" };
        let (reason, message) = holds.unwrap_or((otherwise.0, otherwise.1.to_owned()));
        let before = old.iter().find(|condition| condition.type_ == kind && condition.status == status);
        NamespaceCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: before.and_then(|b| b.last_transition_time.clone()).or(Some(Time(now))),
        }
    });
    if old == new {
        return Ok(());
    }
    status.conditions = Some(new.to_vec());
    let api: Api<Namespace> = Api::all(client.clone());
    let name = namespace.name_any();
    match api.replace_status(&name, &PostParams::default(), &fresh).await {
        Err(error) if is_code(&error, 404) || is_code(&error, 409) => Ok(()),
        result => result.map(drop).with_context(|| format!("write the status of Namespace {name}")),
    }
}

/// Takes our finalizer off, so that the namespace goes.
async fn finalize(client: &Client, name: &str) -> anyhow::Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    let Some(mut namespace) = api.get_opt(name).await.with_context(|| format!("read Namespace {name}"))? else {
        return Ok(());
    };
    let spec = namespace.spec.get_or_insert_default();
    spec.finalizers.get_or_insert_default().retain(|finalizer| finalizer != FINALIZER);
    let body = serde_json::to_vec(&namespace).context("encode a Namespace")?;
    let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
        .header("content-type", "application/json")
        .body(body)
        .context("make the finalize request")?;
    match client.request_text(request).await {
        Err(error) if is_code(&error, 404) => Ok(()),
        result => result.map(drop).with_context(|| format!("finalize Namespace {name}")),
    }
}
