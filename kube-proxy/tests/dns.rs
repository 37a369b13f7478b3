//! The cluster's DNS as Pods use it: through Service kube-dns, over UDP and TCP, for cluster names and others. Nodes,
//! Pods and the upstream resolver are network namespaces; the API is in memory. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use serde_json::json;
use support::api::FakeApi;
use support::net::{Netns, Proxy, block_on, eventually};
use tokio_util::sync::CancellationToken;

const NODE_IP: &str = "192.168.60.1";
const UPSTREAM: &str = "192.168.60.2";
const CLUSTER_DNS: &str = "10.96.0.10:53";

struct World {
    pod: Netns,
    node: Netns,
    upstream: Netns,
    api: FakeApi,
    resolv_conf: std::path::PathBuf,
    stop: CancellationToken,
    dns: Option<std::thread::JoinHandle<()>>,
    _proxy: Proxy,
}

impl World {
    fn new(name: &str) -> Self {
        let (node, upstream) = (Netns::new(), Netns::new());
        node.link("eth0", &upstream, "eth0");
        node.ip(&format!("addr add {NODE_IP}/24 dev eth0"));
        upstream.ip(&format!("addr add {UPSTREAM}/24 dev eth0"));
        let pod = Netns::pod(&node, "pod", "10.244.0.2", "10.244.0.1");
        let api = FakeApi::new();
        api.put(
            "nodes",
            json!({"metadata": {"name": "node-1"}, "spec": {"podCIDR": "10.244.0.0/24"},
            "status": {"addresses": [{"type": "InternalIP", "address": NODE_IP}]}}),
        );
        for namespace in ["default", "kube-system"] {
            api.put("namespaces", json!({"metadata": {"name": namespace}}));
        }
        let proxy = Proxy::start(&node, kube_proxy::Config::new("0badcafe", "node-1", NODE_IP.parse().unwrap()), &api);
        let resolv_conf = std::env::temp_dir().join(format!("cox-dns-{name}-{}", std::process::id()));
        std::fs::write(&resolv_conf, format!("nameserver 10.96.0.10\nnameserver {UPSTREAM}\n")).unwrap();
        let stop = CancellationToken::new();
        let dns = Some(start_dns(&node, &api, &resolv_conf, stop.clone()));
        Self { pod, node, upstream, api, resolv_conf, stop, dns, _proxy: proxy }
    }

    fn service(&self, name: &str, spec: serde_json::Value) {
        self.api.put("services", json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}));
    }

    fn headless(&self, name: &str, count: usize) {
        self.service(name, json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}));
        let endpoints: Vec<_> = (0..count)
            .map(|n| {
                json!({"addresses": [format!("10.244.{}.{}", n / 250, n % 250 + 2)], "hostname": format!("h-{n}"),
                "conditions": {"ready": true}})
            })
            .collect();
        self.api.put(
            "endpointslices",
            json!({"metadata": {"name": format!("{name}-1"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": name}}, "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}]}),
        );
    }

    fn udp(&self, name: &str, kind: RecordType) -> Option<Message> {
        self.pod.run(|| ask_udp(CLUSTER_DNS, name, kind, None))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(dns) = self.dns.take() {
            dns.join().unwrap();
        }
        std::fs::remove_file(&self.resolv_conf).unwrap();
    }
}

fn start_dns(
    node: &Netns,
    api: &FakeApi,
    resolv_conf: &std::path::Path,
    stop: CancellationToken,
) -> std::thread::JoinHandle<()> {
    let mut config = kube_proxy::dns::Config::new("node-1");
    config.resolv_conf = resolv_conf.to_owned();
    let api = api.clone();
    node.run(|| {
        std::thread::spawn(move || {
            block_on(async move { kube_proxy::dns::run(config, api.client(), stop).await }).unwrap();
        })
    })
}

fn query(name: &str, kind: RecordType, edns: Option<u16>) -> Message {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    if let Some(size) = edns {
        let mut asked = Edns::new();
        asked.set_max_payload(size);
        query.set_edns(asked);
    }
    query
}

fn ask_udp(server: &str, name: &str, kind: RecordType, edns: Option<u16>) -> Option<Message> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket.connect(server).unwrap();
    let query = query(name, kind, edns);
    socket.send(&query.to_vec().unwrap()).ok()?;
    let mut buffer = [0; 4096];
    let len = socket.recv(&mut buffer).ok()?;
    let response = Message::from_vec(&buffer[..len]).unwrap();
    assert_eq!(response.metadata.id, query.metadata.id);
    Some(response)
}

fn ask_tcp(server: &str, names: &[&str], kind: RecordType) -> Vec<Message> {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    names
        .iter()
        .map(|name| {
            let bytes = query(name, kind, None).to_vec().unwrap();
            stream.write_all(&(bytes.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&bytes).unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut bytes = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut bytes).unwrap();
            Message::from_vec(&bytes).unwrap()
        })
        .collect()
}

fn addresses(message: &Message) -> Vec<String> {
    message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(a) => Some(a.0.to_string()),
            _ => None,
        })
        .collect()
}

/// An upstream resolver that knows every name as 203.0.113.7 and counts queries.
fn serve_upstream(upstream: &Netns) -> std::sync::Arc<std::sync::atomic::AtomicUsize> {
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let socket = upstream.run(|| UdpSocket::bind("0.0.0.0:53").unwrap());
    let counter = count.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((len, peer)) = socket.recv_from(&mut buffer) {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let query = Message::from_vec(&buffer[..len]).unwrap();
            let name = query.queries[0].name.clone();
            let mut response = query.into_response();
            response.add_answer(Record::from_rdata(name, 60, RData::A(A::new(203, 0, 113, 7))));
            socket.send_to(&response.to_vec().unwrap(), peer).unwrap();
        }
    });
    count
}

