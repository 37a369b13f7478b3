//! How long to wait before what failed is tried again: briefly at first, for a server that was restarted answers soon;
//! longer each time, and never so long that one that is back would wait for its clients.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// After this long without a failure, the next one is a first one.
const WELL: Duration = Duration::from_secs(30);

/// Waits of a tenth of a second to five seconds, each up to a fifth longer or shorter, so that many clients do not come
/// all at once.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    last: Option<Instant>,
}

impl Backoff {
    /// How long to wait now that something has failed.
    pub fn wait(&mut self) -> Duration {
        let now = Instant::now();
        if self.last.is_some_and(|last| now.duration_since(last) > WELL) {
            self.failures = 0;
        }
        let wait = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.last = Some(now + wait);
        let jitter = u32::try_from(RandomState::new().hash_one(self.failures) % 41).unwrap_or(0);
        wait * (80 + jitter) / 100
    }

    /// How many failures there were in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_grow_to_five_seconds_and_begin_anew_after_a_good_while() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..12).map(|_| backoff.wait()).collect();
        assert!(waits[0] <= FIRST * 6 / 5, "{waits:?}");
        assert!(waits[1] > waits[0] / 2, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= LONGEST * 6 / 5), "{waits:?}");
        assert!(waits[11] >= LONGEST * 4 / 5, "{waits:?}");
        tokio::time::advance(WELL * 2).await;
        assert!(backoff.wait() <= FIRST * 6 / 5);
    }
}
