//! The ruleset of one Service.

use std::net::{IpAddr, SocketAddr};

use nft::{Element, Ip, Rule, Set, Side, Verdict, concat, octets};

use super::base::{MASQUERADE_MARK, REJECT, from_this_machine};
use super::endpoints::{self, Usable, is_version};
use super::names::PortName;
use super::{Frontend, Node, Plan, Shared};
use crate::model::{Name, Port, Protocol, Service, Slice};

/// The part of the ruleset that the Service has for one IP version.
pub fn plan(name: &Name, service: &Service, slices: &[&Slice], node: &Node, ip: Ip) -> Plan {
    let mut plan = Plan::default();
    let Some(cluster_ip) = service.cluster_ips.iter().copied().find(|addr| is_version(*addr, ip)) else {
        return plan;
    };
    plan.elements.push((Shared::ClusterIps, Element::key(octets(cluster_ip))));
    for port in &service.ports {
        let all = endpoints::of_port(slices, port, node, ip);
        let names = PortName { service: name, port };
        let usable = endpoints::usable(&all, service, port, node);
        let serving = all.iter().filter(|endpoint| endpoint.serving).map(|endpoint| endpoint.to).collect();
        PortPlan { service, port, names, usable, node, ip, cluster_ip, plan: &mut plan }.write(serving);
    }
    plan
}

struct PortPlan<'a> {
    service: &'a Service,
    port: &'a Port,
    names: PortName<'a>,
    usable: Usable,
    node: &'a Node,
    ip: Ip,
    cluster_ip: IpAddr,
    plan: &'a mut Plan,
}

