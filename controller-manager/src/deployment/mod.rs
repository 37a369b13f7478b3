//! The Deployment controller: one ReplicaSet for each template, sizes moved between them by the strategy.

mod revision;
mod rollout;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use api::NamespacedName;
use client::informer::key_of;
use client::{Api, EventType, Recorder, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};

use crate::context::{Context, gone_is_fine, is_code};
use crate::owner::{self, Claim};
use crate::pods;

const NAME: &str = "deployment-controller";
const WORKERS: usize = 4;

struct Controller {
    context: Arc<Context>,
    client: Client,
    recorder: Recorder,
    queue: WorkQueue<NamespacedName>,
}

pub fn start(context: &Arc<Context>) {
    let queue = context.queue();
    watch(context, &queue);
    let controller = Arc::new(Controller {
        client: context.client(NAME),
        recorder: context.recorder(NAME),
        context: Arc::clone(context),
        queue: queue.clone(),
    });
    let (deployments, sets, all_pods) =
        (context.deployments.clone(), context.replica_sets.clone(), context.pods.clone());
    let ready = async move {
        deployments.synced().await;
        sets.synced().await;
        all_pods.synced().await;
    };
    context.spawn(NAME, queue, WORKERS, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.sync(&key).await }
    });
}

fn watch(context: &Arc<Context>, queue: &WorkQueue<NamespacedName>) {
    let changed = queue.clone();
    context.deployments.on_change(move |change| changed.add(key_of(&**change.object())));
    let (changed, deployments) = (queue.clone(), context.deployments.clone());
    context.replica_sets.on_change(move |change| {
        let set = change.object();
        let namespace = set.namespace().unwrap_or_default();
        match owner::controller_of(&**set) {
            Some(owner) if owner.kind == "Deployment" => changed.add(NamespacedName::new(&namespace, &owner.name)),
            Some(_) => {}
            None => deployments
                .filter(|d| {
                    d.namespace().as_deref() == Some(&*namespace)
                        && owner::selects(d.spec.as_ref().map(|spec| &spec.selector), set.labels())
                })
                .iter()
                .for_each(|d| changed.add(key_of(&**d))),
        }
    });
    // Recreate waits for the last old Pod to be gone.
    let (changed, sets) = (queue.clone(), context.replica_sets.clone());
    context.pods.on_change(move |change| {
        let client::Change::Deleted(pod) = change else { return };
        let Some(owner) = owner::controller_of(&***pod).filter(|owner| owner.kind == "ReplicaSet") else { return };
        let namespace = pod.namespace().unwrap_or_default();
        if let Some(set) = sets.get(&namespace, &owner.name)
            && let Some(parent) = owner::controller_of(&*set)
        {
            changed.add(NamespacedName::new(&namespace, &parent.name));
        }
    });
}

/// A Deployment under work: its ReplicaSets told apart.
struct Sets {
    new: Option<Arc<ReplicaSet>>,
    old: Vec<Arc<ReplicaSet>>,
}

impl Sets {
    fn all(&self) -> Vec<Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new).cloned().collect()
    }

    /// Puts a changed ReplicaSet in place of its former self.
    fn put(&mut self, set: ReplicaSet) {
        let name = set.name_any();
        let set = Arc::new(set);
        match self.old.iter_mut().chain(&mut self.new).find(|other| other.name_any() == name) {
            Some(slot) => *slot = set,
            None => self.new = Some(set),
        }
    }
}

impl Controller {
    async fn sync(&self, key: &NamespacedName) -> anyhow::Result<()> {
        let Some(found) = self.context.deployments.get(&key.namespace, &key.name) else { return Ok(()) };
        let mut deployment = (*found).clone();
        let owned = self.claim_sets(&deployment).await?;
        let new = revision::find_new(&deployment, &owned);
        let old = owned.into_iter().filter(|set| Some(set.uid()) != new.as_ref().map(|new| new.uid())).collect();
        let mut sets = Sets { new, old };
        if deployment.metadata.deletion_timestamp.is_some() {
            return self.write(&found, &deployment, &sets, false).await;
        }
        note_pause(&mut deployment);
        let spec = deployment.spec.clone().unwrap_or_default();
        let paused = spec.paused == Some(true);
        let all = sets.all();
        let resized = all.iter().filter(|set| rollout::size(set) > 0).any(|set| {
            revision::desired_replicas(set).is_some_and(|desired| desired != rollout::replicas(&deployment))
        });
        if paused || resized {
            self.update_new(&mut deployment, &mut sets).await?;
            for resize in rollout::scale(&deployment, sets.new.as_ref(), &sets.old) {
                self.resize(&deployment, &mut sets, &resize, true).await?;
            }
            if paused {
                self.clean_up(&deployment, &sets).await?;
            }
            return self.write(&found, &deployment, &sets, false).await;
        }
        if rollout::is_rolling(&deployment) {
            self.roll(&mut deployment, &mut sets).await?;
        } else {
            self.recreate(&mut deployment, &mut sets).await?;
        }
        if sets.new.as_ref().is_some_and(|new| revision::is_saturated(&deployment, new)) {
            self.clean_up(&deployment, &sets).await?;
        }
        self.write(&found, &deployment, &sets, true).await
    }

