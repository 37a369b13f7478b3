//! What the kernel makes of our transactions, seen through the `nft` program, each test in a network namespace of its
//! own. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::IpAddr;
use std::process::Command;

use nft::expr::{CtKey, FibAddr, Reject, ct_status};
use nft::{
    Batch, Chain, ChainType, Connection, Element, Error, Family, Field, Hook, Ip, Part, Rule, Set, Side, Table,
    Verdict, concat, priority,
};

const SERVICE_KEY: [Field; 3] = [Field::Ipv4Addr, Field::InetProto, Field::InetService];

/// Moves the calling thread into a new network namespace; programs it starts are in there too.
fn own_namespace() -> Connection {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("unshare: needs root");
    Connection::open().unwrap()
}

fn listing() -> String {
    let output = Command::new("nft").args(["-n", "list", "ruleset"]).output().expect("nft is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn assert_lists(listing: &str, lines: &[&str]) {
    for line in lines {
        assert!(listing.lines().any(|found| found.trim() == *line), "no line {line:?} in\n{listing}");
    }
}

fn service_key(ip: [u8; 4], proto: u8, port: u16) -> Vec<u8> {
    concat(&[&ip, &[proto], &port.to_be_bytes()])
}

const DESTINATION: [Part; 3] = [Part::Addr(Side::Destination, Ip::V4), Part::L4proto, Part::DestinationPort];

#[test]
fn rules_read_as_nft_writes_them() {
    let mut conn = own_namespace();
    let table = Table::new(Family::Ip, "cox-test");
    let mut batch = Batch::new(&table);
    batch.add_table();
    batch.add_set(&Set::verdict_map("service-ips", &SERVICE_KEY));
    batch.add_set(&Set::of("cluster-ips", &[Field::Ipv4Addr]));
    batch.add_set(&Set::dynamic("affinity-a", &[Field::Ipv4Addr], 10_800_000));
    batch.write_chain(&Chain::base("nat-pre", ChainType::Nat, Hook::Prerouting, priority::DSTNAT), &[]);
    batch.write_chain(&Chain::base("nat-post", ChainType::Nat, Hook::Postrouting, priority::SRCNAT), &[]);
    batch.write_chain(&Chain::base("filter", ChainType::Filter, Hook::Forward, priority::FILTER - 10), &[]);
    let targets: Vec<(IpAddr, u16)> =
        vec![("10.244.0.2".parse().unwrap(), 8080), ("10.244.1.3".parse().unwrap(), 8081)];
    for (name, rule) in [
        ("svc", Rule::new().l4proto(6).random_dnat(Ip::V4, &targets)),
        ("one", Rule::new().l4proto(17).random_dnat(Ip::V4, &targets[..1])),
        ("end", Rule::new().update_saddr(Ip::V4, "affinity-a").accept()),
    ] {
        batch.write_chain(&Chain::regular(name), &[rule]);
    }
    for rule in [
        Rule::new().vmap(&DESTINATION, "service-ips"),
        Rule::new().fib_local(FibAddr::Destination).mark_or(0x4000).comment("masquerade"),
        Rule::new().random_verdict(vec![Verdict::Goto("svc".into()), Verdict::Goto("one".into())]),
        Rule::new().in_set(&[Part::Addr(Side::Source, Ip::V4)], "affinity-a").goto("end"),
    ] {
        batch.add_rule("nat-pre", &rule);
    }
    batch.add_rule("nat-post", &Rule::new().mark_has(0x4000).mark_xor(0x4000).masquerade());
    for rule in [
        Rule::new().ct_new().in_set(&[Part::Addr(Side::Destination, Ip::V4)], "cluster-ips").reject(Reject::TcpReset),
        Rule::new().ct_bits(CtKey::Status, ct_status::DNAT).reject(Reject::PortUnreachable),
        Rule::new()
            .addr_in(
                Side::Source,
                Ip::V4,
                &[("10.1.0.0".parse().unwrap(), 16), ("10.1.2.0".parse().unwrap(), 24)],
                true,
            )
            .drop(),
        Rule::new().counter().oifname(nft::expr::Cmp::Neq, "eth0").dport(53).accept(),
    ] {
        batch.add_rule("filter", &rule);
    }
    batch.add_elements(
        "service-ips",
        &[Element::verdict(service_key([10, 96, 0, 1], 6, 443), Verdict::Goto("svc".into()))],
    );
    batch.add_elements("cluster-ips", &[Element::key([10, 96, 0, 1])]);
    conn.apply(batch).unwrap();

    assert_lists(
        &listing(),
        &[
            "table ip cox-test {",
            "type ipv4_addr . inet_proto . inet_service : verdict",
            "elements = { 10.96.0.1 . 6 . 443 : goto svc }",
            "elements = { 10.96.0.1 }",
            "flags dynamic,timeout",
            "timeout 10800s",
            "type nat hook prerouting priority -100; policy accept;",
            "ip daddr . meta l4proto . th dport vmap @service-ips",
            "fib daddr type 2 meta mark set meta mark | 0x00004000 comment \"masquerade\"",
            "numgen random mod 2 vmap { 0 : goto svc, 1 : goto one }",
            "ip saddr @affinity-a goto end",
            "type nat hook postrouting priority 100; policy accept;",
            "meta mark & 0x00004000 != 0x00000000 meta mark set meta mark ^ 0x00004000 masquerade fully-random",
            "type filter hook forward priority -10; policy accept;",
            "ct state 0x8 ip daddr @cluster-ips reject with tcp reset",
            "ct status 0x20 reject",
            "ip saddr != { 10.1.0.0/16 } drop",
            "counter packets 0 bytes 0 oifname != \"eth0\" th dport 53 accept",
            "meta l4proto 6 dnat ip to numgen random mod 2 map { 0 : 10.244.0.2 . 8080, 1 : 10.244.1.3 . 8081 }",
            "meta l4proto 17 dnat to 10.244.0.2:8080",
            "update @affinity-a { ip saddr } accept",
        ],
    );
}

#[test]
fn ipv6_keys_and_targets() {
    let mut conn = own_namespace();
    let table = Table::new(Family::Ip6, "cox-test");
    let mut batch = Batch::new(&table);
    batch.add_table();
    batch.add_set(&Set::verdict_map("m", &[Field::Ipv6Addr, Field::InetProto, Field::InetService]));
    let targets: Vec<(IpAddr, u16)> = vec![("fd00::2".parse().unwrap(), 80), ("fd00::3".parse().unwrap(), 80)];
    batch.write_chain(
        &Chain::base("pre", ChainType::Nat, Hook::Prerouting, priority::DSTNAT),
        &[
            Rule::new().vmap(&[Part::Addr(Side::Destination, Ip::V6), Part::L4proto, Part::DestinationPort], "m"),
            Rule::new().l4proto(6).random_dnat(Ip::V6, &targets),
            Rule::new().l4proto(17).random_dnat(Ip::V6, &targets[1..]),
        ],
    );
    let address = "fd00:96::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    batch.add_elements("m", &[Element::verdict(concat(&[&address, &[6], &443u16.to_be_bytes()]), Verdict::Drop)]);
    conn.apply(batch).unwrap();
    assert_lists(
        &listing(),
        &[
            "elements = { fd00:96::1 . 6 . 443 : drop }",
            "ip6 daddr . meta l4proto . th dport vmap @m",
            "meta l4proto 6 dnat ip6 to numgen random mod 2 map { 0 : fd00::2 . 80, 1 : fd00::3 . 80 }",
            "meta l4proto 17 dnat to [fd00::3]:80",
        ],
    );
}

#[test]
fn many_elements_go_in_and_come_back() {
    let mut conn = own_namespace();
    let table = Table::new(Family::Ip, "cox-test");
    let mut batch = Batch::new(&table);
    batch.add_table();
    batch.add_set(&Set::verdict_map("m", &SERVICE_KEY));
    batch.add_chain(&Chain::regular("target"));
    let elements: Vec<Element> = (0..20_000u32)
        .map(|n| {
            let ip = (0x0a60_0000 + n).to_be_bytes();
            let verdict = if n % 2 == 0 { Verdict::Goto("target".into()) } else { Verdict::Drop };
            Element::verdict(service_key(ip, 6, 80), verdict)
        })
        .collect();
    batch.add_elements("m", &elements);
    assert!(batch.len() > 20, "split into several messages");
    conn.apply(batch).unwrap();

    let mut found = conn.elements(&table, "m").unwrap();
    found.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(found, elements);

    let mut batch = Batch::new(&table);
    batch.delete_elements("m", &elements[1..]);
    conn.apply(batch).unwrap();
    assert_eq!(conn.elements(&table, "m").unwrap(), &elements[..1]);
    let sets: Vec<String> = conn.sets(&table).unwrap().into_iter().map(|set| set.name).collect();
    assert_eq!(sets, ["m"]);
}

#[test]
fn refused_transactions_change_nothing_and_say_why() {
    let mut conn = own_namespace();
    let table = Table::new(Family::Ip, "cox-test");
    let mut batch = Batch::new(&table);
    batch.add_table();
    batch.add_chain(&Chain::regular("a"));
    batch.add_rule("a", &Rule::new().jump("missing"));
    let error = conn.apply(batch).unwrap_err();
    assert!(matches!(&error, Error::Refused { .. }), "{error}");
    assert_eq!(error.errno(), Some(libc::ENOENT));
    assert!(error.to_string().contains("add rule to chain a of ip cox-test"), "{error}");
    assert!(!conn.has_table(&table).unwrap());
    assert!(!conn.delete_table(&table).unwrap());
}

#[test]
fn chains_read_back_with_their_hooks_and_the_table_goes() {
    let mut conn = own_namespace();
    let table = Table::new(Family::Inet, "cox-test");
    let mut batch = Batch::new(&table);
    batch.add_table();
    batch.add_chain(&Chain::base("post", ChainType::Nat, Hook::Postrouting, priority::SRCNAT));
    batch.add_chain(&Chain::regular("plain"));
    conn.apply(batch).unwrap();
    let chains = conn.chains(Some(&table)).unwrap();
    assert_eq!(chains.len(), 2);
    let post = chains.iter().find(|chain| chain.name == "post").unwrap();
    assert_eq!(post.hook, Some((4, 100, "nat".into(), nft::Policy::Accept)));
    assert!(conn.delete_table(&table).unwrap());
    assert!(!conn.has_table(&table).unwrap());
}
