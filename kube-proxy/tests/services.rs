//! Real traffic through real Services: a node, Pods and an outside client are network namespaces; the API is in memory.
//! Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use support::api::FakeApi;
use support::net::{Netns, Proxy, eventually};

const NODE_IP: &str = "192.168.50.1";
const OUTSIDE_IP: &str = "192.168.50.2";

/// A node with Pods a, b and c (10.244.0.2 to .4), all serving port 8080, and a client outside.
struct World {
    node: Netns,
    outside: Netns,
    pods: BTreeMap<&'static str, Netns>,
    api: FakeApi,
    proxy: Proxy,
}

impl World {
    fn new() -> Self {
        let node = Netns::new();
        let outside = Netns::new();
        node.link("eth0", &outside, "eth0");
        node.ip(&format!("addr add {NODE_IP}/24 dev eth0"));
        outside.ip(&format!("addr add {OUTSIDE_IP}/24 dev eth0"));
        let mut pods = BTreeMap::new();
        for (name, addr) in [("a", "10.244.0.2"), ("b", "10.244.0.3"), ("c", "10.244.0.4")] {
            let pod = Netns::pod(&node, &format!("pod-{name}"), addr, "10.244.0.1");
            pod.serve(name, 8080);
            pods.insert(name, pod);
        }
        let api = FakeApi::new();
        api.put(
            "nodes",
            json!({"metadata": {"name": "node-1"}, "spec": {"podCIDRs": ["10.244.0.0/24"]},
            "status": {"addresses": [{"type": "InternalIP", "address": NODE_IP}]}}),
        );
        let proxy = Proxy::start(&node, config(), &api);
        eventually("gateway", || node.command("ip", "addr").contains("10.244.0.1/32"));
        Self { node, outside, pods, api, proxy }
    }

    fn start(&mut self) {
        self.proxy = Proxy::start(&self.node, config(), &self.api);
    }

    fn stop(&mut self) {
        self.proxy.stop();
    }

    fn service(&self, name: &str, spec: Value) {
        self.api.put("services", json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}));
    }

    /// Sets the endpoints of a Service: Pods on this node, by last byte of their address.
    fn endpoints(&self, service: &str, protocol: &str, last: &[u8]) {
        let endpoints: Vec<Value> = last
            .iter()
            .map(|last| {
                json!({"addresses": [format!("10.244.0.{last}")], "nodeName": "node-1",
                "conditions": {"ready": true}})
            })
            .collect();
        self.api.put(
            "endpointslices",
            json!({"metadata": {"name": format!("{service}-1"), "namespace": "default",
                    "labels": {"kubernetes.io/service-name": service}},
                "addressType": "IPv4", "endpoints": endpoints,
                "ports": [{"name": "", "port": 8080, "protocol": protocol}]}),
        );
    }

    /// Whether a Pod gets an answer soon.
    fn answers(&self, to: &str, soon: Duration) -> bool {
        self.pods["c"].ask_within(to, soon).is_ok()
    }

    fn ruleset(&self) -> String {
        self.node.command("nft", "list ruleset")
    }
}

fn config() -> kube_proxy::Config {
    kube_proxy::Config::new("0badcafe", "node-1", NODE_IP.parse().unwrap())
}

fn cluster_ip(ip: &str, protocol: &str) -> Value {
    json!({"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip],
        "ports": [{"port": 80, "protocol": protocol, "targetPort": 8080}]})
}

#[track_caller]
fn answered_by(from: &Netns, to: &str, servers: &[&str]) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    eventually(&format!("{to} answered by {servers:?}"), || {
        if let Ok(reply) = from.ask(to) {
            *count.entry(reply.server).or_insert(0) += 1;
        }
        servers.iter().all(|server| count.contains_key(*server))
    });
    count
}

#[test]
fn cluster_ips_lead_to_endpoints_evenly_from_everywhere() {
    let world = World::new();
    world.service("web", cluster_ip("10.96.0.80", "TCP"));
    world.endpoints("web", "TCP", &[2, 3]);
    answered_by(&world.pods["c"], "10.96.0.80:80", &["a", "b"]);
    answered_by(&world.node, "10.96.0.80:80", &["a", "b"]);
    let mut count: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..400 {
        *count.entry(world.pods["c"].ask("10.96.0.80:80").unwrap().server).or_default() += 1;
    }
    // 400 fair coins: outside 140..260 once in a billion.
    assert!(count.values().all(|n| (140..=260).contains(n)), "{count:?}");
    // Pods are seen as themselves.
    let client = world.pods["c"].ask("10.96.0.80:80").unwrap().client;
    assert_eq!(client, IpAddr::from(Ipv4Addr::new(10, 244, 0, 4)));

    // A port that the Service does not have is refused, an address that nobody has is not answered.
    let error = world.pods["c"].ask("10.96.0.80:81").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

    // One endpoint goes, the other has all.
    world.endpoints("web", "TCP", &[3]);
    eventually("only b answers", || (0..20).all(|_| world.pods["c"].ask("10.96.0.80:80").unwrap().server == "b"));
}

