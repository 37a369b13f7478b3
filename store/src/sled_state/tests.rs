#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::command::Command;
use crate::kv::{Op, TxnRequest};
use crate::snapshot::tests::{same, sample};

const CACHE: u64 = 1 << 20;

fn put(state: &mut State, key: &str, size: usize) {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let put = Op::Put { key, value: vec![7; size].into(), lease: 0, prev_kv: false };
    state.apply(Command::Txn(TxnRequest { success: vec![put], ..Default::default() })).unwrap();
    state.applied_index += 1;
}

#[test]
fn comes_back_after_differences_compaction_and_large_values() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = sample(300, 100);
    let (mut sled, empty) = SledState::open(dir.path(), CACHE).unwrap();
    assert_eq!(empty.applied_index, 0);
    sled.save(&state).unwrap();
    put(&mut state, "large", 1_000_000);
    sled.save(&state).unwrap();
    drop(sled);
    let (mut sled, loaded) = SledState::open(dir.path(), CACHE).unwrap();
    assert!(same(&loaded, &state));
    state.apply(Command::Compact { revision: state.mvcc.revision() }).unwrap();
    put(&mut state, "more", 10);
    sled.save(&state).unwrap();
    while state.mvcc.needs_purge() {
        state.mvcc.purge(100);
    }
    sled.save(&state).unwrap();
    drop(sled);
    let (_, loaded) = SledState::open(dir.path(), CACHE).unwrap();
    assert!(same(&loaded, &state));
    assert_eq!(loaded.mvcc.changes().len(), 301);
}

#[test]
fn surplus_of_a_crash_between_batches_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = sample(20, 100);
    let (mut sled, _) = SledState::open(dir.path(), CACHE).unwrap();
    sled.save(&state).unwrap();
    let before = state.clone();
    put(&mut state, "later", 200_000);
    let (place, change) = state.mvcc.changes().get_max().unwrap();
    let mut batch = Batch::default();
    sled.each_piece(*place, change, |sled, key, piece| {
        sled.sum = sled.sum.wrapping_add(weight(&key, piece));
        batch.insert(&key, piece);
    });
    sled.commit(batch).unwrap();
    drop(sled);
    let (mut sled, loaded) = SledState::open(dir.path(), CACHE).unwrap();
    assert!(same(&loaded, &before));
    sled.save(&state).unwrap();
    drop(sled);
    assert!(same(&SledState::open(dir.path(), CACHE).unwrap().1, &state));
}

#[test]
fn what_does_not_add_up_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let state = sample(20, 100);
    let (mut sled, _) = SledState::open(dir.path(), CACHE).unwrap();
    sled.save(&state).unwrap();
    let (key, _) = sled.db.scan_prefix([CHANGE]).nth(5).unwrap().unwrap();
    sled.db.remove(key).unwrap();
    sled.db.flush().unwrap();
    drop(sled);
    let fault = SledState::open(dir.path(), CACHE).map(|_| ()).unwrap_err();
    assert!(matches!(fault, Fault::Damaged(_)), "{fault}");
    SledState::discard(dir.path()).unwrap();
    assert_eq!(SledState::open(dir.path(), CACHE).unwrap().1.applied_index, 0);
}

/// Whatever is done to its files: it serves what was saved, an older save, or nothing, and says so.
#[test]
fn damaged_files_never_serve_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut saves = vec![State::default(), sample(50, 300)];
    let (mut sled, _) = SledState::open(&dir.path().join("good"), CACHE).unwrap();
    sled.save(&saves[1]).unwrap();
    let mut state = saves[1].clone();
    put(&mut state, "more", 3000);
    sled.save(&state).unwrap();
    saves.push(state);
    drop(sled);
    let mut random = crate::disk::sim::Random::new(3);
    for round in 0..12 {
        let copy = dir.path().join(round.to_string());
        std::fs::create_dir(&copy).unwrap();
        for entry in std::fs::read_dir(dir.path().join("good")).unwrap() {
            let entry = entry.unwrap();
            if !entry.file_type().unwrap().is_file() {
                continue;
            }
            let mut bytes = std::fs::read(entry.path()).unwrap();
            if !bytes.is_empty() {
                let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + 1;
                for _ in 0..3 {
                    let at = random.below(used) as usize;
                    bytes[at] ^= 1 << random.below(8);
                }
            }
            std::fs::write(copy.join(entry.file_name()), bytes).unwrap();
        }
        if let Ok((_, loaded)) = SledState::open(&copy, CACHE) {
            assert!(saves.iter().any(|save| same(save, &loaded)), "round {round}: {}", loaded.applied_index);
        }
    }
}
