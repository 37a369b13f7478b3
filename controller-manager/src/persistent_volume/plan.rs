//! Pure: what is to be done about a claim, and about a volume (upstream's `pv_controller`).

use std::sync::Arc;

use client::EventType;
use client::volumes::{self, BIND_COMPLETED, BOUND_BY_CONTROLLER, SELECTED_NODE, WAIT_FOR_CONSUMER};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;

/// On volumes that a provisioner made: its name.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On the StorageClass for claims that name none.
const IS_DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
const WAS_DEFAULT: &str = "storageclass.beta.kubernetes.io/is-default-class";

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub kind: EventType,
    pub reason: &'static str,
    pub message: String,
}

impl Said {
    fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind: EventType::Normal, reason, message: message.into() }
    }

    pub fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind: EventType::Warning, reason, message: message.into() }
    }
}

/// What a claim needs.
#[derive(Clone, Debug, PartialEq)]
pub enum ClaimStep {
    /// It waits; what there is to say about it.
    Wait(Option<Said>),
    /// It gets the default StorageClass.
    Assign(String),
    Bind(Arc<PersistentVolume>),
    /// Its volume is gone for good.
    Lose(Said),
    /// Somebody else makes its volume: this provisioner.
    Provision {
        provisioner: String,
        said: Said,
    },
}

/// What a claim is decided by.
pub struct World<'a> {
    pub volumes: &'a [Arc<PersistentVolume>],
    pub classes: &'a [Arc<StorageClass>],
    /// Pods without a node that name the claim.
    pub waiting_pods: &'a [String],
}

impl World<'_> {
    fn volume(&self, name: &str) -> Option<&Arc<PersistentVolume>> {
        self.volumes.iter().find(|volume| volume.metadata.name.as_deref() == Some(name))
    }

    fn class(&self, name: &str) -> Option<&Arc<StorageClass>> {
        self.classes.iter().find(|class| class.metadata.name.as_deref() == Some(name))
    }

    /// The default class; of several the newest.
    fn default_class(&self) -> Option<String> {
        let is_default = |class: &&Arc<StorageClass>| {
            [IS_DEFAULT, WAS_DEFAULT].iter().any(|key| class.annotations().get(*key).is_some_and(|v| v == "true"))
        };
        let newest = |a: &&Arc<StorageClass>, b: &&Arc<StorageClass>| {
            let age = |class: &StorageClass| class.metadata.creation_timestamp.clone();
            age(a).cmp(&age(b)).then_with(|| b.name_any().cmp(&a.name_any()))
        };
        self.classes.iter().filter(is_default).max_by(newest).map(|class| class.name_any())
    }
}

/// What is to be done about a claim.
pub fn claim(claim: &PersistentVolumeClaim, world: &World<'_>) -> ClaimStep {
    if claim.annotations().contains_key(BIND_COMPLETED) {
        return bound_claim(claim, world);
    }
    match volumes::volume_name(claim) {
        "" => any_volume(claim, world),
        name => named_volume(claim, world.volume(name)),
    }
}

fn lose(reason: &'static str, message: &str) -> ClaimStep {
    ClaimStep::Lose(Said::warning(reason, message))
}

