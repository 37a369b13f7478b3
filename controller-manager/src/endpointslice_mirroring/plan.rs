//! Pure: Endpoints that somebody wrote by hand and the slices that mirror them in; what to change out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use crate::endpointslice::{MANAGED_BY, Plan, SERVICE_NAME};

pub const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Addresses that are mirrored of one set of ports and one family, at most.
const MAX_ADDRESSES: usize = 1000;

/// Family, then ports: name, number, protocol, application protocol.
type Group = (&'static str, Vec<(String, i32, String, Option<String>)>);

/// Whether Endpoints are to be mirrored at all.
pub fn is_mirrored(endpoints: &Endpoints) -> bool {
    let skip = endpoints.labels().get(SKIP).is_some_and(|value| value == "true");
    !skip && !endpoints.annotations().contains_key(LEADER)
}

pub fn plan(endpoints: &Endpoints, existing: &[Arc<EndpointSlice>]) -> Plan {
    let mut wanted = groups(endpoints);
    let mut plan = Plan::default();
    for slice in existing {
        // A second slice of the same group finds nothing left, and goes.
        let Some((group, addresses)) = group_of(slice).and_then(|group| wanted.remove_entry(&group)) else {
            plan.delete.push(slice.name_any());
            continue;
        };
        let fresh = mirror(endpoints, group, addresses, Some(slice));
        if fresh != **slice {
            plan.update.push(fresh);
        }
    }
    plan.create.extend(wanted.into_iter().map(|(group, addresses)| mirror(endpoints, group, addresses, None)));
    plan
}

fn groups(endpoints: &Endpoints) -> BTreeMap<Group, Vec<Endpoint>> {
    let mut groups: BTreeMap<Group, Vec<Endpoint>> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports = subset.ports.iter().flatten().map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            (port.name.clone().unwrap_or_default(), port.port, protocol, port.app_protocol.clone())
        });
        let mut ports: Vec<_> = ports.collect();
        ports.sort();
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let unready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in ready.chain(unready) {
            let Ok(ip) = address.ip.parse::<IpAddr>() else { continue };
            let family = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
            let group = groups.entry((family, ports.clone())).or_default();
            if group.len() < MAX_ADDRESSES {
                group.push(endpoint(address, ip, ready));
            }
        }
    }
    groups
}

fn group_of(slice: &EndpointSlice) -> Option<Group> {
    let family = ["IPv4", "IPv6"].into_iter().find(|family| *family == slice.address_type)?;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let ports = slice
        .ports
        .iter()
        .flatten()
        .map(|port| (text(&port.name), port.port.unwrap_or(0), text(&port.protocol), port.app_protocol.clone()));
    let mut ports: Vec<_> = ports.collect();
    ports.sort();
    Some((family, ports))
}

fn endpoint(address: &EndpointAddress, ip: IpAddr, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn mirror(
    endpoints: &Endpoints,
    (family, ports): Group,
    addresses: Vec<Endpoint>,
    slice: Option<&Arc<EndpointSlice>>,
) -> EndpointSlice {
    let name = endpoints.name_any();
    let mut labels = endpoints.labels().clone();
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let annotations = endpoints.annotations().iter().filter(|(key, _)| *key != TRIGGER_TIME && *key != LAST_APPLIED);
    let annotations: BTreeMap<_, _> = annotations.map(|(key, value)| (key.clone(), value.clone())).collect();
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Endpoints".to_owned(),
        name: name.clone(),
        uid: endpoints.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    let fresh = || ObjectMeta {
        generate_name: Some(format!("{name}-")),
        namespace: endpoints.namespace(),
        ..ObjectMeta::default()
    };
    let ports = ports.into_iter().map(|(name, port, protocol, app_protocol)| EndpointPort {
        name: Some(name),
        port: Some(port),
        protocol: Some(protocol),
        app_protocol,
    });
    EndpointSlice {
        metadata: ObjectMeta {
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references: Some(vec![owner]),
            ..slice.map_or_else(fresh, |slice| slice.metadata.clone())
        },
        address_type: family.to_owned(),
        ports: Some(ports.collect::<Vec<_>>()).filter(|ports| !ports.is_empty()),
        endpoints: Some(addresses),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn endpoints(subsets: serde_json::Value) -> Endpoints {
        serde_json::from_value(json!({"metadata": {"name": "db", "namespace": "ns", "uid": "e", "labels": {"a": "b"},
            "annotations": {"note": "x", LAST_APPLIED: "{}"}}, "subsets": subsets}))
        .unwrap()
    }

    fn stored(plan: Plan) -> Vec<Arc<EndpointSlice>> {
        let named = plan.create.into_iter().enumerate().map(|(i, mut slice)| {
            slice.metadata.name = Some(format!("db-{i}"));
            Arc::new(slice)
        });
        named.collect()
    }

    #[test]
    fn what_was_written_by_hand_is_mirrored_once() {
        let ports = json!([{"name": "sql", "port": 5432}]);
        let written = endpoints(json!([
            {"addresses": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}], "ports": ports},
            {"notReadyAddresses": [{"ip": "192.0.2.2"}], "ports": ports},
        ]));
        let slices = stored(plan(&written, &[]));
        assert_eq!(slices.len(), 2, "one of each family");
        let four = slices[0].endpoints.as_ref().unwrap();
        let ready: Vec<_> =
            four.iter().map(|e| (e.addresses[0].as_str(), e.conditions.as_ref().unwrap().ready)).collect();
        assert_eq!(ready, [("192.0.2.1", Some(true)), ("192.0.2.2", Some(false))]);
        assert_eq!(slices[0].labels()["a"], "b");
        assert_eq!(slices[0].annotations().len(), 1);
        let again = plan(&written, &slices);
        assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty(), "{again:?}");

        let fewer = endpoints(json!([{"addresses": [{"ip": "192.0.2.9"}], "ports": ports}]));
        let fewer = plan(&fewer, &slices);
        assert_eq!((fewer.create.len(), fewer.update.len(), fewer.delete.len()), (0, 1, 1));
    }

    #[test]
    fn some_are_not_mirrored() {
        let mut written = endpoints(json!([]));
        assert!(is_mirrored(&written));
        written.labels_mut().insert(SKIP.to_owned(), "true".to_owned());
        assert!(!is_mirrored(&written));
        let mut election = endpoints(json!([]));
        election.annotations_mut().insert(LEADER.to_owned(), "{}".to_owned());
        assert!(!is_mirrored(&election));
    }
}
