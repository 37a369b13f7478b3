//! Pod affinity and anti-affinity: near to, or away from, other Pods.

use std::collections::HashMap;
use std::sync::Arc;

use super::Reason;
use crate::labels::Labels;
use crate::model::{AffinityTerm, NodeInfo, PodInfo};

type Domains<'a> = HashMap<(&'a str, &'a str), i64>;

/// Where Pods are that matter to one Pod's terms, by topology key and value.
pub struct Near<'a> {
    /// Domains in which a running Pod's anti-affinity refuses this one.
    refused: Domains<'a>,
    /// For each affinity term: domains with a Pod that matches.
    wanted: Vec<Domains<'a>>,
    /// For each anti-affinity term: domains with a Pod that matches.
    unwanted: Vec<Domains<'a>>,
    /// Whether any Pod in the cluster matches all affinity terms.
    any_match: bool,
    /// The first Pod of a group may start without company if it matches its own terms.
    matches_itself: bool,
}

fn domain<'a>(node: &'a NodeInfo, key: &'a str) -> Option<(&'a str, &'a str)> {
    node.labels.get(key).map(|value| (key, value.as_str()))
}

impl<'a> Near<'a> {
    pub fn of(pod: &'a PodInfo, nodes: &'a [Arc<NodeInfo>], namespaces: &HashMap<String, Labels>) -> Self {
        let mut near = Self {
            refused: HashMap::new(),
            wanted: vec![HashMap::new(); pod.affinity.len()],
            unwanted: vec![HashMap::new(); pod.anti_affinity.len()],
            any_match: false,
            matches_itself: pod.affinity.iter().all(|term| term.matches(pod, namespaces)),
        };
        let own_terms = !pod.affinity.is_empty() || !pod.anti_affinity.is_empty();
        for node in nodes {
            for other in &node.pods {
                for term in &other.anti_affinity {
                    if term.matches(pod, namespaces)
                        && let Some(domain) = domain(node, &term.topology_key)
                    {
                        *near.refused.entry(domain).or_default() += 1;
                    }
                }
                if own_terms {
                    near.note(pod, node, other, namespaces);
                }
            }
        }
        near
    }

    fn note(&mut self, pod: &'a PodInfo, node: &'a NodeInfo, other: &PodInfo, namespaces: &HashMap<String, Labels>) {
        let all = !pod.affinity.is_empty() && pod.affinity.iter().all(|term| term.matches(other, namespaces));
        if all {
            for (term, domains) in pod.affinity.iter().zip(&mut self.wanted) {
                if let Some(domain) = domain(node, &term.topology_key) {
                    self.any_match = true;
                    *domains.entry(domain).or_default() += 1;
                }
            }
        }
        for (term, domains) in pod.anti_affinity.iter().zip(&mut self.unwanted) {
            if term.matches(other, namespaces)
                && let Some(domain) = domain(node, &term.topology_key)
            {
                *domains.entry(domain).or_default() += 1;
            }
        }
    }

    pub fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Reason> {
        for (term, domains) in pod.affinity.iter().zip(&self.wanted) {
            let held = domain(node, &term.topology_key).is_some_and(|domain| domains.contains_key(&domain));
            let first_of_group = !self.any_match && self.matches_itself && node.labels.contains_key(&term.topology_key);
            if !held && !first_of_group {
                return Err(Reason::unresolvable("node(s) didn't match pod affinity rules"));
            }
        }
        let in_domain = |term: &AffinityTerm, domains: &Domains<'_>| {
            domain(node, &term.topology_key).is_some_and(|domain| domains.contains_key(&domain))
        };
        if pod.anti_affinity.iter().zip(&self.unwanted).any(|(term, domains)| in_domain(term, domains)) {
            return Err(Reason::unschedulable("node(s) didn't match pod anti-affinity rules"));
        }
        let refused = |(key, value): &(&str, &str)| node.labels.get(*key).is_some_and(|has| has == value);
        if self.refused.keys().any(refused) {
            return Err(Reason::unschedulable("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }
}

/// Weights of preferred terms of the Pod, and of the Pods that run, by domain; scaled to 0–100.
pub fn score(
    pod: &PodInfo,
    nodes: &[&NodeInfo],
    all: &[Arc<NodeInfo>],
    namespaces: &HashMap<String, Labels>,
) -> Vec<i64> {
    let mut weights: Domains<'_> = HashMap::new();
    let own = !pod.preferred_affinity.is_empty() || !pod.preferred_anti_affinity.is_empty();
    for node in all {
        for other in &node.pods {
            let others = !other.preferred_affinity.is_empty()
                || !other.preferred_anti_affinity.is_empty()
                || !other.affinity.is_empty();
            if !own && !others {
                continue;
            }
            let mut add = |term: &'_ AffinityTerm, subject: &PodInfo, weight: i64| {
                if term.matches(subject, namespaces)
                    && let Some(value) = node.labels.get(&term.topology_key)
                {
                    let key = node.labels.get_key_value(&term.topology_key).map_or("", |(key, _)| key.as_str());
                    *weights.entry((key, value.as_str())).or_default() += weight;
                }
            };
            pod.preferred_affinity.iter().for_each(|term| add(term, other, term.weight));
            pod.preferred_anti_affinity.iter().for_each(|term| add(term, other, -term.weight));
            other.preferred_affinity.iter().for_each(|term| add(term, pod, term.weight));
            other.preferred_anti_affinity.iter().for_each(|term| add(term, pod, -term.weight));
            // Upstream's HardPodAffinityWeight.
            other.affinity.iter().for_each(|term| add(term, pod, 1));
        }
    }
    let sum = |node: &&NodeInfo| {
        weights
            .iter()
            .filter(|((key, value), _)| node.labels.get(*key).is_some_and(|has| has == value))
            .map(|(_, w)| w)
            .sum()
    };
    let raw: Vec<i64> = nodes.iter().map(sum).collect();
    let (min, max) = (raw.iter().min().copied().unwrap_or(0), raw.iter().max().copied().unwrap_or(0));
    raw.iter().map(|score| if max == min { 0 } else { (score - min) * 100 / (max - min) }).collect()
}
