//! Storage in use is not deleted: takes the protecting finalizers off PersistentVolumeClaims that no Pod uses, and off
//! PersistentVolumes that are not bound, once they are to be deleted; puts them on where they are missing.

use std::sync::Arc;

use anyhow::Context as _;
use client::informer::{Change, key_of};
use client::{Api, FromJson, ToJson};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::PostParams;
use kube::{Resource, ResourceExt};

use crate::context::{Context, is_code};
use crate::pods;

const CLAIMS: &str = "pvc-protection-controller";
const VOLUMES: &str = "pv-protection-controller";
const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";

pub fn start(context: &Arc<Context>) {
    start_claims(context);
    start_volumes(context);
}

fn start_claims(context: &Arc<Context>) {
    let queue = context.queue();
    let changed = queue.clone();
    context.claims.on_change(move |change| changed.add(key_of(&**change.object())));
    let (changed, claims) = (queue.clone(), context.claims.clone());
    context.pods.on_change(move |change| {
        let pod = change.object();
        if !matches!(change, Change::Deleted(_)) && !pods::is_terminal(pod) {
            return;
        }
        let namespace = pod.namespace().unwrap_or_default();
        let ending = claims.filter(|claim| {
            claim.metadata.deletion_timestamp.is_some()
                && claim.namespace().as_deref() == Some(&*namespace)
                && names_claim(pod, claim)
        });
        ending.iter().for_each(|claim| changed.add(key_of(&**claim)));
    });
    let (all, all_pods) = (context.claims.clone(), context.pods.clone());
    let ready = async move {
        all.synced().await;
        all_pods.synced().await;
    };
    let (client, context_) = (context.client(CLAIMS), Arc::clone(context));
    context.spawn(CLAIMS, queue, 1, ready, move |key| {
        let (client, context) = (client.clone(), Arc::clone(&context_));
        async move {
            let Some(claim) = context.claims.get(&key.namespace, &key.name) else { return Ok(()) };
            let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &key.namespace);
            // The informer may be behind a Pod that was just scheduled: the API has the last word before the end.
            let mut used = !context.pods.filter(|pod| uses(pod, &claim)).is_empty();
            if !used && claim.metadata.deletion_timestamp.is_some() {
                let live: Api<Pod> = Api::namespaced(client, &key.namespace);
                let pods =
                    live.list(&Default::default()).await.with_context(|| format!("look who uses claim {key}"))?;
                used = pods.iter().any(|pod| uses(pod, &claim));
            }
            settle(&api, &*claim, CLAIM_FINALIZER, used).await
        }
    });
}

fn start_volumes(context: &Arc<Context>) {
    let queue = context.queue();
    let changed = queue.clone();
    context.volumes.on_change(move |change| changed.add(key_of(&**change.object())));
    let all = context.volumes.clone();
    let ready = async move { all.synced().await };
    let (client, context_) = (context.client(VOLUMES), Arc::clone(context));
    context.spawn(VOLUMES, queue, 1, ready, move |key| {
        let (client, context) = (client.clone(), Arc::clone(&context_));
        async move {
            let Some(volume) = context.volumes.get("", &key.name) else { return Ok(()) };
            let bound = volume.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound"));
            settle(&Api::<PersistentVolume>::all(client), &*volume, VOLUME_FINALIZER, bound).await
        }
    });
}

/// Whether a Pod's volumes name a claim, in words or as the one made for the Pod.
pub fn names_claim(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let name = claim.name_any();
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    volumes.into_iter().flatten().any(|volume| {
        let by_name = volume.persistent_volume_claim.as_ref().is_some_and(|source| source.claim_name == name);
        by_name || (volume.ephemeral.is_some() && name == format!("{}-{}", pod.name_any(), volume.name))
    })
}

/// Whether a Pod keeps a claim from being deleted: one without a node will not be started with a claim that ends.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    pod.metadata.namespace == claim.metadata.namespace && !pods::node_name(pod).is_empty() && names_claim(pod, claim)
}

/// What the finalizers should be, if they should change.
fn finalizers(old: &[String], finalizer: &str, deleting: bool, used: bool) -> Option<Vec<String>> {
    let there = old.iter().any(|one| one == finalizer);
    match (deleting, there) {
        (true, true) if !used => Some(old.iter().filter(|one| *one != finalizer).cloned().collect()),
        (false, false) => Some(old.iter().cloned().chain([finalizer.to_owned()]).collect()),
        _ => None,
    }
}

async fn settle<K>(api: &Api<K>, object: &K, finalizer: &str, used: bool) -> anyhow::Result<()>
where
    K: Resource + FromJson + ToJson + Clone,
{
    let deleting = object.meta().deletion_timestamp.is_some();
    let Some(wanted) = finalizers(object.finalizers(), finalizer, deleting, used) else { return Ok(()) };
    let mut fresh = object.clone();
    fresh.meta_mut().finalizers = Some(wanted);
    let name = object.name_any();
    match api.replace(&name, &PostParams::default(), &fresh).await {
        // It is gone, or its next event brings us back.
        Err(error) if is_code(&error, 404) || is_code(&error, 409) => Ok(()),
        result => result.map(drop).with_context(|| format!("change finalizer {finalizer} of {name}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn finalizers_go_when_unused_and_come_when_missing() {
        let list = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        type Case = (&'static [&'static str], bool, bool, Option<&'static [&'static str]>);
        let cases: &[Case] = &[
            (&[], false, false, Some(&["p"])),
            (&["x"], false, true, Some(&["x", "p"])),
            (&["p"], false, false, None),
            (&["x", "p"], true, false, Some(&["x"])),
            (&["p"], true, true, None),
            (&["x"], true, false, None),
        ];
        for (old, deleting, used, expected) in cases {
            let got = finalizers(&list(old), "p", *deleting, *used);
            assert_eq!(got, expected.map(list), "{old:?} {deleting} {used}");
        }
    }

    #[test]
    fn who_uses_a_claim() {
        let claim: PersistentVolumeClaim =
            serde_json::from_value(json!({"metadata": {"name": "p-scratch", "namespace": "ns"}})).unwrap();
        let pod = |node: &str, volume: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns"},
                "spec": {"nodeName": node, "containers": [], "volumes": [volume]}}))
            .unwrap()
        };
        let named = json!({"name": "v", "persistentVolumeClaim": {"claimName": "p-scratch"}});
        assert!(uses(&pod("n", named.clone()), &claim));
        assert!(!uses(&pod("", named), &claim));
        assert!(uses(&pod("n", json!({"name": "scratch", "ephemeral": {}})), &claim));
        assert!(!uses(&pod("n", json!({"name": "other", "ephemeral": {}})), &claim));
    }
}
