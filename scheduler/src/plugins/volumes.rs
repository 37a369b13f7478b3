//! Claims of a Pod: those that are bound say from which nodes their volumes can be reached, those that wait for their
//! first consumer need a volume that can be reached from the node (upstream's VolumeBinding).

use std::sync::Arc;

use client::volumes::{self, WAIT_FOR_CONSUMER, best, class_of_claim, volume_name};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PodSpec};
use k8s_openapi::api::storage::v1::StorageClass;

use super::Reason;
use crate::labels::node_terms;
use crate::model::NodeInfo;

/// `provisioner` of classes whose volumes nobody makes.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// What a Pod's claims ask of a node.
#[derive(Clone, Debug, Default)]
pub struct PodVolumes {
    /// Volumes of claims that are bound; `None` is one that is not there.
    bound: Vec<Option<Arc<PersistentVolume>>>,
    /// Claims that wait for a Pod, and whether somebody would make a volume for them.
    waiting: Vec<(Arc<PersistentVolumeClaim>, bool)>,
    /// All volumes, when claims wait.
    all: Vec<Arc<PersistentVolume>>,
}

/// No claims.
pub static NONE: PodVolumes = PodVolumes { bound: Vec::new(), waiting: Vec::new(), all: Vec::new() };

/// A claim that waits, and what it gets when its Pod goes to a node.
#[derive(Clone, Debug)]
pub struct Choice {
    pub claim: Arc<PersistentVolumeClaim>,
    /// `None` is one that is to be made.
    pub volume: Option<Arc<PersistentVolume>>,
}

/// Names of the claims that a Pod uses, and whether each is made for the Pod alone.
pub fn claims(pod: &str, spec: &PodSpec) -> Vec<(String, bool)> {
    let volumes = spec.volumes.iter().flatten();
    let claims = volumes.filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(source), _) => Some((source.claim_name.clone(), false)),
        (_, Some(_)) => Some((format!("{pod}-{}", volume.name), true)),
        _ => None,
    });
    claims.collect()
}

