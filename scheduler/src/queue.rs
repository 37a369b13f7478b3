//! Pods that wait for a node: those to try now, those that back off, those that wait for the cluster to change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
    order: Order,
}

/// Higher priority first, then first come.
type Order = (std::cmp::Reverse<i32>, u64);

#[derive(Default)]
pub struct Queue {
    pods: HashMap<NamespacedName, Waiting>,
    active: BTreeMap<Order, NamespacedName>,
    /// Those that back off, by when that ends.
    backing_off: BTreeSet<(Instant, NamespacedName)>,
    /// Those that wait for a change, by since when.
    parked: BTreeSet<(Instant, NamespacedName)>,
    /// The Pod that was handed out last, and whether the cluster has changed since: what is found for it is old then.
    deciding: Option<(NamespacedName, bool)>,
    came: u64,
}

impl Queue {
    /// Adds a Pod, or puts its newer self in its place.
    pub fn put(&mut self, pod: PodInfo, now: Instant) {
        let key = NamespacedName::new(&pod.namespace, &pod.name);
        if let Some(waiting) = self.pods.get_mut(&key).filter(|waiting| waiting.pod.uid == pod.uid) {
            let changed = !waiting.pod.demands_as(&pod) || waiting.pod.spread != pod.spread;
            waiting.pod = Arc::new(pod);
            if changed && matches!(waiting.state, State::Unschedulable(_)) {
                self.free(&key, now);
            }
            return;
        }
        self.remove(&key);
        self.came += 1;
        let order = (std::cmp::Reverse(pod.priority), self.came);
        let waiting = Waiting { pod: Arc::new(pod), state: State::Active, attempts: 0, tried: now, order };
        self.active.insert(order, key.clone());
        self.pods.insert(key, waiting);
    }

    pub fn remove(&mut self, key: &NamespacedName) {
        self.set(key, State::Busy);
        self.pods.remove(key);
    }

    /// Moves a Pod from one state to another.
    fn set(&mut self, key: &NamespacedName, state: State) {
        let Some(waiting) = self.pods.get_mut(key) else { return };
        match waiting.state {
            State::Active => _ = self.active.remove(&waiting.order),
            State::Backoff(at) => _ = self.backing_off.remove(&(at, key.clone())),
            State::Unschedulable(since) => _ = self.parked.remove(&(since, key.clone())),
            State::Busy => {}
        }
        waiting.state = state;
        match state {
            State::Active => _ = self.active.insert(waiting.order, key.clone()),
            State::Backoff(at) => _ = self.backing_off.insert((at, key.clone())),
            State::Unschedulable(since) => _ = self.parked.insert((since, key.clone())),
            State::Busy => {}
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
        let pod = Arc::clone(&waiting.pod);
        self.deciding = Some((key, false));
        Some(pod)
    }

    /// When [`Self::pop`] may have a Pod without any event before.
    pub fn next_deadline(&self) -> Option<Instant> {
        let backoff = self.backing_off.first().map(|(at, _)| *at);
        let parked = self.parked.first().map(|(since, _)| *since + LONGEST_WAIT);
        backoff.into_iter().chain(parked).min()
    }

    fn ripen(&mut self, now: Instant) {
        while let Some((_, key)) = self.backing_off.first().filter(|(at, _)| *at <= now).cloned() {
            self.set(&key, State::Active);
        }
        while let Some((_, key)) = self.parked.first().filter(|(since, _)| *since + LONGEST_WAIT <= now).cloned() {
            self.set(&key, State::Active);
        }
    }

    /// No node will do: waits for a change, or backs off when one came meanwhile.
    pub fn unschedulable(&mut self, key: &NamespacedName, now: Instant) {
        let Some(waiting) = self.pods.get(key).filter(|waiting| waiting.state == State::Busy) else { return };
        let stale = self.deciding.as_ref().is_some_and(|(deciding, stale)| deciding == key && *stale);
        let again = State::Backoff(waiting.tried + backoff(waiting.attempts));
        self.set(key, if stale { again } else { State::Unschedulable(now) });
    }

    /// Something failed that is not the Pod's fault: backs off.
    pub fn failed(&mut self, key: &NamespacedName, now: Instant) {
        if let Some(waiting) = self.pods.get(key).filter(|waiting| waiting.state == State::Busy) {
            let state = State::Backoff(now + backoff(waiting.attempts));
            self.set(key, state);
        }
    }

    /// The cluster changed in a way that may help the Pods for which `concerns` holds.
    pub fn changed(&mut self, now: Instant, concerns: impl Fn(&PodInfo) -> bool) {
        if let Some((key, stale)) = &mut self.deciding
            && let Some(waiting) = self.pods.get(key)
        {
            *stale |= concerns(&waiting.pod);
        }
        let concerned = |key: &NamespacedName| self.pods.get(key).is_some_and(|waiting| concerns(&waiting.pod));
        let free: Vec<_> = self.parked.iter().filter(|(_, key)| concerned(key)).map(|(_, key)| key.clone()).collect();
        for key in free {
            self.free(&key, now);
        }
    }

    fn free(&mut self, key: &NamespacedName, now: Instant) {
        let Some(waiting) = self.pods.get(key) else { return };
        let at = waiting.tried + backoff(waiting.attempts);
        self.set(key, if at <= now { State::Active } else { State::Backoff(at) });
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