impl PortPlan<'_> {
    fn write(mut self, serving: std::collections::BTreeSet<SocketAddr>) {
        let external: Vec<IpAddr> = self.of_version(&self.service.external_ips);
        let balanced: Vec<IpAddr> = self.of_version(&self.service.load_balancer_ips);
        self.internal();
        self.external(&external, &balanced);
        self.firewall(&balanced);
        self.endpoint_chains();
        self.hairpin();
        if self.port.protocol == Protocol::Udp {
            let addresses = std::iter::once(self.cluster_ip).chain(external).chain(balanced);
            let addresses = addresses.map(|addr| Frontend::Address(SocketAddr::new(addr, self.port.port)));
            let frontends = addresses.chain(self.port.node_port.map(Frontend::NodePort));
            self.plan.udp.extend(frontends.map(|frontend| (frontend, serving.clone())));
        }
    }

    fn of_version(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        addresses.iter().copied().filter(|addr| is_version(*addr, self.ip)).collect()
    }

    fn key(&self, addr: IpAddr) -> Vec<u8> {
        concat(&[&octets(addr), &[self.port.protocol.number()], &self.port.port.to_be_bytes()])
    }

    fn element(&mut self, shared: Shared, key: Vec<u8>, verdict: Verdict) {
        self.plan.elements.push((shared, Element::verdict(key, verdict)));
    }

    /// What becomes of traffic that has nowhere to go: refused if the Service has no endpoint at all, dropped if only
    /// the traffic policy leaves none here (somebody else may answer).
    fn nowhere(&self) -> Verdict {
        if self.usable.any { Verdict::Drop } else { Verdict::Goto(REJECT.into()) }
    }

    /// Traffic to the cluster IP.
    fn internal(&mut self) {
        let (chain, available) = match self.service.internal_local {
            true => (self.names.local(), !self.usable.local.is_empty()),
            false => (self.names.cluster(), self.usable.any),
        };
        let key = self.key(self.cluster_ip);
        match available {
            true => self.element(Shared::ServiceIps, key, Verdict::Goto(chain)),
            false => self.element(Shared::NoEndpointServices, key, self.nowhere()),
        }
    }

    /// Traffic to external IPs, load balancer addresses and the node port.
    fn external(&mut self, external: &[IpAddr], balanced: &[IpAddr]) {
        if external.is_empty() && balanced.is_empty() && self.port.node_port.is_none() {
            return;
        }
        let available = match self.service.external_local {
            true => !self.usable.local.is_empty(),
            false => self.usable.any,
        };
        let chain = Verdict::Goto(self.names.external());
        let node_port = self.port.node_port.map(|port| concat(&[&[self.port.protocol.number()], &port.to_be_bytes()]));
        let keys: Vec<Vec<u8>> = external.iter().chain(balanced).map(|addr| self.key(*addr)).collect();
        // Even without endpoints for outside traffic the chain exists: it lets this node's own traffic through.
        if self.usable.any {
            keys.iter().for_each(|key| self.element(Shared::ServiceIps, key.clone(), chain.clone()));
            node_port.iter().for_each(|key| self.element(Shared::NodePorts, key.clone(), chain.clone()));
            let rules = self.external_rules(available);
            self.plan.chains.insert(self.names.external(), rules);
        }
        if !available {
            let verdict = self.nowhere();
            keys.into_iter().for_each(|key| self.element(Shared::NoEndpointServices, key, verdict.clone()));
            node_port.into_iter().for_each(|key| self.element(Shared::NoEndpointNodePorts, key, verdict.clone()));
        }
    }

    fn external_rules(&self, available: bool) -> Vec<Rule> {
        let mut rules = Vec::new();
        if !self.service.external_local {
            // The endpoint may be on another node: its answer has to come back this way.
            rules.push(Rule::new().mark_or(MASQUERADE_MARK));
        } else if !self.usable.cluster.is_empty() {
            let pods: Vec<_> = self
                .node
                .pod_cidrs
                .iter()
                .filter(|cidr| is_version(cidr.addr(), self.ip))
                .map(|cidr| (cidr.addr(), cidr.prefix()))
                .collect();
            if !pods.is_empty() {
                let own = Rule::new().addr_in(Side::Source, self.ip, &pods, false);
                rules.push(own.goto(self.names.cluster()).comment("Pods reach every endpoint"));
            }
            rules.push(from_this_machine().mark_or(MASQUERADE_MARK));
            rules.push(from_this_machine().goto(self.names.cluster()).comment("this node reaches every endpoint"));
        }
        if available {
            let chain = if self.service.external_local { self.names.local() } else { self.names.cluster() };
            rules.push(Rule::new().goto(chain));
        }
        rules
    }

    /// Traffic to load balancer addresses from sources that are not allowed.
    fn firewall(&mut self, balanced: &[IpAddr]) {
        let ranges = self.service.source_ranges.iter().filter(|range| is_version(range.addr(), self.ip));
        let mut allowed: Vec<(IpAddr, u8)> = ranges.map(|range| (range.addr(), range.prefix())).collect();
        if allowed.is_empty() || balanced.is_empty() {
            return;
        }
        // This node's own requests to a load balancer address that it holds come from that address.
        let node_allowed =
            self.node.ips.iter().any(|addr| self.service.source_ranges.iter().any(|r| r.contains(*addr)));
        if node_allowed {
            let whole = if self.ip == Ip::V4 { 32 } else { 128 };
            allowed.extend(balanced.iter().map(|addr| (*addr, whole)));
        }
        let rule = Rule::new().addr_in(Side::Source, self.ip, &allowed, true).drop();
        self.plan.chains.insert(self.names.firewall(), vec![rule]);
        let chain = Verdict::Goto(self.names.firewall());
        for addr in balanced {
            self.element(Shared::FirewallIps, self.key(*addr), chain.clone());
        }
    }

    /// Chains that choose an endpoint.
    fn endpoint_chains(&mut self) {
        let lists = [
            (self.names.cluster(), std::mem::take(&mut self.usable.cluster)),
            (self.names.local(), std::mem::take(&mut self.usable.local)),
        ];
        for (chain, endpoints) in lists {
            if endpoints.is_empty() {
                continue;
            }
            let rules = match self.service.affinity_seconds {
                None => {
                    let targets: Vec<_> = endpoints.iter().map(|to| (to.ip(), to.port())).collect();
                    vec![Rule::new().l4proto(self.port.protocol.number()).random_dnat(self.ip, &targets)]
                }
                Some(seconds) => self.sticky(&endpoints, seconds),
            };
            self.plan.chains.insert(chain, rules);
        }
    }

    /// Sends known clients to their endpoint and others to a random one, which then remembers them.
    fn sticky(&mut self, endpoints: &[SocketAddr], seconds: u32) -> Vec<Rule> {
        let from = [nft::Part::Addr(Side::Source, self.ip)];
        let mut rules = Vec::with_capacity(endpoints.len() + 1);
        for to in endpoints {
            let set = self.names.affinity(*to, seconds);
            let chain = self.names.endpoint(*to);
            rules.push(Rule::new().in_set(&from, set.clone()).goto(chain.clone()));
            if self.plan.chains.contains_key(&chain) {
                continue;
            }
            let remember = Rule::new().update_saddr(self.ip, set.clone());
            let rewrite = Rule::new().l4proto(self.port.protocol.number()).dnat(to.ip(), to.port());
            self.plan.chains.insert(chain, vec![remember, rewrite]);
            self.plan.affinity_sets.push(Set::dynamic(set, &[self.ip.field()], u64::from(seconds) * 1000));
        }
        let chains = endpoints.iter().map(|to| Verdict::Goto(self.names.endpoint(*to)));
        rules.push(Rule::new().random_verdict(chains.collect()));
        rules
    }

    /// An endpoint of this node that reaches itself through the Service must see another source than itself.
    fn hairpin(&mut self) {
        for to in &self.usable.here {
            let addr = octets(to.ip());
            let key = concat(&[&addr, &addr, &[self.port.protocol.number()], &to.port().to_be_bytes()]);
            self.plan.elements.push((Shared::HairpinConnections, Element::key(key)));
        }
    }
}
