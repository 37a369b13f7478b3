//! The specification's sections as a table of questions and answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use serde_json::json;

use super::*;
use crate::dns::records::{Service, Slice};

/// Namespace `ns` with a Service of cluster IPs, a headless one, an empty headless one and an external one.
pub(crate) fn records() -> Records {
    let mut records = Records::default();
    records.set_namespace("ns".into(), true);
    records.set_namespace("kube-system".into(), true);
    let services = [
        json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": {"clusterIP": "10.96.0.80",
            "clusterIPs": ["10.96.0.80", "fd00:96::80"], "ports": [{"name": "http", "port": 80},
            {"name": "quic", "port": 443, "protocol": "UDP"}]}}),
        json!({"metadata": {"name": "db", "namespace": "ns"}, "spec": {"clusterIP": "None",
            "ports": [{"name": "sql", "port": 5432}]}}),
        json!({"metadata": {"name": "none", "namespace": "ns"}, "spec": {"clusterIP": "None"}}),
        json!({"metadata": {"name": "out", "namespace": "ns"}, "spec": {"type": "ExternalName",
            "externalName": "Example.COM."}}),
        json!({"metadata": {"name": "kube-dns", "namespace": "kube-system"}, "spec": {"clusterIP": "10.96.0.10"}}),
    ];
    for service in services {
        let service: core::Service = serde_json::from_value(service).unwrap();
        records.set_service(Name::of(&service), Service::from_api(&service));
    }
    let slice = json!({"metadata": {"name": "db-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": "db"}},
        "addressType": "IPv4", "ports": [{"name": "sql", "port": 15432, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.244.0.5"], "hostname": "db-0", "conditions": {"ready": true}},
            {"addresses": ["10.244.0.6"], "conditions": {}},
            {"addresses": ["10.244.0.7"], "conditions": {"ready": false}}]});
    let slice: discovery::EndpointSlice = serde_json::from_value(slice).unwrap();
    records.set_slice(Name::of(&slice), Slice::from_api(&slice));
    records
}

fn show(answer: Answer) -> String {
    match answer {
        Answer::Missing => "missing".into(),
        Answer::Foreign => "foreign".into(),
        Answer::Exists { records, .. } => {
            let shown: Vec<String> = records
                .iter()
                .map(|record| match record {
                    Data::Address(ip) => ip.to_string(),
                    Data::Service { port, weight, target } => format!("0 {weight} {port} {target}"),
                    Data::Pointer(name) | Data::Alias(name) | Data::NameServer(name) | Data::Text(name) => name.clone(),
                    Data::StartOfAuthority => "soa".into(),
                })
                .collect();
            shown.join(", ")
        }
    }
}

#[test]
fn names_have_the_records_of_the_specification() {
    let records = records();
    let cases = [
        ("dns-version.cluster.local", "1.1.0"),
        ("cluster.local", "soa, ns.dns.cluster.local"),
        ("ns.dns.cluster.local", "10.96.0.10"),
        (
            "web.ns.svc.cluster.local",
            "10.96.0.80, fd00:96::80, 0 50 80 web.ns.svc.cluster.local, \
          0 50 443 web.ns.svc.cluster.local",
        ),
        ("_http._tcp.web.ns.svc.cluster.local", "0 100 80 web.ns.svc.cluster.local"),
        ("_quic._udp.web.ns.svc.cluster.local", "0 100 443 web.ns.svc.cluster.local"),
        ("_http._udp.web.ns.svc.cluster.local", "missing"),
        ("_tcp.web.ns.svc.cluster.local", ""),
        ("_sctp.web.ns.svc.cluster.local", "missing"),
        (
            "db.ns.svc.cluster.local",
            "10.244.0.5, 10.244.0.6, 0 50 15432 10-244-0-6.db.ns.svc.cluster.local, \
          0 50 15432 db-0.db.ns.svc.cluster.local",
        ),
        (
            "_sql._tcp.db.ns.svc.cluster.local",
            "0 50 15432 10-244-0-6.db.ns.svc.cluster.local, \
          0 50 15432 db-0.db.ns.svc.cluster.local",
        ),
        ("db-0.db.ns.svc.cluster.local", "10.244.0.5"),
        ("10-244-0-6.db.ns.svc.cluster.local", "10.244.0.6"),
        ("10-244-0-7.db.ns.svc.cluster.local", "missing"),
        ("x.db-0.db.ns.svc.cluster.local", "missing"),
        ("none.ns.svc.cluster.local", "missing"),
        ("out.ns.svc.cluster.local", "example.com"),
        ("x.out.ns.svc.cluster.local", "missing"),
        ("nobody.ns.svc.cluster.local", "missing"),
        ("ns.svc.cluster.local", ""),
        ("other.svc.cluster.local", "missing"),
        ("svc.cluster.local", ""),
        ("x.cluster.local", "missing"),
        ("10-244-0-9.ns.pod.cluster.local", "10.244.0.9"),
        ("fd00--9.ns.pod.cluster.local", "fd00::9"),
        ("10-244-0-9.other.pod.cluster.local", "missing"),
        ("web.ns.pod.cluster.local", "missing"),
        ("80.0.96.10.in-addr.arpa", "web.ns.svc.cluster.local"),
        ("5.0.244.10.in-addr.arpa", "db-0.db.ns.svc.cluster.local"),
        ("6.0.244.10.in-addr.arpa", "10-244-0-6.db.ns.svc.cluster.local"),
        ("9.0.244.10.in-addr.arpa", "foreign"),
        ("0.8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa", "web.ns.svc.cluster.local"),
        ("example.com", "foreign"),
        ("xcluster.local", "foreign"),
        ("", "foreign"),
    ];
    for (name, expected) in cases {
        let labels: Vec<&str> = name.split('.').filter(|label| !label.is_empty()).collect();
        assert_eq!(show(lookup(&records, "cluster.local", &labels)), expected, "{name}");
    }
}

#[test]
fn what_is_taken_out_is_gone_by_every_key() {
    let mut records = records();
    records.set_service(Name::new("ns", "web"), None);
    records.set_slice(Name::new("ns", "db-1"), None);
    records.retain_namespaces(&std::collections::BTreeSet::new());
    for name in ["web.ns.svc.cluster.local", "db.ns.svc.cluster.local", "ns.svc.cluster.local"] {
        let labels: Vec<&str> = name.split('.').collect();
        assert_eq!(lookup(&records, "cluster.local", &labels), Answer::Missing, "{name}");
    }
    for name in ["80.0.96.10.in-addr.arpa", "5.0.244.10.in-addr.arpa"] {
        let labels: Vec<&str> = name.split('.').collect();
        assert_eq!(lookup(&records, "cluster.local", &labels), Answer::Foreign, "{name}");
    }
}
