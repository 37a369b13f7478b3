//! Room on a node: whether a Pod fits, how much would be left, how even the use would be.

use super::Reason;
use crate::model::{NodeInfo, PodInfo, non_zero};

pub fn filter(pod: &PodInfo, node: &NodeInfo) -> Result<(), Vec<Reason>> {
    let mut lacks = Vec::new();
    if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) + 1 > node.max_pods {
        lacks.push(Reason::unschedulable("Too many pods"));
    }
    let (asked, has, used) = (&pod.requests, &node.allocatable, &node.requested);
    let mut check = |name: &str, asked: i64, has: i64, used: i64| {
        if asked > 0 && asked > has - used {
            let text = format!("Insufficient {name}");
            // What the empty node has not, no preemption gives.
            lacks.push(if asked > has { Reason::unresolvable(text) } else { Reason::unschedulable(text) });
        }
    };
    check("cpu", asked.cpu, has.cpu, used.cpu);
    check("memory", asked.memory, has.memory, used.memory);
    check("ephemeral-storage", asked.storage, has.storage, used.storage);
    for (name, amount) in &asked.others {
        let of = |all: &std::collections::BTreeMap<String, i64>| all.get(name).copied().unwrap_or(0);
        check(name, *amount, of(&has.others), of(&used.others));
    }
    if lacks.is_empty() { Ok(()) } else { Err(lacks) }
}

/// More left of CPU and memory is better (LeastAllocated).
pub fn score_least_allocated(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let (cpu, memory) = non_zero(&pod.requests);
    let left = |has: i64, used: i64| if has == 0 || used > has { 0 } else { (has - used) * 100 / has };
    let sum =
        left(node.allocatable.cpu, node.non_zero.0 + cpu) + left(node.allocatable.memory, node.non_zero.1 + memory);
    sum / 2
}

/// A more even use of CPU and memory is better (BalancedAllocation). Pods that ask for nothing change no balance.
pub fn score_balanced(pod: &PodInfo, node: &NodeInfo) -> i64 {
    if pod.requests.cpu == 0 && pod.requests.memory == 0 {
        return 0;
    }
    let fraction = |used: i64, has: i64| {
        if has == 0 {
            return 1.0;
        }
        // Shares of a node need no more precision than f64 has.
        #[allow(clippy::cast_precision_loss)]
        let share = used as f64 / has as f64;
        share.min(1.0)
    };
    let cpu = fraction(node.requested.cpu + pod.requests.cpu, node.allocatable.cpu);
    let memory = fraction(node.requested.memory + pod.requests.memory, node.allocatable.memory);
    // Of two values the standard deviation is half their distance.
    let deviation = (cpu - memory).abs() / 2.0;
    #[allow(clippy::cast_possible_truncation)]
    let score = ((1.0 - deviation) * 100.0) as i64;
    score
}