    async fn roll(&self, deployment: &mut Deployment, sets: &mut Sets) -> anyhow::Result<()> {
        self.ensure_new(deployment, sets).await?;
        let Some(new) = sets.new.clone() else { return Ok(()) };
        let to = rollout::new_size(deployment, &sets.all(), rollout::size(&new));
        let grown = rollout::Resize { name: new.name_any(), to };
        if self.resize(deployment, sets, &grown, false).await? {
            return Ok(());
        }
        for resize in rollout::shrink_old(deployment, &new, &sets.old) {
            self.resize(deployment, sets, &resize, false).await?;
        }
        Ok(())
    }

    /// All old Pods go before a new one comes.
    async fn recreate(&self, deployment: &mut Deployment, sets: &mut Sets) -> anyhow::Result<()> {
        self.update_new(deployment, sets).await?;
        let shrink: Vec<_> = sets.old.iter().filter(|set| rollout::size(set) > 0).map(|set| set.name_any()).collect();
        if !shrink.is_empty() {
            for name in shrink {
                self.resize(deployment, sets, &rollout::Resize { name, to: 0 }, false).await?;
            }
            return Ok(());
        }
        if self.old_pods_live(sets) {
            return Ok(());
        }
        self.ensure_new(deployment, sets).await?;
        if let Some(new) = sets.new.clone() {
            let to = rollout::replicas(deployment);
            self.resize(deployment, sets, &rollout::Resize { name: new.name_any(), to }, false).await?;
        }
        Ok(())
    }

    fn old_pods_live(&self, sets: &Sets) -> bool {
        let uids: Vec<_> = sets.old.iter().filter_map(|set| set.uid()).collect();
        let live = self.context.pods.filter(|pod| {
            !pods::is_terminal(pod) && owner::controller_of(pod).is_some_and(|owner| uids.contains(&owner.uid))
        });
        !live.is_empty()
    }

