//! The persistent volume binder: claims get volumes, volumes of claims that are gone are kept or deleted. Everything is
//! done by one worker, so that no two claims choose the same volume; a write that comes too late is refused by the API.

mod plan;

use std::collections::HashMap;
use std::fmt::Debug;
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use anyhow::Context as _;
use api::NamespacedName;
use client::informer::{Change, key_of};
use client::volumes;
use client::{Api, Recorder, WorkQueue};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeStatus};
use kube::api::{DeleteParams, PostParams};
use kube::{Client, ResourceExt};
use parking_lot::Mutex;

use crate::context::{Context, gone_is_fine, is_code};
use crate::pods;
use plan::{ClaimStep, Reclaim, Said, VolumeStep, World};

const NAME: &str = "persistent-volume-binder";
/// What events say who they are from.
const COMPONENT: &str = "persistentvolume-controller";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Claim(NamespacedName),
    Volume(String),
}

struct Controller {
    context: Arc<Context>,
    client: Client,
    recorder: Recorder,
    queue: WorkQueue<Key>,
    /// Volumes as they were last written, until the informer shows them so.
    written: Mutex<HashMap<String, Arc<PersistentVolume>>>,
}

pub fn start(context: &Arc<Context>) {
    let queue = context.queue();
    watch(context, &queue);
    let controller = Arc::new(Controller {
        context: Arc::clone(context),
        client: context.client(NAME),
        recorder: Recorder::new(context.client(NAME), COMPONENT, ""),
        queue: queue.clone(),
        written: Mutex::default(),
    });
    let (volumes, claims, classes, pods) =
        (context.volumes.clone(), context.claims.clone(), context.storage_classes.clone(), context.pods.clone());
    let ready = async move {
        volumes.synced().await;
        claims.synced().await;
        classes.synced().await;
        pods.synced().await;
    };
    context.spawn(NAME, queue, 1, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move {
            match key {
                Key::Claim(key) => controller.sync_claim(&key).await,
                Key::Volume(name) => controller.sync_volume(&name).await,
            }
        }
    });
}

/// A claim concerns its volume and the other way round; a new volume or class concerns every claim that waits.
fn watch(context: &Arc<Context>, queue: &WorkQueue<Key>) {
    let changed = queue.clone();
    context.claims.on_change(move |change| {
        let claim = change.object();
        changed.add(Key::Claim(key_of(&**claim)));
        let volume = volumes::volume_name(claim);
        if !volume.is_empty() {
            changed.add(Key::Volume(volume.to_owned()));
        }
    });
    let waiting = {
        let (changed, claims) = (queue.clone(), context.claims.clone());
        move || {
            for claim in claims.filter(|claim| !volumes::is_bound(claim)) {
                changed.add(Key::Claim(key_of(&*claim)));
            }
        }
    };
    let (changed, wake) = (queue.clone(), waiting.clone());
    context.volumes.on_change(move |change| {
        let volume = change.object();
        changed.add(Key::Volume(volume.name_any()));
        if let Some((namespace, name)) =
            volumes::claimant(volume).and_then(|of| Some((of.namespace.as_deref()?, of.name.as_deref()?)))
        {
            changed.add(Key::Claim(NamespacedName::new(namespace, name)));
        } else if !matches!(change, Change::Deleted(_)) {
            wake();
        }
    });
    context.storage_classes.on_change(move |_| waiting());
}

