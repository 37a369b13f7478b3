//! Pure: which node a Pod goes to, or why none will do.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::findings::{Class, Finding, Findings};
use crate::labels::Labels;
use crate::model::{NodeInfo, PodInfo};
use crate::plugins::{self, Reason, affinity::Near, spread::Limits, volumes::PodVolumes};

/// What a decision is made from.
pub struct Snapshot<'a> {
    pub nodes: &'a [Arc<NodeInfo>],
    /// Labels of each namespace, for affinity terms that select namespaces.
    pub namespaces: &'a HashMap<String, Labels>,
    /// Whether any Pod that runs has affinity terms; without, the cluster's Pods need not be looked through.
    pub any_terms: bool,
    /// Pods that wait for their victims to go, by the node that is being cleared for them.
    pub nominated: &'a HashMap<String, Vec<Arc<PodInfo>>>,
    /// What the claims of the Pod in question ask of nodes.
    pub volumes: &'a PodVolumes,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Fits { node: String },
    Unfit(Unfit),
}

/// Why each node was refused.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unfit {
    pub nodes: usize,
    pub reasons: Vec<(String, Vec<Reason>)>,
    /// What keeps the Pod from every node alike.
    pub overall: Option<String>,
}

impl Unfit {
    /// Refused before any node was looked at.
    pub fn everywhere(nodes: &[Arc<NodeInfo>], why: String) -> Self {
        let reason = Reason::unresolvable(why.clone());
        let reasons = nodes.iter().map(|node| (node.name.clone(), vec![reason.clone()])).collect();
        Self { nodes: nodes.len(), reasons, overall: Some(why) }
    }

    /// Upstream's message: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
    pub fn message(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        if let Some(why) = &self.overall {
            return format!("0/{} nodes are available: {why}.", self.nodes);
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for reason in self.reasons.iter().flat_map(|(_, reasons)| reasons) {
            *counts.entry(&reason.text).or_default() += 1;
        }
        let mut listed: Vec<String> = counts.iter().map(|(text, count)| format!("{count} {text}")).collect();
        listed.sort();
        format!("0/{} nodes are available: {}.", self.nodes, listed.join(", "))
    }
}

/// The filters with what they precompute for one Pod.
pub struct Filters<'a> {
    pod: &'a PodInfo,
    near: Option<Near<'a>>,
    limits: Limits<'a>,
    volumes: &'a PodVolumes,
}

impl<'a> Filters<'a> {
    pub fn of(pod: &'a PodInfo, snapshot: &Snapshot<'a>, class: &mut Class) -> Self {
        let matters = snapshot.any_terms || !pod.affinity.is_empty() || !pod.anti_affinity.is_empty();
        if pod.spread.iter().any(|constraint| constraint.hard) {
            snapshot.nodes.iter().enumerate().for_each(|(index, node)| class.look(index, node));
        }
        let places = (0..snapshot.nodes.len()).filter_map(|index| Some(&*class.at(index)?.places));
        Self {
            pod,
            near: matters.then(|| Near::of(pod, snapshot.nodes, snapshot.namespaces)),
            limits: Limits::of(pod, places),
            volumes: snapshot.volumes,
        }
    }

    /// Whether the Pod may go to a node, of which this was found.
    pub fn check(&self, node: &NodeInfo, finding: &Finding) -> Result<(), Vec<Reason>> {
        finding.alone.clone()?;
        self.volumes.filter(node)?;
        self.limits.filter(&finding.places).map_err(|reason| vec![reason])?;
        match &self.near {
            Some(near) => near.filter(self.pod, node).map_err(|reason| vec![reason]),
            None => Ok(()),
        }
    }

    /// Whether the Pod has room beside those that a node is being cleared for.
    fn check_nominated(&self, node: &NodeInfo, nominated: Option<&Vec<Arc<PodInfo>>>) -> Result<(), Vec<Reason>> {
        let ahead = |other: &&Arc<PodInfo>| other.uid != self.pod.uid && other.priority >= self.pod.priority;
        let others: Vec<_> = nominated.into_iter().flatten().filter(ahead).collect();
        if others.is_empty() {
            return Ok(());
        }
        let mut fuller = node.clone();
        others.into_iter().for_each(|other| fuller.add(Arc::clone(other)));
        plugins::filter_alone(self.pod, &fuller)
    }
}

/// How many fitting nodes are enough to choose from (upstream's adaptive percentageOfNodesToScore).
fn enough(nodes: usize) -> usize {
    if nodes < 100 {
        return nodes;
    }
    let percent = 50_usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(100)
}

