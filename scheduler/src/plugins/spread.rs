//! Topology spread constraints: Pods of a kind evenly over zones, hosts, ….

use std::collections::HashMap;

use super::{Reason, normalize};
use crate::model::{NodeInfo, PodInfo, SpreadConstraint};

/// Numbers of the domains that each constraint of a Pod distinguishes.
#[derive(Debug, Default)]
pub struct Domains(Vec<HashMap<String, usize>>);

impl Domains {
    pub fn of(pod: &PodInfo) -> Self {
        Self(vec![HashMap::new(); pod.spread.len()])
    }

    /// How many the constraint with the most has.
    pub fn most(&self) -> usize {
        self.0.iter().map(HashMap::len).max().unwrap_or(0)
    }

    fn number(&mut self, constraint: usize, name: &str) -> usize {
        let names = &mut self.0[constraint];
        if let Some(number) = names.get(name) {
            return *number;
        }
        let number = names.len();
        names.insert(name.to_owned(), number);
        number
    }
}

/// A node as one constraint sees it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Number of the node's domain, if it has the label.
    domain: Option<usize>,
    /// Whether a hard constraint counts the node's Pods.
    counted: bool,
    /// Pods of the same namespace that the constraint selects; Pods that are ending do not count.
    matching: i64,
}

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

/// The node as each constraint of the Pod sees it. Hard ones count only nodes that have the labels of all hard ones.
pub fn places(pod: &PodInfo, node: &NodeInfo, domains: &mut Domains) -> Box<[Place]> {
    let complete = || pod.spread.iter().filter(|c| c.hard).all(|c| node.labels.contains_key(&c.topology_key));
    let place = |(number, constraint): (usize, &SpreadConstraint)| {
        let domain = node.labels.get(&constraint.topology_key).map(|name| domains.number(number, name));
        let counted = constraint.hard && complete() && eligible(pod, constraint, node);
        Place { domain, counted, matching: matching(pod, constraint, node) }
    };
    pod.spread.iter().enumerate().map(place).collect()
}

/// What one hard constraint allows.
struct Limit<'a> {
    constraint: &'a SpreadConstraint,
    index: usize,
    /// Matching Pods by domain; `None` where no counted node is in it.
    counts: Vec<Option<i64>>,
    least: i64,
    /// 1 if the Pod itself counts.
    own: i64,
}

/// What the hard constraints of a Pod allow, as things stand on all nodes.
pub struct Limits<'a>(Vec<Limit<'a>>);

impl<'a> Limits<'a> {
    /// `nodes` gives for each node its places, as [`places`] makes them.
    pub fn of<'n>(pod: &'a PodInfo, nodes: impl Iterator<Item = &'n [Place]> + Clone) -> Self {
        let hard = pod.spread.iter().enumerate().filter(|(_, constraint)| constraint.hard);
        let limit = |(index, constraint): (usize, &'a SpreadConstraint)| {
            let mut counts = Vec::new();
            for place in nodes.clone().map(|places| places[index]).filter(|place| place.counted) {
                let Some(domain) = place.domain else { continue };
                if counts.len() <= domain {
                    counts.resize(domain + 1, None);
                }
                *counts[domain].get_or_insert(0) += place.matching;
            }
            let known = counts.iter().flatten();
            let enough = i64::try_from(known.clone().count()).unwrap_or(i64::MAX) >= constraint.min_domains;
            let least = if enough { known.copied().min().unwrap_or(0) } else { 0 };
            let own = i64::from(constraint.selector.matches(&pod.labels));
            Limit { constraint, index, counts, least, own }
        };
        Self(hard.map(limit).collect())
    }

    pub fn filter(&self, places: &[Place]) -> Result<(), Reason> {
        for limit in &self.0 {
            let Some(domain) = places[limit.index].domain else {
                let text = "node(s) didn't match pod topology spread constraints (missing required label)";
                return Err(Reason::unresolvable(text));
            };
            let here = limit.counts.get(domain).copied().flatten().unwrap_or(0);
            if here + limit.own - limit.least > limit.constraint.max_skew {
                return Err(Reason::unschedulable("node(s) didn't match pod topology spread constraints"));
            }
        }
        Ok(())
    }
}

/// Fewer matching Pods in the node's domains are better; larger topologies weigh more. The nodes, of which the places
/// are given, have passed the filters: every constraint looks at them.
pub fn score<'n>(pod: &PodInfo, nodes: impl ExactSizeIterator<Item = &'n [Place]> + Clone) -> Vec<i64> {
    let soft = || pod.spread.iter().enumerate().filter(|(_, constraint)| !constraint.hard);
    let mut raw = vec![0.0_f64; nodes.len()];
    if soft().next().is_none() {
        return vec![0; nodes.len()];
    }
    let mut ignored = vec![false; nodes.len()];
    for (index, constraint) in soft() {
        let mut counts: Vec<Option<i64>> = Vec::new();
        let mut size = 0_u32;
        for place in nodes.clone().map(|places| places[index]) {
            let Some(domain) = place.domain else { continue };
            if counts.len() <= domain {
                counts.resize(domain + 1, None);
            }
            size += u32::from(counts[domain].is_none());
            *counts[domain].get_or_insert(0) += place.matching;
        }
        let weight = (f64::from(size) + 2.0).ln();
        let skew = f64::from(i32::try_from(constraint.max_skew).unwrap_or(i32::MAX) - 1);
        for ((score, skip), places) in raw.iter_mut().zip(&mut ignored).zip(nodes.clone()) {
            match places[index].domain {
                Some(domain) => {
                    let count = u32::try_from(counts[domain].unwrap_or(0)).unwrap_or(u32::MAX);
                    *score += f64::from(count) * weight + skew;
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