impl Controller {
    /// The newest known state of a volume: what was written here may not be shown by the informer yet.
    fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        let shown = self.context.volumes.get("", name)?;
        let mut written = self.written.lock();
        let newer = written.get(name).filter(|own| own.uid() == shown.uid() && version(own) > version(&shown)).cloned();
        if newer.is_none() {
            written.remove(name);
        }
        Some(newer.unwrap_or(shown))
    }

    fn note(&self, volume: PersistentVolume) -> Arc<PersistentVolume> {
        let volume = Arc::new(volume);
        self.written.lock().insert(volume.name_any(), Arc::clone(&volume));
        volume
    }

    fn claims(&self, namespace: &str) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn say<K>(&self, about: &K, said: &Said)
    where
        K: kube::Resource<DynamicType = ()>,
    {
        self.recorder.about(about, said.kind, said.reason, said.message.as_str());
    }

    async fn sync_claim(&self, key: &NamespacedName) -> anyhow::Result<()> {
        let Some(claim) = self.context.claims.get(&key.namespace, &key.name) else { return Ok(()) };
        let names = self.context.volumes.list();
        let volumes: Vec<_> = names.iter().filter_map(|volume| self.volume(&volume.name_any())).collect();
        let classes = self.context.storage_classes.list();
        let waiting: Vec<String> = self
            .context
            .pods
            .filter(|pod| {
                pod.metadata.namespace == claim.metadata.namespace
                    && pods::node_name(pod).is_empty()
                    && crate::protection::names_claim(pod, &claim)
            })
            .iter()
            .map(|pod| pod.name_any())
            .collect();
        let world = World { volumes: &volumes, classes: &classes, waiting_pods: &waiting };
        let step = plan::claim(&claim, &world);
        let done = async {
            match step {
                ClaimStep::Wait(said) => {
                    if let Some(said) = said {
                        self.say(&*claim, &said);
                    }
                    self.claim_phase(&claim, "Pending", None).await.map(drop)
                }
                ClaimStep::Assign(class) => {
                    let mut fresh = (*claim).clone();
                    fresh.spec.get_or_insert_default().storage_class_name = Some(class);
                    self.write_claim(&fresh).await.map(drop)
                }
                ClaimStep::Bind(volume) => self.bind(&claim, &volume).await,
                ClaimStep::Lose(said) => {
                    if self.claim_phase(&claim, "Lost", None).await? {
                        self.say(&*claim, &said);
                    }
                    Ok(())
                }
                ClaimStep::Provision { provisioner, said } => self.await_provisioner(&claim, &provisioner, &said).await,
            }
        };
        settled(done.await).with_context(|| format!("sync claim {key}"))
    }

    /// Both sides and both phases, each only where it is not so yet; a step that fails is gone on from the next time.
    async fn bind(&self, claim: &PersistentVolumeClaim, volume: &Arc<PersistentVolume>) -> Result<(), kube::Error> {
        let mut volume = Arc::clone(volume);
        if let Some(fresh) = plan::given(&volume, claim) {
            volume = self.write_volume(&fresh).await?;
        }
        let volume = self.volume_phase(&volume, "Bound", "").await?;
        let mut claim = claim.clone();
        if let Some(fresh) = plan::taken(&claim, &volume) {
            claim = self.write_claim(&fresh).await?;
        }
        self.claim_phase(&claim, "Bound", Some(&volume)).await.map(drop)
    }

    async fn await_provisioner(
        &self,
        claim: &PersistentVolumeClaim,
        provisioner: &str,
        said: &Said,
    ) -> Result<(), kube::Error> {
        let mut fresh = claim.clone();
        let keys = ["volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner"];
        for key in keys {
            fresh.annotations_mut().insert(key.to_owned(), provisioner.to_owned());
        }
        if fresh.annotations() != claim.annotations() {
            self.write_claim(&fresh).await?;
        }
        self.say(claim, said);
        Ok(())
    }

    async fn sync_volume(&self, name: &str) -> anyhow::Result<()> {
        let Some(volume) = self.volume(name) else { return Ok(()) };
        let claim = self.claimant(&volume).await.with_context(|| format!("look for the claim of volume {name}"))?;
        let done = async {
            match plan::volume(&volume, claim.as_ref()) {
                VolumeStep::Phase(phase) => self.volume_phase(&volume, phase, "").await.map(drop),
                VolumeStep::Claim => {
                    if let Some(claim) = &claim {
                        self.queue.add(Key::Claim(key_of(claim)));
                    }
                    Ok(())
                }
                VolumeStep::Unbind => {
                    let fresh = self.write_volume(&plan::unbound(&volume)).await?;
                    self.volume_phase(&fresh, "Available", "").await.map(drop)
                }
                VolumeStep::Mismatch { of_volume, of_claim } => {
                    self.say(&*volume, &of_volume);
                    if let Some(claim) = &claim {
                        self.say(claim, &of_claim);
                    }
                    Ok(())
                }
                VolumeStep::Release => self.release(&volume).await,
            }
        };
        settled(done.await).with_context(|| format!("sync volume {name}"))
    }

    /// The claim that has the claimant's name. The informer may be behind: before a volume is taken away from its
    /// claim, the API is asked.
    async fn claimant(&self, volume: &PersistentVolume) -> Result<Option<PersistentVolumeClaim>, kube::Error> {
        let Some(of) = volumes::claimant(volume).filter(|of| of.uid.is_some()) else { return Ok(None) };
        let (namespace, name) = (of.namespace.clone().unwrap_or_default(), of.name.clone().unwrap_or_default());
        let shown = self.context.claims.get(&namespace, &name).filter(|claim| claim.metadata.uid == of.uid);
        match shown {
            Some(claim) => Ok(Some((*claim).clone())),
            None => self.claims(&namespace).get_opt(&name).await,
        }
    }

    async fn release(&self, volume: &Arc<PersistentVolume>) -> Result<(), kube::Error> {
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        let mut volume = Arc::clone(volume);
        if !matches!(phase, "Released" | "Failed") {
            volume = self.volume_phase(&volume, "Released", "").await?;
        }
        if volume.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let failed = match plan::reclaim(&volume) {
            Reclaim::Keep => return Ok(()),
            Reclaim::Fail(said) => said,
            Reclaim::Delete(path) => match delete_directory(path).await {
                Ok(()) => {
                    let api: Api<PersistentVolume> = Api::all(self.client.clone());
                    return gone_is_fine(api.delete(&volume.name_any(), &DeleteParams::default()).await);
                }
                Err(error) => Said::warning("VolumeFailedDelete", error.to_string()),
            },
        };
        if phase != "Failed" {
            self.volume_phase(&volume, "Failed", &failed.message).await?;
            self.say(&*volume, &failed);
        }
        Ok(())
    }

    async fn write_claim(&self, claim: &PersistentVolumeClaim) -> Result<PersistentVolumeClaim, kube::Error> {
        let api = self.claims(&claim.namespace().unwrap_or_default());
        api.replace(&claim.name_any(), &PostParams::default(), claim).await
    }

    async fn write_volume(&self, volume: &PersistentVolume) -> Result<Arc<PersistentVolume>, kube::Error> {
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        Ok(self.note(api.replace(&volume.name_any(), &PostParams::default(), volume).await?))
    }

    /// Writes the claim's phase, and what it has of its volume; says whether the phase changed.
    async fn claim_phase(
        &self,
        claim: &PersistentVolumeClaim,
        phase: &str,
        volume: Option<&PersistentVolume>,
    ) -> Result<bool, kube::Error> {
        let mut fresh = claim.clone();
        let status = fresh.status.get_or_insert_default();
        let changed = status.phase.as_deref() != Some(phase);
        status.phase = Some(phase.to_owned());
        let spec = volume.and_then(|volume| volume.spec.as_ref());
        status.access_modes = spec.and_then(|spec| spec.access_modes.clone());
        if changed || spec.is_none() {
            status.capacity = spec.and_then(|spec| spec.capacity.clone());
        }
        if fresh.status != claim.status {
            let api = self.claims(&claim.namespace().unwrap_or_default());
            api.replace_status(&claim.name_any(), &PostParams::default(), &fresh).await?;
        }
        Ok(changed)
    }

    async fn volume_phase(
        &self,
        volume: &Arc<PersistentVolume>,
        phase: &str,
        message: &str,
    ) -> Result<Arc<PersistentVolume>, kube::Error> {
        let old = volume.status.as_ref();
        let said = old.and_then(|status| status.message.as_deref()).unwrap_or_default();
        let is = old.and_then(|status| status.phase.as_deref());
        if is == Some(phase) && said == message {
            return Ok(Arc::clone(volume));
        }
        let since = old.and_then(|status| status.last_phase_transition_time.clone()).filter(|_| is == Some(phase));
        let mut fresh = (**volume).clone();
        fresh.status = Some(PersistentVolumeStatus {
            phase: Some(phase.to_owned()),
            message: (!message.is_empty()).then(|| message.to_owned()),
            last_phase_transition_time: since
                .or_else(|| Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::now()))),
            ..PersistentVolumeStatus::default()
        });
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        Ok(self.note(api.replace_status(&volume.name_any(), &PostParams::default(), &fresh).await?))
    }
}

fn version(volume: &PersistentVolume) -> u64 {
    volume.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// What is gone needs nothing more.
fn settled(result: Result<(), kube::Error>) -> anyhow::Result<()> {
    match result {
        Err(error) if is_code(&error, 404) => Ok(()),
        other => Ok(other?),
    }
}

/// Removes a directory below /tmp with all that is in it. Nothing else is followed there: a link that somebody put in
/// the way is not.
async fn delete_directory(path: String) -> io::Result<()> {
    let work = move || -> io::Result<()> {
        let path = Path::new(&path);
        let parent = match path.parent().unwrap_or(path).canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let is_inside = parent.starts_with("/tmp") && path.components().all(|part| part != Component::ParentDir);
        let Some(name) = path.file_name().filter(|_| is_inside) else {
            let text = format!("host_path deleter only supports /tmp/.+ but received provided {}", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        let whole = parent.join(name);
        let removed = match whole.symlink_metadata() {
            Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(&whole),
            Ok(_) => std::fs::remove_file(&whole),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    };
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
