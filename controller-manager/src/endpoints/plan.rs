//! Pure: a Service and its Pods in, the subsets of its Endpoints out.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};
use kube::ResourceExt;

use crate::endpointslice::target_port;
use crate::pods;

const HEADLESS: &str = "service.kubernetes.io/headless";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses in one Endpoints object, at most.
const CAPACITY: usize = 1000;

/// A port in a form that can be sorted: name, number, protocol, application protocol.
type Port = (String, i32, String, Option<String>);

/// The Endpoints of a Service as they should be. `existing` keeps what is not ours to say: version, annotations.
pub fn desired(service: &Service, pods: &[Arc<Pod>], existing: Option<&Endpoints>) -> Endpoints {
    let mut endpoints = existing.cloned().unwrap_or_default();
    let (subsets, truncated) = truncate(subsets(service, pods));
    endpoints.subsets = (!subsets.is_empty()).then_some(subsets);
    endpoints.metadata.name = service.metadata.name.clone();
    endpoints.metadata.namespace = service.metadata.namespace.clone();
    let mut labels = service.labels().clone();
    let cluster_ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or("None");
    labels.remove(HEADLESS);
    if cluster_ip == "None" {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    endpoints.metadata.labels = Some(labels);
    let mut annotations = endpoints.metadata.annotations.take().unwrap_or_default();
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    endpoints.metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    endpoints
}

/// Whether what we say is said already.
pub fn is_same(old: &Endpoints, new: &Endpoints) -> bool {
    let annotation = |e: &Endpoints| e.annotations().get(OVER_CAPACITY).cloned();
    old.subsets.as_deref().unwrap_or_default() == new.subsets.as_deref().unwrap_or_default()
        && old.labels() == new.labels()
        && annotation(old) == annotation(new)
}

/// Whether this controller keeps these Endpoints.
pub fn is_ours(endpoints: &Endpoints) -> bool {
    endpoints.labels().get(MANAGED_BY).is_some_and(|manager| manager == MANAGER)
}

/// Addresses with the same ports go together, ready and not ready ones apart.
fn subsets(service: &Service, all: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let spec = service.spec.clone().unwrap_or_default();
    let unready_too = spec.publish_not_ready_addresses == Some(true);
    let service_ports = spec.ports.unwrap_or_default();
    let mut groups: BTreeMap<Vec<Port>, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    for pod in all {
        let terminating = pod.metadata.deletion_timestamp.is_some();
        if pods::is_terminal(pod) || (terminating && !unready_too) {
            continue;
        }
        let Some(address) = address(service, pod) else { continue };
        let mut ports: Vec<Port> = Vec::new();
        for port in &service_ports {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            if let Some(number) = target_port(port, pod, &protocol) {
                ports.push((port.name.clone().unwrap_or_default(), number, protocol, port.app_protocol.clone()));
            }
        }
        if ports.is_empty() && !(service_ports.is_empty() && spec.cluster_ip.as_deref() == Some("None")) {
            continue;
        }
        ports.sort();
        let (ready, unready) = groups.entry(ports).or_default();
        if unready_too || pods::is_ready(pod) { ready.push(address) } else { unready.push(address) }
    }
    groups.into_iter().map(|(ports, (ready, unready))| subset(ports, ready, unready)).collect()
}

fn subset(ports: Vec<Port>, ready: Vec<EndpointAddress>, unready: Vec<EndpointAddress>) -> EndpointSubset {
    let sorted = |mut addresses: Vec<EndpointAddress>| {
        let uid = |a: &EndpointAddress| a.target_ref.as_ref().and_then(|target| target.uid.clone());
        addresses.sort_by(|a, b| (&a.ip, uid(a)).cmp(&(&b.ip, uid(b))));
        (!addresses.is_empty()).then_some(addresses)
    };
    let ports = ports.into_iter().map(|(name, port, protocol, app_protocol)| EndpointPort {
        name: (!name.is_empty()).then_some(name),
        port,
        protocol: Some(protocol),
        app_protocol,
    });
    let ports: Vec<_> = ports.collect();
    EndpointSubset {
        addresses: sorted(ready),
        not_ready_addresses: sorted(unready),
        ports: (!ports.is_empty()).then_some(ports),
    }
}

fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    let status = pod.status.as_ref()?;
    let service_spec = service.spec.as_ref()?;
    let spec = pod.spec.as_ref()?;
    let family = service_spec.ip_families.as_ref().and_then(|families| families.first());
    let six = match (family, service_spec.cluster_ip.as_deref()) {
        (Some(family), _) => family == "IPv6",
        (None, Some(ip)) if ip != "None" && !ip.is_empty() => ip.contains(':'),
        _ => status.pod_ip.as_deref().is_some_and(|ip| ip.contains(':')),
    };
    let ips = status.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).chain(status.pod_ip.clone());
    let ip = ips.into_iter().find(|ip| !ip.is_empty() && ip.contains(':') == six)?;
    let own_name = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    Some(EndpointAddress {
        ip,
        hostname: spec.hostname.clone().filter(|name| own_name && !name.is_empty()),
        node_name: spec.node_name.clone().filter(|name| !name.is_empty()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: Some(pod.name_any()),
            uid: pod.uid(),
            ..ObjectReference::default()
        }),
    })
}