fn bound_claim(claim: &PersistentVolumeClaim, world: &World<'_>) -> ClaimStep {
    let name = volumes::volume_name(claim);
    if name.is_empty() {
        let message = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lose("ClaimLost", message);
    }
    let Some(volume) = world.volume(name) else {
        return lose("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!");
    };
    match volumes::claimant(volume) {
        Some(of) if of.uid != claim.metadata.uid => {
            lose("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
        }
        _ => ClaimStep::Bind(Arc::clone(volume)),
    }
}

fn named_volume(claim: &PersistentVolumeClaim, volume: Option<&Arc<PersistentVolume>>) -> ClaimStep {
    let Some(volume) = volume else { return ClaimStep::Wait(None) };
    if volumes::claimant(volume).is_none() {
        return match volumes::satisfies(volume, claim) {
            Ok(()) => ClaimStep::Bind(Arc::clone(volume)),
            Err(why) => {
                let message = format!("Cannot bind to requested volume {:?}: {why}", volume.name_any());
                ClaimStep::Wait(Some(Said::warning("VolumeMismatch", message)))
            }
        };
    }
    if volumes::is_of(volume, claim) {
        return ClaimStep::Bind(Arc::clone(volume));
    }
    let message = format!("volume {:?} already bound to a different claim.", volume.name_any());
    ClaimStep::Wait(Some(Said::warning("FailedBinding", message)))
}

fn any_volume(claim: &PersistentVolumeClaim, world: &World<'_>) -> ClaimStep {
    let class_name = volumes::class_of_claim(claim);
    let class = world.class(&class_name);
    let waits = class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some(WAIT_FOR_CONSUMER));
    if let Some(volume) = volumes::best(claim, world.volumes, None, waits) {
        return ClaimStep::Bind(Arc::clone(volume));
    }
    let names_none = class_name.is_empty() && claim.spec.as_ref().is_none_or(|spec| spec.storage_class_name.is_none());
    if let (true, Some(default)) = (names_none, world.default_class()) {
        return ClaimStep::Assign(default);
    }
    if waits && !claim.annotations().contains_key(SELECTED_NODE) {
        return ClaimStep::Wait(Some(first_consumer(world.waiting_pods)));
    }
    if class_name.is_empty() {
        let message = "no persistent volumes available for this claim and no storage class is set";
        return ClaimStep::Wait(Some(Said::normal("FailedBinding", message)));
    }
    provision(&class_name, class)
}

fn first_consumer(pods: &[String]) -> Said {
    let message = match pods {
        [] => {
            let message = "waiting for first consumer to be created before binding";
            return Said::normal("WaitForFirstConsumer", message);
        }
        [one] => format!("waiting for pod {one} to be scheduled"),
        many => format!("waiting for pods {} to be scheduled", many.join(",")),
    };
    Said::normal("WaitForPodScheduled", message)
}

/// None of Kubernetes' own provisioners is left but those of CSI drivers, which are outside.
fn provision(name: &str, class: Option<&Arc<StorageClass>>) -> ClaimStep {
    let failed = |message| ClaimStep::Wait(Some(Said::warning("ProvisioningFailed", message)));
    let Some(class) = class else { return failed(format!("storageclass.storage.k8s.io {name:?} not found")) };
    let provisioner = class.provisioner.clone();
    if provisioner.starts_with("kubernetes.io/") {
        return failed(format!("no volume plugin matched name: {provisioner}"));
    }
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
         system administrator. If volume creation is delayed, please verify that the provisioner is running and \
         correctly registered."
    );
    ClaimStep::Provision { provisioner, said: Said::normal("ExternalProvisioning", message) }
}

/// What a volume needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeStep {
    /// `Available` or `Bound`.
    Phase(&'static str),
    /// Its claim is gone.
    Release,
    /// Its claim has to be looked at.
    Claim,
    /// It was bound to a claim that has another volume.
    Unbind,
    Mismatch {
        of_volume: Said,
        of_claim: Said,
    },
}

/// What is to be done about a volume; `claim` is the one that has the claimant's name now.
pub fn volume(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> VolumeStep {
    let Some(of) = volumes::claimant(volume) else { return VolumeStep::Phase("Available") };
    let uid = of.uid.as_deref().unwrap_or_default();
    if uid.is_empty() {
        return VolumeStep::Phase("Available");
    }
    let Some(claim) = claim.filter(|claim| claim.metadata.uid.as_deref() == Some(uid)) else {
        return VolumeStep::Release;
    };
    match volumes::volume_name(claim) {
        "" if volumes::has_mode(volume, claim) => VolumeStep::Claim,
        "" => {
            let (mine, theirs) = (volume.name_any(), claim.name_any());
            let of_volume = format!(
                "Cannot bind PersistentVolume to requested PersistentVolumeClaim {theirs:?} due to incompatible \
                 volumeMode."
            );
            let of_claim = format!(
                "Cannot bind PersistentVolume {mine:?} to requested PersistentVolumeClaim due to incompatible \
                 volumeMode."
            );
            VolumeStep::Mismatch {
                of_volume: Said::warning("VolumeMismatch", of_volume),
                of_claim: Said::warning("VolumeMismatch", of_claim),
            }
        }
        name if name == volume.name_any() => VolumeStep::Phase("Bound"),
        _ if volume.annotations().contains_key(PROVISIONED_BY) && policy(volume) == "Delete" => VolumeStep::Release,
        _ => VolumeStep::Unbind,
    }
}

fn policy(volume: &PersistentVolume) -> &str {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    policy.unwrap_or("Retain")
}

/// What becomes of a volume whose claim is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reclaim {
    Keep,
    /// This directory of the node goes, and the volume with it.
    Delete(String),
    Fail(Said),
}

