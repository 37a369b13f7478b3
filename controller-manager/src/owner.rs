//! Who controls an object: controller references, adoption of orphans that match, release of what no longer matches.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::{Resource, ResourceExt};

/// The reference that says `owner` controls an object.
pub fn controller_ref<K>(owner: &K) -> OwnerReference
where
    K: Resource,
    K::DynamicType: Default,
{
    let kind = K::DynamicType::default();
    OwnerReference {
        api_version: K::api_version(&kind).into_owned(),
        kind: K::kind(&kind).into_owned(),
        name: owner.name_any(),
        uid: owner.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The controlling owner of an object.
pub fn controller_of<K: Resource>(object: &K) -> Option<&OwnerReference> {
    object.meta().owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
}

/// Whether `object` is controlled by the owner with this UID.
pub fn is_controlled_by<K: Resource>(object: &K, uid: &str) -> bool {
    controller_of(object).is_some_and(|owner| owner.uid == uid)
}

/// Whether a label selector selects these labels. An empty selector selects everything; a missing one nothing.
pub fn selects(selector: Option<&LabelSelector>, labels: &std::collections::BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else { return false };
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let value = labels.get(&requirement.key);
            let listed = |value: &String| requirement.values.iter().flatten().any(|v| v == value);
            match requirement.operator.as_str() {
                "In" => value.is_some_and(listed),
                "NotIn" => !value.is_some_and(listed),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// What to do with an object that might be controlled by an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is the owner's.
    Keep,
    /// It is nobody's and matches: take it.
    Adopt,
    /// It is the owner's and matches no longer: let it go.
    Release,
    /// It is another's, or matches not.
    Ignore,
}

/// Decides on one object. An owner that is being deleted takes and releases nothing.
pub fn claim<K: Resource>(object: &K, owner_uid: &str, owner_deleting: bool, matches: bool) -> Claim {
    match controller_of(object) {
        Some(owner) if owner.uid != owner_uid => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        Some(_) if owner_deleting => Claim::Ignore,
        Some(_) => Claim::Release,
        None if owner_deleting || !matches || object.meta().deletion_timestamp.is_some() => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// The strategic merge patch that adopts an object; the UID guards against another object of the same name.
pub fn adoption_patch(owner: &OwnerReference, uid: &str) -> serde_json::Value {
    serde_json::json!({"metadata": {"ownerReferences": [owner], "uid": uid}})
}

/// The strategic merge patch that releases an object.
pub fn release_patch(owner_uid: &str, uid: &str) -> serde_json::Value {
    serde_json::json!({"metadata": {"ownerReferences": [{"$patch": "delete", "uid": owner_uid}], "uid": uid}})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn pod(owner: Option<&str>, deleting: bool) -> Pod {
        let owners = owner.map(|uid| {
            serde_json::json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x",
            "uid": uid, "controller": true}])
        });
        let stamp = deleting.then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(serde_json::json!({"metadata": {"name": "p", "ownerReferences": owners,
            "deletionTimestamp": stamp}}))
        .unwrap()
    }

    #[test]
    fn claims() {
        let cases = [
            (Some("me"), false, false, true, Claim::Keep),
            (Some("me"), false, false, false, Claim::Release),
            (Some("me"), false, true, false, Claim::Ignore),
            (Some("other"), false, false, true, Claim::Ignore),
            (None, false, false, true, Claim::Adopt),
            (None, true, false, true, Claim::Ignore),
            (None, false, true, true, Claim::Ignore),
            (None, false, false, false, Claim::Ignore),
        ];
        for (owner, deleting, owner_deleting, matches, expected) in cases {
            let got = claim(&pod(owner, deleting), "me", owner_deleting, matches);
            assert_eq!(got, expected, "{owner:?} {deleting} {owner_deleting} {matches}");
        }
    }

    #[test]
    fn selectors() {
        let labels = [("app".to_owned(), "web".to_owned())].into();
        let cases = [
            (serde_json::json!({}), true),
            (serde_json::json!({"matchLabels": {"app": "web"}}), true),
            (serde_json::json!({"matchLabels": {"app": "db"}}), false),
            (serde_json::json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}), true),
            (serde_json::json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["web"]}]}), true),
            (serde_json::json!({"matchExpressions": [{"key": "x", "operator": "Exists"}]}), false),
            (serde_json::json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}), true),
        ];
        for (selector, expected) in cases {
            let typed: LabelSelector = serde_json::from_value(selector.clone()).unwrap();
            assert_eq!(selects(Some(&typed), &labels), expected, "{selector}");
        }
        assert!(!selects(None, &labels));
    }
}
