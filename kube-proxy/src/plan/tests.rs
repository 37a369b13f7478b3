//! Tables: Services and endpoints in, maps and chains out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use nft::{Data, Ip, Verdict};
use serde_json::{Value, json};

use super::*;
use crate::model::{Name, Service, Slice};

/// Endpoint 10.244.0.LAST on a node ("here" is this one), in a state: ready, down, draining.
fn endpoint(last: u8, node: &str, state: &str) -> Value {
    let conditions = match state {
        "ready" => json!({"ready": true, "serving": true, "terminating": false}),
        "draining" => json!({"ready": false, "serving": true, "terminating": true}),
        _ => json!({"ready": false, "serving": false, "terminating": false}),
    };
    json!({"addresses": [format!("10.244.0.{last}")], "nodeName": node, "conditions": conditions})
}

fn with_hints(mut endpoint: Value, hints: Value) -> Value {
    endpoint["hints"] = hints;
    endpoint
}

fn slice(endpoints: Vec<Value>) -> Slice {
    let slice: discovery::EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": "s", "namespace": "ns", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }))
    .unwrap();
    Slice::from_api(&slice).unwrap()
}

fn service(changes: Value) -> Service {
    let mut object = json!({
        "metadata": {"name": "web", "namespace": "ns"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.80", "clusterIPs": ["10.96.0.80"],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
    });
    for (key, value) in changes.as_object().unwrap() {
        match key.as_str() {
            "ingress" => object["status"] = json!({"loadBalancer": {"ingress": value}}),
            "nodePort" => object["spec"]["ports"][0]["nodePort"] = value.clone(),
            _ => object["spec"][key] = value.clone(),
        }
    }
    let object: core::Service = serde_json::from_value(object).unwrap();
    Service::from_api(&object).unwrap()
}

fn here() -> Node {
    Node {
        name: "here".into(),
        zone: Some("z1".into()),
        ips: vec!["192.168.0.1".parse().unwrap()],
        pod_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
    }
}

fn planned(changes: Value, endpoints: Vec<Value>) -> Plan {
    plan(&Name::new("ns", "web"), &service(changes), &[&slice(endpoints)], &here(), Ip::V4)
}

/// The maps' entries as "map key → verdict".
fn entries(plan: &Plan) -> Vec<String> {
    let show = |(shared, element): &(Shared, nft::Element)| {
        let port = |bytes: &[u8]| u16::from_be_bytes([bytes[0], bytes[1]]);
        let ip = |bytes: &[u8]| bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(".");
        let key = match element.key.as_slice() {
            key if key.len() == 4 => ip(key),
            key if key.len() == 8 => format!("{} {}", key[0], port(&key[4..])),
            key if key.len() == 12 => format!("{} {} {}", ip(&key[..4]), key[4], port(&key[8..])),
            key => format!("{} {}", ip(&key[..4]), port(&key[12..])),
        };
        let verdict = match &element.data {
            None => String::new(),
            Some(Data::Verdict(Verdict::Goto(chain))) => format!(" → {chain}"),
            Some(data) => format!(" → {data:?}"),
        };
        format!("{} {key}{verdict}", shared.name())
    };
    plan.elements.iter().map(show).collect()
}

fn chain_names(plan: &Plan) -> Vec<&str> {
    plan.chains.keys().map(String::as_str).collect()
}

/// How many endpoints a chain chooses from, and the last bytes of their addresses.
fn targets(plan: &Plan, chain: &str) -> Vec<u8> {
    let mut found = Vec::new();
    for expr in plan.chains[chain].iter().flat_map(|rule| &rule.exprs) {
        match expr {
            nft::Expr::Immediate { value, .. } if value.len() == 4 => found.push(value[3]),
            nft::Expr::LookupMap { set: nft::expr::SetRef::Inline(set), .. } => {
                found.extend(set.elements.iter().filter_map(|element| match &element.data {
                    Some(Data::Value(value)) => Some(value[3]),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    found
}

const CLUSTER: &str = "service-ns/web/tcp/80";

#[test]
fn a_cluster_ip_leads_to_its_ready_endpoints() {
    let plan = planned(
        json!({}),
        vec![endpoint(2, "here", "ready"), endpoint(3, "away", "ready"), endpoint(4, "here", "down")],
    );
    assert_eq!(
        entries(&plan),
        [
            "cluster-ips 10.96.0.80".to_owned(),
            format!("service-ips 10.96.0.80 6 80 → {CLUSTER}"),
            "hairpin-connections 10.244.0.2 8080".to_owned(),
        ]
    );
    assert_eq!(chain_names(&plan), [CLUSTER]);
    assert_eq!(targets(&plan, CLUSTER), [2, 3]);
}

#[test]
fn terminating_endpoints_serve_only_while_no_other_does() {
    let both = vec![endpoint(2, "here", "draining"), endpoint(3, "away", "ready")];
    assert_eq!(targets(&planned(json!({}), both), CLUSTER), [3]);
    assert_eq!(targets(&planned(json!({}), vec![endpoint(2, "here", "draining")]), CLUSTER), [2]);
}

#[test]
fn without_endpoints_every_way_in_is_refused() {
    let changes = json!({"type": "LoadBalancer", "nodePort": 30080, "externalIPs": ["198.51.100.1"],
        "ingress": [{"ip": "203.0.113.1"}, {"ip": "203.0.113.2", "ipMode": "Proxy"}, {"hostname": "lb.example.com"}]});
    let plan = planned(changes, vec![endpoint(2, "here", "down")]);
    assert_eq!(
        entries(&plan),
        [
            "cluster-ips 10.96.0.80",
            "no-endpoint-services 10.96.0.80 6 80 → reject",
            "no-endpoint-services 198.51.100.1 6 80 → reject",
            "no-endpoint-services 203.0.113.1 6 80 → reject",
            "no-endpoint-nodeports 6 30080 → reject",
        ]
    );
    assert!(plan.chains.is_empty());
}

#[test]
fn policy_local_drops_outside_traffic_that_other_nodes_could_answer() {
    let changes = json!({"type": "NodePort", "nodePort": 30080, "externalTrafficPolicy": "Local"});
    let plan = planned(changes.clone(), vec![endpoint(3, "away", "ready")]);
    assert_eq!(
        entries(&plan),
        [
            "cluster-ips 10.96.0.80".to_owned(),
            format!("service-ips 10.96.0.80 6 80 → {CLUSTER}"),
            "service-nodeports 6 30080 → external-ns/web/tcp/80".to_owned(),
            "no-endpoint-nodeports 6 30080 → Verdict(Drop)".to_owned(),
        ]
    );
    // Pods and this node still get through: three rules, and none for others.
    assert_eq!(plan.chains["external-ns/web/tcp/80"].len(), 3);

    let plan = planned(changes, vec![endpoint(2, "here", "ready"), endpoint(3, "away", "ready")]);
    assert_eq!(plan.chains["external-ns/web/tcp/80"].len(), 4);
    assert_eq!(targets(&plan, "local-ns/web/tcp/80"), [2]);
    assert_eq!(targets(&plan, CLUSTER), [2, 3]);
}

#[test]
fn internal_policy_local_uses_this_nodes_endpoints_only() {
    let changes = json!({"internalTrafficPolicy": "Local"});
    let plan = planned(changes.clone(), vec![endpoint(2, "here", "ready"), endpoint(3, "away", "ready")]);
    assert_eq!(entries(&plan)[1], "service-ips 10.96.0.80 6 80 → local-ns/web/tcp/80");
    assert_eq!(chain_names(&plan), ["local-ns/web/tcp/80"]);
    let plan = planned(changes, vec![endpoint(3, "away", "ready")]);
    assert_eq!(entries(&plan)[1], "no-endpoint-services 10.96.0.80 6 80 → Verdict(Drop)");
}

#[test]
fn source_ranges_guard_load_balancer_addresses_only() {
    let changes = json!({"type": "LoadBalancer", "nodePort": 30080, "ingress": [{"ip": "203.0.113.1"}],
        "loadBalancerSourceRanges": [" 192.0.2.0/24 "]});
    let plan = planned(changes, vec![endpoint(2, "here", "ready")]);
    let guarded: Vec<String> = entries(&plan).into_iter().filter(|entry| entry.starts_with("firewall")).collect();
    assert_eq!(guarded, ["firewall-ips 203.0.113.1 6 80 → firewall-ns/web/tcp/80"]);
    let open =
        json!({"type": "LoadBalancer", "ingress": [{"ip": "203.0.113.1"}], "loadBalancerSourceRanges": ["0.0.0.0/0"]});
    let plan = planned(open, vec![endpoint(2, "here", "ready")]);
    assert!(!plan.chains.contains_key("firewall-ns/web/tcp/80"));
}

#[test]
fn affinity_gives_each_endpoint_a_chain_and_a_set_named_by_its_timeout() {
    let changes = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}});
    let plan = planned(changes, vec![endpoint(2, "here", "ready"), endpoint(3, "away", "ready")]);
    assert_eq!(
        chain_names(&plan),
        ["endpoint-ns/web/tcp/80__10.244.0.2/8080", "endpoint-ns/web/tcp/80__10.244.0.3/8080", CLUSTER]
    );
    let sets: Vec<&str> = plan.affinity_sets.iter().map(|set| set.name.as_str()).collect();
    assert_eq!(sets, ["affinity-60-ns/web/tcp/80__10.244.0.2/8080", "affinity-60-ns/web/tcp/80__10.244.0.3/8080"]);
    assert_eq!(plan.affinity_sets[0].dynamic_timeout_ms, Some(60_000));
    assert_eq!(plan.chains[CLUSTER].len(), 3);
}

#[test]
fn hints_for_this_node_come_before_hints_for_its_zone() {
    let near = json!({"forNodes": [{"name": "here"}], "forZones": [{"name": "z1"}]});
    let zone = json!({"forNodes": [{"name": "away"}], "forZones": [{"name": "z1"}]});
    let far = json!({"forNodes": [{"name": "away"}], "forZones": [{"name": "z2"}]});
    let all = |hints: [Option<&Value>; 3]| -> Vec<u8> {
        let endpoints = (2..).zip(hints).map(|(last, hints)| match hints {
            Some(hints) => with_hints(endpoint(last, "away", "ready"), hints.clone()),
            None => endpoint(last, "away", "ready"),
        });
        targets(&planned(json!({}), endpoints.collect()), CLUSTER)
    };
    assert_eq!(all([Some(&near), Some(&zone), Some(&far)]), [2]);
    assert_eq!(all([Some(&zone), Some(&zone), Some(&far)]), [2, 3]);
    assert_eq!(all([Some(&far), Some(&far), Some(&far)]), [2, 3, 4], "hints for others only are ignored");
    assert_eq!(all([Some(&near), None, Some(&far)]), [2, 3, 4], "hints count only if all have some");
}

#[test]
fn services_without_cluster_ip_or_of_another_family_have_no_part() {
    for spec in [json!({"clusterIP": "None"}), json!({"type": "ExternalName", "externalName": "x"}), json!({})] {
        let object: core::Service =
            serde_json::from_value(json!({"metadata": {"name": "a", "namespace": "b"}, "spec": spec})).unwrap();
        assert!(Service::from_api(&object).is_none(), "{spec}");
    }
    let name = Name::new("ns", "web");
    assert!(plan(&name, &service(json!({})), &[], &here(), Ip::V6).is_empty());
}

#[test]
fn both_families_are_planned_apart() {
    let service = service(json!({"clusterIPs": ["10.96.0.80", "fd00:96::80"]}));
    let object: discovery::EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": "s6", "namespace": "ns", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv6", "endpoints": [{"addresses": ["fd00::2"]}],
        "ports": [{"name": "http", "port": 8080}],
    }))
    .unwrap();
    let slices = [&slice(vec![endpoint(2, "here", "ready")]), &Slice::from_api(&object).unwrap()];
    let name = Name::new("ns", "web");
    let (v4, v6) = (plan(&name, &service, &slices, &here(), Ip::V4), plan(&name, &service, &slices, &here(), Ip::V6));
    assert_eq!(targets(&v4, CLUSTER), [2]);
    assert_eq!(chain_names(&v6), [CLUSTER]);
    assert_eq!(v6.elements[0].1.key.len(), 16);
}

#[test]
fn udp_frontends_name_all_serving_endpoints() {
    let ports = json!([{"name": "http", "port": 80, "protocol": "UDP", "nodePort": 30080}]);
    let service = service(json!({"type": "NodePort", "ports": ports}));
    let mut slice =
        slice(vec![endpoint(2, "here", "ready"), endpoint(3, "away", "draining"), endpoint(4, "away", "down")]);
    slice.ports[0].1 = crate::model::Protocol::Udp;
    let plan = plan(&Name::new("ns", "web"), &service, &[&slice], &here(), Ip::V4);
    let serving = BTreeSet::from(["10.244.0.2:8080".parse().unwrap(), "10.244.0.3:8080".parse().unwrap()]);
    assert_eq!(
        plan.udp,
        BTreeMap::from([
            (Frontend::Address("10.96.0.80:80".parse().unwrap()), serving.clone()),
            (Frontend::NodePort(30080), serving),
        ])
    );
}
