//! Pods and nodes as the scheduler sees them: parsed once, compared often.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::quantity::Quantity;
use client::taints::tolerates;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Node, ObjectReference, Pod, PodAffinityTerm, PodCondition, PodSpec, Taint, Toleration, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::labels::{Labels, NodeTerm, Selector, node_terms};

/// What Pods ask for and nodes have: CPU in thousandths, memory and ephemeral storage in bytes, others by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub cpu: i64,
    pub memory: i64,
    pub storage: i64,
    pub others: BTreeMap<String, i64>,
}

impl Resources {
    fn of(list: Option<&BTreeMap<String, Text>>) -> Self {
        let mut resources = Self::default();
        for (name, text) in list.into_iter().flatten() {
            // The API refuses what is no quantity.
            let Ok(quantity) = Quantity::parse(&text.0) else { continue };
            match name.as_str() {
                "cpu" => resources.cpu = quantity.milli_value(),
                "memory" => resources.memory = quantity.value(),
                "ephemeral-storage" => resources.storage = quantity.value(),
                "pods" => {}
                other => {
                    resources.others.insert(other.to_owned(), quantity.value());
                }
            }
        }
        resources
    }

    pub fn add(&mut self, other: &Self) {
        self.cpu = self.cpu.saturating_add(other.cpu);
        self.memory = self.memory.saturating_add(other.memory);
        self.storage = self.storage.saturating_add(other.storage);
        for (name, amount) in &other.others {
            let slot = self.others.entry(name.clone()).or_default();
            *slot = slot.saturating_add(*amount);
        }
    }

    fn sub(&mut self, other: &Self) {
        self.cpu -= other.cpu;
        self.memory -= other.memory;
        self.storage -= other.storage;
        for (name, amount) in &other.others {
            *self.others.entry(name.clone()).or_default() -= amount;
        }
    }

    /// The larger of both in each resource.
    fn max(&mut self, other: &Self) {
        self.cpu = self.cpu.max(other.cpu);
        self.memory = self.memory.max(other.memory);
        self.storage = self.storage.max(other.storage);
        for (name, amount) in &other.others {
            let slot = self.others.entry(name.clone()).or_default();
            *slot = (*slot).max(*amount);
        }
    }
}

/// What a Pod asks for: its containers together, or the peak of its init containers if that is more (KEP-753), plus
/// overhead; resources of the Pod itself replace the sum (KEP-2837).
fn requests(spec: &PodSpec) -> Resources {
    let of = |resources: &Option<k8s_openapi::api::core::v1::ResourceRequirements>| {
        Resources::of(resources.as_ref().and_then(|resources| resources.requests.as_ref()))
    };
    let mut total = Resources::default();
    for container in &spec.containers {
        total.add(&of(&container.resources));
    }
    let mut sidecars = Resources::default();
    let mut peak = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let mut own = of(&container.resources);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&own);
            total.add(&own);
            peak.max(&sidecars);
        } else {
            own.add(&sidecars);
            peak.max(&own);
        }
    }
    total.max(&peak);
    if let Some(own) = &spec.resources {
        let own = Resources::of(own.requests.as_ref());
        for (slot, value) in [(&mut total.cpu, own.cpu), (&mut total.memory, own.memory)] {
            if value > 0 {
                *slot = value;
            }
        }
    }
    total.add(&Resources::of(spec.overhead.as_ref()));
    total
}

/// One term of Pod affinity or anti-affinity, with its weight when it is only preferred.
#[derive(Clone, Debug, PartialEq)]
pub struct AffinityTerm {
    pub topology_key: String,
    pub selector: Selector,
    namespaces: Vec<String>,
    namespace_selector: Selector,
    pub weight: i64,
}

