//! Which PersistentVolume a claim can have: what the binding controller and the scheduler must see alike. Pure.

use std::sync::Arc;

use api::labels::Selector;
use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use kube::{Resource, ResourceExt};

/// On a claim whose binding is complete.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a volume or claim whose side of the binding a controller made, not a user.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a claim for which the scheduler chose a node: its volume may be made now.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// `volumeBindingMode` of classes whose claims wait for a Pod.
pub const WAIT_FOR_CONSUMER: &str = "WaitForFirstConsumer";

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

fn class(annotations: &std::collections::BTreeMap<String, String>, field: Option<&String>) -> String {
    annotations.get(CLASS_ANNOTATION).or(field).cloned().unwrap_or_default()
}

/// The claim's StorageClass; empty for none.
pub fn class_of_claim(claim: &PersistentVolumeClaim) -> String {
    class(claim.annotations(), claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref()))
}

/// The volume's StorageClass; empty for none.
pub fn class_of_volume(volume: &PersistentVolume) -> String {
    class(volume.annotations(), volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref()))
}

/// To whom the volume is bound or promised.
pub fn claimant(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// Whether the volume is this claim's: bound, or promised to its name.
pub fn is_of(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    claimant(volume).is_some_and(|of| {
        let uid = of.uid.as_deref().unwrap_or_default();
        of.name == claim.metadata.name
            && of.namespace == claim.metadata.namespace
            && (uid.is_empty() || Some(uid) == claim.metadata.uid.as_deref())
    })
}

/// The volume that the claim names; empty for none.
pub fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

/// Whether both sides of the binding were made.
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    !volume_name(claim).is_empty() && claim.annotations().contains_key(BIND_COMPLETED)
}

fn storage(list: Option<&std::collections::BTreeMap<String, Text>>) -> Quantity {
    let text = list.and_then(|list| list.get("storage")).map_or("0", |text| text.0.as_str());
    // The API refuses what is no quantity.
    Quantity::parse(text).unwrap_or_default()
}

fn capacity(volume: &PersistentVolume) -> Quantity {
    storage(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()))
}

fn asked(claim: &PersistentVolumeClaim) -> Quantity {
    storage(claim.spec.as_ref().and_then(|s| s.resources.as_ref()).and_then(|r| r.requests.as_ref()))
}

fn modes(list: Option<&Vec<String>>) -> &[String] {
    list.map_or(&[], Vec::as_slice)
}

fn modes_of_volume(volume: &PersistentVolume) -> &[String] {
    modes(volume.spec.as_ref().and_then(|spec| spec.access_modes.as_ref()))
}

fn has_modes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let wanted = modes(claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref()));
    wanted.iter().all(|mode| modes_of_volume(volume).contains(mode))
}

/// Whether both are file systems, or both block devices.
pub fn has_mode(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let mode = |mode: Option<&String>| mode.map_or("Filesystem", String::as_str).to_owned();
    mode(volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref()))
        == mode(claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref()))
}

fn has_attributes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let set = |class: Option<&String>| class.map_or("", String::as_str).to_owned();
    set(volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_ref()))
        == set(claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_ref()))
}

/// Whether a volume that the claim names will do.
///
/// # Errors
/// Why not, in upstream's words.
pub fn satisfies(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), String> {
    let checks = [
        (
            volume.meta().deletion_timestamp.is_none(),
            format!("the volume is marked for deletion {:?}", volume.name_any()),
        ),
        (capacity(volume) >= asked(claim), "requested PV is too small".to_owned()),
        (class_of_volume(volume) == class_of_claim(claim), "storageClassName does not match".to_owned()),
        (has_attributes(volume, claim), "volumeAttributesClassName does not match".to_owned()),
        (has_mode(volume, claim), "incompatible volumeMode".to_owned()),
        (has_modes(volume, claim), "incompatible accessMode".to_owned()),
    ];
    checks.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, why)| Err(why))
}

/// Whether the volume's labels are those that the claim selects.
fn is_selected(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(selector) = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else { return true };
    let Ok(value) = serde_json::to_value(selector) else { return false };
    let labels: serde_json::Map<String, serde_json::Value> =
        volume.labels().iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    // The API refuses selectors that cannot be read.
    Selector::from_label_selector(Some(&value)).is_ok_and(|selector| selector.matches(&labels))
}

