//! When leases end: the leader's deadlines, kept off the log. Time comes in as milliseconds of a clock that never goes
//! back. A lease never ends early; after a change of leader or a restart it gets its full (or checkpointed) time anew.

use std::collections::{BTreeSet, HashMap};

use super::state::State;

/// etcd's least time to live with its default election timeout, in seconds.
pub const MIN_TTL: i64 = 2;
/// etcd's greatest, in seconds.
pub const MAX_TTL: i64 = 9_000_000_000;
/// How often what is left of a long lease is written to the log, in milliseconds.
const CHECKPOINT_EVERY: u64 = 300_000;
/// Revocations proposed in one tick, so that a mass expiry stays a bounded batch.
const EXPIRE_AT_ONCE: usize = 256;

struct Deadline {
    ttl: i64,
    at: u64,
    checkpoint: Option<u64>,
    /// Whether the log holds a checkpoint that a renewal must clear.
    checkpointed: bool,
    /// Expired; its revocation is on the way.
    ending: bool,
}

#[derive(Default)]
pub struct Lessor {
    leases: HashMap<i64, Deadline>,
    /// (milliseconds, lease) of everything to come.
    expiries: BTreeSet<(u64, i64)>,
    checkpoints: BTreeSet<(u64, i64)>,
}

/// What the leader should propose now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    pub expired: Vec<i64>,
    /// (lease, seconds left).
    pub checkpoints: Vec<(i64, i64)>,
}

impl Lessor {
    /// Begins anew with the leases of `state`, as a leader does.
    pub fn promote(&mut self, state: &State, now: u64) {
        *self = Lessor::default();
        for (id, lease) in &state.leases {
            let left = if lease.remaining > 0 { lease.remaining } else { lease.ttl };
            self.insert(*id, lease.ttl, left, lease.remaining > 0, now);
        }
    }

    /// Forgets all deadlines: only a leader ends leases.
    pub fn demote(&mut self) {
        *self = Lessor::default();
    }

    pub fn granted(&mut self, id: i64, ttl: i64, now: u64) {
        self.revoked(id);
        self.insert(id, ttl, ttl, false, now);
    }

    pub fn revoked(&mut self, id: i64) {
        if let Some(old) = self.leases.remove(&id) {
            self.expiries.remove(&(old.at, id));
            if let Some(at) = old.checkpoint {
                self.checkpoints.remove(&(at, id));
            }
        }
    }

    fn insert(&mut self, id: i64, ttl: i64, left: i64, checkpointed: bool, now: u64) {
        let at = now.saturating_add((left as u64).saturating_mul(1000));
        let checkpoint = now + CHECKPOINT_EVERY;
        let checkpoint = (checkpoint < at).then_some(checkpoint);
        self.expiries.insert((at, id));
        if let Some(at) = checkpoint {
            self.checkpoints.insert((at, id));
        }
        self.leases.insert(id, Deadline { ttl, at, checkpoint, checkpointed, ending: false });
    }

    /// Renews a lease. Returns its time to live in seconds and whether a checkpoint in the log must be cleared; `None`
    /// when it is unknown or has ended.
    pub fn keep_alive(&mut self, id: i64, now: u64) -> Option<(i64, bool)> {
        let lease = self.leases.get(&id)?;
        if lease.ending || lease.at <= now {
            return None;
        }
        let (ttl, checkpointed) = (lease.ttl, lease.checkpointed);
        self.granted(id, ttl, now);
        Some((ttl, checkpointed))
    }

    /// Whole seconds left, rounded up.
    pub fn left(&self, id: i64, now: u64) -> Option<i64> {
        let lease = self.leases.get(&id)?;
        Some(lease.at.saturating_sub(now).div_ceil(1000) as i64)
    }

    /// Takes what is due; it is not reported again.
    pub fn due(&mut self, now: u64) -> Due {
        let mut due = Due::default();
        while let Some((at, id)) = self.expiries.first().copied().filter(|(at, _)| *at <= now) {
            if due.expired.len() == EXPIRE_AT_ONCE {
                break;
            }
            self.expiries.remove(&(at, id));
            if let Some(lease) = self.leases.get_mut(&id) {
                lease.ending = true;
                due.expired.push(id);
            }
        }
        while let Some((at, id)) = self.checkpoints.first().copied().filter(|(at, _)| *at <= now) {
            self.checkpoints.remove(&(at, id));
            let Some(lease) = self.leases.get_mut(&id).filter(|lease| !lease.ending) else { continue };
            lease.checkpointed = true;
            lease.checkpoint = (now + CHECKPOINT_EVERY < lease.at).then_some(now + CHECKPOINT_EVERY);
            if let Some(next) = lease.checkpoint {
                self.checkpoints.insert((next, id));
            }
            due.checkpoints.push((id, lease.at.saturating_sub(now).div_ceil(1000) as i64));
        }
        due
    }

    /// The proposal to revoke `id` did not get into the log: it is due again at `again`.
    pub fn retry(&mut self, id: i64, again: u64) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.at = again;
            self.expiries.insert((again, id));
        }
    }

    /// When [`Lessor::due`] next has something.
    pub fn next(&self) -> Option<u64> {
        let times = [self.expiries.first(), self.checkpoints.first()];
        times.into_iter().flatten().map(|(at, _)| *at).min()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn ends_on_time_and_once() {
        let mut lessor = Lessor::default();
        lessor.granted(1, 10, 0);
        lessor.granted(2, 5, 0);
        assert_eq!(lessor.next(), Some(5_000));
        assert_eq!(lessor.due(4_999), Due::default());
        assert_eq!(lessor.keep_alive(1, 4_000), Some((10, false)));
        assert_eq!(lessor.due(5_000).expired, [2]);
        assert_eq!(lessor.due(9_000), Due::default());
        assert_eq!(lessor.keep_alive(2, 5_001), None, "it has ended");
        lessor.revoked(2);
        assert_eq!(lessor.left(1, 5_500), Some(9));
        assert_eq!(lessor.due(14_000).expired, [1]);
        lessor.retry(1, 15_000);
        assert_eq!(lessor.due(15_000).expired, [1]);
        lessor.revoked(1);
        assert_eq!(lessor.next(), None);
    }

    #[test]
    fn long_leases_are_checkpointed_until_renewed() {
        let mut lessor = Lessor::default();
        lessor.granted(7, 700, 0);
        assert_eq!(lessor.next(), Some(CHECKPOINT_EVERY));
        assert_eq!(lessor.due(CHECKPOINT_EVERY).checkpoints, [(7, 400)]);
        assert_eq!(lessor.due(2 * CHECKPOINT_EVERY).checkpoints, [(7, 100)]);
        assert_eq!(lessor.keep_alive(7, 600_001), Some((700, true)));
        assert_eq!(lessor.keep_alive(7, 600_002), Some((700, false)));
    }

    #[test]
    fn a_new_leader_gives_what_was_left_at_the_checkpoint() {
        let mut state = State::default();
        state.leases.insert(1, super::super::state::Lease { ttl: 700, remaining: 100 });
        state.leases.insert(2, super::super::state::Lease { ttl: 50, remaining: 0 });
        let mut lessor = Lessor::default();
        lessor.promote(&state, 1_000);
        assert_eq!((lessor.left(1, 1_000), lessor.left(2, 1_000)), (Some(100), Some(50)));
    }
}
