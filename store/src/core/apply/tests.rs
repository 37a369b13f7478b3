//! Transactions, comparisons and leases as tables.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::kv::RangeRequest;

fn put(key: &'static str, value: &'static str) -> Op {
    Op::Put(PutRequest { key: key.into(), value: value.into(), prev_kv: true, ..Default::default() })
}

fn leased(key: &'static str, lease: i64) -> Op {
    Op::Put(PutRequest { key: key.into(), value: Bytes::new(), lease, ..Default::default() })
}

fn range(key: &'static str, revision: i64) -> Op {
    Op::Range(RangeRequest { start: key.into(), revision, ..Default::default() })
}

fn delete(start: &'static str, end: &'static str) -> Op {
    Op::Delete { start: start.into(), end: end.into(), prev_kv: true }
}

fn compare(key: &'static str, end: &'static str, result: CompareResult, target: CompareTarget) -> Compare {
    Compare { key: key.into(), end: end.into(), result, target }
}

fn run(state: &mut State, compare: Vec<Compare>, success: Vec<Op>, failure: Vec<Op>) -> Result<TxnResponse, Error> {
    match state.apply(Command::Txn(TxnRequest { compare, success, failure }))? {
        Applied::Txn(response) => Ok(response),
        Applied::Done => panic!("not a transaction's answer"),
    }
}

fn sample() -> State {
    let mut state = State::default();
    run(&mut state, vec![], vec![put("a", "1"), put("b", "2")], vec![]).unwrap();
    run(&mut state, vec![], vec![put("a", "3")], vec![]).unwrap();
    state
}

#[test]
fn comparisons() {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{CreateRevision, Lease, ModRevision, Value, Version};
    let state = sample();
    let table = [
        ("a", "", Equal, Version(2), true),
        ("a", "", Equal, ModRevision(3), true),
        ("a", "", Equal, ModRevision(2), false),
        ("a", "", NotEqual, ModRevision(2), true),
        ("a", "", Greater, ModRevision(2), true),
        ("a", "", Less, ModRevision(4), true),
        ("a", "", Equal, CreateRevision(2), true),
        ("a", "", Equal, Value("3".into()), true),
        ("a", "", Greater, Value("2".into()), true),
        ("a", "", Equal, Lease(0), true),
        // A key that does not exist is all zeros, but has no value to compare.
        ("x", "", Equal, ModRevision(0), true),
        ("x", "", Equal, Version(0), true),
        ("x", "", NotEqual, Value("1".into()), false),
        ("x", "", Equal, Value(Bytes::new()), false),
        // Every key of a range must do.
        ("a", "c", Greater, ModRevision(1), true),
        ("a", "c", Greater, ModRevision(2), false),
        ("a", "\0", Equal, CreateRevision(2), true),
        ("x", "\0", Equal, Version(0), true),
        ("x", "\0", Equal, Value("1".into()), false),
    ];
    for (key, end, result, target, expected) in table {
        let text = format!("{key} {end:?} {result:?} {target:?}");
        assert_eq!(state.holds(&compare(key, end, result, target)), expected, "{text}");
    }
}

#[test]
fn all_writes_of_a_transaction_get_one_revision() {
    let mut state = sample();
    let nested = Op::Txn(TxnRequest { success: vec![put("n", "1")], ..Default::default() });
    let response =
        run(&mut state, vec![], vec![put("c", "1"), range("c", 0), delete("a", "c"), nested], vec![]).unwrap();
    assert_eq!(response.revision, 4);
    let [
        OpResponse::Put { prev: None },
        OpResponse::Range(read),
        OpResponse::Delete { deleted: 2, prev },
        OpResponse::Txn(inner),
    ] = &response.responses[..]
    else {
        panic!("{response:?}")
    };
    assert_eq!((read.kvs[0].mod_revision, read.revision), (4, 4), "a read sees the writes before it");
    assert_eq!((prev[0].mod_revision, prev[1].mod_revision), (3, 2));
    assert_eq!(inner.revision, 4);
    let places: Vec<_> = state.mvcc.changes().range((4, 0)..).map(|(place, _)| *place).collect();
    assert_eq!(places, [(4, 0), (4, 1), (4, 2), (4, 3)]);
    let nothing = run(&mut state, vec![], vec![delete("zzz", "")], vec![]).unwrap();
    assert_eq!(nothing.revision, 4, "what writes nothing takes no revision");
}

#[test]
fn nested_comparisons_are_decided_before_anything_is_written() {
    let mut state = sample();
    let unseen = compare("c", "", CompareResult::Equal, CompareTarget::Version(0));
    let nested =
        Op::Txn(TxnRequest { compare: vec![unseen], success: vec![put("d", "1")], failure: vec![put("e", "1")] });
    let response = run(&mut state, vec![], vec![put("c", "1"), nested], vec![]).unwrap();
    assert!(matches!(&response.responses[1], OpResponse::Txn(inner) if inner.succeeded));
    assert!(state.mvcc.get(&"d".into()).is_some() && state.mvcc.get(&"e".into()).is_none());
}

#[test]
fn what_fails_changes_nothing() {
    let mut state = sample();
    let bad = compare("a", "", CompareResult::Equal, CompareTarget::Version(9));
    for op in [leased("z", 5), range("a", 99)] {
        assert!(run(&mut state, vec![], vec![put("y", "1"), op.clone()], vec![]).is_err());
        let nested = Op::Txn(TxnRequest { compare: vec![bad.clone()], success: vec![], failure: vec![op.clone()] });
        assert!(run(&mut state, vec![], vec![put("y", "1"), nested], vec![]).is_err());
        run(&mut state, vec![bad.clone()], vec![op], vec![]).unwrap();
    }
    assert_eq!(state.mvcc.revision(), 3);
}

#[test]
fn leases_follow_their_keys() {
    let mut state = sample();
    for id in [1, 2] {
        state.apply(Command::LeaseGrant { id, ttl: 10 }).unwrap();
    }
    run(&mut state, vec![], vec![leased("k", 1), leased("l", 1), leased("m", 2)], vec![]).unwrap();
    run(&mut state, vec![], vec![leased("k", 2)], vec![]).unwrap();
    run(&mut state, vec![], vec![delete("m", "")], vec![]).unwrap();
    let keys = |state: &State, id| state.keys_of(id).cloned().collect::<Vec<_>>();
    assert_eq!((keys(&state, 1), keys(&state, 2)), (vec![Bytes::from("l")], vec![Bytes::from("k")]));
    let mut again = state.clone();
    again.attach_all();
    assert!(again.attached == state.attached);
    let before = state.mvcc.revision();
    state.apply(Command::LeaseRevoke { id: 1 }).unwrap();
    assert_eq!(state.mvcc.revision(), before + 1);
    assert!(state.mvcc.get(&"l".into()).is_none() && state.mvcc.get(&"k".into()).is_some());
    assert!(matches!(state.apply(Command::LeaseRevoke { id: 1 }), Err(Error::LeaseNotFound)));
    state.apply(Command::LeaseCheckpoint { remaining: vec![(2, 7), (1, 7)] }).unwrap();
    assert_eq!(state.leases[&2].remaining, 7);
}
