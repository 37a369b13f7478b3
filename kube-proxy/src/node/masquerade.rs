//! Pods reach the world under their node's address: an nf_tables table of its own, replaced as a whole when nodes come
//! and go.

use std::net::IpAddr;

use anyhow::Context;
use nft::{Batch, Chain, ChainType, Connection, Family, Hook, Ip, Policy, Rule, Side, Table, priority};

use super::plan::View;
use crate::config::Config;
use crate::plan::endpoints::is_version;

/// Number of the forward hook.
const FORWARD: u32 = 2;

/// The table, as last applied by this process.
pub struct Masquerade {
    table: Table,
    applied: Option<Vec<Rule>>,
}

impl Masquerade {
    pub fn new(config: &Config) -> Self {
        Self { table: Table::new(Family::Inet, config.table_name()), applied: None }
    }

    /// Brings the table up to date.
    pub async fn apply(&mut self, view: &View) -> anyhow::Result<()> {
        let rules = rules(view);
        if self.applied.as_ref() == Some(&rules) {
            return Ok(());
        }
        self.applied = None;
        let mut batch = Batch::new(&self.table);
        // Adding first makes the deletion succeed whether or not the table exists.
        batch.add_table();
        batch.delete_table();
        batch.add_table();
        let chain = Chain::base("pods-to-world", ChainType::Nat, Hook::Postrouting, priority::SRCNAT);
        batch.write_chain(&chain, &rules);
        tokio::task::spawn_blocking(move || Connection::open()?.apply(batch))
            .await
            .context("apply masquerading")?
            .context("apply masquerading")?;
        self.applied = Some(rules);
        Ok(())
    }
}

/// Pods keep their address towards Pods and nodes.
fn rules(view: &View) -> Vec<Rule> {
    [Ip::V4, Ip::V6]
        .into_iter()
        .filter_map(|ip| {
            let pods: Vec<(IpAddr, u8)> = view
                .pod_networks
                .iter()
                .filter(|cidr| is_version(cidr.addr(), ip))
                .map(|cidr| (cidr.addr(), cidr.prefix()))
                .collect();
            if pods.is_empty() {
                return None;
            }
            let whole = if ip == Ip::V4 { 32 } else { 128 };
            let nodes = view.node_ips.iter().copied().chain(view.other_ips()).filter(|addr| is_version(*addr, ip));
            let mut near: Vec<(IpAddr, u8)> = pods.iter().copied().chain(nodes.map(|addr| (addr, whole))).collect();
            near.sort_unstable();
            let rule = Rule::new().nfproto(ip).addr_in(Side::Source, ip, &pods, false);
            Some(rule.addr_in(Side::Destination, ip, &near, true).masquerade())
        })
        .collect()
}

/// No rule of ours can let through what another table drops: says which tables would drop Pods' traffic.
pub async fn warn_of_dropping_policies(own_table: String) {
    let chains = tokio::task::spawn_blocking(|| Connection::open()?.chains(None)).await;
    let Ok(Ok(chains)) = chains else { return };
    for chain in chains.into_iter().filter(|chain| chain.table != own_table) {
        if let Some((FORWARD, _, _, Policy::Drop)) = chain.hook {
            tracing::warn!(table = %chain.table, chain = %chain.name,
                "this firewall drops forwarded packets: Pods reach others only where its rules accept the Pod network");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::node::plan::Peer;

    #[test]
    fn one_rule_for_each_ip_version_of_the_pod_network() {
        let config = Config::new("id", "n1", "10.0.0.1".parse().unwrap());
        let peer = Peer { name: "n2".into(), ips: vec!["10.0.0.2".parse().unwrap()], pod_cidrs: Vec::new() };
        let mut view = View::new(&config, [peer].iter());
        assert_eq!(rules(&view).len(), 1);
        view.pod_networks.push("fd00::/48".parse().unwrap());
        assert_eq!(rules(&view).len(), 2);
    }
}
