//! Pure: what becomes of an object, by the state of its owners.

use kube::api::PropagationPolicy;

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

/// An owner, as the API knows it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    Solid,
    /// There is no such object with this UID.
    Dangling,
    /// It waits for its dependents to be deleted.
    Waiting,
}

#[derive(Debug, PartialEq)]
pub enum Verdict {
    Keep,
    /// Some owner is left: the references to these UIDs go.
    Drop(Vec<String>),
    Delete {
        propagation: PropagationPolicy,
        /// A dependent waits for its own dependents: were it to block this object, a circle of owners would wait for
        /// itself forever.
        unblock: bool,
    },
}

/// `owners` are the UIDs of an object's owners and their state; `dependents` whether each of the object's own
/// dependents waits for its dependents.
pub fn decide(owners: &[(&str, OwnerState)], finalizers: &[String], dependents: &[bool]) -> Verdict {
    let is = |state: OwnerState| owners.iter().any(|(_, one)| *one == state);
    if owners.is_empty() {
        return Verdict::Keep;
    }
    if is(OwnerState::Solid) {
        let others = owners.iter().filter(|(_, state)| *state != OwnerState::Solid);
        let others: Vec<_> = others.map(|(uid, _)| (*uid).to_owned()).collect();
        return if others.is_empty() { Verdict::Keep } else { Verdict::Drop(others) };
    }
    if is(OwnerState::Waiting) && !dependents.is_empty() {
        let unblock = dependents.contains(&true);
        return Verdict::Delete { propagation: PropagationPolicy::Foreground, unblock };
    }
    let has = |wanted: &str| finalizers.iter().any(|finalizer| finalizer == wanted);
    let propagation = if has(ORPHAN) {
        PropagationPolicy::Orphan
    } else if has(FOREGROUND) {
        PropagationPolicy::Foreground
    } else {
        PropagationPolicy::Background
    };
    Verdict::Delete { propagation, unblock: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        use OwnerState::{Dangling, Solid, Waiting};
        let delete = |propagation, unblock| Verdict::Delete { propagation, unblock };
        let background = || delete(PropagationPolicy::Background, false);
        type Case<'a> = (&'a [OwnerState], &'a [&'a str], &'a [bool], Verdict);
        let cases: &[Case<'_>] = &[
            (&[], &[], &[], Verdict::Keep),
            (&[Solid], &[], &[], Verdict::Keep),
            (&[Solid, Dangling, Waiting], &[], &[], Verdict::Drop(vec!["1".to_owned(), "2".to_owned()])),
            (&[Dangling], &[], &[], background()),
            (&[Dangling, Dangling], &[], &[false], background()),
            (&[Dangling], &[ORPHAN], &[], delete(PropagationPolicy::Orphan, false)),
            (&[Dangling], &[FOREGROUND], &[], delete(PropagationPolicy::Foreground, false)),
            (&[Waiting], &[], &[], background()),
            (&[Waiting], &[ORPHAN], &[false], delete(PropagationPolicy::Foreground, false)),
            (&[Waiting, Dangling], &[], &[false, true], delete(PropagationPolicy::Foreground, true)),
        ];
        for (states, finalizers, dependents, expected) in cases {
            let owners: Vec<_> = ["0", "1", "2"].into_iter().zip(states.iter().copied()).collect();
            let finalizers: Vec<_> = finalizers.iter().map(|f| (*f).to_owned()).collect();
            assert_eq!(decide(&owners, &finalizers, dependents), *expected, "{states:?} {finalizers:?}");
        }
    }
}
