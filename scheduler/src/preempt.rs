//! Pure: which Pods of lower priority to remove so that a Pod fits (upstream's DefaultPreemption).

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::decide::{Filters, Snapshot, Unfit};
use crate::findings::Class;
use crate::labels::Selector;
use crate::model::{NodeInfo, PodInfo};
use crate::plugins::Reason;

/// A node and who has to go.
#[derive(Debug)]
pub struct Candidate {
    pub node: String,
    pub victims: Vec<Arc<PodInfo>>,
    broken_budgets: usize,
}

/// A disruption budget, as far as preemption looks at it.
pub struct Budget {
    namespace: String,
    selector: Selector,
    allowed: i32,
}

impl Budget {
    pub fn of(budget: &PodDisruptionBudget) -> Self {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        Self {
            namespace: budget.metadata.namespace.clone().unwrap_or_default(),
            selector: Selector::of(selector),
            allowed: budget.status.as_ref().map_or(0, |status| status.disruptions_allowed.unwrap_or(0)),
        }
    }
}

/// The best node to clear, or the sentence that says why none helps.
pub fn preempt(snapshot: &Snapshot<'_>, pod: &PodInfo, unfit: &Unfit, budgets: &[Budget]) -> Result<Candidate, String> {
    if !pod.may_preempt {
        return Err("not eligible due to preemptionPolicy=Never.".to_owned());
    }
    let refused: HashMap<&str, &Vec<Reason>> = unfit.reasons.iter().map(|(node, why)| (node.as_str(), why)).collect();
    let mut candidates = Vec::new();
    let (mut hopeless, mut no_victims) = (0, 0);
    for node in snapshot.nodes {
        let helps = refused.get(node.name.as_str()).is_some_and(|reasons| reasons.iter().all(|r| r.preemptible));
        if !helps {
            hopeless += 1;
            continue;
        }
        match clear(snapshot, pod, node, budgets) {
            Some(candidate) => candidates.push(candidate),
            None => no_victims += 1,
        }
    }
    match pick(candidates) {
        Some(best) => Ok(best),
        None => {
            let mut parts = Vec::new();
            if no_victims > 0 {
                parts.push(format!("{no_victims} No preemption victims found for incoming pod"));
            }
            if hopeless > 0 {
                parts.push(format!("{hopeless} Preemption is not helpful for scheduling"));
            }
            Err(format!("0/{} nodes are available: {}.", snapshot.nodes.len(), parts.join(", ")))
        }
    }
}

/// The fewest and least important Pods of a node whose removal makes room.
fn clear(snapshot: &Snapshot<'_>, pod: &PodInfo, node: &Arc<NodeInfo>, budgets: &[Budget]) -> Option<Candidate> {
    let mut lower: Vec<_> = node.pods.iter().filter(|other| other.priority < pod.priority).cloned().collect();
    if lower.is_empty() {
        return None;
    }
    let mut trial = (**node).clone();
    for victim in &lower {
        trial.remove(&victim.uid);
    }
    if !fits(snapshot, pod, &trial) {
        return None;
    }
    // The most important, and of those the longest running, are spared first.
    lower.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| start(a).cmp(&start(b))));
    let (guarded, free) = split_by_budget(lower, budgets);
    let broken_before = guarded.len();
    let mut victims = Vec::new();
    let mut broken_budgets = 0;
    for (index, other) in guarded.into_iter().chain(free).enumerate() {
        trial.add(Arc::clone(&other));
        if fits(snapshot, pod, &trial) {
            continue;
        }
        trial.remove(&other.uid);
        broken_budgets += usize::from(index < broken_before);
        victims.push(other);
    }
    (!victims.is_empty()).then(|| Candidate { node: node.name.clone(), victims, broken_budgets })
}

/// Whether the Pod passes all filters with `trial` in the place of the node of its name.
fn fits(snapshot: &Snapshot<'_>, pod: &PodInfo, trial: &NodeInfo) -> bool {
    if !snapshot.any_terms && !pod.has_terms() && pod.spread.iter().all(|constraint| !constraint.hard) {
        return crate::plugins::filter_alone(pod, trial).is_ok();
    }
    let mut nodes = snapshot.nodes.to_vec();
    let Some(index) = nodes.iter().position(|node| node.name == trial.name) else { return false };
    nodes[index] = Arc::new(trial.clone());
    let snapshot = Snapshot { nodes: &nodes, ..*snapshot };
    let mut class = Class::of(pod);
    let filters = Filters::of(pod, &snapshot, &mut class);
    class.look(index, trial);
    class.at(index).is_some_and(|finding| filters.check(trial, finding).is_ok())
}

fn start(pod: &PodInfo) -> Timestamp {
    pod.started.unwrap_or(Timestamp::MAX)
}