    /// The ReplicaSets of a Deployment, after adopting and releasing.
    async fn claim_sets(&self, deployment: &Deployment) -> anyhow::Result<Vec<Arc<ReplicaSet>>> {
        let namespace = deployment.namespace().unwrap_or_default();
        let uid = deployment.uid().unwrap_or_default();
        let deleting = deployment.metadata.deletion_timestamp.is_some();
        let selector = deployment.spec.as_ref().map(|spec| &spec.selector);
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &namespace);
        let mut mine = Vec::new();
        for set in self.context.replica_sets.filter(|set| set.namespace().as_deref() == Some(&*namespace)) {
            let matches = owner::selects(selector, set.labels());
            let (name, set_uid) = (set.name_any(), set.uid().unwrap_or_default());
            match owner::claim(&*set, &uid, deleting, matches) {
                Claim::Keep => mine.push(set),
                Claim::Ignore => {}
                Claim::Adopt => {
                    let patch = Patch::Strategic(owner::adoption_patch(&owner::controller_ref(deployment), &set_uid));
                    let adopted = api.patch_and_read(&name, &PatchParams::default(), &patch).await;
                    mine.push(Arc::new(adopted.with_context(|| format!("adopt ReplicaSet {namespace}/{name}"))?));
                }
                Claim::Release => {
                    let patch = Patch::Strategic(owner::release_patch(&uid, &set_uid));
                    gone_is_fine(api.patch(&name, &PatchParams::default(), &patch).await)
                        .with_context(|| format!("release ReplicaSet {namespace}/{name}"))?;
                }
            }
        }
        Ok(mine)
    }

    /// Brings the new ReplicaSet's annotations up to date, if there is one, and the Deployment's revision with it.
    async fn update_new(&self, deployment: &mut Deployment, sets: &mut Sets) -> anyhow::Result<()> {
        let Some(new) = sets.new.clone() else { return Ok(()) };
        let next = sets.old.iter().map(|set| revision::revision(set)).max().unwrap_or(0) + 1;
        let annotations = revision::annotations(deployment, &new, next, true);
        let min_ready = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        let has = new.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        let mut current = (*new).clone();
        if annotations != *new.annotations() || min_ready.unwrap_or(0) != has.unwrap_or(0) {
            current.metadata.annotations = Some(annotations);
            current.spec.get_or_insert_default().min_ready_seconds = min_ready;
            current = self.replace(&current).await?;
        }
        let revision = revision::revision(&current).to_string();
        deployment.annotations_mut().insert(revision::REVISION.to_owned(), revision);
        let message = format!("Found new replica set {:?}", current.name_any());
        sets.put(current);
        let status = deployment.status.get_or_insert_default();
        let conditions = status.conditions.get_or_insert_default();
        if status::find(conditions, "Progressing").is_none() {
            let found = status::condition("Progressing", "True", "FoundNewReplicaSet", &message, Timestamp::now());
            conditions.push(found);
        }
        Ok(())
    }

    /// The new ReplicaSet, made when it is not there.
    async fn ensure_new(&self, deployment: &mut Deployment, sets: &mut Sets) -> anyhow::Result<()> {
        if sets.new.is_some() {
            return self.update_new(deployment, sets).await;
        }
        let fresh = fresh_set(deployment, sets);
        let name = fresh.name_any();
        let namespace = deployment.namespace().unwrap_or_default();
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &namespace);
        match api.create(&PostParams::default(), &fresh).await {
            Ok(made) => {
                let size = rollout::size(&made);
                if size > 0 {
                    let message = format!("Scaled up replica set {name} from 0 to {size}");
                    self.recorder.about(deployment, EventType::Normal, "ScalingReplicaSet", message);
                }
                let revision = revision::revision(&made).to_string();
                deployment.annotations_mut().insert(revision::REVISION.to_owned(), revision);
                self.note_progress(
                    deployment,
                    "True",
                    "NewReplicaSetCreated",
                    &format!("Created new replica set {name:?}"),
                );
                sets.put(made);
                Ok(())
            }
            Err(error) if is_code(&error, 409) => self.resolve_collision(deployment, &api, &name).await,
            Err(error) => {
                let message = format!("Failed to create new replica set {name:?}: {error}");
                self.recorder.about(deployment, EventType::Warning, "ReplicaSetCreateError", message.clone());
                self.note_progress(deployment, "False", "ReplicaSetCreateError", &message);
                self.write_status(deployment).await?;
                Err(error).with_context(|| format!("make ReplicaSet {namespace}/{name}"))
            }
        }
    }

    fn note_progress(&self, deployment: &mut Deployment, status: &str, reason: &str, message: &str) {
        if status::has_deadline(deployment) {
            let told = status::condition("Progressing", status, reason, message, Timestamp::now());
            status::set(deployment.status.get_or_insert_default().conditions.get_or_insert_default(), told);
        }
    }

    /// A ReplicaSet of the wanted name is there: ours from a moment ago, or another template with the same hash.
    async fn resolve_collision(
        &self,
        deployment: &mut Deployment,
        api: &Api<ReplicaSet>,
        name: &str,
    ) -> anyhow::Result<()> {
        let there = api.get_opt(name).await.with_context(|| format!("read ReplicaSet {name}"))?;
        let Some(there) = there else { return Err(anyhow!("ReplicaSet {name} was there and is gone")) };
        let uid = deployment.uid().unwrap_or_default();
        if owner::is_controlled_by(&there, &uid) && revision::same_template(deployment, &there) {
            return Err(anyhow!("ReplicaSet {name} is there already, and not in the informer yet"));
        }
        let status = deployment.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        self.write_status(deployment).await?;
        Err(anyhow!("the hash in {name} is another template's: a new one will be made"))
    }

    async fn replace(&self, set: &ReplicaSet) -> anyhow::Result<ReplicaSet> {
        let (namespace, name) = (set.namespace().unwrap_or_default(), set.name_any());
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &namespace);
        let replaced = api.replace(&name, &PostParams::default(), set).await;
        replaced.with_context(|| format!("update ReplicaSet {namespace}/{name}"))
    }

    /// Gives a ReplicaSet a size and records it; says whether the size changed.
    async fn resize(
        &self,
        deployment: &Deployment,
        sets: &mut Sets,
        resize: &rollout::Resize,
        annotate: bool,
    ) -> anyhow::Result<bool> {
        let Some(set) = sets.all().into_iter().find(|set| set.name_any() == resize.name) else { return Ok(false) };
        let from = rollout::size(&set);
        if from == resize.to && !annotate {
            return Ok(false);
        }
        let mut changed = (*set).clone();
        changed.spec.get_or_insert_default().replicas = Some(resize.to);
        let annotated = revision::set_sizes(changed.annotations_mut(), deployment);
        if from == resize.to && !annotated {
            return Ok(false);
        }
        sets.put(self.replace(&changed).await?);
        if from != resize.to {
            let way = if resize.to > from { "up" } else { "down" };
            let message = format!("Scaled {way} replica set {} from {from} to {}", resize.name, resize.to);
            self.recorder.about(deployment, EventType::Normal, "ScalingReplicaSet", message);
        }
        Ok(from != resize.to)
    }

    /// Deletes old ReplicaSets without Pods beyond `revisionHistoryLimit`, the oldest revisions first.
    async fn clean_up(&self, deployment: &Deployment, sets: &Sets) -> anyhow::Result<()> {
        let limit = deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        let mut old: Vec<_> =
            sets.old.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).cloned().collect();
        old.sort_by_key(|set| revision::revision(set));
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        let namespace = deployment.namespace().unwrap_or_default();
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &namespace);
        for set in old.iter().take(surplus) {
            let status = set.status.clone().unwrap_or_default();
            let observed = status.observed_generation >= set.metadata.generation;
            if status.replicas != 0 || rollout::size(set) != 0 || !observed {
                continue;
            }
            let name = set.name_any();
            gone_is_fine(api.delete(&name, &DeleteParams::background()).await)
                .with_context(|| format!("delete the old ReplicaSet {namespace}/{name}"))?;
        }
        Ok(())
    }

    async fn write(
        &self,
        found: &Deployment,
        deployment: &Deployment,
        sets: &Sets,
        rolling: bool,
    ) -> anyhow::Result<()> {
        let now = Timestamp::now();
        let all = sets.all();
        let mut status = status::calculate(deployment, &all, sets.new.as_ref(), now);
        let mut recheck = None;
        if rolling {
            // Progress is measured from what was last written, not from what this round has noted.
            let mut base = deployment.clone();
            let conditions = status.conditions.clone();
            base.status = Some(DeploymentStatus { conditions, ..found.status.clone().unwrap_or_default() });
            recheck = status::progress(&base, &mut status, &all, sets.new.as_ref(), now);
        }
        let same_status = found.status.as_ref().is_some_and(|old| status::same(old, &status));
        let same_revision =
            found.annotations().get(revision::REVISION) == deployment.annotations().get(revision::REVISION);
        if !same_status || !same_revision {
            let mut fresh = deployment.clone();
            fresh.status = Some(status);
            self.write_status(&fresh).await?;
        }
        if let Some(delay) = recheck {
            self.queue.add_after(key_of(deployment), delay.unsigned_abs());
        }
        Ok(())
    }

    /// Writes the status, and the revision annotation: upstream's `status` takes it too.
    async fn write_status(&self, deployment: &Deployment) -> anyhow::Result<()> {
        let (namespace, name) = (deployment.namespace().unwrap_or_default(), deployment.name_any());
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &namespace);
        match api.replace_status(&name, &PostParams::default(), deployment).await {
            Err(error) if is_code(&error, 404) => Ok(()),
            result => result.map(drop).with_context(|| format!("write the status of Deployment {namespace}/{name}")),
        }
    }
}