/// Keeps at most as many addresses as one object may hold, ready ones first, of each subset its share.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let count = |addresses: &Option<Vec<EndpointAddress>>| addresses.as_ref().map_or(0, Vec::len);
    let ready: usize = subsets.iter().map(|subset| count(&subset.addresses)).sum();
    let unready: usize = subsets.iter().map(|subset| count(&subset.not_ready_addresses)).sum();
    if ready + unready <= CAPACITY {
        return (subsets, false);
    }
    let cut_ready = ready > CAPACITY;
    let (room, total) = if cut_ready { (CAPACITY, ready) } else { (CAPACITY - ready, unready) };
    let mut left = room;
    for subset in &mut subsets {
        if cut_ready {
            subset.not_ready_addresses = None;
        }
        let cut = if cut_ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        let share = (count(cut) * room).div_ceil(total).min(left);
        if let Some(addresses) = cut {
            addresses.truncate(share);
            left -= addresses.len();
        }
        if count(cut) == 0 {
            *cut = None;
        }
    }
    subsets.retain(|subset| subset.addresses.is_some() || subset.not_ready_addresses.is_some());
    (subsets, true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn service(spec: serde_json::Value) -> Service {
        serde_json::from_value(
            json!({"metadata": {"name": "web", "namespace": "ns", "labels": {"a": "b"}}, "spec": spec}),
        )
        .unwrap()
    }

    fn pod(name: &str, ip: &str, ready: bool, port: i32) -> Arc<Pod> {
        let status = if ready { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "ns", "uid": name},
                "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [
                    {"name": "http", "containerPort": port, "protocol": "TCP"}]}]},
                "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": status}]},
            }))
            .unwrap(),
        )
    }

    fn with_ports() -> Service {
        service(json!({"clusterIP": "10.96.0.9", "ports": [
            {"name": "web", "port": 80, "targetPort": "http", "protocol": "TCP"}]}))
    }

    #[test]
    fn pods_with_the_same_ports_go_together() {
        let pods = [pod("b", "10.0.0.2", true, 80), pod("a", "10.0.0.1", true, 80), pod("c", "10.0.0.3", false, 80)];
        let endpoints = desired(&with_ports(), &pods, None);
        let subsets = endpoints.subsets.clone().unwrap();
        assert_eq!(subsets.len(), 1);
        let ips = |all: &Option<Vec<EndpointAddress>>| all.iter().flatten().map(|a| a.ip.clone()).collect::<Vec<_>>();
        assert_eq!(ips(&subsets[0].addresses), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(ips(&subsets[0].not_ready_addresses), ["10.0.0.3"]);
        assert_eq!(endpoints.labels()["a"], "b");
        assert_eq!(endpoints.labels()[MANAGED_BY], MANAGER);
        assert!(is_same(&endpoints, &desired(&with_ports(), &pods, Some(&endpoints))));
        let other = [pod("a", "10.0.0.1", true, 80), pod("d", "10.0.0.4", true, 81)];
        assert_eq!(desired(&with_ports(), &other, None).subsets.unwrap().len(), 2);
    }

    #[test]
    fn a_headless_service_needs_no_ports() {
        let endpoints = desired(&service(json!({"clusterIP": "None"})), &[pod("a", "10.0.0.1", true, 80)], None);
        assert!(endpoints.labels().contains_key(HEADLESS));
        assert_eq!(endpoints.subsets.unwrap()[0].ports, None);
        let none = desired(&service(json!({"clusterIP": "10.96.0.9"})), &[pod("a", "10.0.0.1", true, 80)], None);
        assert_eq!(none.subsets, None);
    }

    #[test]
    fn too_many_addresses_are_cut_unready_ones_first() {
        let pods = |ready: usize, unready: usize| -> Vec<_> {
            (0..ready + unready)
                .map(|i| pod(&format!("p{i:05}"), &format!("10.0.{}.{}", i / 250, i % 250), i < ready, 80))
                .collect()
        };
        for (ready, unready, expected) in [(900, 100, (900, 100)), (900, 200, (900, 100)), (1200, 50, (1000, 0))] {
            let endpoints = desired(&with_ports(), &pods(ready, unready), None);
            let subset = &endpoints.subsets.as_ref().unwrap()[0];
            let count = |all: &Option<Vec<EndpointAddress>>| all.as_ref().map_or(0, Vec::len);
            assert_eq!((count(&subset.addresses), count(&subset.not_ready_addresses)), expected);
            assert_eq!(endpoints.annotations().contains_key(OVER_CAPACITY), ready + unready > CAPACITY);
        }
    }
}
