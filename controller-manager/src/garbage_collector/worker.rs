//! What is done about one object: ask the API how things are, then delete it, take references off it, or take our
//! finalizers off it. Nothing is done from memory alone.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use client::EventType;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, Preconditions, PropagationPolicy};
use serde_json::json;

use super::Collector;
use super::graph::{Known, Node, Owner, Resource, Task, Uid, uid};
use super::verdict::{FOREGROUND, ORPHAN, OwnerState, Verdict, decide};
use crate::context::gone_is_fine;

/// Dependents that are orphaned at the same time.
const ORPHANED_AT_ONCE: usize = 16;

/// How an object refers to its owner, as the graph keeps it.
pub fn owner_of(reference: &OwnerReference) -> Owner {
    let (group, _) = reference.api_version.split_once('/').unwrap_or(("", &reference.api_version));
    Owner {
        uid: uid(&reference.uid),
        group: group.into(),
        kind: reference.kind.as_str().into(),
        name: reference.name.as_str().into(),
        blocks: reference.block_owner_deletion == Some(true),
    }
}

/// Finds owners of an object: what the API says, or why its references cannot be followed.
enum Looked {
    Up(Vec<(String, OwnerState)>, bool),
    /// A cluster-wide object names an owner in a namespace, which it cannot say.
    Misdirected(OwnerReference),
}

impl Collector {
    pub async fn work(&self, task: Task) -> anyhow::Result<()> {
        match task {
            Task::Delete(uid) => self.attempt_delete(uid).await,
            Task::Orphan(uid) => self.orphan(uid).await,
        }
    }

    fn api(&self, resource: &Resource, namespace: &str) -> Api<DynamicObject> {
        if resource.namespaced {
            Api::namespaced_with(self.client.clone(), namespace, &resource.api)
        } else {
            Api::all_with(self.client.clone(), &resource.api)
        }
    }

    /// The object's metadata now; nothing when another bears its name.
    async fn live(&self, node: &Node, wanted: Uid) -> anyhow::Result<Option<ObjectMeta>> {
        let api = self.api(&node.resource, &node.namespace);
        let found = api.get_metadata_opt(&node.name).await;
        let found = found.with_context(|| format!("read {} {}", node.resource.api.kind, node.name))?;
        Ok(found.map(|object| object.metadata).filter(|meta| meta.uid.as_deref().map(uid) == Some(wanted)))
    }

    async fn attempt_delete(&self, uid: Uid) -> anyhow::Result<()> {
        let node = {
            let graph = self.graph.lock();
            let Some(node) = graph.node(uid) else { return Ok(()) };
            if (node.deleting && !node.waiting) || graph.is_settled(node) {
                return Ok(());
            }
            node.clone()
        };
        let Some(live) = self.live(&node, uid).await? else { return Ok(()) };
        if node.waiting {
            return self.finish_foreground(&node, uid).await;
        }
        let references = live.owner_references.clone().unwrap_or_default();
        let (owners, all_seen) = match self.look_up(&node, &references).await? {
            Looked::Up(owners, all_seen) => (owners, all_seen),
            Looked::Misdirected(reference) => {
                self.report_misdirected(&node, &live, &reference);
                return Ok(());
            }
        };
        let dependents: Vec<bool> = {
            let graph = self.graph.lock();
            graph.dependents(uid).into_iter().map(|d| graph.node(d).is_some_and(|node| node.waiting)).collect()
        };
        let states: Vec<_> = owners.iter().map(|(uid, state)| (uid.as_str(), *state)).collect();
        match decide(&states, live.finalizers.as_deref().unwrap_or_default(), &dependents) {
            // The owner was there just now, but no watch has shown it: its end might go unseen too.
            Verdict::Keep if !all_seen => bail!("an owner of {} has not been seen yet", node.name),
            Verdict::Keep => Ok(()),
            Verdict::Drop(gone) => {
                let kept = references.into_iter().filter(|reference| !gone.contains(&reference.uid)).collect();
                self.write_owners(&node, &live, kept).await
            }
            Verdict::Delete { propagation, unblock } => {
                if unblock {
                    return self.unblock_and_delete(&node, uid, references, propagation).await;
                }
                self.delete(&node, &live, propagation).await
            }
        }
    }

