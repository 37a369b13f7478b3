//! Pods of several nodes reach each other: nodes, Pods and the world are network namespaces; the API is in memory.
//! Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use kube_proxy::Config;
use serde_json::json;
use support::api::FakeApi;
use support::net::{Netns, Proxy, block_on, eventually};

/// Node 1 and 2 share a segment, node 3 is behind the router (which also is the world: 203.0.113.1).
struct World {
    router: Netns,
    nodes: Vec<Node>,
    api: FakeApi,
}

struct Node {
    ns: Netns,
    pod: Netns,
    proxy: Proxy,
}

const IPS: [&str; 3] = ["192.168.1.11", "192.168.1.12", "192.168.2.13"];

fn config(n: usize) -> Config {
    Config::new(format!("0badcaf{n}"), format!("node-{n}"), IPS[n].parse().unwrap())
}

impl World {
    fn new() -> Self {
        let router = Netns::new();
        router.sysctl("net/ipv4/ip_forward", "1");
        router.ip("link add br1 type bridge");
        router.ip("link set br1 up");
        router.ip("addr add 192.168.1.1/24 dev br1");
        router.ip("addr add 203.0.113.1/32 dev lo");
        router.serve("world", 8080);
        let api = FakeApi::new();
        let nodes = (0..3).map(|n| Self::node(&router, &api, n)).collect();
        Self { router, nodes, api }
    }

    fn node(router: &Netns, api: &FakeApi, n: usize) -> Node {
        let ns = Netns::new();
        router.link(&format!("node{n}"), &ns, "eth0");
        let net = if n < 2 { 1 } else { 2 };
        if n < 2 {
            router.ip(&format!("link set node{n} master br1"));
        } else {
            router.ip(&format!("addr add 192.168.2.1/24 dev node{n}"));
        }
        ns.ip(&format!("addr add {}/24 dev eth0", IPS[n]));
        ns.ip("route del blackhole default");
        ns.ip(&format!("route add default via 192.168.{net}.1"));
        let pod = Netns::pod(&ns, "pod", &format!("10.244.{n}.2"), &format!("10.244.{n}.1"));
        pod.serve(&format!("pod-{n}"), 8080);
        api.put(
            "nodes",
            json!({"metadata": {"name": format!("node-{n}")},
            "spec": {"podCIDR": format!("10.244.{n}.0/24")},
            "status": {"addresses": [{"type": "InternalIP", "address": IPS[n]}]}}),
        );
        let proxy = Proxy::start(&ns, config(n), api);
        Node { ns, pod, proxy }
    }

    fn routes(&self, n: usize) -> String {
        self.nodes[n].ns.command("ip", "route show proto 203")
    }
}

#[test]
fn pods_reach_pods_of_near_and_far_nodes_and_the_world() {
    let mut world = World::new();
    for (from, ip) in IPS.into_iter().enumerate() {
        for to in 0..3 {
            let pod = &world.nodes[from].pod;
            let target = format!("10.244.{to}.2:8080");
            eventually(&format!("pod {from} reaches pod {to}"), || pod.ask(&target).is_ok());
            let reply = pod.ask(&target).unwrap();
            assert_eq!(reply.server, format!("pod-{to}"));
            assert_eq!(reply.client.to_string(), format!("10.244.{from}.2"), "Pods see Pods as themselves");
            eventually(&format!("node {from} reaches pod {to}"), || world.nodes[from].ns.ask(&target).is_ok());
        }
        let reply = world.nodes[from].pod.ask("203.0.113.1:8080").unwrap();
        assert_eq!(reply.client.to_string(), ip, "the world sees the node");
    }
    assert!(world.routes(0).contains("10.244.1.0/24 via 192.168.1.12 dev eth0"), "{}", world.routes(0));
    assert!(world.routes(0).contains("10.244.2.0/24 via 10.244.2.1 dev cox0badcaf0vx onlink"), "{}", world.routes(0));

    // What somebody else takes away comes back.
    world.nodes[0].ns.ip("route del 10.244.1.0/24");
    eventually("route restored", || world.routes(0).contains("10.244.1.0/24 via 192.168.1.12"));
    world.nodes[0].ns.ip("link del cox0badcaf0vx");
    eventually("tunnel restored", || world.nodes[0].pod.ask("10.244.2.2:8080").is_ok());

    world.nodes[0].ns.ip("link set eth0 down");
    assert!(!world.routes(0).contains("10.244.1.0/24"));
    world.nodes[0].ns.ip("link set eth0 up");
    eventually("route restored", || world.routes(0).contains("10.244.1.0/24 via 192.168.1.12"));
    world.nodes[0].ns.ip("route add default via 192.168.1.1");
    eventually("tunnel works", || world.nodes[0].pod.ask("10.244.2.2:8080").is_ok());

    // Without the process the network stays; a node that leaves is forgotten.
    world.nodes[0].proxy.stop();
    assert!(world.nodes[0].pod.ask("10.244.1.2:8080").is_ok());
    world.nodes[0].proxy = Proxy::start(&world.nodes[0].ns, config(0), &world.api);
    world.api.delete("nodes", "/node-2");
    eventually("route gone", || !world.routes(0).contains("10.244.2.0/24"));
    let links = || world.nodes[0].ns.command("ip", "link");
    eventually("tunnel gone", || !links().contains("cox0badcaf0vx"));
    assert!(world.nodes[0].pod.ask("10.244.1.2:8080").is_ok());
}

#[test]
fn cleanup_removes_what_the_cluster_made_and_nothing_else_also_twice() {
    let mut world = World::new();
    let node = &mut world.nodes[0];
    node.ns.ip("route add 172.30.0.0/24 via 192.168.1.1 proto static");
    node.ns.command("nft", "add table ip other");
    eventually("network made", || node.pod.ask("10.244.2.2:8080").is_ok());
    node.proxy.stop();
    for _ in 0..2 {
        node.ns.run(|| block_on(kube_proxy::cleanup("0badcaf0")).unwrap());
        let links = node.ns.command("ip", "link");
        assert!(!links.contains("cox0badcaf0"), "{links}");
        let routes = node.ns.command("ip", "route");
        assert!(!routes.contains("proto 203"), "{routes}");
        assert!(routes.contains("172.30.0.0/24 via 192.168.1.1 dev eth0 proto static"), "{routes}");
        assert_eq!(node.ns.command("nft", "list ruleset").trim(), "table ip other {\n}");
    }
    assert!(world.router.command("ip", "link").contains("br1"));
}
