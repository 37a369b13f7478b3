//! History: reads at every revision, compaction, and a model that keeps everything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::BTreeMap;

use super::*;
use crate::disk::sim::Random;

fn key(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn put(mvcc: &mut Mvcc, name: &str, value: &str) {
    mvcc.advance();
    mvcc.put(0, &key(name), key(value), 0);
}

fn delete(mvcc: &mut Mvcc, name: &str) {
    mvcc.advance();
    mvcc.delete(0, &key(name));
}

/// a=1@2 b=1@3 a=2@4 -b@5 c=1@6 b=2@7
fn sample() -> Mvcc {
    let mut mvcc = Mvcc::default();
    put(&mut mvcc, "a", "1");
    put(&mut mvcc, "b", "1");
    put(&mut mvcc, "a", "2");
    delete(&mut mvcc, "b");
    put(&mut mvcc, "c", "1");
    put(&mut mvcc, "b", "2");
    mvcc
}

fn read(mvcc: &Mvcc, start: &str, end: &str, revision: i64) -> String {
    let request = RangeRequest { start: key(start), end: key(end), revision, ..Default::default() };
    let text = |kv: &KeyValue| format!("{}={}", String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value));
    mvcc.range(&request).unwrap().kvs.iter().map(text).collect::<Vec<_>>().join(" ")
}

#[test]
fn reads_at_every_revision() {
    let mvcc = sample();
    let table = [
        (1, ""),
        (2, "a=1"),
        (3, "a=1 b=1"),
        (4, "a=2 b=1"),
        (5, "a=2"),
        (6, "a=2 c=1"),
        (7, "a=2 b=2 c=1"),
        (0, "a=2 b=2 c=1"),
    ];
    for (revision, expected) in table {
        assert_eq!(read(&mvcc, "\0", "\0", revision), expected, "at {revision}");
    }
    assert_eq!(read(&mvcc, "b", "", 3), "b=1");
    assert_eq!(read(&mvcc, "a", "b", 6), "a=2");
    assert_eq!(read(&mvcc, "b", "a", 6), "");
    assert_eq!(read(&mvcc, "b", "\0", 6), "c=1");
}

#[test]
fn limits_counts_and_keys_only() {
    let mvcc = sample();
    let all = RangeRequest { start: key("a"), end: key("\0"), ..Default::default() };
    for revision in [0, 7] {
        let limited = mvcc.range(&RangeRequest { limit: 2, revision, ..all.clone() }).unwrap();
        assert_eq!((limited.kvs.len(), limited.more, limited.count, limited.revision), (2, true, 3, 7));
    }
    let exact = mvcc.range(&RangeRequest { limit: 3, ..all.clone() }).unwrap();
    assert_eq!((exact.kvs.len(), exact.more), (3, false));
    let counted = mvcc.range(&RangeRequest { count_only: true, limit: 1, ..all.clone() }).unwrap();
    assert_eq!((counted.kvs.len(), counted.count, counted.more), (0, 3, false));
    let bare = mvcc.range(&RangeRequest { keys_only: true, ..all }).unwrap();
    assert!(bare.kvs.iter().all(|kv| kv.value.is_empty() && kv.mod_revision > 0));
}

#[test]
fn versions_count_from_the_last_creation() {
    let mvcc = sample();
    let kv = |name: &str| mvcc.get(&key(name)).unwrap().kv.clone();
    assert_eq!((kv("a").create_revision, kv("a").mod_revision, kv("a").version), (2, 4, 2));
    assert_eq!((kv("b").create_revision, kv("b").mod_revision, kv("b").version), (7, 7, 1));
    assert_eq!(mvcc.before(&key("b"), 5).unwrap().value, "1");
    assert_eq!(mvcc.before(&key("b"), 7), None, "it was deleted before");
    assert_eq!(mvcc.before(&key("a"), 4).unwrap().mod_revision, 2);
}

fn compacted(mut mvcc: Mvcc, revision: i64, budget: usize) -> Mvcc {
    mvcc.compact(revision).unwrap();
    while mvcc.needs_purge() {
        mvcc.purge(budget);
    }
    mvcc
}

#[test]
fn compaction_keeps_what_can_be_read() {
    for budget in [1, 2, 100] {
        let mvcc = compacted(sample(), 5, budget);
        assert!(matches!(
            mvcc.range(&RangeRequest { start: key("a"), revision: 4, ..Default::default() }),
            Err(Error::Compacted { compact_revision: 5 })
        ));
        assert_eq!(read(&mvcc, "\0", "\0", 5), "a=2");
        assert_eq!(read(&mvcc, "\0", "\0", 6), "a=2 c=1");
        let places: Vec<i64> = mvcc.changes().keys().map(|place| place.0).collect();
        assert_eq!(places, [4, 5, 6, 7], "the deletion at the compacted revision stays for watches that begin there");
        let mvcc = compacted(mvcc, 7, budget);
        let places: Vec<i64> = mvcc.changes().keys().map(|place| place.0).collect();
        assert_eq!(places, [4, 6, 7], "and goes with the next compaction");
        assert_eq!((mvcc.live.len(), mvcc.superseded.len()), (3, 0));
    }
}

/// Against a model that keeps everything: random writes, compactions half done, reads at every readable revision, and
/// the same after a restore from the retained changes.
#[test]
fn agrees_with_a_naive_model() {
    for seed in 0..12 {
        let mut random = Random::new(seed);
        let mut mvcc = Mvcc::default();
        let mut model: Vec<BTreeMap<String, String>> = vec![BTreeMap::new(), BTreeMap::new()];
        for step in 0..300 {
            let mut next = model.last().unwrap().clone();
            mvcc.advance();
            for sub in 0..1 + random.below(3) as u32 {
                let name = format!("{}", random.below(12) / 3 * 3 + u64::from(sub));
                if random.below(4) == 0 {
                    assert_eq!(mvcc.delete(sub, &key(&name)).is_some(), next.remove(&name).is_some());
                } else {
                    mvcc.put(sub, &key(&name), key(&step.to_string()), 0);
                    next.insert(name, step.to_string());
                }
            }
            model.push(next);
            if random.below(40) == 0 {
                let revision = mvcc.compacted() + 1 + random.below((mvcc.revision() - mvcc.compacted()) as u64) as i64;
                mvcc.compact(revision).unwrap();
            }
            mvcc.purge(random.below(4) as usize);
            if step % 50 == 49 {
                check(&mvcc, &model);
                let mut restored = Mvcc::restoring(mvcc.revision(), mvcc.compacted());
                for (place, change) in mvcc.changes() {
                    restored.restore(*place, Change { kv: change.kv.clone(), deleted: change.deleted });
                }
                check(&restored, &model);
                while restored.needs_purge() {
                    restored.purge(7);
                }
                check(&restored, &model);
                if random.below(2) == 0 {
                    mvcc = restored;
                }
            }
        }
    }
}

fn check(mvcc: &Mvcc, model: &[BTreeMap<String, String>]) {
    for revision in mvcc.compacted().max(1)..=mvcc.revision() {
        let expected: Vec<_> = model[revision as usize].iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(read(mvcc, "\0", "\0", revision), expected.join(" "), "at {revision}");
    }
}
