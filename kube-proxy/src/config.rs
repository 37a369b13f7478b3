//! What the proxy must be told.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::net::Cidr;

/// How one node's proxy runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Short id of the cluster: everything made in the kernel carries it.
    pub cluster_id: String,
    /// Name of the Node object of this machine.
    pub node_name: String,
    /// Addresses of this machine on which node ports answer; the first is the Node's InternalIP.
    pub node_ips: Vec<IpAddr>,
    /// Networks that all nodes' Pods live in, at most one of each IP version.
    pub pod_cidrs: Vec<Cidr>,
    /// Networks that cluster IPs come from, at most one of each IP version.
    pub service_cidrs: Vec<Cidr>,
    /// Least time between two changes of the ruleset; the first after a pause is applied at once.
    pub min_sync_gap: Duration,
    /// Whether routes, links and sysctls of the Pod network are this proxy's business; off beside another network
    /// plugin.
    pub manage_node_network: bool,
}

impl Config {
    /// The cluster's usual networks: Pods 10.244.0.0/16, Services 10.96.0.0/12.
    pub fn new(cluster_id: impl Into<String>, node_name: impl Into<String>, node_ip: IpAddr) -> Self {
        Self {
            cluster_id: cluster_id.into(),
            node_name: node_name.into(),
            node_ips: vec![node_ip],
            pod_cidrs: vec![Cidr::new(IpAddr::V4(Ipv4Addr::new(10, 244, 0, 0)), 16)],
            service_cidrs: vec![Cidr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 0)), 12)],
            min_sync_gap: Duration::from_millis(5),
            manage_node_network: true,
        }
    }

    /// Name of the cluster's nf_tables tables.
    pub fn table_name(&self) -> String {
        table_name(&self.cluster_id)
    }
}

/// Name of the nf_tables tables of a cluster.
pub fn table_name(cluster_id: &str) -> String {
    format!("cox-{cluster_id}")
}
