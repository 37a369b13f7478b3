//! Pure: a Service, its Pods and the slices that are there in; the slices to make, change and delete out.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use crate::pods;

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Endpoints in one slice, at most (upstream's `--max-endpoints-per-slice`).
const MAX_ENDPOINTS: usize = 100;

#[derive(Debug, Default)]
pub struct Plan {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    /// Names.
    pub delete: Vec<String>,
}

/// Ports in a form that can be compared and sorted: Pods may resolve a named port differently.
type Ports = Vec<(String, i32, String, Option<String>)>;

/// Computes what to do. `node` finds the Node that a Pod runs on, for its zone.
pub fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    existing: &[Arc<EndpointSlice>],
    node: impl Fn(&str) -> Option<Arc<Node>>,
) -> Plan {
    let spec = service.spec.clone().unwrap_or_default();
    let families = match spec.ip_families {
        Some(families) if !families.is_empty() => families,
        _ => vec!["IPv4".to_owned()],
    };
    let mut plan = Plan::default();
    for family in &families {
        let mut groups: BTreeMap<Ports, Vec<Endpoint>> = BTreeMap::new();
        for pod in pods.iter().filter(|pod| !pods::is_terminal(pod)) {
            if let Some(endpoint) = endpoint(service, pod, family, &node) {
                groups.entry(ports(service, pod)).or_default().push(endpoint);
            }
        }
        let here = existing.iter().filter(|slice| slice.address_type == *family);
        reconcile(service, family, groups, here.cloned().collect(), &mut plan);
    }
    let foreign = existing.iter().filter(|slice| !families.contains(&slice.address_type));
    plan.delete.extend(foreign.map(|slice| slice.name_any()));
    plan
}

/// Puts wanted endpoints where they are already, then into free places, then into new slices.
fn reconcile(
    service: &Service,
    family: &str,
    mut groups: BTreeMap<Ports, Vec<Endpoint>>,
    existing: Vec<Arc<EndpointSlice>>,
    plan: &mut Plan,
) {
    if groups.is_empty() {
        // A Service without endpoints keeps one empty slice: its absence would mean "not looked at yet".
        groups.insert(Vec::new(), Vec::new());
    }
    for slice in &existing {
        if !groups.contains_key(&ports_of(slice)) {
            plan.delete.push(slice.name_any());
        }
    }
    for (ports, wanted) in groups {
        let mut wanted: BTreeMap<String, Endpoint> = wanted.into_iter().map(|e| (identity(&e), e)).collect();
        let mine: Vec<_> = existing.iter().filter(|slice| ports_of(slice) == ports).collect();
        let mut filled: Vec<(Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
        for slice in mine {
            let kept = slice.endpoints.iter().flatten().filter_map(|e| wanted.remove(&identity(e))).collect();
            filled.push((Arc::clone(slice), kept));
        }
        for (_, endpoints) in &mut filled {
            while endpoints.len() < MAX_ENDPOINTS {
                let Some((_, endpoint)) = wanted.pop_first() else { break };
                endpoints.push(endpoint);
            }
        }
        let mut kept = 0;
        for (slice, endpoints) in filled {
            if endpoints.is_empty() && (kept > 0 || !wanted.is_empty() || !ports.is_empty()) {
                plan.delete.push(slice.name_any());
                continue;
            }
            kept += 1;
            let fresh = with(service, family, &ports, Some(&slice), endpoints);
            if fresh != *slice {
                plan.update.push(fresh);
            }
        }
        let mut rest: Vec<_> = wanted.into_values().collect();
        while !rest.is_empty() || kept == 0 {
            let some = rest.split_off(rest.len().saturating_sub(MAX_ENDPOINTS));
            plan.create.push(with(service, family, &ports, None, some));
            kept += 1;
        }
    }
}

/// What stays the same about an endpoint while its conditions change.
fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone()).unwrap_or_default();
    format!("{uid}/{}", endpoint.addresses.join(","))
}

fn with(
    service: &Service,
    family: &str,
    ports: &Ports,
    slice: Option<&EndpointSlice>,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let name = service.name_any();
    let mut labels = service.labels().clone();
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Service".to_owned(),
        name: name.clone(),
        uid: service.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    let fresh = || ObjectMeta {
        generate_name: Some(format!("{name}-")),
        namespace: service.namespace(),
        ..ObjectMeta::default()
    };
    let metadata = slice.map_or_else(fresh, |slice| slice.metadata.clone());
    let ports = ports.iter().map(|(name, port, protocol, app)| EndpointPort {
        name: Some(name.clone()),
        port: Some(*port),
        protocol: Some(protocol.clone()),
        app_protocol: app.clone(),
    });
    EndpointSlice {
        metadata: ObjectMeta { labels: Some(labels), owner_references: Some(vec![owner]), ..metadata },
        address_type: family.to_owned(),
        ports: Some(ports.collect::<Vec<_>>()).filter(|ports| !ports.is_empty()),
        endpoints: Some(endpoints).filter(|endpoints| !endpoints.is_empty()),
    }
}

