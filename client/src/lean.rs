//! Objects of any kind, of which only the little that says who they are and whose is read: a watch of every kind in the
//! cluster must not build what nobody looks at.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use kube::core::{ApiResource, DynamicResourceScope};
use serde::{Deserialize, Deserializer};

/// An object with its name, namespace, UID, version, owners, finalizers and time of deletion; the rest of its metadata
/// is
/// left out.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Lean {
    #[serde(default, deserialize_with = "identity")]
    pub metadata: ObjectMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

fn identity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let identity = Identity::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: identity.name,
        namespace: identity.namespace,
        uid: identity.uid,
        resource_version: identity.resource_version,
        deletion_timestamp: identity.deletion_timestamp,
        finalizers: identity.finalizers,
        owner_references: identity.owner_references,
        ..ObjectMeta::default()
    })
}

impl Resource for Lean {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn whose_an_object_is_is_read_and_nothing_else() {
        let object: Lean = serde_json::from_value(serde_json::json!({
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"},
                "managedFields": [{"manager": "m", "fieldsV1": {"f:metadata": {}}}], "finalizers": ["f"],
                "ownerReferences": [{"apiVersion": "v1", "kind": "ReplicaSet", "name": "rs", "uid": "o"}]},
            "spec": {"containers": []},
        }))
        .unwrap();
        let meta = object.metadata;
        assert_eq!((meta.name.as_deref(), meta.resource_version.as_deref()), (Some("p"), Some("7")));
        assert_eq!((meta.finalizers.unwrap().len(), meta.owner_references.unwrap().len()), (1, 1));
        assert!(meta.managed_fields.is_none() && meta.labels.is_none());
    }
}