/// The best volume for a claim: one that is promised to it, or else of those with the fewest access modes the smallest.
/// `reaches` says whether a volume can be had on the node that is looked at. Without a node a claim that waits for its
/// first consumer (`waits`) gets only what is promised to it.
pub fn best<'v>(
    claim: &PersistentVolumeClaim,
    volumes: &'v [Arc<PersistentVolume>],
    reaches: Option<&dyn Fn(&PersistentVolume) -> bool>,
    waits: bool,
) -> Option<&'v Arc<PersistentVolume>> {
    let could_be = |volume: &PersistentVolume| {
        volume.meta().deletion_timestamp.is_none()
            && capacity(volume) >= asked(claim)
            && has_mode(volume, claim)
            && has_attributes(volume, claim)
            && has_modes(volume, claim)
    };
    let is_near = |volume: &PersistentVolume| reaches.is_none_or(|reaches| reaches(volume));
    if let Some(promised) = volumes.iter().find(|volume| is_of(volume, claim) && could_be(volume)) {
        return is_near(promised).then_some(promised);
    }
    if reaches.is_none() && waits {
        return None;
    }
    let class = class_of_claim(claim);
    let free = volumes.iter().filter(|volume| {
        claimant(volume).is_none()
            && volume.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Available"))
            && class_of_volume(volume) == class
            && could_be(volume)
            && is_selected(volume, claim)
            && is_near(volume)
    });
    free.min_by(|a, b| {
        let rank = |volume: &PersistentVolume| modes_of_volume(volume).len();
        rank(a).cmp(&rank(b)).then_with(|| capacity(a).cmp(&capacity(b))).then_with(|| a.name_any().cmp(&b.name_any()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::{Value, json};

    use super::*;

    fn volume(name: &str, size: &str, extra: Value) -> Arc<PersistentVolume> {
        let mut volume = json!({"metadata": {"name": name}, "status": {"phase": "Available"},
            "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"]}});
        for (part, fields) in extra.as_object().unwrap() {
            for (field, value) in fields.as_object().unwrap() {
                volume[part][field] = value.clone();
            }
        }
        Arc::new(serde_json::from_value(volume).unwrap())
    }

    fn claim(spec: Value) -> PersistentVolumeClaim {
        let mut whole = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        for (field, value) in spec.as_object().unwrap() {
            whole[field] = value.clone();
        }
        serde_json::from_value(json!({"metadata": {"name": "c", "namespace": "ns", "uid": "u"}, "spec": whole}))
            .unwrap()
    }

    #[test]
    fn the_smallest_that_fits_is_best() {
        let many = ["ReadWriteOnce", "ReadWriteMany"];
        let mine = json!({"spec": {"claimRef": {"name": "c", "namespace": "ns"}}});
        let others = json!({"spec": {"claimRef": {"name": "c", "namespace": "ns", "uid": "old"}}});
        for (volumes, spec, expected) in [
            (vec![volume("a", "5Gi", json!({})), volume("b", "2Gi", json!({}))], json!({}), Some("b")),
            (vec![volume("a", "500Mi", json!({}))], json!({}), None),
            (
                vec![volume("a", "1Gi", json!({"spec": {"accessModes": many}})), volume("b", "9Gi", json!({}))],
                json!({}),
                Some("b"),
            ),
            (vec![volume("a", "1Gi", json!({}))], json!({"accessModes": ["ReadWriteMany"]}), None),
            (vec![volume("a", "1Gi", json!({"spec": {"storageClassName": "fast"}}))], json!({}), None),
            (
                vec![volume("a", "1Gi", json!({"spec": {"storageClassName": "fast"}}))],
                json!({"storageClassName": "fast"}),
                Some("a"),
            ),
            (vec![volume("a", "1Gi", json!({"spec": {"volumeMode": "Block"}}))], json!({}), None),
            (vec![volume("a", "1Gi", json!({"status": {"phase": "Released"}}))], json!({}), None),
            (vec![volume("a", "1Gi", json!({})), volume("b", "9Gi", mine)], json!({}), Some("b")),
            (vec![volume("a", "1Gi", others)], json!({}), None),
            (
                vec![
                    volume("a", "1Gi", json!({})),
                    volume("b", "2Gi", json!({"metadata": {"labels": {"disk": "ssd"}}})),
                ],
                json!({"selector": {"matchLabels": {"disk": "ssd"}}}),
                Some("b"),
            ),
        ] {
            let got = best(&claim(spec.clone()), &volumes, None, false).map(|volume| volume.name_any());
            assert_eq!(got.as_deref(), expected, "{spec}");
        }
    }

    #[test]
    fn a_claim_that_waits_gets_what_its_node_reaches() {
        let volumes = [volume("far", "1Gi", json!({})), volume("near", "2Gi", json!({}))];
        let name = |found: Option<&Arc<PersistentVolume>>| found.map(|volume| volume.name_any());
        assert_eq!(name(best(&claim(json!({})), &volumes, None, true)), None);
        let reaches = |volume: &PersistentVolume| volume.name_any() == "near";
        assert_eq!(name(best(&claim(json!({})), &volumes, Some(&reaches), true)).as_deref(), Some("near"));
        let promised = [volume("far", "1Gi", json!({"spec": {"claimRef": {"name": "c", "namespace": "ns"}}}))];
        assert_eq!(name(best(&claim(json!({})), &promised, None, true)).as_deref(), Some("far"));
        assert_eq!(name(best(&claim(json!({})), &promised, Some(&reaches), true)), None);
    }

    #[test]
    fn what_is_wrong_with_a_volume_is_said_in_upstreams_words() {
        let said = |extra: Value, spec: Value| satisfies(&volume("v", "1Gi", extra), &claim(spec)).err();
        let none = || json!({});
        assert_eq!(said(none(), none()), None);
        assert_eq!(
            said(none(), json!({"resources": {"requests": {"storage": "2Gi"}}})).as_deref(),
            Some("requested PV is too small")
        );
        assert_eq!(said(none(), json!({"storageClassName": "x"})).as_deref(), Some("storageClassName does not match"));
        assert_eq!(said(none(), json!({"volumeMode": "Block"})).as_deref(), Some("incompatible volumeMode"));
        assert_eq!(said(none(), json!({"accessModes": ["ReadOnlyMany"]})).as_deref(), Some("incompatible accessMode"));
    }
}