/// Says in the Progressing condition that the Deployment is paused, or goes on: the deadline does not run meanwhile.
fn note_pause(deployment: &mut Deployment) {
    if !status::has_deadline(deployment) {
        return;
    }
    let paused = deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true);
    let conditions = deployment.status.get_or_insert_default().conditions.get_or_insert_default();
    let reason = status::find(conditions, "Progressing").and_then(|condition| condition.reason.clone());
    let told = match (paused, reason.as_deref()) {
        (_, Some("ProgressDeadlineExceeded")) | (true, Some("DeploymentPaused")) => return,
        (true, _) => ("DeploymentPaused", "Deployment is paused"),
        (false, Some("DeploymentPaused")) => ("DeploymentResumed", "Deployment is resumed"),
        (false, _) => return,
    };
    status::set(conditions, status::condition("Progressing", "Unknown", told.0, told.1, Timestamp::now()));
}

/// The ReplicaSet that the Deployment's template asks for.
fn fresh_set(deployment: &Deployment, sets: &Sets) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = revision::template_hash(&spec.template, collisions);
    let label = |labels: Option<BTreeMap<String, String>>| {
        let mut labels = labels.unwrap_or_default();
        labels.insert(revision::TEMPLATE_HASH.to_owned(), hash.clone());
        Some(labels)
    };
    let mut template = spec.template;
    let meta = template.metadata.get_or_insert_default();
    meta.labels = label(meta.labels.take());
    let labels = meta.labels.clone();
    let mut selector = spec.selector;
    selector.match_labels = label(selector.match_labels.take());
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name_any())),
            namespace: deployment.namespace(),
            owner_references: Some(vec![owner::controller_ref(deployment)]),
            labels,
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(rollout::new_size(deployment, &sets.all(), 0)),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    };
    let next = sets.old.iter().map(|set| revision::revision(set)).max().unwrap_or(0) + 1;
    set.metadata.annotations = Some(revision::annotations(deployment, &set, next, false));
    set
}
