//! The downward API: fields of the Pod and resources of its containers as text. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use crate::quantity;
use crate::spec;

/// What of a Pod is known only on its node.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    pub pod_ips: Vec<String>,
    pub host_ip: String,
}

/// What stands in for a limit that a container does not set: the node's allocatable.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocatable {
    pub cpu_millis: i64,
    pub memory_bytes: i64,
    pub ephemeral_bytes: i64,
}

/// The value of `fieldRef.fieldPath`, or upstream's error.
pub fn field(pod: &Pod, path: &str, addresses: &Addresses) -> Result<String, String> {
    let spec = spec::spec(pod);
    let first = || addresses.pod_ips.first().cloned().unwrap_or_default();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.annotations" => pod.metadata.annotations.as_ref(),
            "metadata.labels" => pod.metadata.labels.as_ref(),
            _ => return Err(format!("fieldPath {path:?} does not support subscript")),
        };
        return Ok(map.and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.annotations" => format_map(pod.metadata.annotations.as_ref()),
        "metadata.labels" => format_map(pod.metadata.labels.as_ref()),
        "metadata.name" => spec::name(pod).to_owned(),
        "metadata.namespace" => spec::namespace(pod).to_owned(),
        "metadata.uid" => spec::uid(pod).to_owned(),
        "spec.nodeName" => spec.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" => addresses.host_ip.clone(),
        "status.podIP" => first(),
        "status.podIPs" => addresses.pod_ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// `metadata.labels['key']` as map and key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// A map as a downward API file shows it: sorted lines of `key="escaped value"`.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<_> = map.into_iter().flatten().map(|(k, v)| format!("{k}={v:?}")).collect();
    lines.join("\n")
}

/// The value of `resourceFieldRef`; `containers` are searched when it names one.
pub fn resource(
    pod: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    node: Allocatable,
) -> Result<String, String> {
    let named = selector.container_name.as_deref().filter(|n| !n.is_empty());
    let found;
    let container = match named {
        Some(name) => {
            found = spec::slot_of(pod, name).and_then(|slot| spec::container(pod, slot));
            found.as_ref().ok_or_else(|| format!("container {name} not found"))?
        }
        None => own.ok_or_else(|| "container name is required".to_owned())?,
    };
    let divisor = selector.divisor.as_ref().map(|q| q.0.as_str()).filter(|d| *d != "0").unwrap_or("1");
    let (list, name) = selector.resource.split_once('.').ok_or_else(|| unsupported(selector))?;
    let resources = container.resources.as_ref();
    let map = match list {
        "limits" => resources.and_then(|r| r.limits.as_ref()),
        "requests" => resources.and_then(|r| r.requests.as_ref()),
        _ => return Err(unsupported(selector)),
    };
    let set = map.and_then(|m| m.get(name)).map(|q| q.0.as_str());
    let from_node = list == "limits";
    let amount = |of: fn(&str) -> Option<i64>, allocatable: i64| match set.and_then(of) {
        Some(v) => v,
        None if from_node => allocatable,
        None => 0,
    };
    let (amount, divisor) = match name {
        "cpu" => (amount(quantity::millis, node.cpu_millis), quantity::millis(divisor)),
        "memory" => (amount(quantity::value, node.memory_bytes), quantity::value(divisor)),
        "ephemeral-storage" => (amount(quantity::value, node.ephemeral_bytes), quantity::value(divisor)),
        other if other.starts_with("hugepages-") => (amount(quantity::value, 0), quantity::value(divisor)),
        _ => return Err(unsupported(selector)),
    };
    let divisor = divisor.filter(|d| *d > 0).ok_or_else(|| format!("invalid divisor for {}", selector.resource))?;
    Ok((amount / divisor + i64::from(amount % divisor != 0)).to_string())
}

fn unsupported(selector: &ResourceFieldSelector) -> String {
    format!("unsupported container resource : {}", selector.resource)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"b": "2", "a": "say \"x\""}},
            "spec": {"nodeName": "node", "serviceAccountName": "sa", "containers": [{"name": "c", "resources": {
                "limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}}}]},
        }))
        .unwrap()
    }

    #[test]
    fn fields() {
        let addresses = Addresses { pod_ips: vec!["10.0.0.1".into(), "fd::1".into()], host_ip: "192.0.2.1".into() };
        for (path, want) in [
            ("metadata.name", "p"),
            ("metadata.labels['b']", "2"),
            ("metadata.labels", "a=\"say \\\"x\\\"\"\nb=\"2\""),
            ("spec.nodeName", "node"),
            ("status.podIP", "10.0.0.1"),
            ("status.podIPs", "10.0.0.1,fd::1"),
            ("status.hostIP", "192.0.2.1"),
        ] {
            assert_eq!(field(&pod(), path, &addresses).unwrap(), want, "{path}");
        }
        assert!(field(&pod(), "spec.priority", &addresses).is_err());
    }

    #[test]
    fn resources_by_divisor() {
        let node = Allocatable { cpu_millis: 2000, memory_bytes: 4 << 30, ephemeral_bytes: 1 << 30 };
        let pod = pod();
        let own = spec::containers(&pod).first();
        for (name, divisor, want) in [
            ("limits.cpu", "0", "2"),
            ("limits.cpu", "1m", "1500"),
            ("limits.memory", "1Mi", "64"),
            ("requests.cpu", "1", "1"),
            ("requests.memory", "1", "0"),
            ("limits.ephemeral-storage", "1Gi", "1"),
        ] {
            let selector = ResourceFieldSelector {
                resource: name.into(),
                divisor: Some(k8s_openapi::apimachinery::pkg::api::resource::Quantity(divisor.into())),
                ..ResourceFieldSelector::default()
            };
            assert_eq!(resource(&pod, own, &selector, node).unwrap(), want, "{name} / {divisor}");
        }
    }
}