#[test]
fn pods_resolve_services_over_udp_and_tcp() {
    let world = World::new("services");
    world.service("web", json!({"clusterIP": "10.96.0.80", "ports": [{"name": "http", "port": 80}]}));
    let name = "web.default.svc.cluster.local.";
    eventually("web resolves", || {
        world.udp(name, RecordType::A).is_some_and(|message| addresses(&message) == ["10.96.0.80"])
    });
    let missing = world.udp("nobody.default.svc.cluster.local.", RecordType::A).unwrap();
    assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
    let none = world.udp(name, RecordType::AAAA).unwrap();
    assert_eq!((none.metadata.response_code, none.answers.len()), (ResponseCode::NoError, 0));
    let pointer = world.udp("80.0.96.10.in-addr.arpa.", RecordType::PTR).unwrap();
    assert_eq!(pointer.answers[0].data.to_string(), name);
    let over_tcp = world.pod.run(|| ask_tcp(CLUSTER_DNS, &[name, "ns.dns.cluster.local.", name], RecordType::A));
    let found: Vec<Vec<String>> = over_tcp.iter().map(addresses).collect();
    assert_eq!(found, [vec!["10.96.0.80"], vec!["10.96.0.10"], vec!["10.96.0.80"]]);

    // A Service made now is known now.
    let start = Instant::now();
    world.service("new", json!({"clusterIP": "10.96.0.81", "ports": [{"port": 80}]}));
    eventually("new resolves", || {
        world.udp("new.default.svc.cluster.local.", RecordType::A).is_some_and(|m| !m.answers.is_empty())
    });
    println!("Service create to first DNS answer: {:?}", start.elapsed());
    world.api.delete("services", "default/new");
    eventually("new is gone", || {
        let message = world.udp("new.default.svc.cluster.local.", RecordType::A).unwrap();
        message.metadata.response_code == ResponseCode::NXDomain
    });
}

#[test]
fn large_answers_are_cut_over_udp_and_whole_over_tcp() {
    let world = World::new("large");
    world.headless("db", 200);
    let name = "db.default.svc.cluster.local.";
    eventually("db resolves", || world.udp(name, RecordType::A).is_some_and(|message| !message.answers.is_empty()));
    let cut = world.udp(name, RecordType::A).unwrap();
    assert!(cut.metadata.truncation && cut.answers.len() < 40);
    let larger = world.pod.run(|| ask_udp(CLUSTER_DNS, name, RecordType::A, Some(1232))).unwrap();
    assert!(larger.answers.len() > cut.answers.len() && larger.edns.is_some());
    let whole = world.pod.run(|| ask_tcp(CLUSTER_DNS, &[name], RecordType::A)).remove(0);
    assert_eq!((whole.answers.len(), whole.metadata.truncation), (200, false));
}

#[test]
fn other_names_come_from_upstream_and_without_one_fail_at_once() {
    let world = World::new("upstream");
    let count = serve_upstream(&world.upstream);
    world.service("out", json!({"type": "ExternalName", "externalName": "www.example.org"}));
    eventually("example.com resolves", || {
        world.udp("example.com.", RecordType::A).is_some_and(|message| addresses(&message) == ["203.0.113.7"])
    });
    let asked = count.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(addresses(&world.udp("EXAMPLE.com.", RecordType::A).unwrap()), ["203.0.113.7"]);
    assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), asked, "answered from the cache");
    eventually("ExternalName resolves", || {
        world.udp("out.default.svc.cluster.local.", RecordType::A).is_some_and(|message| {
            message.answers.len() == 2
                && message.answers[0].data.to_string() == "www.example.org."
                && addresses(&message) == ["203.0.113.7"]
        })
    });

    std::fs::write(&world.resolv_conf, "nameserver 10.96.0.10\n").unwrap();
    let mut attempt = 0;
    eventually("no upstream is SERVFAIL", || {
        let start = Instant::now();
        attempt += 1;
        let message = world.udp(&format!("uncached-{attempt}.example.com."), RecordType::A).unwrap();
        message.metadata.response_code == ResponseCode::ServFail && start.elapsed() < Duration::from_millis(500)
    });
}

#[test]
fn the_server_announces_itself_once_and_again_after_a_restart() {
    let mut world = World::new("announce");
    eventually("slice", || world.api.get("endpointslices", "kube-system/kube-dns-node-1-ipv4").is_some());
    let service = world.api.get("services", "kube-system/kube-dns").unwrap();
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.10");
    let slice = world.api.get("endpointslices", "kube-system/kube-dns-node-1-ipv4").unwrap();
    assert_eq!(slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"], "cox-dns");
    assert_eq!(slice["metadata"]["ownerReferences"][0]["kind"], "Node");
    assert_eq!(slice["endpoints"][0]["addresses"][0], "10.244.0.1");
    assert_eq!(slice["endpoints"][0]["hints"]["forNodes"][0]["name"], "node-1");

    // What somebody takes away comes back, also after a restart.
    world.api.delete("services", "kube-system/kube-dns");
    eventually("service again", || world.api.get("services", "kube-system/kube-dns").is_some());
    world.stop.cancel();
    world.dns.take().unwrap().join().unwrap();
    world.api.delete("endpointslices", "kube-system/kube-dns-node-1-ipv4");
    world.stop = CancellationToken::new();
    world.dns = Some(start_dns(&world.node, &world.api, &world.resolv_conf, world.stop.clone()));
    eventually("slice again", || world.api.get("endpointslices", "kube-system/kube-dns-node-1-ipv4").is_some());
}
