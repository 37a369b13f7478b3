//! The part of the ruleset that is the same whatever Services there are: base chains, shared sets, dispatch.

use nft::expr::{CtKey, FibAddr, Reject, ct_status};
use nft::{Chain, ChainType, Element, Field, Hook, Ip, Part, Rule, Set, Side, octets, priority};

use super::Shared;
use super::endpoints::is_version;
use crate::config::Config;
use crate::net::Cidr;

/// Bit of the packet mark that asks for masquerading; upstream's default.
pub const MASQUERADE_MARK: u32 = 0x4000;
/// The source ranges of load balancers are checked before addresses are rewritten.
const BEFORE_DNAT: i32 = priority::DSTNAT - 10;
/// Addresses of this node that node ports answer on.
pub const NODE_PORT_IPS: &str = "nodeport-ips";
/// Chain that tells senders that nobody answers.
pub const REJECT: &str = "reject";

impl Shared {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ClusterIps,
        Self::ServiceIps,
        Self::NodePorts,
        Self::NoEndpointServices,
        Self::NoEndpointNodePorts,
        Self::FirewallIps,
        Self::HairpinConnections,
    ];

    /// Name of the set or map.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterIps => "cluster-ips",
            Self::ServiceIps => "service-ips",
            Self::NodePorts => "service-nodeports",
            Self::NoEndpointServices => "no-endpoint-services",
            Self::NoEndpointNodePorts => "no-endpoint-nodeports",
            Self::FirewallIps => "firewall-ips",
            Self::HairpinConnections => "hairpin-connections",
        }
    }

    /// Its type.
    pub fn set(self, ip: Ip) -> Set {
        let addr = ip.field();
        let name = self.name();
        match self {
            Self::ClusterIps => Set::of(name, &[addr]),
            Self::HairpinConnections => Set::of(name, &[addr, addr, Field::InetProto, Field::InetService]),
            Self::NodePorts | Self::NoEndpointNodePorts => {
                Set::verdict_map(name, &[Field::InetProto, Field::InetService])
            }
            Self::ServiceIps | Self::NoEndpointServices | Self::FirewallIps => {
                Set::verdict_map(name, &[addr, Field::InetProto, Field::InetService])
            }
        }
    }
}

/// A chain and its rules.
pub type Written = (Chain, Vec<Rule>);

/// What is there before any Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    pub sets: Vec<Set>,
    /// Regular chains before the base chains that jump to them.
    pub chains: Vec<Written>,
    pub node_port_ips: Vec<Element>,
}

/// The static ruleset of one IP version.
pub fn base(config: &Config, ip: Ip) -> Base {
    let of_version = |cidrs: &[Cidr]| -> Vec<_> {
        cidrs.iter().filter(|cidr| is_version(cidr.addr(), ip)).map(|cidr| (cidr.addr(), cidr.prefix())).collect()
    };
    let mut sets: Vec<Set> = Shared::ALL.iter().map(|shared| shared.set(ip)).collect();
    sets.push(Set::of(NODE_PORT_IPS, &[ip.field()]));
    let mut chains = dispatch(ip, &of_version(&config.pod_cidrs));
    chains.extend(checks(ip, &of_version(&config.service_cidrs)));
    chains.extend(hooks());
    let node_ips = config.node_ips.iter().filter(|addr| is_version(**addr, ip) && !addr.is_loopback());
    Base { sets, chains, node_port_ips: node_ips.map(|addr| Element::key(octets(*addr))).collect() }
}

fn destination(ip: Ip) -> [Part; 3] {
    [Part::Addr(Side::Destination, ip), Part::L4proto, Part::DestinationPort]
}

const PORT: [Part; 2] = [Part::L4proto, Part::DestinationPort];

