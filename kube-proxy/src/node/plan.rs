//! What the node's network should be, and what has to be done to get there; pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node as ApiNode;

use crate::config::Config;
use crate::net::Cidr;

/// A node as its object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    /// InternalIPs, in order.
    pub ips: Vec<IpAddr>,
    pub pod_cidrs: Vec<Cidr>,
}

impl Peer {
    pub fn from_api(name: &str, node: &ApiNode) -> Self {
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let ips = addresses
            .filter(|address| address.type_ == "InternalIP")
            .filter_map(|address| address.address.parse().ok());
        let spec = node.spec.as_ref();
        let mut pod_cidrs: Vec<Cidr> =
            spec.iter().flat_map(|spec| spec.pod_cidrs.iter().flatten()).filter_map(|cidr| cidr.parse().ok()).collect();
        if pod_cidrs.is_empty() {
            pod_cidrs.extend(spec.and_then(|spec| spec.pod_cidr.as_ref()).and_then(|cidr| cidr.parse::<Cidr>().ok()));
        }
        Self { name: name.to_owned(), ips: ips.collect(), pod_cidrs }
    }
}

/// All that the plan depends on besides the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub own: Option<Peer>,
    pub others: Vec<Peer>,
    pub node_ips: Vec<IpAddr>,
    pub pod_networks: Vec<Cidr>,
    pub service_networks: Vec<Cidr>,
}

impl View {
    pub fn new<'a>(config: &Config, peers: impl Iterator<Item = &'a Peer>) -> Self {
        let (own, others): (Vec<&Peer>, Vec<&Peer>) = peers.partition(|peer| peer.name == config.node_name);
        Self {
            own: own.into_iter().next().cloned(),
            others: others.into_iter().cloned().collect(),
            node_ips: config.node_ips.clone(),
            pod_networks: config.pod_cidrs.clone(),
            service_networks: config.service_cidrs.clone(),
        }
    }

    /// The addresses by which other nodes are reached.
    pub fn other_ips(&self) -> impl Iterator<Item = IpAddr> {
        self.others.iter().flat_map(|peer| peer.ips.iter().copied())
    }

    fn own_ip(&self, v4: bool) -> Option<IpAddr> {
        self.node_ips.iter().copied().find(|ip| ip.is_ipv4() == v4)
    }
}

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Address of a node's VXLAN device: derived from the node's own, so that nobody has to be told.
pub fn tunnel_mac(node: IpAddr) -> Mac {
    let octets = nft::octets(node);
    let mut last = [0; 4];
    last.copy_from_slice(&octets[octets.len() - 4..]);
    // Locally administered, unicast.
    [0x02, 0xc0, last[0], last[1], last[2], last[3]]
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// Over the segment both nodes share.
    Via(IpAddr),
    /// Through the tunnel, to the other node's gateway address.
    Tunnel(IpAddr),
    /// To the gateway link, so that this node's own requests to Services have a route even where there is no other;
    /// their destination is rewritten before they leave.
    Gateway { source: Option<IpAddr> },
}

/// What is to be, or what is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Addresses on the gateway link; the link exists if there are any.
    pub gateways: BTreeSet<IpAddr>,
    /// The tunnel's own end, if there is a tunnel.
    pub tunnel: Option<IpAddr>,
    pub routes: BTreeMap<Cidr, Route>,
    /// Gateway address → address of the node's VXLAN device.
    pub neighbours: BTreeMap<IpAddr, Mac>,
    /// Address of a node's VXLAN device → node.
    pub forwarding: BTreeMap<Mac, IpAddr>,
}

/// What the node's network should be. `on_link` are the nodes' addresses that the kernel reaches without a gateway.
pub fn desired(view: &View, on_link: &BTreeSet<IpAddr>) -> State {
    let mut state = State::default();
    let Some(own) = &view.own else { return state };
    for cidr in &own.pod_cidrs {
        state.gateways.insert(cidr.gateway());
    }
    if state.gateways.is_empty() {
        return state;
    }
    for network in &view.service_networks {
        let v4 = network.addr().is_ipv4();
        if own.pod_cidrs.iter().any(|cidr| cidr.addr().is_ipv4() == v4) {
            state.routes.insert(*network, Route::Gateway { source: view.own_ip(v4) });
        }
    }
    for peer in &view.others {
        for cidr in &peer.pod_cidrs {
            peer_route(&mut state, view, peer, *cidr, on_link);
        }
    }
    state
}