pub fn reclaim(volume: &PersistentVolume) -> Reclaim {
    match policy(volume) {
        "Retain" => Reclaim::Keep,
        "Delete" => delete(volume),
        "Recycle" => {
            let message = "No recycler plugin found for the volume!";
            Reclaim::Fail(Said::warning("VolumeFailedRecycle", message))
        }
        _ => {
            let message = "Volume has unrecognized PersistentVolumeReclaimPolicy";
            Reclaim::Fail(Said::warning("VolumeUnknownReclaimPolicy", message))
        }
    }
}

fn delete(volume: &PersistentVolume) -> Reclaim {
    if volume.annotations().get(PROVISIONED_BY).is_some_and(|by| !by.starts_with("kubernetes.io/")) {
        // Whoever made it takes it away.
        return Reclaim::Keep;
    }
    let failed = |message| Reclaim::Fail(Said::warning("VolumeFailedDelete", message));
    let Some(source) = volume.spec.as_ref().and_then(|spec| spec.host_path.as_ref()) else {
        return failed(format!(
            "error getting deleter volume plugin for volume {:?}: no deletable volume plugin matched",
            volume.name_any()
        ));
    };
    let path = &source.path;
    if !path.starts_with("/tmp/") || path.trim_end_matches('/') == "/tmp" || path.split('/').any(|part| part == "..") {
        return failed(format!("host_path deleter only supports /tmp/.+ but received provided {path}"));
    }
    Reclaim::Delete(path.clone())
}

/// The volume as it is when it is the claim's; `None` when it is so.
pub fn given(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<PersistentVolume> {
    let of = volumes::claimant(volume);
    if of.is_some_and(|of| of.uid == claim.metadata.uid) {
        return None;
    }
    let mut fresh = volume.clone();
    if of.is_none() {
        mark(&mut fresh, BOUND_BY_CONTROLLER);
    }
    let spec = fresh.spec.get_or_insert_default();
    spec.claim_ref = Some(k8s_openapi::api::core::v1::ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        name: claim.metadata.name.clone(),
        namespace: claim.metadata.namespace.clone(),
        uid: claim.metadata.uid.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        ..Default::default()
    });
    Some(fresh)
}

/// The claim as it is when it has the volume; `None` when it is so.
pub fn taken(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<PersistentVolumeClaim> {
    let name = volume.name_any();
    if volumes::volume_name(claim) == name && claim.annotations().contains_key(BIND_COMPLETED) {
        return None;
    }
    let mut fresh = claim.clone();
    if volumes::volume_name(claim) != name {
        fresh.spec.get_or_insert_default().volume_name = Some(name);
        mark(&mut fresh, BOUND_BY_CONTROLLER);
    }
    mark(&mut fresh, BIND_COMPLETED);
    Some(fresh)
}

/// The volume without its claim: as the user promised it, or free.
pub fn unbound(volume: &PersistentVolume) -> PersistentVolume {
    let mut fresh = volume.clone();
    let by_controller = fresh.annotations_mut().remove(BOUND_BY_CONTROLLER).is_some();
    let spec = fresh.spec.get_or_insert_default();
    if by_controller {
        spec.claim_ref = None;
    } else if let Some(of) = &mut spec.claim_ref {
        of.uid = None;
    }
    fresh
}

fn mark(object: &mut impl ResourceExt, annotation: &str) {
    object.annotations_mut().insert(annotation.to_owned(), "yes".to_owned());
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