#[test]
fn endpoints_reach_themselves() {
    let world = World::new();
    world.service("web", cluster_ip("10.96.0.80", "TCP"));
    world.endpoints("web", "TCP", &[2]);
    answered_by(&world.pods["a"], "10.96.0.80:80", &["a"]);
    let reply = world.pods["a"].ask("10.96.0.80:80").unwrap();
    assert_ne!(reply.client, IpAddr::from(Ipv4Addr::new(10, 244, 0, 2)));
}

#[test]
fn nobody_home_is_refused_at_once() {
    let world = World::new();
    world.service("web", cluster_ip("10.96.0.80", "TCP"));
    world.service("dns", cluster_ip("10.96.0.53", "UDP"));
    // The kernel tells a local sender of UDP by EPERM.
    let refused = [ErrorKind::ConnectionRefused, ErrorKind::PermissionDenied];
    for (who, from) in [("Pod", &world.pods["a"]), ("node", &world.node)] {
        eventually(
            &format!("TCP refused to {who}"),
            || matches!(from.ask("10.96.0.80:80"), Err(error) if error.kind() == ErrorKind::ConnectionRefused),
        );
        eventually(
            &format!("UDP refused to {who}"),
            || matches!(from.udp("10.96.0.53:80").ask(), Err(error) if refused.contains(&error.kind())),
        );
    }
}

#[test]
fn node_ports_and_load_balancers_answer_outside() {
    let world = World::new();
    let mut spec = cluster_ip("10.96.0.80", "TCP");
    spec["type"] = "LoadBalancer".into();
    spec["externalIPs"] = json!(["192.168.50.77"]);
    spec["ports"][0]["nodePort"] = 30080.into();
    let status = json!({"loadBalancer": {"ingress": [{"ip": NODE_IP}]}});
    let metadata = json!({"name": "web", "namespace": "default"});
    world.api.put("services", json!({"metadata": metadata, "spec": spec, "status": status}));
    world.endpoints("web", "TCP", &[2, 3]);
    world.outside.ip(&format!("route add 192.168.50.77/32 via {NODE_IP}"));
    for to in ["192.168.50.1:30080", "192.168.50.1:80", "192.168.50.77:80"] {
        answered_by(&world.outside, to, &["a", "b"]);
        answered_by(&world.pods["c"], to, &["a", "b"]);
    }
    answered_by(&world.node, "192.168.50.1:30080", &["a", "b"]);
    // Not on loopback, and masqueraded from outside.
    assert!(world.node.ask("127.0.0.1:30080").is_err());
    assert_ne!(world.outside.ask("192.168.50.1:30080").unwrap().client.to_string(), OUTSIDE_IP);

    // Policy Local keeps the client's address and uses only this node's endpoints.
    spec["externalTrafficPolicy"] = "Local".into();
    spec["healthCheckNodePort"] = 31999.into();
    spec["loadBalancerSourceRanges"] = json!(["192.168.51.0/24"]);
    world.api.put("services", json!({"metadata": metadata, "spec": spec, "status": status}));
    eventually("client address kept", || {
        world.outside.ask("192.168.50.1:30080").unwrap().client.to_string() == OUTSIDE_IP
    });
    // Load balancers learn whether this node has endpoints.
    let check = || {
        world.outside.run(|| {
            let mut stream = TcpStream::connect("192.168.50.1:31999")?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: lb\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            std::io::Result::Ok(text)
        })
    };
    let healthy =
        "{\"localEndpoints\":2,\"service\":{\"name\":\"web\",\"namespace\":\"default\"},\"serviceProxyHealthy\":true}";
    eventually("healthy", || check().is_ok_and(|text| text.starts_with("HTTP/1.1 200") && text.ends_with(healthy)));
    // Source ranges hold for the load balancer's address, not for node ports.
    assert_eq!(world.outside.ask("192.168.50.1:80").unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn clients_stay_with_their_endpoint_also_over_a_restart() {
    let mut world = World::new();
    let mut spec = cluster_ip("10.96.0.80", "TCP");
    spec["sessionAffinity"] = "ClientIP".into();
    spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 600}});
    world.service("web", spec);
    world.endpoints("web", "TCP", &[2, 3]);
    let pod = "c";
    eventually("answers", || world.pods[pod].ask("10.96.0.80:80").is_ok());
    let first = world.pods[pod].ask("10.96.0.80:80").unwrap().server;
    for _ in 0..30 {
        assert_eq!(world.pods[pod].ask("10.96.0.80:80").unwrap().server, first);
    }
    world.stop();
    assert_eq!(world.pods[pod].ask("10.96.0.80:80").unwrap().server, first);
    // A Service deleted and one made meanwhile: the next start finds both out.
    world.service("other", cluster_ip("10.96.0.81", "TCP"));
    world.endpoints("other", "TCP", &[4]);
    world.start();
    answered_by(&world.pods["a"], "10.96.0.81:80", &["c"]);
    for _ in 0..30 {
        assert_eq!(world.pods[pod].ask("10.96.0.80:80").unwrap().server, first);
    }
    world.stop();
    world.api.delete("services", "default/web");
    world.api.delete("endpointslices", "default/web-1");
    world.start();
    eventually("chains gone", || !world.ruleset().contains("default/web"));
    answered_by(&world.pods["a"], "10.96.0.81:80", &["c"]);
}

