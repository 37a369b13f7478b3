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

/// Soft taints that the Pod does not tolerate; fewer are better.
pub fn soft_taints(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let soft = node.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule" && !pod.tolerates(taint));
    i64::try_from(soft.count()).unwrap_or(i64::MAX)
}

/// The weight of the preferred node terms that hold; more is better.
pub fn preferred_weight(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let held = pod.preferred_nodes.iter().filter(|(_, term)| term.matches(&node.name, &node.labels));
    held.map(|(weight, _)| weight).sum()
}

const MIB: i64 = 1 << 20;

/// Sizes of the Pod's images on the node; 0 for those that are not there.
pub fn image_sizes(names: &[String], node: &NodeInfo) -> Box<[i64]> {
    names.iter().map(|name| node.images.get(name).copied().unwrap_or(0)).collect()
}

/// Images that are on the node already are better, between 23 MiB and 1,000 MiB for each container; an image that few
/// nodes have counts less, so that not all Pods go to the same node. Given are the sizes on each node.
pub fn score_images<'n>(images: usize, nodes: impl ExactSizeIterator<Item = &'n [i64]> + Clone) -> Vec<i64> {
    let containers = i64::try_from(images.max(1)).unwrap_or(1);
    let (least, most) = (23 * MIB, 1000 * MIB * containers);
    let total = i64::try_from(nodes.len().max(1)).unwrap_or(1);
    let on = |image: usize| i64::try_from(nodes.clone().filter(|sizes| sizes[image] > 0).count()).unwrap_or(0);
    let spread: Vec<i64> = (0..images).map(on).collect();
    let score = |sizes: &[i64]| {
        let sum: i64 = sizes.iter().zip(&spread).map(|(size, on)| size * on / total).sum();
        100 * (sum.clamp(least, most) - least) / (most - least)
    };
    nodes.map(score).collect()
}

/// The image's name with a tag, as nodes list it.
pub fn full_name(image: &str) -> String {
    let tail = image.rsplit('/').next().unwrap_or(image);
    if tail.contains(':') || image.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}
