//! Exponential back-off as upstream's flowcontrol.Backoff: doubled at each use, forgotten after twice its longest wait.

use crate::time::{Nanos, SECOND};

/// One thing's back-off: when it was last used, and how long it waits now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub wait: Nanos,
    pub updated: Nanos,
}

/// First and longest wait.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub first: Nanos,
    pub longest: Nanos,
}

/// Restarts of containers, and image pulls: 10 s doubling to 300 s, reset after 10 minutes.
pub const RESTART: Limits = Limits { first: 10 * SECOND, longest: 300 * SECOND };
/// Volumes: upstream's exponential back-off of mount operations.
pub const VOLUME: Limits = Limits { first: SECOND / 2, longest: 122 * SECOND };

impl Limits {
    fn expired(&self, entry: &Entry, event: Nanos) -> bool {
        event - entry.updated > 2 * self.longest
    }

    /// Until when something that failed at `event` waits; `None` when it may be tried at `now`.
    pub fn wait_until(&self, entry: Option<&Entry>, event: Nanos, now: Nanos) -> Option<Nanos> {
        let entry = entry.filter(|e| !self.expired(e, event))?;
        let until = event + entry.wait;
        (until > now).then_some(until)
    }

    /// The entry after one more try, made at `now` after a failure at `event`.
    pub fn next(&self, entry: Option<&Entry>, event: Nanos, now: Nanos) -> Entry {
        let wait = match entry.filter(|e| !self.expired(e, event)) {
            Some(entry) => (entry.wait * 2).min(self.longest),
            None => self.first,
        };
        Entry { wait, updated: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crash_loop_waits_10_20_40_to_300_and_resets() {
        let mut entry: Option<Entry> = None;
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..8 {
            let failed = now;
            if let Some(until) = RESTART.wait_until(entry.as_ref(), failed, now) {
                waits.push((until - now) / SECOND);
                now = until;
            }
            entry = Some(RESTART.next(entry.as_ref(), failed, now));
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        let later = now + 601 * SECOND;
        assert_eq!(RESTART.wait_until(entry.as_ref(), later, later), None);
        assert_eq!(RESTART.next(entry.as_ref(), later, later).wait, 10 * SECOND);
    }
}
