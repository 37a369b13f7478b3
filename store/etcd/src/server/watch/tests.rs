//! Watches of one stream on a history made by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use store::core::mvcc::Mvcc;

use super::watchers::{NO_WATCH, Watchers};
use super::*;
use crate::proto::{Event, KeyValue, WatchCreateRequest, WatchFilter};

fn write(mvcc: &mut Mvcc, key: &str, value: Option<&str>) {
    mvcc.advance();
    let key = bytes::Bytes::copy_from_slice(key.as_bytes());
    match value {
        Some(value) => mvcc.put(0, &key, bytes::Bytes::copy_from_slice(value.as_bytes()), 0),
        None => mvcc.delete(0, &key),
    };
}

fn create(start: &'static str, end: &'static str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest { key: start.into(), range_end: end.into(), start_revision, ..Default::default() }
}

/// Steps until nothing is left; events as `id:key@revision`, ends as `id!compacted`.
fn drain(watchers: &mut Watchers, mvcc: &Mvcc) -> String {
    let mut seen = Vec::new();
    loop {
        let outcome = watchers.step(mvcc);
        for answer in outcome.responses {
            if answer.canceled {
                seen.push(format!("{}!{}", answer.watch_id, answer.compact_revision));
            }
            for event in &answer.events {
                let kv = event.kv.as_ref().unwrap();
                let sign = if event.r#type == 1 { "-" } else { "" };
                let prev = event.prev_kv.as_ref().map(|kv| format!("<{}", kv.mod_revision)).unwrap_or_default();
                let key = String::from_utf8_lossy(&kv.key);
                seen.push(format!("{}:{sign}{key}@{}{prev}", answer.watch_id, kv.mod_revision));
            }
        }
        if !outcome.more {
            return seen.join(" ");
        }
    }
}

/// a@2 b@3 a@4 -b@5
fn sample() -> Mvcc {
    let mut mvcc = Mvcc::default();
    for (key, value) in [("a", Some("1")), ("b", Some("1")), ("a", Some("2")), ("b", None)] {
        write(&mut mvcc, key, value);
    }
    mvcc
}

#[test]
fn past_present_and_future_together() {
    let mut mvcc = sample();
    let mut watchers = Watchers::new(mvcc.revision());
    assert_eq!(watchers.create(create("a", "c", 3), 5).watch_id, 0);
    assert_eq!(watchers.create(create("b", "", 0), 5).watch_id, 1);
    assert_eq!(watchers.create(create("", "\0", 8), 5).watch_id, 2);
    assert_eq!(drain(&mut watchers, &mvcc), "0:b@3 0:a@4 0:-b@5");
    for _ in 0..3 {
        write(&mut mvcc, "b", Some("x"));
    }
    assert_eq!(drain(&mut watchers, &mvcc), "0:b@6 0:b@7 0:b@8 1:b@6 1:b@7 1:b@8 2:b@8");
    assert_eq!(watchers.position(), 8);
}

#[test]
fn filters_and_previous_values() {
    let mvcc = sample();
    let mut watchers = Watchers::new(mvcc.revision());
    let filters = |filter: WatchFilter| vec![filter as i32];
    watchers.create(WatchCreateRequest { filters: filters(WatchFilter::NoPut), ..create("a", "c", 1) }, 5);
    watchers.create(WatchCreateRequest { filters: filters(WatchFilter::NoDelete), ..create("a", "c", 1) }, 5);
    watchers.create(WatchCreateRequest { prev_kv: true, ..create("a", "c", 4) }, 5);
    assert_eq!(drain(&mut watchers, &mvcc), "0:-b@5 1:a@2 1:b@3 1:a@4 2:a@4<2 2:-b@5<3");
}

#[test]
fn what_is_compacted_ends_a_watch_and_no_other() {
    let mut mvcc = sample();
    let mut watchers = Watchers::new(mvcc.revision());
    watchers.create(create("a", "c", 2), 5);
    watchers.create(create("a", "c", 4), 5);
    mvcc.compact(4).unwrap();
    assert_eq!(drain(&mut watchers, &mvcc), "0!4 1:a@4 1:-b@5");
    assert!(watchers.cancel(0).is_none() && watchers.cancel(1).is_some());
}

#[test]
fn refused_watches_say_why() {
    let mut watchers = Watchers::new(1);
    assert_eq!(watchers.create(WatchCreateRequest { watch_id: 7, ..create("a", "", 0) }, 1).watch_id, 7);
    let twice = watchers.create(WatchCreateRequest { watch_id: 7, ..create("b", "", 0) }, 1);
    let empty = watchers.create(create("b", "a", 0), 1);
    for answer in [twice, empty] {
        assert!(answer.created && answer.canceled && !answer.cancel_reason.is_empty());
        assert_eq!(answer.watch_id, NO_WATCH);
    }
}

#[test]
fn a_large_response_is_cut_only_when_asked() {
    let kv = KeyValue { value: vec![0; 1 << 20].into(), ..Default::default() };
    let event = Event { kv: Some(kv), ..Default::default() };
    let answer = WatchResponse { watch_id: 3, fragment: true, events: vec![event; 3], ..Default::default() };
    let parts: Vec<_> = split(answer.clone()).iter().map(|part| (part.events.len(), part.fragment)).collect();
    assert_eq!(parts, [(1, true), (1, true), (1, false)]);
    assert_eq!(split(WatchResponse { fragment: false, ..answer }).len(), 1);
}
