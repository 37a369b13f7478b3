//! The volume `kube-api-access-xxxxx`: token, CA and namespace, as every Pod that talks to the API expects them.

use api::{Object, object};
use serde_json::{Value, json};

use crate::read::{list, list_mut, spec_list, text};

const PREFIX: &str = "kube-api-access-";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// An hour and seven seconds: tokens asked for with this life are extended, see TokenRequest.
const EXPIRATION: i64 = 3607;

/// Mounts the volume into every container that has nothing at its path, and adds it if a container needs it.
pub fn mount(pod: &mut Object) {
    let existing = spec_list(pod, "volumes").iter().map(|v| text(v, "/name")).find(|n| n.starts_with(PREFIX));
    let is_new = existing.is_none();
    let name = existing.map_or_else(|| format!("{PREFIX}{}", apiserver_auth::random_suffix()), str::to_owned);
    let spec = object::child_mut(pod, "spec");
    let mut needed = false;
    for key in ["initContainers", "containers"] {
        if !spec.get(key).is_some_and(Value::is_array) {
            continue;
        }
        for container in list_mut(spec, key).iter_mut() {
            let taken = list(Some(container), "volumeMounts").iter().any(|m| text(m, "/mountPath") == MOUNT_PATH);
            if let Some(container) = container.as_object_mut().filter(|_| !taken) {
                let mount = json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH});
                list_mut(container, "volumeMounts").push(mount);
                needed = true;
            }
        }
    }
    if is_new && needed {
        let mut volume = Object::new();
        volume.insert("name".to_owned(), name.into());
        volume.insert("projected".to_owned(), source());
        list_mut(spec, "volumes").push(volume.into());
    }
}

fn source() -> Value {
    json!({
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": EXPIRATION, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            ]}},
        ],
    })
}
