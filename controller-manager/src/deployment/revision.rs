//! Which ReplicaSet is a Deployment's newest, the revisions of all, and the annotations that record them.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::ResourceExt;

use super::rollout;

pub const REVISION: &str = "deployment.kubernetes.io/revision";
pub const HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX: &str = "deployment.kubernetes.io/max-replicas";
pub const TEMPLATE_HASH: &str = "pod-template-hash";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const DEPRECATED_ROLLBACK: &str = "deprecated.deployment.rollback.to";
/// Longest text of the revision history.
const HISTORY_CHARS: usize = 2000;
/// Digits and consonants: a hash spells no words (apimachinery `rand.SafeEncodeString`).
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A template without the label that tells ReplicaSets apart.
fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.remove(TEMPLATE_HASH);
    }
    template
}

pub fn same_template(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let wanted = deployment.spec.as_ref().map(|spec| &spec.template);
    let has = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    matches!((wanted, has), (Some(wanted), Some(has)) if without_hash(wanted) == without_hash(has))
}

fn by_age(sets: &[Arc<ReplicaSet>]) -> Vec<Arc<ReplicaSet>> {
    let mut sets = sets.to_vec();
    let created = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|time| time.0);
    sets.sort_by(|a, b| created(a).cmp(&created(b)).then_with(|| a.name_any().cmp(&b.name_any())));
    sets
}

/// The ReplicaSet with the Deployment's template: of several, the oldest.
pub fn find_new(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Option<Arc<ReplicaSet>> {
    by_age(sets).into_iter().find(|set| same_template(deployment, set))
}

/// The youngest ReplicaSet.
pub fn newest(sets: &[Arc<ReplicaSet>]) -> Option<Arc<ReplicaSet>> {
    by_age(sets).pop()
}

pub fn revision(set: &ReplicaSet) -> i64 {
    set.annotations().get(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub fn desired_replicas(set: &ReplicaSet) -> Option<i32> {
    set.annotations().get(DESIRED)?.parse().ok()
}

pub fn max_replicas(set: &ReplicaSet) -> Option<i32> {
    set.annotations().get(MAX)?.parse().ok()
}

/// Whether the new ReplicaSet has all the Pods that the Deployment wants, and they are available.
pub fn is_saturated(deployment: &Deployment, new: &ReplicaSet) -> bool {
    let wanted = rollout::replicas(deployment);
    rollout::size(new) == wanted && desired_replicas(new) == Some(wanted) && rollout::available(new) == wanted
}

/// Sets the annotations of desired and most Pods; says whether that changed anything.
pub fn set_sizes(annotations: &mut BTreeMap<String, String>, deployment: &Deployment) -> bool {
    let wanted = rollout::replicas(deployment);
    let most = wanted + rollout::fenceposts(deployment).0;
    let mut changed = false;
    for (key, value) in [(DESIRED, wanted), (MAX, most)] {
        changed |= annotations.insert(key.to_owned(), value.to_string()) != Some(value.to_string());
    }
    changed
}

/// The annotations that the new ReplicaSet should have: the Deployment's own (but for bookkeeping), its revision, and
/// the revisions that it was before (a rollback makes an old ReplicaSet new).
pub fn annotations(
    deployment: &Deployment,
    set: &ReplicaSet,
    revision_now: i64,
    exists: bool,
) -> BTreeMap<String, String> {
    let mut annotations = set.annotations().clone();
    let skipped = [LAST_APPLIED, REVISION, HISTORY, DESIRED, MAX, DEPRECATED_ROLLBACK];
    for (key, value) in deployment.annotations().iter().filter(|(key, _)| !skipped.contains(&key.as_str())) {
        annotations.insert(key.clone(), value.clone());
    }
    let before = revision(set);
    if before < revision_now {
        annotations.insert(REVISION.to_owned(), revision_now.to_string());
        if before > 0 {
            let mut history: Vec<String> =
                annotations.get(HISTORY).map(|h| h.split(',').map(str::to_owned).collect()).unwrap_or_default();
            history.push(before.to_string());
            while history.join(",").len() > HISTORY_CHARS {
                history.remove(0);
            }
            annotations.insert(HISTORY.to_owned(), history.join(","));
        }
    }
    if !exists {
        set_sizes(&mut annotations, deployment);
    }
    annotations
}

/// A hash of the template, in letters that spell no words. `collisions` makes it another when two templates met.
pub fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let mut hasher = Fnv32a(0x811c_9dc5);
    serde_json::to_string(template).unwrap_or_default().hash(&mut hasher);
    if let Some(collisions) = collisions {
        collisions.hash(&mut hasher);
    }
    hasher.0.to_string().bytes().map(|digit| char::from(SAFE[usize::from(digit) % SAFE.len()])).collect()
}

struct Fnv32a(u32);

impl Hasher for Fnv32a {
    fn finish(&self) -> u64 {
        self.0.into()
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_rollback_keeps_its_history() {
        let deployment: Deployment = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "annotations": {"kubernetes.io/change-cause": "x", REVISION: "3"}},
            "spec": {"replicas": 4, "selector": {}, "template": {}},
        }))
        .unwrap();
        let set: ReplicaSet = serde_json::from_value(serde_json::json!({"metadata": {"name": "web-1",
            "annotations": {REVISION: "1"}}}))
        .unwrap();
        let got = annotations(&deployment, &set, 4, true);
        assert_eq!(got[REVISION], "4");
        assert_eq!(got[HISTORY], "1");
        assert_eq!(got["kubernetes.io/change-cause"], "x");
        assert!(!got.contains_key(DESIRED));
        assert_eq!(annotations(&deployment, &set, 4, false)[MAX], "5");
    }

    #[test]
    fn the_hash_is_stable_and_differs_by_collision() {
        let template = PodTemplateSpec::default();
        assert_eq!(template_hash(&template, None), template_hash(&template, None));
        assert_ne!(template_hash(&template, None), template_hash(&template, Some(1)));
    }
}
