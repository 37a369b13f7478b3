//! Gives each Node its part of the Pod network (`spec.podCIDR`).

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use api::NamespacedName;
use client::informer::{Change, key_of};
use client::{Api, EventType, WorkQueue};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;

use crate::context::{Context, is_code};

const NAME: &str = "node-controller";

pub fn start(context: &Arc<Context>) {
    let queue: WorkQueue<_> = context.queue();
    let changed = queue.clone();
    // What was given is remembered, by the Node's UID: the informer shows it later.
    let given: Arc<Mutex<HashMap<String, String>>> = Arc::default();
    // Nodes for which there was none left: they wait for another one to go.
    let waiting: Arc<Mutex<HashSet<NamespacedName>>> = Arc::default();
    let (free, in_vain) = (Arc::clone(&given), Arc::clone(&waiting));
    context.nodes.on_change(move |change| match change {
        Change::Deleted(node) => {
            free.lock().remove(node.metadata.uid.as_deref().unwrap_or_default());
            in_vain.lock().drain().for_each(|key| changed.add(key));
        }
        Change::Added(node) | Change::Updated { new: node, .. } if pod_cidr(node).is_none() => {
            let key = key_of(&***node);
            if !in_vain.lock().contains(&key) {
                changed.add(key);
            }
        }
        Change::Added(_) | Change::Updated { .. } => {}
    });
    let nodes = context.nodes.clone();
    let ready = async move { nodes.synced().await };
    let (client, context_) = (context.client(NAME), Arc::clone(context));
    let recorder = context.recorder("cidrAllocator");
    // One worker: two must not pick the same part.
    context.spawn(NAME, queue, 1, ready, move |key| {
        let (client, context) = (client.clone(), Arc::clone(&context_));
        let (recorder, given, waiting) = (recorder.clone(), Arc::clone(&given), Arc::clone(&waiting));
        async move {
            let Some(node) = context.nodes.get("", &key.name).filter(|node| pod_cidr(node).is_none()) else {
                return Ok(());
            };
            let uid = node.uid().unwrap_or_default();
            if given.lock().contains_key(&uid) {
                return Ok(());
            }
            let mut taken: HashSet<String> = given.lock().values().cloned().collect();
            taken.extend(context.nodes.list().iter().filter_map(|node| pod_cidr(node).map(str::to_owned)));
            let Some(cidr) = first_free(&context.config.cluster_cidr, context.config.node_mask, &taken)? else {
                recorder.about(&*node, EventType::Normal, "CIDRNotAvailable", "Node status is now: CIDRNotAvailable");
                let network = &context.config.cluster_cidr;
                tracing::debug!(node = key.name, network, "the Pod network is used up: none left for the Node");
                waiting.lock().insert(key);
                return Ok(());
            };
            let patch = serde_json::json!({"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}});
            let api: Api<Node> = Api::all(client);
            match api.patch(&node.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await {
                Ok(_) => {
                    given.lock().insert(uid.clone(), cidr);
                    // It may have gone meanwhile, and its part is free again.
                    if context.nodes.get("", &key.name).is_none_or(|now| now.metadata.uid.as_ref() != Some(&uid)) {
                        given.lock().remove(&uid);
                    }
                    Ok(())
                }
                Err(error) if is_code(&error, 404) => Ok(()),
                Err(error) => Err(error).with_context(|| format!("give Node {} the Pod CIDR {cidr}", key.name)),
            }
        }
    });
}

fn pod_cidr(node: &Node) -> Option<&str> {
    node.spec.as_ref()?.pod_cidr.as_deref().filter(|cidr| !cidr.is_empty())
}

/// The first part of `network` with prefix length `mask` that is not taken.
fn first_free(network: &str, mask: u8, taken: &HashSet<String>) -> anyhow::Result<Option<String>> {
    let parse = || -> Option<(Ipv4Addr, u8)> {
        let (address, prefix) = network.split_once('/')?;
        Some((address.parse().ok()?, prefix.parse().ok()?))
    };
    let (base, prefix) = parse().with_context(|| format!("the Pod network {network:?} is no IPv4 CIDR"))?;
    if prefix > mask || mask > 30 {
        bail!("the Pod network {network} has no parts of /{mask}");
    }
    let parts = 1u64 << (mask - prefix);
    let size = 1u64 << (32 - mask);
    let free = (0..parts).find_map(|part| {
        let address = u64::from(u32::from(base)) + part * size;
        let cidr = format!("{}/{mask}", Ipv4Addr::from(u32::try_from(address).ok()?));
        (!taken.contains(&cidr)).then_some(cidr)
    });
    Ok(free)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn parts_are_given_in_turn_until_there_are_none() {
        let mut taken = HashSet::new();
        for expected in ["10.1.0.0/24", "10.1.1.0/24"] {
            let cidr = first_free("10.1.0.0/23", 24, &taken).unwrap().unwrap();
            assert_eq!(cidr, expected);
            taken.insert(cidr);
        }
        assert_eq!(first_free("10.1.0.0/23", 24, &taken).unwrap(), None);
        taken.remove("10.1.0.0/24");
        assert_eq!(first_free("10.1.0.0/23", 24, &taken).unwrap().as_deref(), Some("10.1.0.0/24"));
        assert!(first_free("10.1.0.0/28", 24, &taken).is_err());
        assert!(first_free("nonsense", 24, &taken).is_err());
    }
}
