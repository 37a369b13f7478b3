//! The ReplicaSet controller: keeps the number of a ReplicaSet's Pods, and its status. Does the same for
//! ReplicationControllers.

mod kind;
mod plan;

use std::sync::Arc;

use anyhow::Context as _;
use api::NamespacedName;
use client::informer::{Change, key_of};
use client::{Api, Copies, EventType, Informer, Recorder, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kind::Kind;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, ResourceExt};
use plan::Manage;

use crate::context::{Context, is_code};
use crate::expectations::Expectations;
use crate::owner::{self, Claim};
use crate::pods;

const WORKERS: usize = 4;
/// The first batch of creations; each next is twice as large.
const SLOW_START: usize = 1;

struct Controller<K> {
    context: Arc<Context>,
    sets: Informer<K>,
    client: Client,
    recorder: Recorder,
    expectations: Arc<Expectations>,
    queue: WorkQueue<NamespacedName>,
}

pub fn start(context: &Arc<Context>) {
    start_kind::<ReplicaSet>(context);
    start_kind::<ReplicationController>(context);
}

fn start_kind<K: Kind>(context: &Arc<Context>) {
    let queue = context.queue();
    let expectations = Arc::new(Expectations::default());
    watch_sets::<K>(context, &queue, &expectations);
    watch_pods::<K>(context, &queue, &expectations);
    let controller = Arc::new(Controller {
        sets: K::informer(context).clone(),
        client: context.client(K::CONTROLLER),
        recorder: context.recorder(K::CONTROLLER),
        context: Arc::clone(context),
        expectations,
        queue: queue.clone(),
    });
    let (sets, all_pods) = (K::informer(context).clone(), context.pods.clone());
    let ready = async move {
        sets.synced().await;
        all_pods.synced().await;
    };
    context.spawn(K::CONTROLLER, queue, WORKERS, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.sync(&key).await }
    });
}

fn watch_sets<K: Kind>(context: &Arc<Context>, queue: &WorkQueue<NamespacedName>, expectations: &Arc<Expectations>) {
    let (queue, expectations) = (queue.clone(), Arc::clone(expectations));
    K::informer(context).on_change(move |change| {
        let key = key_of(&**change.object());
        if matches!(change, Change::Deleted(_)) {
            expectations.forget(&key);
        }
        queue.add(key);
    });
}

fn watch_pods<K: Kind>(context: &Arc<Context>, queue: &WorkQueue<NamespacedName>, expectations: &Arc<Expectations>) {
    let (queue, expectations) = (queue.clone(), Arc::clone(expectations));
    let sets = K::informer(context).clone();
    context.pods.on_change(move |change| {
        let pod = change.object();
        let namespace = pod.namespace().unwrap_or_default();
        if let Change::Updated { old, .. } = change
            && let Some(before) = set_of::<K>(old)
            && set_of::<K>(pod).as_deref() != Some(&*before)
        {
            queue.add(NamespacedName::new(&namespace, &before));
        }
        if matches!(change, Change::Updated { old, new } if !plan::matters(old, new)) {
            return;
        }
        let Some(name) = set_of::<K>(pod) else {
            if owner::controller_of(&**pod).is_some() {
                return;
            }
            // An orphan: whoever selects it may adopt it.
            let labels = pod.labels();
            let here = sets.in_namespace(&namespace);
            here.iter().filter(|set| set.selects(labels)).for_each(|set| queue.add(key_of(&**set)));
            return;
        };
        let key = NamespacedName::new(&namespace, &name);
        match change {
            Change::Added(_) if pod.metadata.deletion_timestamp.is_none() => expectations.creation_seen(&key),
            Change::Deleted(_) => expectations.deletion_seen(&key, pod.metadata.uid.as_deref().unwrap_or_default()),
            _ if pod.metadata.deletion_timestamp.is_some() => {
                expectations.deletion_seen(&key, pod.metadata.uid.as_deref().unwrap_or_default());
            }
            _ => {}
        }
        queue.add(key);
    });
}

/// The name of the object of this kind that controls a Pod.
fn set_of<K: Kind>(pod: &Pod) -> Option<String> {
    owner::controller_of(pod).filter(|owner| owner.kind == K::kind(&())).map(|owner| owner.name.clone())
}