    /// The state of each owner, and whether watches have shown them all. The API is asked only about owners that the
    /// graph does not know: those that it knows are there, or a coming event says otherwise.
    async fn look_up(&self, node: &Node, references: &[OwnerReference]) -> anyhow::Result<Looked> {
        let mut states = Vec::with_capacity(references.len());
        let mut all_seen = true;
        for reference in references {
            let owner = owner_of(reference);
            let state = match self.graph.lock().known(&node.namespace, &owner) {
                Known::Solid => Some(OwnerState::Solid),
                Known::Waiting => Some(OwnerState::Waiting),
                Known::Unseen => None,
            };
            let state = match state {
                Some(state) => state,
                None => {
                    let Some(resource) = self.resource(&owner.group, &owner.kind) else {
                        bail!("no matches for kind {:?} in version {:?}", reference.kind, reference.api_version);
                    };
                    if resource.namespaced && !node.resource.namespaced {
                        return Ok(Looked::Misdirected(reference.clone()));
                    }
                    let state = self.ask(&resource, &node.namespace, &owner).await?;
                    all_seen &= state == OwnerState::Dangling;
                    state
                }
            };
            states.push((reference.uid.clone(), state));
        }
        Ok(Looked::Up(states, all_seen))
    }

    async fn ask(&self, resource: &Resource, namespace: &str, owner: &Owner) -> anyhow::Result<OwnerState> {
        let found = self.api(resource, namespace).get_metadata_opt(&owner.name).await;
        let found = found.with_context(|| format!("read owner {} {}", owner.kind, owner.name))?;
        Ok(match found.map(|object| object.metadata) {
            Some(meta) if meta.uid.as_deref().map(uid) == Some(owner.uid) => {
                let foreground = meta.finalizers.iter().flatten().any(|finalizer| finalizer == FOREGROUND);
                let waiting = meta.deletion_timestamp.is_some() && foreground;
                if waiting { OwnerState::Waiting } else { OwnerState::Solid }
            }
            _ => OwnerState::Dangling,
        })
    }

    fn report_misdirected(&self, node: &Node, live: &ObjectMeta, reference: &OwnerReference) {
        let about = ObjectReference {
            api_version: Some(node.resource.api.api_version.clone()),
            kind: Some(node.resource.api.kind.clone()),
            name: live.name.clone(),
            namespace: live.namespace.clone(),
            uid: live.uid.clone(),
            ..ObjectReference::default()
        };
        let OwnerReference { api_version, kind, name, uid, .. } = reference;
        let message = format!(
            "ownerRef [{api_version}/{kind}, namespace: {0}, name: {name}, uid: {uid}] does not exist in namespace \
             {0:?}",
            node.namespace
        );
        self.recorder.record(about, EventType::Warning, "OwnerRefInvalidNamespace", message);
    }

    /// Goes on with an object's foreground deletion: its blocking dependents first, then itself.
    async fn finish_foreground(&self, node: &Node, uid: Uid) -> anyhow::Result<()> {
        let blocking = self.graph.lock().blocking(uid);
        if blocking.is_empty() {
            return self.remove_finalizer(node, uid, FOREGROUND).await;
        }
        for (dependent, _) in blocking.into_iter().filter(|(_, waiting)| !waiting) {
            self.queue.add(Task::Delete(dependent));
        }
        Ok(())
    }