/// Decides. `start` is the node to begin with: it moves on with each decision, so that all nodes get their turn.
/// Returns the outcome and how many nodes were looked at.
pub fn decide(snapshot: &Snapshot<'_>, pod: &PodInfo, start: usize, findings: &mut Findings) -> (Outcome, usize) {
    let total = snapshot.nodes.len();
    let class = findings.of(pod, total);
    let filters = Filters::of(pod, snapshot, class);
    let wanted = enough(total);
    let mut fitting: Vec<usize> = Vec::new();
    let mut unfit = Unfit { nodes: total, ..Unfit::default() };
    let mut looked = 0;
    for offset in 0..total {
        let index = (start + offset) % total;
        let node = &*snapshot.nodes[index];
        looked += 1;
        class.look(index, node);
        let Some(finding) = class.at(index) else { continue };
        let nominated = if snapshot.nominated.is_empty() { None } else { snapshot.nominated.get(&node.name) };
        match filters.check_nominated(node, nominated).and_then(|()| filters.check(node, finding)) {
            Ok(()) => fitting.push(index),
            Err(reasons) => unfit.reasons.push((node.name.clone(), reasons)),
        }
        if fitting.len() >= wanted {
            break;
        }
    }
    let outcome = match fitting.as_slice() {
        [] => Outcome::Unfit(unfit),
        [only] => Outcome::Fits { node: snapshot.nodes[*only].name.clone() },
        several => Outcome::Fits { node: snapshot.nodes[best(snapshot, pod, class, several, start)].name.clone() },
    };
    (outcome, looked)
}

