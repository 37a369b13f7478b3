//! Pods that wait for a node: those to try now, those that back off, those that wait for the cluster to change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::NamespacedName;
use tokio::time::Instant;

use crate::model::PodInfo;

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// A Pod that no event has freed is tried again after this long.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Active,
    /// Tried again at this time.
    Backoff(Instant),
    /// Waits for a change since this time.
    Unschedulable(Instant),
    /// Being decided or bound.
    Busy,
}

struct Waiting {
    pod: Arc<PodInfo>,
    state: State,
    attempts: u32,
    tried: Instant,
    /// The cluster changed while the Pod was being decided: what was found is old.
    stale: bool,
    order: Order,
}

/// Higher priority first, then first come.
type Order = (std::cmp::Reverse<i32>, u64);

#[derive(Default)]
pub struct Queue {
    pods: HashMap<NamespacedName, Waiting>,
    active: BTreeMap<Order, NamespacedName>,
    came: u64,
}

impl Queue {
    /// Adds a Pod, or puts its newer self in its place.
    pub fn put(&mut self, pod: PodInfo, now: Instant) {
        let key = NamespacedName::new(&pod.namespace, &pod.name);
        if let Some(waiting) = self.pods.get_mut(&key).filter(|waiting| waiting.pod.uid == pod.uid) {
            let changed = waiting.pod.pod.spec != pod.pod.spec || waiting.pod.labels != pod.labels;
            waiting.pod = Arc::new(pod);
            if changed && matches!(waiting.state, State::Unschedulable(_)) {
                self.free(&key, now);
            }
            return;
        }
        self.remove(&key);
        self.came += 1;
        let order = (std::cmp::Reverse(pod.priority), self.came);
        let pod = Arc::new(pod);
        let waiting = Waiting { pod, state: State::Active, attempts: 0, tried: now, stale: false, order };
        self.active.insert(order, key.clone());
        self.pods.insert(key, waiting);
    }

    pub fn remove(&mut self, key: &NamespacedName) {
        if let Some(waiting) = self.pods.remove(key) {
            self.active.remove(&waiting.order);
        }
    }

    /// The next Pod to decide on.
    pub fn pop(&mut self, now: Instant) -> Option<Arc<PodInfo>> {
        self.ripen(now);
        let (_, key) = self.active.pop_first()?;
        let waiting = self.pods.get_mut(&key)?;
        waiting.state = State::Busy;
        waiting.attempts += 1;
        waiting.tried = now;
        waiting.stale = false;
        Some(Arc::clone(&waiting.pod))
    }

    /// When [`Self::pop`] may have a Pod without any event before.
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadline = |waiting: &Waiting| match waiting.state {
            State::Backoff(at) => Some(at),
            State::Unschedulable(since) => Some(since + LONGEST_WAIT),
            State::Active | State::Busy => None,
        };
        self.pods.values().filter_map(deadline).min()
    }

    fn ripen(&mut self, now: Instant) {
        let ripe = |waiting: &Waiting| match waiting.state {
            State::Backoff(at) => at <= now,
            State::Unschedulable(since) => since + LONGEST_WAIT <= now,
            State::Active | State::Busy => false,
        };
        for (key, waiting) in self.pods.iter_mut().filter(|(_, waiting)| ripe(waiting)) {
            waiting.state = State::Active;
            self.active.insert(waiting.order, key.clone());
        }
    }

    /// No node will do: waits for a change, or backs off when one came meanwhile.
    pub fn unschedulable(&mut self, key: &NamespacedName, now: Instant) {
        if let Some(waiting) = self.pods.get_mut(key).filter(|waiting| waiting.state == State::Busy) {
            waiting.state = if waiting.stale {
                State::Backoff(waiting.tried + backoff(waiting.attempts))
            } else {
                State::Unschedulable(now)
            };
        }
    }

    /// Something failed that is not the Pod's fault: backs off.
    pub fn failed(&mut self, key: &NamespacedName, now: Instant) {
        if let Some(waiting) = self.pods.get_mut(key).filter(|waiting| waiting.state == State::Busy) {
            waiting.state = State::Backoff(now + backoff(waiting.attempts));
        }
    }

    /// The cluster changed in a way that may help the Pods for which `concerns` holds.
    pub fn changed(&mut self, now: Instant, concerns: impl Fn(&PodInfo) -> bool) {
        let mut free = Vec::new();
        for (key, waiting) in self.pods.iter_mut().filter(|(_, waiting)| concerns(&waiting.pod)) {
            match waiting.state {
                State::Busy => waiting.stale = true,
                State::Unschedulable(_) => free.push(key.clone()),
                State::Active | State::Backoff(_) => {}
            }
        }
        for key in free {
            self.free(&key, now);
        }
    }

    fn free(&mut self, key: &NamespacedName, now: Instant) {
        let Some(waiting) = self.pods.get_mut(key) else { return };
        let at = waiting.tried + backoff(waiting.attempts);
        if at <= now {
            waiting.state = State::Active;
            self.active.insert(waiting.order, key.clone());
        } else {
            waiting.state = State::Backoff(at);
        }
    }
}

fn backoff(attempts: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << attempts.saturating_sub(1).min(10)).min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::decide::tests::pod;

    #[tokio::test(start_paused = true)]
    async fn a_pod_waits_for_a_change_and_then_for_its_backoff() {
        let mut queue = Queue::default();
        let key = NamespacedName::new("ns", "p");
        queue.put(pod("p", json!({})), Instant::now());
        assert!(queue.pop(Instant::now()).is_some());
        queue.unschedulable(&key, Instant::now());
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(queue.pop(Instant::now()).is_none());
        queue.changed(Instant::now(), |_| true);
        assert!(queue.pop(Instant::now()).is_none(), "backs off");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(queue.pop(Instant::now()).is_some());
        queue.changed(Instant::now(), |_| true);
        queue.unschedulable(&key, Instant::now());
        assert!(queue.next_deadline().unwrap() <= Instant::now() + Duration::from_secs(2), "what was found was old");
    }

    #[tokio::test(start_paused = true)]
    async fn the_important_come_first_and_then_who_came_first() {
        let mut queue = Queue::default();
        for (name, priority) in [("a", 0), ("b", 0), ("vip", 9)] {
            queue.put(pod(name, json!({"spec": {"priority": priority}})), Instant::now());
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(Instant::now())).map(|pod| pod.name.clone()).collect();
        assert_eq!(order, ["vip", "a", "b"]);
    }
}
