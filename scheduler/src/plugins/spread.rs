//! Topology spread constraints: Pods of a kind evenly over zones, hosts, ….

use std::collections::HashMap;

use super::{Reason, normalize};
use crate::model::{NodeInfo, PodInfo, SpreadConstraint};

/// For each hard constraint: how many matching Pods each domain has.
pub struct Counts<'a> {
    hard: Vec<(&'a SpreadConstraint, HashMap<&'a str, i64>)>,
}

/// Pods of the same namespace that the constraint counts on a node; Pods that are ending do not count.
fn matching(pod: &PodInfo, constraint: &SpreadConstraint, node: &NodeInfo) -> i64 {
    let count = node.pods.iter().filter(|other| {
        other.namespace == pod.namespace && !other.deleting && constraint.selector.matches(&other.labels)
    });
    i64::try_from(count.count()).unwrap_or(i64::MAX)
}

/// Whether a node is one that the constraint looks at.
fn eligible(pod: &PodInfo, constraint: &SpreadConstraint, node: &NodeInfo) -> bool {
    (!constraint.honor_affinity || pod.wants_node(node))
        && (!constraint.honor_taints || pod.untolerated(node).is_none())
}

/// Matching Pods in each domain of the nodes that have all the keys and that the constraint looks at.
fn domains<'a>(
    pod: &PodInfo,
    constraint: &SpreadConstraint,
    keys: &[&str],
    nodes: impl Iterator<Item = &'a NodeInfo>,
) -> HashMap<&'a str, i64> {
    let mut counts = HashMap::new();
    for node in nodes {
        if keys.iter().any(|key| !node.labels.contains_key(*key)) || !eligible(pod, constraint, node) {
            continue;
        }
        if let Some(domain) = node.labels.get(&constraint.topology_key) {
            *counts.entry(domain.as_str()).or_insert(0) += matching(pod, constraint, node);
        }
    }
    counts
}

impl<'a> Counts<'a> {
    pub fn of(pod: &'a PodInfo, nodes: &'a [std::sync::Arc<NodeInfo>]) -> Self {
        let hard: Vec<_> = pod.spread.iter().filter(|constraint| constraint.hard).collect();
        let keys: Vec<&str> = hard.iter().map(|constraint| constraint.topology_key.as_str()).collect();
        let counted = hard.iter().map(|c| (*c, domains(pod, c, &keys, nodes.iter().map(AsRef::as_ref)))).collect();
        Self { hard: counted }
    }

    pub fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Reason> {
        for (constraint, counts) in &self.hard {
            let Some(domain) = node.labels.get(&constraint.topology_key) else {
                let text = "node(s) didn't match pod topology spread constraints (missing required label)";
                return Err(Reason::unresolvable(text));
            };
            let enough = i64::try_from(counts.len()).unwrap_or(i64::MAX) >= constraint.min_domains;
            let least = if enough { counts.values().copied().min().unwrap_or(0) } else { 0 };
            let own = i64::from(constraint.selector.matches(&pod.labels));
            let here = counts.get(domain.as_str()).copied().unwrap_or(0);
            if here + own - least > constraint.max_skew {
                return Err(Reason::unschedulable("node(s) didn't match pod topology spread constraints"));
            }
        }
        Ok(())
    }
}

/// Fewer matching Pods in the node's domains are better; larger topologies weigh more. `nodes` have passed the filters:
/// every constraint looks at them.
pub fn score(pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let soft: Vec<_> = pod.spread.iter().filter(|constraint| !constraint.hard).collect();
    if soft.is_empty() {
        return vec![0; nodes.len()];
    }
    let mut raw = vec![0.0_f64; nodes.len()];
    let mut ignored = vec![false; nodes.len()];
    for constraint in soft {
        let mut known: HashMap<&str, usize> = HashMap::with_capacity(nodes.len());
        let mut counts: Vec<i64> = Vec::with_capacity(nodes.len());
        let mut places: Vec<Option<usize>> = Vec::with_capacity(nodes.len());
        for node in nodes {
            let place = node.labels.get(&constraint.topology_key).map(|domain| {
                *known.entry(domain.as_str()).or_insert_with(|| {
                    counts.push(0);
                    counts.len() - 1
                })
            });
            if let Some(place) = place
                && !node.pods.is_empty()
            {
                counts[place] += matching(pod, constraint, node);
            }
            places.push(place);
        }
        let size = u32::try_from(counts.len()).unwrap_or(u32::MAX);
        let weight = (f64::from(size) + 2.0).ln();
        for ((score, skip), place) in raw.iter_mut().zip(&mut ignored).zip(&places) {
            match place {
                Some(place) => {
                    let count = u32::try_from(counts[*place]).unwrap_or(u32::MAX);
                    let skew = i32::try_from(constraint.max_skew).unwrap_or(i32::MAX);
                    *score += f64::from(count) * weight + f64::from(skew - 1);
                }
                None if constraint.implied => {}
                None => *skip = true,
            }
        }
    }
    // Sums of counts of Pods are far inside i64.
    #[allow(clippy::cast_possible_truncation)]
    let mut scores: Vec<i64> = raw.iter().map(|score| score.round() as i64).collect();
    normalize(&mut scores, true);
    for (score, skip) in scores.iter_mut().zip(ignored) {
        if skip {
            *score = 0;
        }
    }
    scores
}