impl PodVolumes {
    /// Looks at a Pod's claims, which are as [`claims`] gives them.
    ///
    /// # Errors
    /// Why the Pod can go nowhere, in upstream's words.
    pub fn of(
        claims: &[(String, bool)],
        claim: impl Fn(&str) -> Option<Arc<PersistentVolumeClaim>>,
        volume: impl Fn(&str) -> Option<Arc<PersistentVolume>>,
        class: impl Fn(&str) -> Option<Arc<StorageClass>>,
        all: impl FnOnce() -> Vec<Arc<PersistentVolume>>,
    ) -> Result<Self, String> {
        let mut found = Self::default();
        let mut immediate = false;
        for (name, is_own) in claims {
            let Some(claim) = claim(name) else {
                return Err(match *is_own {
                    true => {
                        format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}")
                    }
                    false => format!("persistentvolumeclaim {name:?} not found"),
                });
            };
            let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
            if phase == Some("Lost") {
                let lost = volume_name(&claim);
                return Err(format!("persistentvolumeclaim {name:?} bound to non-existent persistentvolume {lost:?}"));
            }
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
            }
            if volumes::is_bound(&claim) {
                found.bound.push(volume(volume_name(&claim)));
                continue;
            }
            let class = class(&class_of_claim(&claim));
            let waits = class.as_ref().is_some_and(|c| c.volume_binding_mode.as_deref() == Some(WAIT_FOR_CONSUMER));
            if waits && volume_name(&claim).is_empty() {
                let is_made = class.is_some_and(|class| class.provisioner != NO_PROVISIONER);
                found.waiting.push((claim, is_made));
            } else {
                immediate = true;
            }
        }
        if immediate {
            return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
        }
        if !found.waiting.is_empty() {
            found.all = all();
        }
        Ok(found)
    }

    pub fn filter(&self, node: &NodeInfo) -> Result<(), Vec<Reason>> {
        let mut reasons = Vec::new();
        if self.bound.iter().any(Option::is_none) {
            let text = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
            reasons.push(Reason::unresolvable(text));
        }
        if !self.bound.iter().flatten().all(|volume| reaches(volume, node)) {
            reasons.push(Reason::unresolvable("node(s) didn't match PersistentVolume's node affinity"));
        }
        if !self.waiting.is_empty() && self.choose(node).is_none() {
            reasons.push(Reason::unresolvable("node(s) didn't find available persistent volumes to bind"));
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    /// What the claims that wait get on a node; `None` when one of them gets nothing. The smallest claim chooses first.
    pub fn choose(&self, node: &NodeInfo) -> Option<Vec<Choice>> {
        let mut free = self.all.clone();
        let mut choices = Vec::with_capacity(self.waiting.len());
        for (claim, is_made) in &self.waiting {
            let near = |volume: &PersistentVolume| reaches(volume, node);
            let volume = best(claim, &free, Some(&near), true).cloned();
            if volume.is_none() && !is_made {
                return None;
            }
            if let Some(taken) = &volume {
                free.retain(|other| !Arc::ptr_eq(other, taken));
            }
            choices.push(Choice { claim: Arc::clone(claim), volume });
        }
        Some(choices)
    }
}

/// Whether a volume can be had on a node.
fn reaches(volume: &PersistentVolume, node: &NodeInfo) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let terms = node_terms(affinity.and_then(|affinity| affinity.required.as_ref()));
    terms.is_none_or(|terms| terms.iter().any(|term| term.matches(&node.name, &node.labels)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::{Value, json};

    use super::*;
    use crate::decide::tests::node;

    fn claims_of_pod() -> Vec<(String, bool)> {
        let spec = json!({"containers": [], "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]});
        claims("p", &serde_json::from_value(spec).unwrap())
    }

    fn volumes_of(claim: Option<Value>, volume: Option<Value>, provisioner: &str) -> Result<PodVolumes, String> {
        let claim = claim.map(|claim| Arc::new(serde_json::from_value::<PersistentVolumeClaim>(claim).unwrap()));
        let volume = volume.map(|volume| Arc::new(serde_json::from_value::<PersistentVolume>(volume).unwrap()));
        let class = json!({"metadata": {"name": "w"}, "provisioner": provisioner,
            "volumeBindingMode": WAIT_FOR_CONSUMER});
        let class: Arc<StorageClass> = Arc::new(serde_json::from_value(class).unwrap());
        PodVolumes::of(
            &claims_of_pod(),
            |_| claim.clone(),
            |_| volume.clone(),
            |name| (name == "w").then(|| class.clone()),
            || volume.iter().cloned().collect(),
        )
    }

    fn claim(extra: Value) -> Value {
        let mut claim = json!({"metadata": {"name": "c", "namespace": "ns", "uid": "u"}, "spec": {}, "status": {}});
        for (part, fields) in extra.as_object().unwrap() {
            for (field, value) in fields.as_object().unwrap() {
                claim[part][field] = value.clone();
            }
        }
        claim
    }

    fn on(host: &str) -> Value {
        json!({"metadata": {"name": "pv"}, "status": {"phase": "Available"}, "spec": {
            "capacity": {"storage": "1Gi"}, "storageClassName": "w", "nodeAffinity": {"required": {"nodeSelectorTerms":
                [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]}]}}}})
    }

    #[test]
    fn what_keeps_a_pod_from_every_node() {
        for (given, why) in [
            (None, "persistentvolumeclaim \"c\" not found"),
            (Some(claim(json!({}))), "pod has unbound immediate PersistentVolumeClaims"),
            (
                Some(claim(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))),
                "persistentvolumeclaim \"c\" is being deleted",
            ),
            (
                Some(claim(json!({"spec": {"volumeName": "pv"}, "status": {"phase": "Lost"}}))),
                "persistentvolumeclaim \"c\" bound to non-existent persistentvolume \"pv\"",
            ),
        ] {
            assert_eq!(volumes_of(given, None, NO_PROVISIONER).unwrap_err(), why);
        }
    }

    #[test]
    fn volumes_lead_pods_to_nodes() {
        let bound = || {
            let annotations = json!({"annotations": {volumes::BIND_COMPLETED: "yes"}});
            Some(claim(json!({"metadata": annotations, "spec": {"volumeName": "pv"}})))
        };
        let waiting = || Some(claim(json!({"spec": {"storageClassName": "w"}})));
        let said = |volumes: PodVolumes| match volumes.filter(&node("n1", json!({}))) {
            Ok(()) => String::new(),
            Err(reasons) => reasons[0].text.to_string(),
        };
        let gone = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
        let far = "node(s) didn't match PersistentVolume's node affinity";
        let none = "node(s) didn't find available persistent volumes to bind";
        for (claim, volume, provisioner, expected) in [
            (bound(), None, NO_PROVISIONER, gone),
            (bound(), Some(on("n2")), NO_PROVISIONER, far),
            (bound(), Some(on("n1")), NO_PROVISIONER, ""),
            (waiting(), None, NO_PROVISIONER, none),
            (waiting(), Some(on("n2")), NO_PROVISIONER, none),
            (waiting(), Some(on("n1")), NO_PROVISIONER, ""),
            (waiting(), None, "example.com/disk", ""),
        ] {
            assert_eq!(said(volumes_of(claim, volume, provisioner).unwrap()), expected);
        }
    }
}
