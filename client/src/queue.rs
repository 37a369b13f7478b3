//! A work queue with the contract of client-go's: a key waits at most once, is worked on by one worker at a time, and
//! comes back later when its work failed, each time after twice the wait.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// First wait of a failing key, and the longest, as in client-go's default rate limiter.
const FIRST_BACKOFF: Duration = Duration::from_millis(5);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1000);

struct State<T> {
    waiting: VecDeque<T>,
    /// Keys that wait, or that came in again while being worked on.
    dirty: HashSet<T>,
    working: HashSet<T>,
    failures: HashMap<T, u32>,
    /// When keys come in that were added with a delay: of several times the first.
    delayed: HashMap<T, Instant>,
    closed: bool,
}

/// Keys are bounded by what exists: each is held at most once. Clones share the queue.
pub struct WorkQueue<T> {
    state: Arc<Mutex<State<T>>>,
    ready: Arc<Notify>,
}

impl<T> Clone for WorkQueue<T> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state), ready: Arc::clone(&self.ready) }
    }
}

impl<T: Clone + Eq + Hash + Send + 'static> Default for WorkQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone + Eq + Hash + Send + 'static> WorkQueue<T> {
    pub fn new() -> Self {
        let state = State {
            waiting: VecDeque::new(),
            dirty: HashSet::new(),
            working: HashSet::new(),
            failures: HashMap::new(),
            delayed: HashMap::new(),
            closed: false,
        };
        Self { state: Arc::new(Mutex::new(state)), ready: Arc::new(Notify::new()) }
    }

    /// Adds a key unless it waits already.
    pub fn add(&self, key: T) {
        {
            let mut state = self.state.lock();
            if state.closed || !state.dirty.insert(key.clone()) {
                return;
            }
            if state.working.contains(&key) {
                return;
            }
            state.waiting.push_back(key);
        }
        self.ready.notify_one();
    }

    /// Adds a key after a delay, unless it comes in before that anyway. Must be called within a tokio runtime.
    pub fn add_after(&self, key: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + delay;
        {
            let mut state = self.state.lock();
            if state.closed || state.delayed.get(&key).is_some_and(|earlier| *earlier <= at) {
                return;
            }
            state.delayed.insert(key.clone(), at);
        }
        let queue = self.clone();
        crate::spawn(async move {
            tokio::time::sleep_until(at).await;
            // An earlier time may have come after this one.
            let due = {
                let mut state = queue.state.lock();
                let due = state.delayed.get(&key) == Some(&at);
                if due {
                    state.delayed.remove(&key);
                }
                due
            };
            if due {
                queue.add(key);
            }
        });
    }

    /// Adds a key whose work failed, after its back-off.
    pub fn add_rate_limited(&self, key: T) {
        let delay = {
            let mut state = self.state.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            let delay = FIRST_BACKOFF.saturating_mul(1 << (*failures).min(20));
            *failures = failures.saturating_add(1);
            delay.min(LONGEST_BACKOFF)
        };
        self.add_after(key, delay);
    }

    /// Forgets a key's failures: its work succeeded.
    pub fn forget(&self, key: &T) {
        self.state.lock().failures.remove(key);
    }

    /// The next key; `None` once the queue is closed and empty. Call [`Self::done`] when its work ended.
    pub async fn next(&self) -> Option<T> {
        loop {
            let notified = self.ready.notified();
            {
                let mut state = self.state.lock();
                if let Some(key) = state.waiting.pop_front() {
                    state.dirty.remove(&key);
                    state.working.insert(key.clone());
                    if !state.waiting.is_empty() {
                        self.ready.notify_one();
                    }
                    return Some(key);
                }
                if state.closed {
                    self.ready.notify_one();
                    return None;
                }
            }
            notified.await;
        }
    }

    /// Ends the work on a key; it waits again if it was added meanwhile.
    pub fn done(&self, key: &T) {
        let again = {
            let mut state = self.state.lock();
            state.working.remove(key);
            let again = state.dirty.contains(key);
            if again {
                state.waiting.push_back(key.clone());
            }
            again
        };
        if again {
            self.ready.notify_one();
        }
    }

    /// No more keys come in; workers finish what waits.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.ready.notify_waiters();
        self.ready.notify_one();
    }

    pub fn len(&self) -> usize {
        self.state.lock().waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a controller does about a key. Boxed, so that all controllers over keys of one type share the code around it.
pub type Work<T> = Arc<dyn Fn(T) -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>;

/// Runs `workers` workers over a queue until it is closed: failed keys come back with back-off, their error is logged.
pub async fn run<T>(queue: WorkQueue<T>, workers: usize, name: &'static str, work: Work<T>)
where
    T: Clone + Eq + Hash + Send + std::fmt::Debug + 'static,
{
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..workers {
        let (queue, work) = (queue.clone(), work.clone());
        tasks.spawn(async move {
            while let Some(key) = queue.next().await {
                match work(key.clone()).await {
                    Ok(()) => queue.forget(&key),
                    Err(error) => {
                        tracing::debug!(controller = name, ?key, error = format!("{error:#}"), "will try again");
                        queue.add_rate_limited(key.clone());
                    }
                }
                queue.done(&key);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(controller = name, %error, "a worker ended unexpectedly");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_key_waits_once_and_comes_back_when_added_while_worked_on() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        assert!(queue.is_empty(), "not handed to a second worker while the first is on it");
        queue.done(&"a");
        assert_eq!(queue.next().await, Some("a"));
        queue.done(&"a");
        queue.close();
        assert_eq!(queue.next().await, None);
        assert_eq!(queue.next().await, None, "every worker ends");
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_delays_the_shortest_counts() {
        let queue = WorkQueue::new();
        let start = Instant::now();
        for seconds in [30, 10, 20] {
            queue.add_after("a", Duration::from_secs(seconds));
        }
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(start.elapsed().as_secs(), 10);
        queue.done(&"a");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(queue.is_empty(), "the later times were given up");
        queue.add_after("a", Duration::from_secs(1));
        assert_eq!(queue.next().await, Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_key_waits_twice_as_long_each_time() {
        let queue = WorkQueue::new();
        let start = Instant::now();
        for expected in [5, 10, 20] {
            let before = Instant::now();
            queue.add_rate_limited(1);
            assert_eq!(queue.next().await, Some(1));
            assert!(before.elapsed() >= Duration::from_millis(expected));
            queue.done(&1);
        }
        queue.forget(&1);
        let before = Instant::now();
        queue.add_rate_limited(1);
        assert_eq!(queue.next().await, Some(1));
        assert!(before.elapsed() < Duration::from_millis(10), "{:?}", start.elapsed());
    }
}
