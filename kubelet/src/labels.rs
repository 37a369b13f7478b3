//! Labels and annotations on sandboxes and containers, by which a kubelet finds its own again after a restart.
//! The names are upstream's.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Lifecycle, LifecycleHandler, Pod};
use kubelet_runtime::cri;

use crate::spec;

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const HASH: &str = "io.kubernetes.container.hash";
const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
const PORTS: &str = "io.kubernetes.container.ports";
const DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";
const TERMINATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

type Map = BTreeMap<String, String>;

/// Labels of a Pod's sandbox: the Pod's own and its identity.
pub fn sandbox_labels(pod: &Pod) -> Map {
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    identify(&mut labels, pod);
    labels
}

fn identify(labels: &mut Map, pod: &Pod) {
    labels.insert(POD_NAME.to_owned(), spec::name(pod).to_owned());
    labels.insert(POD_NAMESPACE.to_owned(), spec::namespace(pod).to_owned());
    labels.insert(POD_UID.to_owned(), spec::uid(pod).to_owned());
}

pub fn container_labels(pod: &Pod, container: &Container) -> Map {
    let mut labels = Map::new();
    identify(&mut labels, pod);
    labels.insert(CONTAINER_NAME.to_owned(), container.name.clone());
    labels
}

/// What is needed to judge and to stop a container whose Pod is gone from the API.
pub fn container_annotations(pod: &Pod, container: &Container, restart_count: u32) -> Map {
    let mut map = Map::new();
    let mut put = |key: &str, value: String| {
        map.insert(key.to_owned(), value);
    };
    put(HASH, container_hash(container));
    put(RESTART_COUNT, restart_count.to_string());
    put(MESSAGE_PATH, spec::termination_message_path(container).to_owned());
    put(MESSAGE_POLICY, container.termination_message_policy.clone().unwrap_or_default());
    if let Some(seconds) = pod.metadata.deletion_grace_period_seconds {
        put(DELETION_GRACE, seconds.to_string());
    }
    if let Some(seconds) = spec::spec(pod).termination_grace_period_seconds {
        put(TERMINATION_GRACE, seconds.to_string());
    }
    if let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref())
        && let Ok(text) = serde_json::to_string(hook)
    {
        put(PRE_STOP, text);
    }
    if let Some(ports) = container.ports.as_ref().filter(|p| !p.is_empty())
        && let Ok(text) = serde_json::to_string(ports)
    {
        put(PORTS, text);
    }
    map
}

/// Hash over what a running container cannot change: its name and image, as upstream picks them. FNV-1a, hexadecimal.
pub fn container_hash(container: &Container) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let image = container.image.as_deref().unwrap_or("");
    for byte in container.name.bytes().chain([0]).chain(image.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:x}")
}

/// Whether the container was made from another definition than this one. Containers without a hash count as unchanged.
pub fn changed(container: &Container, status: &cri::ContainerStatus) -> bool {
    status.annotations.get(HASH).is_some_and(|hash| *hash != container_hash(container))
}

/// `restartCount` that the container was made with.
pub fn restart_count(status: &cri::ContainerStatus) -> u32 {
    status.annotations.get(RESTART_COUNT).and_then(|v| v.parse().ok()).unwrap_or(status.attempt)
}

pub fn termination_message(status: &cri::ContainerStatus) -> (&str, &str) {
    let of = |key| status.annotations.get(key).map_or("", String::as_str);
    (of(MESSAGE_PATH), of(MESSAGE_POLICY))
}

/// Grace period for a container whose Pod is not to be asked, in seconds.
pub fn grace_seconds(status: &cri::ContainerStatus) -> i64 {
    let of = |key: &str| status.annotations.get(key).and_then(|v| v.parse::<i64>().ok());
    of(DELETION_GRACE).or_else(|| of(TERMINATION_GRACE)).unwrap_or(spec::MINIMUM_GRACE_SECONDS)
}

/// As much of a container's definition as its end asks for, as it was made: name, ports, preStop hook.
pub fn container(status: &cri::ContainerStatus) -> Container {
    let text = |key| status.annotations.get(key).map_or("null", String::as_str);
    let pre_stop: Option<LifecycleHandler> = serde_json::from_str(text(PRE_STOP)).ok().flatten();
    Container {
        name: status.name.clone(),
        ports: serde_json::from_str(text(PORTS)).ok().flatten(),
        lifecycle: pre_stop.map(|hook| Lifecycle { pre_stop: Some(hook), ..Lifecycle::default() }),
        ..Container::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_sees_name_and_image_only() {
        let base = Container { name: "a".into(), image: Some("x:1".into()), ..Container::default() };
        let env = Container { tty: Some(true), ..base.clone() };
        let image = Container { image: Some("x:2".into()), ..base.clone() };
        assert_eq!(container_hash(&base), container_hash(&env));
        assert_ne!(container_hash(&base), container_hash(&image));
    }
}