impl AffinityTerm {
    /// `namespace` and `labels` are those of the Pod that has the term.
    fn of(namespace: &str, labels: &Labels, term: &PodAffinityTerm, weight: i64) -> Self {
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(namespace.to_owned());
        }
        let mut selector = Selector::of(term.label_selector.as_ref());
        for key in term.match_label_keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                selector = selector.and(key, value);
            }
        }
        for key in term.mismatch_label_keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                selector = selector.and_not(key, value);
            }
        }
        let namespace_selector = Selector::of(term.namespace_selector.as_ref());
        Self { topology_key: term.topology_key.clone(), selector, namespaces, namespace_selector, weight }
    }

    /// Whether a Pod counts for the term. `namespaces` gives a namespace's labels.
    pub fn matches(&self, pod: &PodInfo, namespaces: &HashMap<String, Labels>) -> bool {
        let in_namespace = self.namespaces.contains(&pod.namespace)
            || self.namespace_selector.is_everything()
            || namespaces.get(&pod.namespace).is_some_and(|labels| self.namespace_selector.matches(labels));
        in_namespace && self.selector.matches(&pod.labels)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct SpreadConstraint {
    pub max_skew: i64,
    pub topology_key: String,
    pub hard: bool,
    pub selector: Selector,
    pub min_domains: i64,
    pub honor_affinity: bool,
    pub honor_taints: bool,
    /// Not written in the Pod but upstream's default: nodes without the label are not set back for it.
    pub implied: bool,
}

impl SpreadConstraint {
    /// Upstream's default constraints: Pods of one Service or controller apart over hosts and zones, softly.
    fn implied(selector: &Selector) -> Vec<Self> {
        let soft = |topology_key: &str, max_skew| Self {
            max_skew,
            topology_key: topology_key.to_owned(),
            hard: false,
            selector: selector.clone(),
            min_domains: 1,
            honor_affinity: true,
            honor_taints: false,
            implied: true,
        };
        vec![soft("kubernetes.io/hostname", 3), soft("topology.kubernetes.io/zone", 5)]
    }
}

/// A port of the node that a Pod takes: address (empty for all), protocol, number.
pub type HostPort = (String, String, i32);

/// A Pod with everything that scheduling asks of it, and nothing else: it is what the informer keeps.
#[derive(Clone, Debug)]
pub struct PodInfo {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub resource_version: String,
    pub labels: Labels,
    pub owner: Option<Owner>,
    /// Empty while the Pod has no node.
    pub node: String,
    pub ours: bool,
    pub gated: bool,
    pub deleting: bool,
    pub priority: i32,
    pub may_preempt: bool,
    pub requests: Resources,
    pub node_selector: Labels,
    pub node_terms: Option<Vec<NodeTerm>>,
    pub preferred_nodes: Vec<(i64, NodeTerm)>,
    pub tolerations: Vec<Toleration>,
    pub affinity: Vec<AffinityTerm>,
    pub anti_affinity: Vec<AffinityTerm>,
    pub preferred_affinity: Vec<AffinityTerm>,
    pub preferred_anti_affinity: Vec<AffinityTerm>,
    pub spread: Vec<SpreadConstraint>,
    pub host_ports: Vec<HostPort>,
    pub images: Vec<String>,
    /// Claims that it uses, each with whether it is made for this Pod alone.
    pub claims: Vec<(String, bool)>,
    pub started: Option<Timestamp>,
    /// The condition that says why it waits.
    pub unscheduled: Option<Box<PodCondition>>,
}

/// Who controls a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub kind: String,
    pub name: String,
}

/// Pods whose `spec.schedulerName` is this are ours.
const SCHEDULER: &str = "default-scheduler";