/// The node with the highest weighted score; of several, one by turns.
fn best(snapshot: &Snapshot<'_>, pod: &PodInfo, class: &Class, fitting: &[usize], turn: usize) -> usize {
    let found: Vec<&Finding> = fitting.iter().filter_map(|index| class.at(*index)).collect();
    let mut totals: Vec<i64> = found.iter().map(|finding| finding.resources).collect();
    let mut add = |weight: i64, scores: Vec<i64>| {
        for (total, score) in totals.iter_mut().zip(scores) {
            *total += weight * score;
        }
    };
    let relative = |of: fn(&Finding) -> i64, reverse| {
        let mut scores: Vec<i64> = found.iter().map(|finding| of(finding)).collect();
        plugins::normalize(&mut scores, reverse);
        scores
    };
    if found.iter().any(|finding| finding.soft_taints > 0) {
        add(3, relative(|finding| finding.soft_taints, true));
    }
    if !pod.preferred_nodes.is_empty() {
        add(2, relative(|finding| finding.preferred, false));
    }
    add(2, plugins::spread::score(pod, found.iter().map(|finding| &*finding.places)));
    if snapshot.any_terms || pod.has_terms() {
        let nodes: Vec<&NodeInfo> = fitting.iter().map(|index| &*snapshot.nodes[*index]).collect();
        add(2, plugins::affinity::score(pod, &nodes, snapshot.nodes, snapshot.namespaces));
    }
    add(1, plugins::score_images(pod.images.len(), found.iter().map(|finding| &*finding.images)));
    let highest = totals.iter().copied().max().unwrap_or(0);
    let tied = || totals.iter().zip(fitting).filter(|(total, _)| **total == highest).map(|(_, index)| *index);
    let number = turn % tied().count().max(1);
    tied().nth(number).unwrap_or(fitting[0])
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use serde_json::{Value, json};

    use super::*;

    pub fn node(name: &str, extra: Value) -> NodeInfo {
        let mut node = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": {},
            "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "10"}},
        });
        merge(&mut node, extra);
        NodeInfo::of(serde_json::from_value(node).unwrap())
    }

    pub fn pod(name: &str, extra: Value) -> PodInfo {
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "500m"}}}]},
        });
        merge(&mut pod, extra);
        PodInfo::of(serde_json::from_value(pod).unwrap())
    }

    fn merge(into: &mut Value, from: Value) {
        match (into, from) {
            (Value::Object(into), Value::Object(from)) => {
                for (key, value) in from {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
            (into, from) => *into = from,
        }
    }

    pub fn with(mut node: NodeInfo, pods: Vec<PodInfo>) -> Arc<NodeInfo> {
        pods.into_iter().for_each(|pod| node.add(Arc::new(pod)));
        Arc::new(node)
    }

    fn choose(nodes: &[Arc<NodeInfo>], pod: &PodInfo) -> Outcome {
        let (namespaces, nominated) = (HashMap::new(), HashMap::new());
        let any_terms = nodes.iter().any(|node| node.pods.iter().any(|pod| pod.has_terms()));
        let volumes = &plugins::volumes::NONE;
        let snapshot = Snapshot { nodes, namespaces: &namespaces, any_terms, nominated: &nominated, volumes };
        decide(&snapshot, pod, 0, &mut Findings::default()).0
    }

    fn refusal(nodes: &[Arc<NodeInfo>], pod: &PodInfo) -> String {
        match choose(nodes, pod) {
            Outcome::Unfit(unfit) => unfit.message(),
            Outcome::Fits { node } => panic!("fits {node}"),
        }
    }

    fn fits(nodes: &[Arc<NodeInfo>], pod: &PodInfo) -> String {
        match choose(nodes, pod) {
            Outcome::Fits { node } => node,
            Outcome::Unfit(unfit) => panic!("{}", unfit.message()),
        }
    }

    #[test]
    fn refusals_are_in_upstreams_words() {
        let taint = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
        let full = with(node("full", json!({})), vec![pod("a", json!({})); 4]);
        let nodes = [
            full,
            with(node("tainted", taint), vec![]),
            with(node("cordoned", json!({"spec": {"unschedulable": true}})), vec![]),
        ];
        let message = refusal(&nodes, &pod("p", json!({})));
        let expected = "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), \
            1 node(s) were unschedulable.";
        assert_eq!(message, expected);
        assert_eq!(refusal(&[], &pod("p", json!({}))), "no nodes available to schedule pods");
        let picky = pod("p", json!({"spec": {"nodeSelector": {"disk": "ssd"}}}));
        let expected = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
        assert_eq!(refusal(&[with(node("n", json!({})), vec![])], &picky), expected);
    }

    #[test]
    fn what_keeps_a_pod_from_every_node_is_said_once() {
        let nodes = [with(node("a", json!({})), vec![]), with(node("b", json!({})), vec![])];
        let unfit = Unfit::everywhere(&nodes, "persistentvolumeclaim \"c\" not found".to_owned());
        assert_eq!(unfit.message(), "0/2 nodes are available: persistentvolumeclaim \"c\" not found.");
    }

    #[test]
    fn the_emptier_node_is_better() {
        let nodes = [with(node("busy", json!({})), vec![pod("a", json!({}))]), with(node("idle", json!({})), vec![])];
        assert_eq!(fits(&nodes, &pod("p", json!({}))), "idle");
    }

    #[test]
    fn anti_affinity_works_both_ways() {
        let apart = json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}]}}}});
        let plain = with(node("n1", json!({})), vec![pod("a", json!({}))]);
        let expected = "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules.";
        assert_eq!(refusal(std::slice::from_ref(&plain), &pod("p", apart.clone())), expected);
        let shy = with(node("n1", json!({})), vec![pod("a", apart.clone())]);
        let expected = "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules.";
        assert_eq!(refusal(&[shy], &pod("p", json!({}))), expected);
        assert_eq!(fits(&[plain, with(node("n2", json!({})), vec![])], &pod("p", apart)), "n2");
    }

    #[test]
    fn affinity_lets_the_first_of_a_group_begin() {
        let near = |app: &str| {
            json!({"spec": {"affinity": {"podAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}}]}}}})
        };
        let empty = with(node("n1", json!({})), vec![]);
        assert_eq!(fits(std::slice::from_ref(&empty), &pod("p", near("web"))), "n1");
        let expected = "0/1 nodes are available: 1 node(s) didn't match pod affinity rules.";
        assert_eq!(refusal(std::slice::from_ref(&empty), &pod("p", near("db"))), expected);
        let company = with(node("n2", json!({})), vec![pod("a", json!({"metadata": {"labels": {"app": "db"}}}))]);
        assert_eq!(fits(&[empty, company], &pod("p", near("db"))), "n2");
    }

    #[test]
    fn hard_spread_keeps_the_skew() {
        let even = json!({"spec": {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]}});
        let nodes = [with(node("n1", json!({})), vec![pod("a", json!({}))]), with(node("n2", json!({})), vec![])];
        assert_eq!(fits(&nodes, &pod("p", even.clone())), "n2");
        let cordoned = with(node("n2", json!({"spec": {"unschedulable": true}})), vec![]);
        let message = refusal(&[Arc::clone(&nodes[0]), cordoned], &pod("p", even));
        assert!(message.contains("1 node(s) didn't match pod topology spread constraints"), "{message}");
    }

    #[test]
    fn host_ports_and_pod_numbers() {
        let port = json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}});
        let taken = with(node("n1", json!({})), vec![pod("a", port.clone())]);
        let message = refusal(&[taken], &pod("p", port));
        assert!(message.contains("1 node(s) didn't have free ports for the requested pod ports"), "{message}");
        let small = json!({"status": {"allocatable": {"pods": "1"}}});
        let full = with(node("n1", small), vec![pod("a", json!({}))]);
        assert_eq!(refusal(&[full], &pod("p", json!({}))), "0/1 nodes are available: 1 Too many pods.");
    }

    #[test]
    fn a_node_that_is_being_cleared_for_another_is_not_taken() {
        let nodes = [with(node("n1", json!({})), vec![pod("a", json!({})); 3])];
        let waiting = Arc::new(pod("vip", json!({"spec": {"priority": 10}})));
        let (namespaces, nominated) = (HashMap::new(), HashMap::from([("n1".to_owned(), vec![waiting])]));
        let volumes = &plugins::volumes::NONE;
        let (namespaces, nominated, known) = (&namespaces, &nominated, &mut Findings::default());
        let snapshot = Snapshot { nodes: &nodes, namespaces, any_terms: false, nominated, volumes };
        assert!(matches!(decide(&snapshot, &pod("p", json!({})), 0, known).0, Outcome::Unfit(_)));
        let equal = pod("vip", json!({"spec": {"priority": 10}}));
        assert!(matches!(decide(&snapshot, &equal, 0, known).0, Outcome::Fits { .. }), "its own place is free for it");
    }
}