/// Pods whose removal would break a budget, and the others.
fn split_by_budget(pods: Vec<Arc<PodInfo>>, budgets: &[Budget]) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let mut allowed: Vec<i32> = budgets.iter().map(|budget| budget.allowed).collect();
    pods.into_iter().partition(|pod| {
        let mut breaks = false;
        for (budget, left) in budgets.iter().zip(&mut allowed) {
            if budget.namespace == pod.namespace && budget.selector.matches(&pod.labels) {
                *left -= 1;
                breaks |= *left < 0;
            }
        }
        breaks
    })
}

/// Fewest broken budgets, then the lowest highest victim, the lowest sum of priorities, the fewest, the latest started.
fn pick(candidates: Vec<Candidate>) -> Option<Candidate> {
    candidates.into_iter().min_by_key(|candidate| {
        let highest = candidate.victims.iter().map(|victim| victim.priority).max().unwrap_or(i32::MIN);
        let offset = |victim: &Arc<PodInfo>| i64::from(victim.priority) + i64::from(i32::MAX) + 1;
        let sum: i64 = candidate.victims.iter().map(offset).sum();
        let of_highest = candidate.victims.iter().filter(|victim| victim.priority == highest);
        let earliest = of_highest.map(|victim| start(victim)).min().unwrap_or(Timestamp::MIN);
        (candidate.broken_budgets, highest, sum, candidate.victims.len(), std::cmp::Reverse(earliest))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::decide::tests::{node, pod, with};
    use crate::decide::{Outcome, decide};
    use crate::findings::Findings;

    fn run(nodes: &[Arc<NodeInfo>], pod: &PodInfo, budgets: &[Budget]) -> Result<Candidate, String> {
        let (namespaces, nominated) = (HashMap::new(), HashMap::new());
        let volumes = &crate::plugins::volumes::NONE;
        let snapshot = Snapshot { nodes, namespaces: &namespaces, any_terms: false, nominated: &nominated, volumes };
        let Outcome::Unfit(unfit) = decide(&snapshot, pod, 0, &mut Findings::default()).0 else {
            return Err("fits".to_owned());
        };
        preempt(&snapshot, pod, &unfit, budgets)
    }

    fn at(name: &str, priority: i32) -> PodInfo {
        pod(
            name,
            json!({"spec": {"priority": priority, "containers": [
            {"name": "c", "resources": {"requests": {"cpu": "1"}}}]}}),
        )
    }

    #[test]
    fn the_least_important_go_and_no_more_than_needed() {
        let nodes = [
            with(node("n1", json!({})), vec![at("a", 1), at("b", 5)]),
            with(node("n2", json!({})), vec![at("c", 3), at("d", 4)]),
        ];
        let best = run(&nodes, &at("vip", 10), &[]).unwrap();
        assert_eq!((best.node.as_str(), best.victims[0].name.as_str(), best.victims.len()), ("n1", "a", 1));
    }

    #[test]
    fn equals_and_betters_are_left_alone() {
        let nodes = [with(node("n1", json!({})), vec![at("a", 10), at("b", 10)])];
        let why = run(&nodes, &at("vip", 10), &[]).unwrap_err();
        assert_eq!(why, "0/1 nodes are available: 1 No preemption victims found for incoming pod.");
        let picky = pod("p", json!({"spec": {"priority": 99, "nodeSelector": {"x": "y"}}}));
        let why = run(&nodes, &picky, &[]).unwrap_err();
        assert_eq!(why, "0/1 nodes are available: 1 Preemption is not helpful for scheduling.");
        let meek = pod("p", json!({"spec": {"priority": 99, "preemptionPolicy": "Never"}}));
        assert_eq!(
            run(&nodes, &PodInfo { requests: at("x", 0).requests, ..meek }, &[]).unwrap_err(),
            "not eligible due to preemptionPolicy=Never."
        );
    }

    #[test]
    fn a_budget_is_kept_when_another_node_will_do() {
        let guarded = |name: &str| PodInfo { labels: [("app".to_owned(), "db".to_owned())].into(), ..at(name, 1) };
        let nodes = [
            with(node("n1", json!({})), vec![guarded("a"), guarded("b")]),
            with(node("n2", json!({})), vec![at("c", 2), at("d", 2)]),
        ];
        let budget: PodDisruptionBudget = serde_json::from_value(json!({"metadata": {"namespace": "ns"},
            "spec": {"selector": {"matchLabels": {"app": "db"}}}, "status": {"disruptionsAllowed": 0,
            "currentHealthy": 2, "desiredHealthy": 2, "expectedPods": 2}}))
        .unwrap();
        assert_eq!(run(&nodes, &at("vip", 10), &[Budget::of(&budget)]).unwrap().node, "n2");
        assert_eq!(run(&nodes, &at("vip", 10), &[]).unwrap().node, "n1");
    }
}