impl PodInfo {
    pub fn of(pod: Pod) -> Self {
        let Pod { metadata: meta, spec, status } = pod;
        let spec = spec.unwrap_or_default();
        let namespace = meta.namespace.unwrap_or_default();
        let labels = meta.labels.unwrap_or_default();
        let spread = spread(&labels, &spec);
        let requests = requests(&spec);
        let host_ports = host_ports(&spec);
        let name = meta.name.unwrap_or_default();
        let claims = crate::plugins::volumes::claims(&name, &spec);
        let affinity = spec.affinity.unwrap_or_default();
        let node = affinity.node_affinity.unwrap_or_default();
        let near = affinity.pod_affinity.unwrap_or_default();
        let far = affinity.pod_anti_affinity.unwrap_or_default();
        let hard = |list: Option<Vec<PodAffinityTerm>>| {
            list.iter().flatten().map(|term| AffinityTerm::of(&namespace, &labels, term, 0)).collect::<Vec<_>>()
        };
        let soft = |list: Option<Vec<WeightedPodAffinityTerm>>| {
            let each = list.iter().flatten();
            let term = |w: &WeightedPodAffinityTerm| {
                AffinityTerm::of(&namespace, &labels, &w.pod_affinity_term, w.weight.into())
            };
            each.map(term).collect::<Vec<_>>()
        };
        let preferred = node.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        let owner = meta.owner_references.into_iter().flatten().find(|owner| owner.controller == Some(true));
        let status = status.unwrap_or_default();
        let mut conditions = status.conditions.into_iter().flatten();
        let unscheduled = conditions.find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
        Self {
            uid: meta.uid.unwrap_or_default(),
            name,
            claims,
            resource_version: meta.resource_version.unwrap_or_default(),
            owner: owner.map(|owner| Owner { kind: owner.kind, name: owner.name }),
            node: spec.node_name.unwrap_or_default(),
            ours: spec.scheduler_name.as_deref().unwrap_or(SCHEDULER) == SCHEDULER,
            gated: spec.scheduling_gates.is_some_and(|gates| !gates.is_empty()),
            deleting: meta.deletion_timestamp.is_some(),
            priority: spec.priority.unwrap_or(0),
            may_preempt: spec.preemption_policy.as_deref() != Some("Never"),
            requests,
            node_selector: spec.node_selector.unwrap_or_default(),
            node_terms: node_terms(node.required_during_scheduling_ignored_during_execution.as_ref()),
            preferred_nodes: preferred.map(|term| (term.weight.into(), NodeTerm::of(&term.preference))).collect(),
            tolerations: spec.tolerations.unwrap_or_default(),
            affinity: hard(near.required_during_scheduling_ignored_during_execution),
            anti_affinity: hard(far.required_during_scheduling_ignored_during_execution),
            preferred_affinity: soft(near.preferred_during_scheduling_ignored_during_execution),
            preferred_anti_affinity: soft(far.preferred_during_scheduling_ignored_during_execution),
            spread,
            host_ports,
            images: spec.containers.into_iter().filter_map(|container| container.image).collect(),
            started: status.start_time.map(|time| time.0),
            unscheduled: unscheduled.map(Box::new),
            namespace,
            labels,
        }
    }

    /// The Pod with upstream's default spread over its siblings, unless it says itself how it is to be spread.
    ///
    /// `siblings` selects the Pods of the same Services and controller, when there are such.
    pub fn beside(mut self, siblings: Option<Selector>) -> Self {
        if let Some(siblings) = siblings
            && self.spread.is_empty()
        {
            self.spread = SpreadConstraint::implied(&siblings);
        }
        self
    }

    /// Whether both ask the same of nodes.
    pub fn demands_as(&self, other: &Self) -> bool {
        let alone = |pod: &Self| (pod.priority, pod.may_preempt, pod.gated);
        alone(self) == alone(other)
            && self.labels == other.labels
            && self.requests == other.requests
            && self.node_selector == other.node_selector
            && self.node_terms == other.node_terms
            && self.preferred_nodes == other.preferred_nodes
            && self.tolerations == other.tolerations
            && self.affinity == other.affinity
            && self.anti_affinity == other.anti_affinity
            && self.preferred_affinity == other.preferred_affinity
            && self.preferred_anti_affinity == other.preferred_anti_affinity
            && self.host_ports == other.host_ports
            && self.images == other.images
    }

    /// Whether what is found out about a node for one holds for the other (claims apart).
    pub fn is_like(&self, other: &Self) -> bool {
        self.namespace == other.namespace && self.spread == other.spread && self.demands_as(other)
    }

    /// How events name the Pod.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()),
            uid: Some(self.uid.clone()),
            resource_version: Some(self.resource_version.clone()),
            ..ObjectReference::default()
        }
    }

    /// Whether other Pods' places matter to this one, or this one's to others.
    pub fn has_terms(&self) -> bool {
        !self.affinity.is_empty()
            || !self.anti_affinity.is_empty()
            || !self.preferred_affinity.is_empty()
            || !self.preferred_anti_affinity.is_empty()
    }

    /// Whether the labels and terms that the Pod demands of a node hold.
    pub fn wants_node(&self, node: &NodeInfo) -> bool {
        self.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
            && self.node_terms.as_ref().is_none_or(|terms| terms.iter().any(|t| t.matches(&node.name, &node.labels)))
    }

    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|toleration| tolerates(toleration, taint))
    }

    /// The first taint of a node that keeps the Pod away.
    pub fn untolerated<'a>(&self, node: &'a NodeInfo) -> Option<&'a Taint> {
        let hard = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
        node.taints.iter().filter(hard).find(|taint| !self.tolerates(taint))
    }
}