    async fn unblock_and_delete(
        &self,
        node: &Node,
        uid: Uid,
        mut references: Vec<OwnerReference>,
        propagation: PropagationPolicy,
    ) -> anyhow::Result<()> {
        references.iter_mut().for_each(|reference| reference.block_owner_deletion = Some(false));
        let Some(live) = self.live(node, uid).await? else { return Ok(()) };
        self.write_owners(node, &live, references).await?;
        let Some(live) = self.live(node, uid).await? else { return Ok(()) };
        self.delete(node, &live, propagation).await
    }

    async fn delete(&self, node: &Node, live: &ObjectMeta, propagation: PropagationPolicy) -> anyhow::Result<()> {
        let params = DeleteParams {
            propagation_policy: Some(propagation),
            // Exactly what was looked at: an owner that came back meanwhile is a change of the object.
            preconditions: Some(Preconditions {
                uid: live.uid.clone(),
                resource_version: live.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        let api = self.api(&node.resource, &node.namespace);
        gone_is_fine(api.delete(&node.name, &params).await)
            .with_context(|| format!("delete {} {}", node.resource.api.kind, node.name))
    }

    async fn write_owners(&self, node: &Node, live: &ObjectMeta, owners: Vec<OwnerReference>) -> anyhow::Result<()> {
        let patch = json!({"metadata": {
            "uid": live.uid, "resourceVersion": live.resource_version, "ownerReferences": owners,
        }});
        let api = self.api(&node.resource, &node.namespace);
        gone_is_fine(api.patch_metadata(&node.name, &PatchParams::default(), &Patch::Merge(patch)).await)
            .with_context(|| format!("change the owners of {} {}", node.resource.api.kind, node.name))
    }

    async fn remove_finalizer(&self, node: &Node, uid: Uid, finalizer: &str) -> anyhow::Result<()> {
        let Some(live) = self.live(node, uid).await? else { return Ok(()) };
        let mut finalizers = live.finalizers.clone().unwrap_or_default();
        finalizers.retain(|one| one != finalizer);
        if live.finalizers.as_ref().is_none_or(|all| all.len() == finalizers.len()) {
            return Ok(());
        }
        let patch = json!({"metadata": {"resourceVersion": live.resource_version, "finalizers": finalizers}});
        let api = self.api(&node.resource, &node.namespace);
        gone_is_fine(api.patch_metadata(&node.name, &PatchParams::default(), &Patch::Merge(patch)).await)
            .with_context(|| format!("take finalizer {finalizer} off {} {}", node.resource.api.kind, node.name))
    }

    async fn orphan(&self, owner: Uid) -> anyhow::Result<()> {
        let (node, dependents) = {
            let graph = self.graph.lock();
            let Some(node) = graph.node(owner).filter(|node| node.orphaning) else { return Ok(()) };
            let dependents = graph.dependents(owner).into_iter().filter_map(|d| Some((d, graph.node(d)?.clone())));
            (node.clone(), dependents.collect::<Vec<_>>())
        };
        let released = futures::stream::iter(dependents)
            .map(|(uid, dependent)| async move { self.release(&dependent, uid, owner).await })
            .buffer_unordered(ORPHANED_AT_ONCE);
        let released: Vec<_> = released.collect().await;
        released.into_iter().collect::<anyhow::Result<()>>()?;
        self.remove_finalizer(&node, owner, ORPHAN).await
    }

    /// Takes one owner's reference off a dependent.
    async fn release(&self, dependent: &Node, own: Uid, owner: Uid) -> anyhow::Result<()> {
        let Some(live) = self.live(dependent, own).await? else { return Ok(()) };
        let mut owners = live.owner_references.clone().unwrap_or_default();
        let before = owners.len();
        owners.retain(|reference| uid(&reference.uid) != owner);
        if owners.len() == before {
            return Ok(());
        }
        self.write_owners(dependent, &live, owners).await
    }

    fn resource(&self, group: &str, kind: &str) -> Option<Arc<Resource>> {
        let resources = self.resources.read();
        resources.iter().find(|resource| resource.api.group == group && resource.api.kind == kind).cloned()
    }
}
