//! Filters say whether a Pod may run on a node, scores say how well. Each is a pure function of the snapshot.

pub mod affinity;
pub mod resources;
pub mod spread;
pub mod volumes;

use std::borrow::Cow;

use crate::model::{HostPort, NodeInfo, PodInfo};

/// Why a node is not for a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Upstream's text, which stands in the Pod's condition and event.
    pub text: Cow<'static, str>,
    /// Whether removing Pods from the node could help.
    pub preemptible: bool,
}

impl Reason {
    /// Removing Pods could help.
    pub fn unschedulable(text: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.into(), preemptible: true }
    }

    /// Nothing that happens to Pods could help.
    pub fn unresolvable(text: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.into(), preemptible: false }
    }
}

/// Filters that look at one node only, in upstream's order. The first that refuses decides.
pub fn filter_alone(pod: &PodInfo, node: &NodeInfo) -> Result<(), Vec<Reason>> {
    let one = |reason| Err(vec![reason]);
    if node.unschedulable {
        let mark = k8s_openapi::api::core::v1::Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Default::default()
        };
        if !pod.tolerates(&mark) {
            return one(Reason::unresolvable("node(s) were unschedulable"));
        }
    }
    if pod.untolerated(node).is_some() {
        return one(Reason::unresolvable("node(s) had untolerated taint(s)"));
    }
    if !pod.wants_node(node) {
        return one(Reason::unresolvable("node(s) didn't match Pod's node affinity/selector"));
    }
    if ports_conflict(pod, node) {
        return one(Reason::unschedulable("node(s) didn't have free ports for the requested pod ports"));
    }
    resources::filter(pod, node)
}

fn ports_conflict(pod: &PodInfo, node: &NodeInfo) -> bool {
    let clash =
        |a: &HostPort, b: &HostPort| a.1 == b.1 && a.2 == b.2 && (a.0 == b.0 || a.0.is_empty() || b.0.is_empty());
    pod.host_ports
        .iter()
        .any(|wanted| node.pods.iter().any(|other| other.host_ports.iter().any(|taken| clash(wanted, taken))))
}

/// Brings raw scores to 0–100, relative to the largest; reversed when less is better.
pub fn normalize(scores: &mut [i64], reverse: bool) {
    let max = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        *score = if max == 0 { 0 } else { *score * 100 / max };
        if reverse {
            *score = 100 - *score;
        }
    }
}

/// Fewer soft taints that the Pod does not tolerate are better.
pub fn score_taints(pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let soft = |node: &NodeInfo| {
        node.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule" && !pod.tolerates(taint)).count()
    };
    let mut scores: Vec<i64> = nodes.iter().map(|node| i64::try_from(soft(node)).unwrap_or(i64::MAX)).collect();
    normalize(&mut scores, true);
    scores
}

/// More weight of preferred node terms is better.
pub fn score_node_affinity(pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let weight = |node: &NodeInfo| {
        let held = pod.preferred_nodes.iter().filter(|(_, term)| term.matches(&node.name, &node.labels));
        held.map(|(weight, _)| weight).sum()
    };
    let mut scores: Vec<i64> = nodes.iter().map(|node| weight(node)).collect();
    normalize(&mut scores, false);
    scores
}

const MIB: i64 = 1 << 20;

/// Images that are on the node already are better, between 23 MiB and 1,000 MiB for each container; an image that few
/// nodes have counts less, so that not all Pods go to the same node.
pub fn score_images(pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let containers = i64::try_from(pod.images.len().max(1)).unwrap_or(1);
    let (least, most) = (23 * MIB, 1000 * MIB * containers);
    let names: Vec<String> = pod.images.iter().map(|image| full_name(image)).collect();
    let total = i64::try_from(nodes.len().max(1)).unwrap_or(1);
    let spread: Vec<i64> = names
        .iter()
        .map(|name| i64::try_from(nodes.iter().filter(|node| node.images.contains_key(name)).count()).unwrap_or(0))
        .collect();
    let score = |node: &&NodeInfo| {
        let sizes = names.iter().zip(&spread).filter_map(|(name, on)| Some(node.images.get(name)? * on / total));
        let sum: i64 = sizes.sum();
        100 * (sum.clamp(least, most) - least) / (most - least)
    };
    nodes.iter().map(score).collect()
}

/// The image's name with a tag, as nodes list it.
fn full_name(image: &str) -> String {
    let tail = image.rsplit('/').next().unwrap_or(image);
    if tail.contains(':') || image.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}
