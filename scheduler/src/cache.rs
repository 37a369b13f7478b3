//! The cluster as the scheduler knows it: nodes with their Pods, those included that are about to be bound.

use std::collections::HashMap;
use std::sync::Arc;

use api::NamespacedName;

use crate::decide::Snapshot;
use crate::labels::Labels;
use crate::model::{NodeInfo, PodInfo};

#[derive(Default)]
pub struct Cache {
    nodes: Vec<Arc<NodeInfo>>,
    index: HashMap<String, usize>,
    /// Where each Pod is, and whether that is only assumed so far.
    places: HashMap<NamespacedName, Place>,
    /// Pods on nodes that are not known (yet, or any more).
    strays: HashMap<String, Vec<Arc<PodInfo>>>,
    pub namespaces: HashMap<String, Labels>,
    nominated: HashMap<String, Vec<Arc<PodInfo>>>,
    with_terms: usize,
}

struct Place {
    node: String,
    uid: String,
    assumed: bool,
}

fn key(pod: &PodInfo) -> NamespacedName {
    NamespacedName::new(&pod.namespace, &pod.name)
}

impl Cache {
    pub fn snapshot(&self) -> Snapshot<'_> {
        Snapshot {
            nodes: &self.nodes,
            namespaces: &self.namespaces,
            any_terms: self.with_terms > 0,
            nominated: &self.nominated,
            volumes: &crate::plugins::volumes::NONE,
        }
    }

    /// Puts a node, keeping its Pods. Says whether anything that scheduling looks at has changed.
    pub fn put_node(&mut self, node: &NodeInfo) -> bool {
        let mut fresh = node.clone();
        match self.index.get(&fresh.name) {
            Some(index) => {
                let old = &mut self.nodes[*index];
                let changed = old.labels != fresh.labels
                    || old.taints != fresh.taints
                    || old.unschedulable != fresh.unschedulable
                    || old.allocatable != fresh.allocatable
                    || old.max_pods != fresh.max_pods;
                old.pods.iter().for_each(|pod| fresh.add(Arc::clone(pod)));
                *old = Arc::new(fresh);
                changed
            }
            None => {
                for pod in self.strays.remove(&fresh.name).unwrap_or_default() {
                    fresh.add(pod);
                }
                self.index.insert(fresh.name.clone(), self.nodes.len());
                self.nodes.push(Arc::new(fresh));
                true
            }
        }
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(index) = self.index.remove(name) else { return };
        let gone = self.nodes.swap_remove(index);
        if let Some(moved) = self.nodes.get(index) {
            self.index.insert(moved.name.clone(), index);
        }
        if !gone.pods.is_empty() {
            self.strays.insert(name.to_owned(), gone.pods.clone());
        }
    }

    /// Puts a Pod on a node, in the place of its former self. Says whether anything that scheduling looks at has
    /// changed.
    pub fn put_pod(&mut self, pod: Arc<PodInfo>, node: &str, assumed: bool) -> bool {
        let pod = match self.refresh(pod, node, assumed) {
            Ok(()) => return false,
            Err(pod) => pod,
        };
        self.remove_pod(&key(&pod));
        self.with_terms += usize::from(pod.has_terms());
        let place = Place { node: node.to_owned(), uid: pod.uid.clone(), assumed };
        self.places.insert(key(&pod), place);
        match self.index.get(node) {
            Some(index) => Arc::make_mut(&mut self.nodes[*index]).add(pod),
            None => self.strays.entry(node.to_owned()).or_default().push(pod),
        }
        true
    }

    /// Puts a newer self in a Pod's place if it differs in nothing that counts; gives it back if it does.
    fn refresh(&mut self, pod: Arc<PodInfo>, node: &str, assumed: bool) -> Result<(), Arc<PodInfo>> {
        let place = self.places.get_mut(&key(&pod)).filter(|place| place.node == node && place.uid == pod.uid);
        let (Some(place), Some(index)) = (place, self.index.get(node)) else { return Err(pod) };
        let node = Arc::make_mut(&mut self.nodes[*index]);
        match node.pods.iter_mut().find(|other| other.uid == pod.uid) {
            Some(old) if old.deleting == pod.deleting && old.demands_as(&pod) => {
                *old = pod;
                place.assumed = assumed;
                Ok(())
            }
            _ => Err(pod),
        }
    }

    /// Takes a Pod off its node; says whether it was on one.
    pub fn remove_pod(&mut self, key: &NamespacedName) -> bool {
        let Some(place) = self.places.remove(key) else { return false };
        let removed = match self.index.get(&place.node) {
            Some(index) => Arc::make_mut(&mut self.nodes[*index]).remove(&place.uid),
            None => self.strays.get_mut(&place.node).and_then(|pods| {
                let index = pods.iter().position(|pod| pod.uid == place.uid)?;
                Some(pods.swap_remove(index))
            }),
        };
        if let Some(pod) = removed {
            self.with_terms -= usize::from(pod.has_terms());
        }
        true
    }

    /// Whether this very Pod is about to be bound.
    pub fn is_assumed(&self, key: &NamespacedName, uid: &str) -> bool {
        self.places.get(key).is_some_and(|place| place.assumed && place.uid == uid)
    }

    /// Notes that a node is being cleared for a Pod, or (`None`) that none is.
    pub fn nominate(&mut self, pod: &Arc<PodInfo>, node: Option<&str>) {
        for waiting in self.nominated.values_mut() {
            waiting.retain(|other| other.uid != pod.uid);
        }
        self.nominated.retain(|_, waiting| !waiting.is_empty());
        if let Some(node) = node {
            self.nominated.entry(node.to_owned()).or_default().push(Arc::clone(pod));
        }
    }

    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.index.get(name).map(|index| &*self.nodes[*index])
    }

    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::decide;

    fn node(name: &str) -> NodeInfo {
        let node = json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": "2"}}});
        NodeInfo::of(serde_json::from_value(node).unwrap())
    }

    fn pod(name: &str) -> Arc<PodInfo> {
        Arc::new(decide::tests::pod(name, json!({})))
    }

    #[test]
    fn pods_and_nodes_may_come_and_go_in_any_order() {
        let mut cache = Cache::default();
        cache.put_pod(pod("early"), "n1", false);
        assert!(cache.put_node(&node("n1")));
        assert!(cache.put_node(&node("n2")));
        assert!(!cache.put_node(&node("n1")), "nothing changed");
        assert_eq!(cache.snapshot().nodes[0].requested.cpu, 500);
        assert!(!cache.put_pod(pod("early"), "n1", false), "nothing changed");
        assert_eq!(cache.snapshot().nodes[0].requested.cpu, 500, "put twice, counted once");
        cache.remove_node("n1");
        assert_eq!(cache.nodes(), 1);
        cache.put_node(&node("n1"));
        assert_eq!(cache.snapshot().nodes[1].requested.cpu, 500, "its Pods come back with it");
        assert!(cache.remove_pod(&NamespacedName::new("ns", "early")));
        assert!(!cache.remove_pod(&NamespacedName::new("ns", "early")));
        assert_eq!(cache.snapshot().nodes[1].requested.cpu, 0);
    }
}
