//! Claims that waited for their Pod, once its node is known: their volumes are promised to them, or asked for, and the
//! Pod is bound when the claims are.

use std::time::Duration;

use anyhow::{Context as _, bail};
use client::volumes::{self, BOUND_BY_CONTROLLER, SELECTED_NODE};
use client::{Api, Informer};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::PostParams;
use kube::{Client, ResourceExt};
use tokio::sync::watch;

use crate::model::PodInfo;
use crate::plugins::volumes::{Choice, PodVolumes};

/// Claims must be bound by then, or the Pod is scheduled anew (upstream's `bindTimeoutSeconds`).
const PATIENCE: Duration = Duration::from_secs(600);

/// Everything about storage that the scheduler looks at.
#[derive(Clone)]
pub struct Storage {
    pub claims: Informer<PersistentVolumeClaim>,
    pub volumes: Informer<PersistentVolume>,
    pub classes: Informer<StorageClass>,
    /// Moves on with each change of a claim.
    changed: watch::Sender<()>,
}

impl Storage {
    pub fn new(
        claims: Informer<PersistentVolumeClaim>,
        volumes: Informer<PersistentVolume>,
        classes: Informer<StorageClass>,
    ) -> Self {
        let changed = watch::Sender::new(());
        let moved = changed.clone();
        claims.on_change(move |_| moved.send_replace(()));
        Self { claims, volumes, classes, changed }
    }

    pub async fn synced(&self) {
        self.claims.synced().await;
        self.volumes.synced().await;
        self.classes.synced().await;
    }

    /// What a Pod's claims ask of nodes.
    ///
    /// # Errors
    /// Why the Pod can go nowhere.
    pub fn of(&self, pod: &PodInfo) -> Result<PodVolumes, String> {
        PodVolumes::of(
            &pod.claims,
            |name| self.claims.get(&pod.namespace, name),
            |name| self.volumes.get("", name),
            |name| self.classes.get("", name),
            || self.volumes.list(),
        )
    }

    /// Gives the claims what was chosen for them and returns when they are bound.
    ///
    /// # Errors
    /// A volume was taken by somebody else meanwhile, or the claims were not bound in time.
    pub async fn bind(&self, client: &Client, choices: &[Choice], node: &str) -> anyhow::Result<()> {
        if choices.is_empty() {
            return Ok(());
        }
        let mut changed = self.changed.subscribe();
        for choice in choices {
            self.give(client, choice, node).await?;
        }
        let all_bound = async {
            loop {
                changed.mark_unchanged();
                if choices.iter().all(|choice| self.is_bound(&choice.claim)) || changed.changed().await.is_err() {
                    return;
                }
            }
        };
        match tokio::time::timeout(PATIENCE, all_bound).await {
            Ok(()) => Ok(()),
            Err(_) => bail!("binding volumes: context deadline exceeded"),
        }
    }

    fn is_bound(&self, claim: &PersistentVolumeClaim) -> bool {
        let now = self.claims.get(&claim.namespace().unwrap_or_default(), &claim.name_any());
        now.is_some_and(|now| now.metadata.uid == claim.metadata.uid && volumes::is_bound(&now))
    }

    async fn give(&self, client: &Client, choice: &Choice, node: &str) -> anyhow::Result<()> {
        let claim = &choice.claim;
        let Some(volume) = &choice.volume else {
            let mut fresh = (**claim).clone();
            fresh.annotations_mut().insert(SELECTED_NODE.to_owned(), node.to_owned());
            let api: Api<PersistentVolumeClaim> =
                Api::namespaced(client.clone(), &claim.namespace().unwrap_or_default());
            let written = api.replace(&claim.name_any(), &PostParams::default(), &fresh).await;
            return written.map(drop).with_context(|| format!("binding volumes: claim {}", claim.name_any()));
        };
        if volumes::is_of(volume, claim) {
            return Ok(());
        }
        let mut fresh = PersistentVolume::clone(volume);
        fresh.annotations_mut().insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
        let reference = client::events::reference(&**claim);
        fresh.spec.get_or_insert_default().claim_ref = Some(reference);
        let api: Api<PersistentVolume> = Api::all(client.clone());
        let written = api.replace(&volume.name_any(), &PostParams::default(), &fresh).await;
        written.map(drop).with_context(|| format!("binding volumes: volume {}", volume.name_any()))
    }
}

/// Whether a Pod waits for what happens to claims and volumes.
pub fn concerns(pod: &PodInfo) -> bool {
    !pod.claims.is_empty()
}