fn peer_route(state: &mut State, view: &View, peer: &Peer, cidr: Cidr, on_link: &BTreeSet<IpAddr>) {
    let v4 = cidr.addr().is_ipv4();
    let same = peer.ips.iter().copied().find(|ip| ip.is_ipv4() == v4);
    if let Some(ip) = same.filter(|ip| on_link.contains(ip)) {
        state.routes.insert(cidr, Route::Via(ip));
        return;
    }
    // The tunnel has one outer IP version: that of this node's first address.
    let Some(local) = view.node_ips.first().copied() else { return };
    let Some(ip) = peer.ips.iter().copied().find(|ip| ip.is_ipv4() == local.is_ipv4()) else { return };
    state.tunnel = Some(local);
    state.routes.insert(cidr, Route::Tunnel(cidr.gateway()));
    state.neighbours.insert(cidr.gateway(), tunnel_mac(ip));
    state.forwarding.insert(tunnel_mac(ip), ip);
}

/// One step towards the desired state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    AddGateway(IpAddr),
    DeleteGateway(IpAddr),
    /// The gateway link is no longer needed.
    DeleteGatewayLink,
    MakeTunnel(IpAddr),
    DeleteTunnel,
    SetNeighbour(IpAddr, Mac),
    DeleteNeighbour(IpAddr),
    SetForwarding(Mac, IpAddr),
    DeleteForwarding(Mac, IpAddr),
    SetRoute(Cidr, Route),
    DeleteRoute(Cidr),
}