/// Chains that rewrite addresses.
fn dispatch(ip: Ip, pods: &[(std::net::IpAddr, u8)]) -> Vec<Written> {
    let to = [Part::Addr(Side::Destination, ip)];
    let mut services = Vec::new();
    if !pods.is_empty() {
        let outside = Rule::new().in_set(&to, Shared::ClusterIps.name()).addr_in(Side::Source, ip, pods, true);
        services.push(outside.mark_or(MASQUERADE_MARK).comment("clients outside the Pod network"));
    }
    services.push(Rule::new().vmap(&destination(ip), Shared::ServiceIps.name()));
    services.push(Rule::new().in_set(&to, NODE_PORT_IPS).vmap(&PORT, Shared::NodePorts.name()));
    let hairpin =
        [Part::Addr(Side::Source, ip), Part::Addr(Side::Destination, ip), Part::L4proto, Part::DestinationPort];
    let masquerading = vec![
        Rule::new().mark_has(MASQUERADE_MARK).mark_xor(MASQUERADE_MARK).masquerade(),
        Rule::new()
            .ct_bits(CtKey::Status, ct_status::DNAT)
            .in_set(&hairpin, Shared::HairpinConnections.name())
            .masquerade()
            .comment("endpoints that reach themselves"),
    ];
    vec![(Chain::regular("services"), services), (Chain::regular("masquerading"), masquerading)]
}

/// Chains that reject or drop.
fn checks(ip: Ip, services: &[(std::net::IpAddr, u8)]) -> Vec<Written> {
    let to = [Part::Addr(Side::Destination, ip)];
    let mut cluster_ips = vec![
        Rule::new().in_set(&to, Shared::ClusterIps.name()).goto(REJECT).comment("ports that the Service does not have"),
    ];
    if !services.is_empty() {
        let unused = Rule::new().addr_in(Side::Destination, ip, services, false);
        cluster_ips.push(unused.drop().comment("cluster IPs that nobody has"));
    }
    vec![
        (
            Chain::regular(REJECT),
            vec![Rule::new().l4proto(6).reject(Reject::TcpReset), Rule::new().reject(Reject::PortUnreachable)],
        ),
        (
            Chain::regular("service-endpoints-check"),
            vec![Rule::new().vmap(&destination(ip), Shared::NoEndpointServices.name())],
        ),
        (
            Chain::regular("nodeport-endpoints-check"),
            vec![Rule::new().in_set(&to, NODE_PORT_IPS).vmap(&PORT, Shared::NoEndpointNodePorts.name())],
        ),
        (Chain::regular("cluster-ips-check"), cluster_ips),
        (Chain::regular("firewall-check"), vec![Rule::new().vmap(&destination(ip), Shared::FirewallIps.name())]),
    ]
}

/// Base chains: (name, type, hook, priority, chains that new connections jump to, chains that all packets jump to).
type HookRow = (&'static str, ChainType, Hook, i32, &'static [&'static str], &'static [&'static str]);

const HOOKS: [HookRow; 8] = [
    ("filter-prerouting-pre-dnat", ChainType::Filter, Hook::Prerouting, BEFORE_DNAT, &["firewall-check"], &[]),
    ("filter-output-pre-dnat", ChainType::Filter, Hook::Output, BEFORE_DNAT, &["firewall-check"], &[]),
    (
        "filter-input",
        ChainType::Filter,
        Hook::Input,
        priority::FILTER,
        &["nodeport-endpoints-check", "service-endpoints-check"],
        &[],
    ),
    (
        "filter-forward",
        ChainType::Filter,
        Hook::Forward,
        priority::FILTER,
        &["service-endpoints-check", "cluster-ips-check"],
        &[],
    ),
    (
        "filter-output",
        ChainType::Filter,
        Hook::Output,
        priority::FILTER,
        &["service-endpoints-check", "cluster-ips-check"],
        &[],
    ),
    ("nat-prerouting", ChainType::Nat, Hook::Prerouting, priority::DSTNAT, &[], &["services"]),
    ("nat-output", ChainType::Nat, Hook::Output, priority::DSTNAT, &[], &["services"]),
    ("nat-postrouting", ChainType::Nat, Hook::Postrouting, priority::SRCNAT, &[], &["masquerading"]),
];

fn hooks() -> Vec<Written> {
    HOOKS
        .iter()
        .map(|(name, kind, hook, priority, of_new, of_all)| {
            let new = of_new.iter().map(|chain| Rule::new().ct_new().jump(*chain));
            let all = of_all.iter().map(|chain| Rule::new().jump(*chain));
            (Chain::base(*name, *kind, *hook, *priority), new.chain(all).collect())
        })
        .collect()
}

/// Rules that treat traffic of this machine's own processes.
pub fn from_this_machine() -> Rule {
    Rule::new().fib_local(FibAddr::Source)
}
