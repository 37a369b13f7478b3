//! The node's part of the Pod network: a gateway address for its Pods, routes to other nodes' Pods, masquerading
//! towards the world.
//!
//! Other nodes that share a segment are reached by plain routes, others through one VXLAN device. Everything made here
//! is recognisable (links named after the cluster, routes of an own protocol number) and stays when the process ends.

mod kernel;
mod masquerade;
pub mod plan;
mod sysctl;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use client::Api;
use client::watch::{Event, Watch};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node as ApiNode;
use kube::{Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::model::Name;
use crate::watch::{Change, Listing, selecting};
use kernel::Kernel;
use plan::{Peer, View};

pub use kernel::cleanup;

/// Pause before what failed is tried again, and between two looks at a busy routing table.
const RETRY: Duration = Duration::from_secs(1);

/// Names of the links of a cluster: a prefix of the cluster's id, within the kernel's 15 bytes.
pub fn link_name(cluster_id: &str, suffix: &str) -> String {
    let id: String = cluster_id.chars().take(8).collect();
    format!("cox{id}{suffix}")
}

/// Keeps the node's network as the Node objects say, until cancelled. Links and routes stay afterwards.
pub async fn run(config: Config, client: Client, cancel: CancellationToken) -> anyhow::Result<()> {
    sysctl::apply(&config);
    let (mut kernel, mut disturbances) = Kernel::open(&config).context("open rtnetlink")?;
    let mut masquerade = masquerade::Masquerade::new(&config);
    let mut events = Watch::new(Api::<ApiNode>::all(client), selecting(""));
    let mut listing = Listing::default();
    let mut peers: BTreeMap<Name, Peer> = BTreeMap::new();
    let mut retry = false;
    masquerade::warn_of_dropping_policies(config.table_name()).await;
    loop {
        let changed = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            event = events.next() => take(&mut listing, &mut peers, event.context("watch of Nodes ended")?),
            () = disturbances.next() => true,
            () = tokio::time::sleep(RETRY), if retry => true,
        };
        if !changed || !listing.is_synced() {
            continue;
        }
        let view = View::new(&config, peers.values());
        retry = false;
        // A Node that is missing for a while (deleted by hand, about to register) must not cost its Pods their network.
        if view.own.as_ref().is_none_or(|own| own.pod_cidrs.is_empty()) {
            continue;
        }
        if let Err(error) = kernel.bring_about(&view).await {
            tracing::error!(error = format!("{error:#}"), "Pod network not as it should be, will be tried again");
            retry = true;
        }
        if let Err(error) = masquerade.apply(&view).await {
            tracing::error!(error = format!("{error:#}"), "masquerading not applied, will be tried again");
            retry = true;
        }
    }
}

/// Takes in an event; says whether it changes what is known of the nodes.
fn take(listing: &mut Listing, peers: &mut BTreeMap<Name, Peer>, event: Event<ApiNode>) -> bool {
    match listing.step(event) {
        Some(Change::Set(name, object)) => {
            let peer = Peer::from_api(&object.name_any(), &object);
            peers.insert(name, peer.clone()).as_ref() != Some(&peer)
        }
        Some(Change::Remove(name)) => peers.remove(&name).is_some(),
        Some(Change::Retain(names)) => {
            peers.retain(|name, _| names.contains(name));
            true
        }
        None => false,
    }
}