/// The steps from `observed` to `desired`, in an order in which each can succeed.
pub fn steps(desired: &State, observed: &State) -> Vec<Action> {
    let mut steps = Vec::new();
    let renewed = desired.tunnel != observed.tunnel;
    steps.extend(
        observed.routes.keys().filter(|cidr| !desired.routes.contains_key(cidr)).map(|c| Action::DeleteRoute(*c)),
    );
    steps.extend(desired.gateways.difference(&observed.gateways).map(|ip| Action::AddGateway(*ip)));
    if renewed && observed.tunnel.is_some() {
        steps.push(Action::DeleteTunnel);
    }
    if let (true, Some(local)) = (renewed, desired.tunnel) {
        steps.push(Action::MakeTunnel(local));
    }
    // With its link go a tunnel's entries and routes.
    let nothing = State::default();
    let tunnel = if renewed { &nothing } else { observed };
    for (mac, ip) in &desired.forwarding {
        if tunnel.forwarding.get(mac) != Some(ip) {
            steps.push(Action::SetForwarding(*mac, *ip));
        }
    }
    for (ip, mac) in &desired.neighbours {
        if tunnel.neighbours.get(ip) != Some(mac) {
            steps.push(Action::SetNeighbour(*ip, *mac));
        }
    }
    for (cidr, route) in &desired.routes {
        let lost = renewed && matches!(route, Route::Tunnel(_));
        if lost || observed.routes.get(cidr) != Some(route) {
            steps.push(Action::SetRoute(*cidr, *route));
        }
    }
    let gone = |mac: &Mac| !desired.forwarding.contains_key(mac);
    steps.extend(
        tunnel.forwarding.iter().filter(|(mac, _)| gone(mac)).map(|(mac, ip)| Action::DeleteForwarding(*mac, *ip)),
    );
    let gone = |ip: &IpAddr| !desired.neighbours.contains_key(ip);
    steps.extend(tunnel.neighbours.keys().filter(|ip| gone(ip)).map(|ip| Action::DeleteNeighbour(*ip)));
    if desired.gateways.is_empty() && !observed.gateways.is_empty() {
        steps.push(Action::DeleteGatewayLink);
    } else {
        steps.extend(observed.gateways.difference(&desired.gateways).map(|ip| Action::DeleteGateway(*ip)));
    }
    steps
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn peer(name: &str, ip: &str, cidr: &str) -> Peer {
        Peer { name: name.into(), ips: vec![ip.parse().unwrap()], pod_cidrs: vec![cidr.parse().unwrap()] }
    }

    fn view() -> View {
        let config = Config::new("id", "n1", "10.0.0.1".parse().unwrap());
        let peers = [
            peer("n1", "10.0.0.1", "10.244.0.0/24"),
            peer("n2", "10.0.0.2", "10.244.1.0/24"),
            peer("n3", "10.9.0.3", "10.244.2.0/24"),
        ];
        View::new(&config, peers.iter())
    }

    fn on_link() -> BTreeSet<IpAddr> {
        BTreeSet::from(["10.0.0.2".parse().unwrap()])
    }

    #[test]
    fn neighbours_get_routes_and_others_the_tunnel() {
        let state = desired(&view(), &on_link());
        let routes: Vec<String> = state.routes.iter().map(|(cidr, route)| format!("{cidr} {route:?}")).collect();
        assert_eq!(
            routes,
            [
                "10.96.0.0/12 Gateway { source: Some(10.0.0.1) }",
                "10.244.1.0/24 Via(10.0.0.2)",
                "10.244.2.0/24 Tunnel(10.244.2.1)",
            ]
        );
        let mac = [0x02, 0xc0, 10, 9, 0, 3];
        assert_eq!(state.gateways, BTreeSet::from(["10.244.0.1".parse().unwrap()]));
        assert_eq!(state.tunnel, Some("10.0.0.1".parse().unwrap()));
        assert_eq!(state.neighbours, BTreeMap::from([("10.244.2.1".parse().unwrap(), mac)]));
        assert_eq!(state.forwarding, BTreeMap::from([(mac, "10.9.0.3".parse().unwrap())]));
    }

    #[test]
    fn nothing_before_the_node_has_its_network() {
        let mut view = view();
        view.own = None;
        assert_eq!(desired(&view, &on_link()), State::default());
        view.own = Some(Peer { name: "n1".into(), ips: Vec::new(), pod_cidrs: Vec::new() });
        assert_eq!(desired(&view, &on_link()), State::default());
    }

    #[test]
    fn what_is_there_needs_no_step_and_what_is_gone_is_removed_in_order() {
        let full = desired(&view(), &on_link());
        assert_eq!(steps(&full, &full), []);
        let kinds = |steps: Vec<Action>| -> Vec<String> {
            steps.iter().map(|step| format!("{step:?}").split('(').next().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(
            kinds(steps(&full, &State::default())),
            ["AddGateway", "MakeTunnel", "SetForwarding", "SetNeighbour", "SetRoute", "SetRoute", "SetRoute"]
        );
        assert_eq!(
            kinds(steps(&State::default(), &full)),
            ["DeleteRoute", "DeleteRoute", "DeleteRoute", "DeleteTunnel", "DeleteGatewayLink"]
        );
    }

    #[test]
    fn a_new_address_of_this_node_renews_the_tunnel_with_all_in_it() {
        let old = desired(&view(), &on_link());
        let mut moved = view();
        moved.node_ips = vec!["10.0.0.7".parse().unwrap()];
        let steps = steps(&desired(&moved, &on_link()), &old);
        let mac = [0x02, 0xc0, 10, 9, 0, 3];
        assert!(steps.contains(&Action::DeleteTunnel));
        assert!(steps.contains(&Action::SetForwarding(mac, "10.9.0.3".parse().unwrap())));
        assert!(steps.contains(&Action::SetRoute(
            "10.244.2.0/24".parse().unwrap(),
            Route::Tunnel("10.244.2.1".parse().unwrap())
        )));
        assert!(
            !steps
                .contains(&Action::SetRoute("10.244.1.0/24".parse().unwrap(), Route::Via("10.0.0.2".parse().unwrap())))
        );
    }

    #[test]
    fn a_node_that_comes_to_share_the_segment_leaves_the_tunnel() {
        let old = desired(&view(), &on_link());
        let mut near = on_link();
        near.insert("10.9.0.3".parse().unwrap());
        let steps = steps(&desired(&view(), &near), &old);
        assert_eq!(
            steps,
            [
                Action::DeleteTunnel,
                Action::SetRoute("10.244.2.0/24".parse().unwrap(), Route::Via("10.9.0.3".parse().unwrap())),
            ]
        );
    }
}
