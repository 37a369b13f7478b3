//! Up to which store revision the caches have taken events in, and waiting for it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The applied revision. Waiters are told one by one, in no order.
#[derive(Default)]
pub struct Progress {
    applied: AtomicI64,
    waiters: Mutex<Vec<(i64, oneshot::Sender<()>)>>,
}

impl Progress {
    pub fn applied(&self) -> i64 {
        self.applied.load(Ordering::Acquire)
    }

    pub fn advance(&self, revision: i64) {
        if revision <= self.applied.load(Ordering::Acquire) {
            return;
        }
        let mut waiters = self.waiters.lock();
        self.applied.store(revision, Ordering::Release);
        let mut at = 0;
        while at < waiters.len() {
            if waiters[at].0 <= revision {
                let (_, waiter) = waiters.swap_remove(at);
                // A waiter that gave up has dropped its end.
                let _ = waiter.send(());
            } else {
                at += 1;
            }
        }
    }

    /// Returns once `revision` is applied; `false` when that took longer than `patience`.
    pub async fn wait(&self, revision: i64, patience: Duration) -> bool {
        if self.applied() >= revision {
            return true;
        }
        let told = {
            let mut waiters = self.waiters.lock();
            if self.applied.load(Ordering::Acquire) >= revision {
                return true;
            }
            waiters.retain(|(_, w)| !w.is_closed());
            let (tell, told) = oneshot::channel();
            waiters.push((revision, tell));
            told
        };
        tokio::time::timeout(patience, told).await.is_ok_and(|r| r.is_ok())
    }
}