fn spread(labels: &Labels, spec: &PodSpec) -> Vec<SpreadConstraint> {
    let each = spec.topology_spread_constraints.iter().flatten().map(|constraint| {
        let mut selector = Selector::of(constraint.label_selector.as_ref());
        for key in constraint.match_label_keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                selector = selector.and(key, value);
            }
        }
        SpreadConstraint {
            max_skew: constraint.max_skew.into(),
            topology_key: constraint.topology_key.clone(),
            hard: constraint.when_unsatisfiable == "DoNotSchedule",
            selector,
            min_domains: constraint.min_domains.unwrap_or(1).into(),
            honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
            implied: false,
        }
    });
    each.collect()
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let address = port.host_ip.clone().filter(|ip| ip != "0.0.0.0" && ip != "::").unwrap_or_default();
            Some((address, port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), number))
        })
        .collect()
}

/// A node with the Pods that run, or are about to run, on it.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Changes with everything that scheduling looks at: what was found out about one version holds while it stays.
    pub version: Version,
    pub name: String,
    pub labels: Labels,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    pub max_pods: i64,
    /// Size in bytes of each image on the node, by each of its names.
    pub images: HashMap<String, i64>,
    pub pods: Vec<Arc<PodInfo>>,
    pub requested: Resources,
    /// CPU and memory with a small amount for Pods that ask for nothing, so that those are spread too.
    pub non_zero: (i64, i64),
}

/// Tells the states of all nodes apart: no two that differ bear the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(u64);

impl Version {
    fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a Pod that asks for no CPU or memory counts as when nodes are scored (upstream's defaults).
const LEAST_CPU: i64 = 100;
const LEAST_MEMORY: i64 = 200 << 20;

pub fn non_zero(requests: &Resources) -> (i64, i64) {
    let or = |value: i64, least: i64| if value == 0 { least } else { value };
    (or(requests.cpu, LEAST_CPU), or(requests.memory, LEAST_MEMORY))
}

impl NodeInfo {
    pub fn of(node: Node) -> Self {
        let Node { metadata: meta, spec, status } = node;
        let (spec, status) = (spec.unwrap_or_default(), status.unwrap_or_default());
        let max_pods = status.allocatable.as_ref().and_then(|all| all.get("pods"));
        let max_pods = max_pods.and_then(|text| Quantity::parse(&text.0).ok()).map_or(0, |quantity| quantity.value());
        let mut images = HashMap::new();
        for image in status.images.into_iter().flatten() {
            for name in image.names.into_iter().flatten() {
                images.insert(name, image.size_bytes.unwrap_or(0));
            }
        }
        Self {
            version: Version::next(),
            name: meta.name.unwrap_or_default(),
            labels: meta.labels.unwrap_or_default(),
            taints: spec.taints.unwrap_or_default(),
            unschedulable: spec.unschedulable == Some(true),
            allocatable: Resources::of(status.allocatable.as_ref()),
            max_pods,
            images,
            pods: Vec::new(),
            requested: Resources::default(),
            non_zero: (0, 0),
        }
    }

    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.version = Version::next();
        let (cpu, memory) = non_zero(&pod.requests);
        self.non_zero = (self.non_zero.0 + cpu, self.non_zero.1 + memory);
        self.requested.add(&pod.requests);
        self.pods.push(pod);
    }

    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let index = self.pods.iter().position(|pod| pod.uid == uid)?;
        let pod = self.pods.swap_remove(index);
        self.version = Version::next();
        let (cpu, memory) = non_zero(&pod.requests);
        self.non_zero = (self.non_zero.0 - cpu, self.non_zero.1 - memory);
        self.requested.sub(&pod.requests);
        Some(pod)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_asks_for_its_peak() {
        let cpu = |n: u32| json!({"requests": {"cpu": format!("{n}m")}});
        let cases = [
            (json!([{"resources": cpu(100)}, {"resources": cpu(200)}]), json!([]), 300),
            (json!([{"resources": cpu(100)}]), json!([{"resources": cpu(500)}]), 500),
            (json!([{"resources": cpu(100)}]), json!([{"resources": cpu(50), "restartPolicy": "Always"}]), 150),
            (
                json!([{"resources": cpu(100)}]),
                json!([{"resources": cpu(50), "restartPolicy": "Always"}, {"resources": cpu(200)}]),
                250,
            ),
        ];
        for (containers, init, expected) in cases {
            let mut spec = json!({"containers": containers, "initContainers": init});
            for list in ["containers", "initContainers"] {
                for container in spec[list].as_array_mut().unwrap() {
                    container["name"] = json!("c");
                }
            }
            let typed: PodSpec = serde_json::from_value(spec.clone()).unwrap();
            assert_eq!(requests(&typed).cpu, expected, "{spec}");
        }
    }
}
