//! What a controller has asked for and not yet seen: until its informer shows it, the controller must not ask again.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use api::NamespacedName;
use parking_lot::Mutex;
use tokio::time::Instant;

/// After this long an expectation is given up: an event may have been merged away.
const TIMEOUT: Duration = Duration::from_secs(300);

struct Expected {
    creations: usize,
    deletions: HashSet<String>,
    since: Instant,
}

#[derive(Default)]
pub struct Expectations(Mutex<HashMap<NamespacedName, Expected>>);

impl Expectations {
    /// Whether everything asked for has been seen.
    pub fn satisfied(&self, key: &NamespacedName) -> bool {
        let mut all = self.0.lock();
        match all.get(key) {
            None => true,
            Some(one) if (one.creations == 0 && one.deletions.is_empty()) || one.since.elapsed() > TIMEOUT => {
                all.remove(key);
                true
            }
            Some(_) => false,
        }
    }

    pub fn expect_creations(&self, key: &NamespacedName, count: usize) {
        let expected = Expected { creations: count, deletions: HashSet::new(), since: Instant::now() };
        self.0.lock().insert(key.clone(), expected);
    }

    pub fn expect_deletions(&self, key: &NamespacedName, uids: impl Iterator<Item = String>) {
        let expected = Expected { creations: 0, deletions: uids.collect(), since: Instant::now() };
        self.0.lock().insert(key.clone(), expected);
    }

    /// One creation was seen, or has failed.
    pub fn creation_seen(&self, key: &NamespacedName) {
        if let Some(one) = self.0.lock().get_mut(key) {
            one.creations = one.creations.saturating_sub(1);
        }
    }

    /// A deletion was seen (its mark is enough), or has failed.
    pub fn deletion_seen(&self, key: &NamespacedName, uid: &str) {
        if let Some(one) = self.0.lock().get_mut(key) {
            one.deletions.remove(uid);
        }
    }

    pub fn forget(&self, key: &NamespacedName) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_until_seen_or_given_up() {
        let expectations = Expectations::default();
        let key = NamespacedName::new("ns", "rs");
        assert!(expectations.satisfied(&key));
        expectations.expect_creations(&key, 2);
        expectations.creation_seen(&key);
        assert!(!expectations.satisfied(&key));
        expectations.creation_seen(&key);
        assert!(expectations.satisfied(&key));
        expectations.expect_deletions(&key, ["a".to_owned()].into_iter());
        expectations.deletion_seen(&key, "b");
        assert!(!expectations.satisfied(&key));
        tokio::time::advance(TIMEOUT + Duration::from_secs(1)).await;
        assert!(expectations.satisfied(&key));
    }
}