fn ports_of(slice: &EndpointSlice) -> Ports {
    let mut ports: Ports = slice
        .ports
        .iter()
        .flatten()
        .map(|port| {
            let text = |t: &Option<String>| t.clone().unwrap_or_default();
            (text(&port.name), port.port.unwrap_or(0), text(&port.protocol), port.app_protocol.clone())
        })
        .collect();
    ports.sort();
    ports
}

/// The Service's ports as this Pod has them; a named port that it has not is left out.
fn ports(service: &Service, pod: &Pod) -> Ports {
    let listed = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let mut ports: Ports = listed
        .into_iter()
        .flatten()
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let number = target_port(port, pod, &protocol)?;
            Some((port.name.clone().unwrap_or_default(), number, protocol, port.app_protocol.clone()))
        })
        .collect();
    ports.sort();
    ports
}

pub fn target_port(port: &ServicePort, pod: &Pod, protocol: &str) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecars =
                spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
            let all = spec.containers.iter().chain(sidecars);
            let mut ports = all.flat_map(|container| container.ports.iter().flatten());
            let found =
                ports.find(|p| p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol);
            found.map(|p| p.container_port)
        }
    }
}

fn endpoint(service: &Service, pod: &Pod, family: &str, node: &impl Fn(&str) -> Option<Arc<Node>>) -> Option<Endpoint> {
    let status = pod.status.as_ref()?;
    let ips = status.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).chain(status.pod_ip.clone());
    let address = ips.into_iter().find(|ip| (family == "IPv6") == ip.contains(':'))?;
    let spec = service.spec.as_ref()?;
    let serving = pods::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let ready = spec.publish_not_ready_addresses == Some(true) || (serving && !terminating);
    let node_name = pods::node_name(pod);
    let zone = node(node_name).and_then(|node| node.labels().get(ZONE).cloned());
    let pod_spec = pod.spec.as_ref()?;
    let own_name = pod_spec.subdomain.as_deref() == service.metadata.name.as_deref();
    Some(Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: pod_spec.hostname.clone().filter(|name| own_name && !name.is_empty()),
        node_name: (!node_name.is_empty()).then(|| node_name.to_owned()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: Some(pod.name_any()),
            uid: pod.uid(),
            ..ObjectReference::default()
        }),
        zone,
        ..Endpoint::default()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "s"},
            "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"],
                "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]},
        }))
        .unwrap()
    }

    fn pod(name: &str, ip: Option<&str>, ready: bool, port: i32) -> Arc<Pod> {
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

    fn settle(pods: &[Arc<Pod>], existing: &[Arc<EndpointSlice>]) -> Plan {
        plan(&service(), pods, existing, |_| None)
    }

    fn stored(plan: Plan) -> Vec<Arc<EndpointSlice>> {
        let named = plan.create.into_iter().enumerate().map(|(i, mut slice)| {
            slice.metadata.name = Some(format!("web-{i}"));
            Arc::new(slice)
        });
        named.collect()
    }

    #[test]
    fn a_plan_applied_leaves_nothing_to_do() {
        let pods: Vec<_> = (0..250).map(|i| pod(&format!("p{i}"), Some(&format!("10.0.0.{i}")), true, 8080)).collect();
        let slices = stored(settle(&pods, &[]));
        assert_eq!(slices.len(), 3);
        let again = settle(&pods, &slices);
        assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty(), "{again:?}");
        let fewer = settle(&pods[1..], &slices);
        assert_eq!((fewer.create.len(), fewer.update.len(), fewer.delete.len()), (0, 1, 0));
    }

    #[test]
    fn readiness_and_named_ports() {
        let pods =
            [pod("a", Some("10.0.0.1"), true, 80), pod("b", Some("10.0.0.2"), false, 81), pod("c", None, true, 80)];
        let slices = stored(settle(&pods, &[]));
        assert_eq!(slices.len(), 2, "one for each resolved port");
        let ready: Vec<_> = slices
            .iter()
            .map(|s| s.endpoints.as_ref().unwrap()[0].conditions.as_ref().unwrap().ready.unwrap())
            .collect();
        assert_eq!(ready, [true, false]);
    }

    #[test]
    fn no_pods_leave_one_empty_slice() {
        let slices = stored(settle(&[], &[]));
        assert_eq!(slices.len(), 1);
        assert!(settle(&[], &slices).create.is_empty());
        let with_pods = settle(&[pod("a", Some("10.0.0.1"), true, 80)], &slices);
        assert_eq!((with_pods.create.len(), with_pods.delete.len()), (1, 1));
    }
}
