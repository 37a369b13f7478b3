//! What was found out about nodes, kept for Pods that ask the same: of a thousand Pods of one Deployment each costs
//! only the nodes that changed since the one before.
//!
//! Kept is what depends on one Pod's demands and one node's state alone. The node's version says whether it holds.

use crate::model::{NodeInfo, PodInfo, Version};
use crate::plugins::spread::{Domains, Place};
use crate::plugins::{self, Reason, resources, spread};

/// Kinds of Pods that are remembered: those of a few Deployments that grow at once.
const CLASSES: usize = 4;

/// One node as a class of Pods sees it.
#[derive(Debug)]
pub struct Finding {
    version: Version,
    /// What the filters say that look at nothing but the node.
    pub alone: Result<(), Vec<Reason>>,
    pub places: Box<[Place]>,
    /// Room that is left, and how evenly it would be used.
    pub resources: i64,
    pub soft_taints: i64,
    pub preferred: i64,
    pub images: Box<[i64]>,
}

/// What is known of all nodes for one class of Pods.
#[derive(Debug)]
pub struct Class {
    pod: PodInfo,
    images: Vec<String>,
    domains: Domains,
    /// By the node's place in the snapshot.
    nodes: Vec<Option<Finding>>,
}

impl Class {
    pub fn of(pod: &PodInfo) -> Self {
        let images = pod.images.iter().map(|image| plugins::full_name(image)).collect();
        Self { images, domains: Domains::of(pod), nodes: Vec::new(), pod: pod.clone() }
    }

    /// Brings what is known of the node at `index` up to date.
    pub fn look(&mut self, index: usize, node: &NodeInfo) {
        if self.nodes.len() <= index {
            self.nodes.resize_with(index + 1, || None);
        }
        if self.nodes[index].as_ref().is_some_and(|finding| finding.version == node.version) {
            return;
        }
        let pod = &self.pod;
        self.nodes[index] = Some(Finding {
            version: node.version,
            alone: plugins::filter_alone(pod, node),
            places: spread::places(pod, node, &mut self.domains),
            resources: resources::score_least_allocated(pod, node) + resources::score_balanced(pod, node),
            soft_taints: plugins::soft_taints(pod, node),
            preferred: plugins::preferred_weight(pod, node),
            images: plugins::image_sizes(&self.images, node),
        });
    }

    /// What [`Self::look`] found.
    pub fn at(&self, index: usize) -> Option<&Finding> {
        self.nodes.get(index)?.as_ref()
    }

    /// Whether it remembers far more domains than there are nodes: nodes come and go.
    fn is_overgrown(&self, nodes: usize) -> bool {
        self.domains.most() > 64 + 4 * nodes || self.nodes.len() > 64 + 4 * nodes
    }
}

/// What is known for the classes that were asked for last.
#[derive(Debug, Default)]
pub struct Findings(Vec<Class>);

impl Findings {
    /// What is known for Pods like this one, with `nodes` nodes in the cluster.
    pub fn of(&mut self, pod: &PodInfo, nodes: usize) -> &mut Class {
        let known = self.0.iter().position(|class| class.pod.is_like(pod) && !class.is_overgrown(nodes));
        match known {
            Some(0) => {}
            Some(index) => self.0[..=index].rotate_right(1),
            None => {
                self.0.truncate(CLASSES - 1);
                self.0.insert(0, Class::of(pod));
            }
        }
        &mut self.0[0]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::decide::tests::{node, pod};
    use crate::decide::{Outcome, Snapshot, decide};

    fn kinds() -> [Value; 3] {
        let spread = |when: &str| {
            json!({"spec": {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
            "whenUnsatisfiable": when, "labelSelector": {"matchLabels": {"app": "web"}}}]}})
        };
        [json!({}), spread("DoNotSchedule"), spread("ScheduleAnyway")]
    }

    /// Nodes fill, empty, change and go; whoever remembers must decide as who looks anew each time.
    #[test]
    fn what_is_remembered_changes_no_decision() {
        let zone = |number: usize| json!({"metadata": {"labels": {"zone": format!("z{}", number % 3)}}});
        let mut nodes: Vec<_> = (0..12).map(|n| Arc::new(node(&format!("n{n}"), zone(n)))).collect();
        let (namespaces, nominated) = (HashMap::new(), HashMap::new());
        let mut remembered = Findings::default();
        let mut placed: Vec<(String, String)> = Vec::new();
        for round in 0..400_usize {
            let pod = pod(&format!("p{round}"), kinds()[round % 3].clone());
            let volumes = &plugins::volumes::NONE;
            let (namespaces, nominated) = (&namespaces, &nominated);
            let snapshot = Snapshot { nodes: &nodes, namespaces, any_terms: false, nominated, volumes };
            let known = decide(&snapshot, &pod, round, &mut remembered);
            assert_eq!(known, decide(&snapshot, &pod, round, &mut Findings::default()), "round {round}");
            if let Outcome::Fits { node: name } = known.0 {
                placed.push((name.clone(), pod.uid.clone()));
                let to = nodes.iter_mut().find(|node| node.name == name);
                to.into_iter().for_each(|node| Arc::make_mut(node).add(Arc::new(pod.clone())));
            }
            if round % 5 > 1 && !placed.is_empty() {
                let (name, uid) = placed.swap_remove(round * 7 % placed.len());
                let from = nodes.iter_mut().find(|node| node.name == name);
                from.into_iter().for_each(|node| _ = Arc::make_mut(node).remove(&uid));
            }
            match round % 40 {
                13 => _ = nodes.swap_remove(round % nodes.len()),
                29 => nodes.push(Arc::new(node(&format!("m{round}"), zone(round)))),
                _ => {}
            }
        }
        assert!(placed.len() > 10, "Pods were placed");
    }

    #[test]
    fn only_so_many_classes_are_remembered() {
        let mut findings = Findings::default();
        for number in 0..20 {
            let labels = json!({"metadata": {"labels": {"app": format!("a{}", number % 7)}}});
            findings.of(&pod("p", labels), 1);
        }
        assert_eq!(findings.0.len(), CLASSES);
        let again = findings.0[2].pod.clone();
        assert!(findings.of(&again, 1).pod.is_like(&again));
        assert_eq!(findings.0.len(), CLASSES, "known: none is forgotten for it");
    }
}