impl<K: Kind> Controller<K> {
    async fn sync(&self, key: &NamespacedName) -> anyhow::Result<()> {
        let Some(object) = self.sets.get(&key.namespace, &key.name) else {
            self.expectations.forget(key);
            return Ok(());
        };
        let set = K::view(&object);
        let satisfied = self.expectations.satisfied(key);
        let mine = self.claim_pods(&object, &set).await?;
        let active: Vec<_> = mine.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
        let managed = if satisfied && set.metadata.deletion_timestamp.is_none() {
            self.manage(key, &object, &set, active).await
        } else {
            Ok(())
        };
        let message = managed.as_ref().err().map(|failure| (failure.0, format!("{:#}", failure.1)));
        let failure = message.as_ref().map(|(reason, text)| (*reason, text.as_str()));
        let (mut status, recheck) = plan::status(&set, &mine, failure, Timestamp::now());
        if !K::COUNTS_TERMINATING {
            status.terminating_replicas = None;
        }
        self.write_status(&object, &set, status).await?;
        if let Some(delay) = recheck {
            self.queue.add_after(key.clone(), delay.unsigned_abs());
        }
        managed.map_err(|failure| failure.1)
    }

    /// The Pods of a set, after adopting and releasing.
    async fn claim_pods(&self, object: &K, set: &ReplicaSet) -> anyhow::Result<Vec<Arc<Pod>>> {
        let namespace = set.namespace().unwrap_or_default();
        let uid = set.uid().unwrap_or_default();
        let deleting = set.metadata.deletion_timestamp.is_some();
        let mut mine = Vec::new();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let mut candidates = self.context.pods.indexed(&uid);
        candidates.extend(self.context.pods.indexed(&pods::orphans(&namespace)));
        for pod in candidates {
            let matches = object.selects(pod.labels());
            let claim = owner::claim(&*pod, &uid, deleting, matches);
            if claim == Claim::Keep {
                mine.push(pod);
                continue;
            }
            let name = pod.name_any();
            let pod_uid = pod.uid().unwrap_or_default();
            match claim {
                Claim::Keep | Claim::Ignore => {}
                Claim::Adopt if pods::is_terminal(&pod) => {}
                Claim::Adopt => {
                    let patch = Patch::Strategic(owner::adoption_patch(&owner::controller_ref(object), &pod_uid));
                    let adopted = api.patch_and_read(&name, &PatchParams::default(), &patch).await;
                    mine.push(Arc::new(adopted.with_context(|| format!("adopt Pod {namespace}/{name}"))?));
                }
                Claim::Release => {
                    let patch = Patch::Strategic(owner::release_patch(&uid, &pod_uid));
                    match api.patch(&name, &PatchParams::default(), &patch).await {
                        // It is gone, or another by now: released all the same.
                        Err(error) if !is_code(&error, 404) && !is_code(&error, 422) => {
                            return Err(error).with_context(|| format!("release Pod {namespace}/{name}"));
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(mine)
    }

    async fn manage(
        &self,
        key: &NamespacedName,
        object: &K,
        set: &ReplicaSet,
        active: Vec<Arc<Pod>>,
    ) -> Result<(), (&'static str, anyhow::Error)> {
        // Which Pods to delete depends on where their siblings are.
        let siblings = if plan::has_surplus(set, &active) { self.siblings(set) } else { Vec::new() };
        match plan::manage(set, active, &siblings) {
            Manage::Nothing => Ok(()),
            Manage::Create(count) => self.create(key, object, set, count).await.map_err(|e| ("FailedCreate", e)),
            Manage::Delete(victims) => self.delete(key, object, victims).await.map_err(|e| ("FailedDelete", e)),
        }
    }

    /// Pods of all ReplicaSets with the same controller: they count for spreading.
    fn siblings(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let parent = owner::controller_of(set).map(|owner| owner.uid.clone());
        let uids: Vec<String> = match &parent {
            None => vec![set.uid().unwrap_or_default()],
            Some(uid) => self
                .sets
                .filter(|other| owner::is_controlled_by(other, uid))
                .iter()
                .filter_map(|other| other.uid())
                .collect(),
        };
        uids.iter().flat_map(|uid| self.context.pods.indexed(uid)).collect()
    }

    /// Makes Pods in batches of 1, 2, 4, …: when the first is refused (a quota), the rest would be too.
    async fn create(&self, key: &NamespacedName, object: &K, set: &ReplicaSet, count: usize) -> anyhow::Result<()> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let copies = Copies::new(&self.client, &api, &pod_from(set, owner::controller_ref(object)))?;
        self.expectations.expect_creations(key, count);
        let (mut left, mut batch) = (count, SLOW_START);
        while left > 0 {
            let size = batch.min(left);
            let mut batch_of = tokio::task::JoinSet::new();
            for _ in 0..size {
                let copies = copies.clone();
                batch_of.spawn(async move { copies.create().await });
            }
            left -= size;
            batch *= 2;
            let mut first_error = None;
            while let Some(made) = batch_of.join_next().await {
                let made = made.unwrap_or_else(|panic| Err(kube::Error::Service(Box::new(panic))));
                if let Err(error) = self.told(object, made) {
                    self.expectations.creation_seen(key);
                    first_error.get_or_insert(error);
                }
            }
            if let Some(error) = first_error {
                (0..left).for_each(|_| self.expectations.creation_seen(key));
                // A namespace that goes takes the set with it: trying again is no use.
                let terminating = matches!(&error, kube::Error::Api(status) if status.code == 403
                    && status.details.as_ref().is_some_and(|details| details.causes.iter()
                        .any(|cause| cause.reason == "NamespaceTerminating")));
                return if terminating { Ok(()) } else { Err(error.into()) };
            }
        }
        Ok(())
    }

    /// Says in an event what came of a creation.
    fn told(&self, object: &K, made: Result<String, kube::Error>) -> Result<(), kube::Error> {
        match made {
            Ok(name) => {
                let message = format!("Created pod: {name}");
                self.recorder.about(object, EventType::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) => {
                self.recorder.about(object, EventType::Warning, "FailedCreate", format!("Error creating: {error}"));
                Err(error)
            }
        }
    }

    async fn delete(&self, key: &NamespacedName, object: &K, victims: Vec<Arc<Pod>>) -> anyhow::Result<()> {
        let uids = victims.iter().filter_map(|pod| pod.uid());
        self.expectations.expect_deletions(key, uids);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let deletions = victims.iter().map(|pod| async {
            let name = pod.name_any();
            let preconditions = Preconditions { uid: pod.uid(), resource_version: None };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            match api.delete(&name, &params).await {
                Ok(_) => {
                    let message = format!("Deleted pod: {name}");
                    self.recorder.about(object, EventType::Normal, "SuccessfulDelete", message);
                    Ok(())
                }
                Err(error) => {
                    self.expectations.deletion_seen(key, pod.metadata.uid.as_deref().unwrap_or_default());
                    if is_code(&error, 404) || is_code(&error, 409) {
                        return Ok(());
                    }
                    self.recorder.about(object, EventType::Warning, "FailedDelete", format!("Error deleting: {error}"));
                    Err(error)
                }
            }
        });
        for result in futures::future::join_all(deletions).await {
            result.with_context(|| format!("delete a Pod of {} {key}", K::kind(&())))?;
        }
        Ok(())
    }

    async fn write_status(&self, object: &K, set: &ReplicaSet, status: ReplicaSetStatus) -> anyhow::Result<()> {
        let same = set.status.as_ref().is_some_and(|old| plan::same(old, &status));
        if same {
            return Ok(());
        }
        let name = set.name_any();
        let api: Api<K> = Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        let fresh = object.with_status(status);
        match api.replace_status(&name, &PostParams::default(), &fresh).await {
            Err(error) if is_code(&error, 404) => Ok(()),
            result => result.map(drop).with_context(|| format!("write the status of {} {name}", K::kind(&()))),
        }
    }
}

/// The Pod that a set's template describes.
fn pod_from(set: &ReplicaSet, owner: OwnerReference) -> Pod {
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.name_any())),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}
