//! Connections of clients that have not yet shown who they are: few, and not for long, so that they keep nobody out.
//!
//! A connection is a stranger's until one of its requests was somebody's. When there are too many strangers, the oldest
//! is cut for a new one: a client with a credential needs a few milliseconds, so it is not the oldest. The API server
//! and the kubelet accept connections by this.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a connection that is to close may finish what it is at.
pub const DRAIN: Duration = Duration::from_secs(10);

/// How a connection stands.
#[derive(Debug)]
pub struct Standing {
    known: AtomicBool,
    /// Requests whose answers are not done.
    running: AtomicUsize,
    /// When a request began or ended last.
    last: Mutex<Instant>,
    /// Tells that a request began or ended.
    changed: Notify,
    /// Cancelled when the connection must make place.
    pub cut: CancellationToken,
}

impl Standing {
    fn new() -> Self {
        Self {
            known: AtomicBool::new(false),
            running: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
            changed: Notify::new(),
            cut: CancellationToken::new(),
        }
    }

    /// The client has shown who it is.
    pub fn vouch(&self) {
        if !self.known.load(Ordering::Relaxed) {
            self.known.store(true, Ordering::Relaxed);
        }
    }

    pub fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// A request begins; it ends when the value is dropped.
    pub fn begin(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::AcqRel);
        Running(self.clone())
    }

    /// Returns when the connection did nothing for longer than it may, as a stranger's or as that of somebody known.
    pub async fn idle(&self, stranger: Duration, known: Duration) {
        loop {
            let changed = self.changed.notified();
            if self.running.load(Ordering::Acquire) > 0 {
                changed.await;
                continue;
            }
            let limit = if self.is_known() { known } else { stranger };
            let end = *self.last.lock() + limit;
            if Instant::now() >= end {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

/// A request whose answer is not done.
#[derive(Debug)]
pub struct Running(Arc<Standing>);

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.last.lock() = Instant::now();
        if self.0.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.changed.notify_one();
        }
    }
}

/// All connections of strangers, the oldest first, and some that are not any more.
#[derive(Debug, Default)]
pub struct Strangers(Mutex<VecDeque<Arc<Standing>>>);

impl Strangers {
    /// A new connection, a stranger's; whether another had to be cut for it.
    pub fn enter(&self, most: usize) -> (Arc<Standing>, bool) {
        let standing = Arc::new(Standing::new());
        let mut waiting = self.0.lock();
        if waiting.len() >= most {
            // Who is known by now, or gone, is no stranger.
            waiting.retain(|other| !other.is_known() && Arc::strong_count(other) > 1);
        }
        let oldest = if waiting.len() >= most { waiting.pop_front() } else { None };
        waiting.push_back(standing.clone());
        drop(waiting);
        let crowded = oldest.is_some();
        if let Some(oldest) = oldest {
            oldest.cut.cancel();
        }
        (standing, crowded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_stranger_makes_place() {
        const MOST: usize = 4;
        let strangers = Strangers::default();
        let entered: Vec<_> = (0..MOST).map(|_| strangers.enter(MOST)).collect();
        assert!(entered.iter().all(|(standing, crowded)| !crowded && !standing.cut.is_cancelled()));
        entered[0].0.vouch();
        // The first is known: its place is free without cutting.
        let (fifth, crowded) = strangers.enter(MOST);
        assert!(!crowded);
        // One that is gone makes place too.
        drop(fifth);
        let (_sixth, crowded) = strangers.enter(MOST);
        assert!(!crowded);
        let (_seventh, crowded) = strangers.enter(MOST);
        assert!(crowded);
        let cut: Vec<bool> = entered.iter().map(|(standing, _)| standing.cut.is_cancelled()).collect();
        assert_eq!(cut, [false, true, false, false]);
    }

    #[tokio::test]
    async fn connections_that_do_nothing_end() {
        let short = Duration::from_millis(20);
        let (standing, _) = Strangers::default().enter(1);
        let begun = Instant::now();
        standing.idle(short, short * 3).await;
        assert!(begun.elapsed() >= short);
        standing.vouch();
        let running = standing.begin();
        let waits = tokio::time::timeout(short * 10, standing.idle(short, short * 3)).await;
        assert!(waits.is_err(), "a request was running");
        let ended = Instant::now();
        drop(running);
        standing.idle(short, short * 3).await;
        assert!(ended.elapsed() >= short * 3);
    }
}