#[test]
fn udp_connections_follow_their_endpoints() {
    let world = World::new();
    world.service("dns", cluster_ip("10.96.0.53", "UDP"));
    let client = world.pods["c"].udp("10.96.0.53:80");
    eventually("refused without endpoints", || client.ask().is_err());
    world.endpoints("dns", "UDP", &[2]);
    eventually("first endpoint", || client.ask().is_ok_and(|reply| reply.server == "a"));
    world.endpoints("dns", "UDP", &[3]);
    eventually("moved to b", || client.ask().is_ok_and(|reply| reply.server == "b"));
    world.api.delete("services", "default/dns");
    eventually("no answer", || client.ask().is_err());
}

#[test]
fn services_answer_and_vanish_quickly() {
    let world = World::new();
    world.service("warm", cluster_ip("10.96.0.79", "TCP"));
    world.endpoints("warm", "TCP", &[2]);
    answered_by(&world.pods["c"], "10.96.0.79:80", &["a"]);
    let mut times: Vec<Duration> = Vec::new();
    for n in 0..20 {
        let ip = format!("10.96.1.{n}");
        world.endpoints(&format!("s{n}"), "TCP", &[2]);
        world.service(&format!("s{n}"), cluster_ip(&ip, "TCP"));
        let soon = Duration::from_millis(20);
        times.push(eventually("answer", || world.pods["c"].ask_within(&format!("{ip}:80"), soon).is_ok()));
    }
    times.sort();
    println!("Service create to first answer: median {:?}, most {:?}", times[10], times[19]);
}

#[test]
fn a_thousand_services_are_taken_up_at_once_and_one_more_costs_no_more() {
    const COUNT: usize = 1000;
    let mut world = World::new();
    world.stop();
    let ip = |n: usize| format!("10.97.{}.{}", n / 250, n % 250 + 1);
    for n in 0..COUNT {
        world.service(&format!("s{n}"), cluster_ip(&ip(n), "TCP"));
        world.endpoints(&format!("s{n}"), "TCP", &[2, 3, 4]);
    }
    let soon = Duration::from_millis(20);
    let answers = |world: &World, n: usize| world.answers(&format!("{}:80", ip(n)), soon);
    world.start();
    let all = eventually("the last answers", || answers(&world, COUNT - 1));
    world.service("more", cluster_ip(&ip(COUNT), "TCP"));
    world.endpoints("more", "TCP", &[2]);
    let one = eventually("one more answers", || answers(&world, COUNT));
    world.stop();
    world.start();
    world.service("late", cluster_ip(&ip(COUNT + 1), "TCP"));
    world.endpoints("late", "TCP", &[2]);
    let again = eventually("taken over", || answers(&world, COUNT + 1));
    println!("{COUNT} Services: all {all:?}, one more {one:?}, after a restart {again:?}");
}

#[test]
fn no_request_is_lost_while_endpoints_come_and_go_and_the_proxy_restarts() {
    let mut world = World::new();
    let pods: Vec<u8> = vec![2, 3];
    world.service("web", cluster_ip("10.96.0.80", "TCP"));
    world.endpoints("web", "TCP", &pods);
    answered_by(&world.pods["c"], "10.96.0.80:80", &["a", "b"]);
    let done = AtomicBool::new(false);
    // The client lives in Pod c; the world around it changes.
    let client = world.pods.remove("c").unwrap();
    let count = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                // One lost packet would cost a second.
                client.ask_within("10.96.0.80:80", Duration::from_millis(900)).unwrap();
                count += 1;
            }
            count
        });
        for round in 0..60 {
            world.endpoints("web", "TCP", [&pods[..1], &pods[1..], &pods[..]][round % 3]);
            world.service("other", cluster_ip(&format!("10.96.1.{round}"), "TCP"));
            std::thread::sleep(Duration::from_millis(10));
            if round % 20 == 10 {
                world.stop();
                world.start();
            }
        }
        done.store(true, Ordering::Relaxed);
        asking.join().unwrap()
    });
    println!("{count} requests, none lost");
    assert!(count > 20, "{count}");
}
