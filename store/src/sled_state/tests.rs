//! sled's copy: what comes back, what is passed over, what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::command::Command;
use crate::kv::{Op, PutRequest, TxnRequest};
use crate::snapshot::tests::{same, sample};

const CACHE: u64 = 1 << 20;
static GO: AtomicBool = AtomicBool::new(false);

fn put(state: &mut State, key: &str, size: usize) {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let put = Op::Put(PutRequest { key, value: vec![7; size].into(), ..Default::default() });
    state.apply(Command::Txn(TxnRequest { success: vec![put], ..Default::default() })).unwrap();
    state.applied_index += 1;
}

fn loaded(path: &Path) -> State {
    load(path, CACHE).unwrap().unwrap()
}

#[test]
fn comes_back_after_differences_compaction_and_large_values() {
    let dir = tempfile::tempdir().unwrap();
    assert!(load(&dir.path().join("none"), CACHE).unwrap().is_none());
    let mut state = sample(300, 100);
    save(dir.path(), CACHE, &state, &GO).unwrap();
    assert!(same(&loaded(dir.path()), &state));
    put(&mut state, "large", 1_000_000);
    save(dir.path(), CACHE, &state, &GO).unwrap();
    assert!(same(&loaded(dir.path()), &state));
    state.apply(Command::Compact { revision: state.mvcc.revision() }).unwrap();
    put(&mut state, "more", 10);
    save(dir.path(), CACHE, &state, &GO).unwrap();
    assert!(same(&loaded(dir.path()), &state));
    while state.mvcc.needs_purge() {
        state.mvcc.purge(100);
    }
    save(dir.path(), CACHE, &state, &GO).unwrap();
    assert!(same(&loaded(dir.path()), &state));
    assert_eq!(state.mvcc.changes().len(), 301);
}

#[test]
fn surplus_of_a_crash_between_batches_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = sample(20, 100);
    save(dir.path(), CACHE, &state, &GO).unwrap();
    let before = state.clone();
    put(&mut state, "later", 200_000);
    let (place, change) = state.mvcc.changes().get_max().unwrap();
    let mut copy = Copy::open(dir.path(), CACHE).unwrap();
    copy.sum = copy.stored_sum().unwrap();
    for (number, piece) in image::encode_change(*place, change).chunks(PIECE).enumerate() {
        let key = key_of(*place, number as u16);
        copy.sum = copy.sum.wrapping_add(weight(&key, piece));
        copy.batch.insert(&key, piece);
    }
    copy.commit().unwrap();
    drop(copy);
    assert!(same(&loaded(dir.path()), &before));
    save(dir.path(), CACHE, &state, &GO).unwrap();
    assert!(same(&loaded(dir.path()), &state));
    save(dir.path(), CACHE, &before, &GO).unwrap();
    assert!(same(&loaded(dir.path()), &before));
}

#[test]
fn may_be_stopped_between_batches() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = sample(20, 100);
    save(dir.path(), CACHE, &state, &GO).unwrap();
    let before = state.clone();
    (0..5).for_each(|n| put(&mut state, &n.to_string(), 900_000));
    save(dir.path(), CACHE, &state, &AtomicBool::new(true)).unwrap();
    assert!(same(&loaded(dir.path()), &before));
    save(dir.path(), CACHE, &state, &GO).unwrap();
    assert!(same(&loaded(dir.path()), &state));
}

#[test]
fn what_does_not_add_up_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), CACHE, &sample(20, 100), &GO).unwrap();
    let copy = Copy::open(dir.path(), CACHE).unwrap();
    let (key, _) = copy.db.scan_prefix([CHANGE]).nth(5).unwrap().unwrap();
    copy.db.remove(key).unwrap();
    copy.db.flush().unwrap();
    drop(copy);
    let fault = load(dir.path(), CACHE).map(|_| ()).unwrap_err();
    assert!(matches!(fault, Fault::Damaged(_)), "{fault}");
    discard(dir.path()).unwrap();
    assert!(load(dir.path(), CACHE).unwrap().is_none());
}

/// Whatever is done to its files: it serves what was saved, an older save, or nothing, and says so.
#[test]
fn damaged_files_never_serve_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good");
    let mut saves = vec![sample(50, 300)];
    save(&good, CACHE, &saves[0], &GO).unwrap();
    let mut state = saves[0].clone();
    put(&mut state, "more", 3000);
    save(&good, CACHE, &state, &GO).unwrap();
    saves.push(state);
    let mut random = crate::disk::sim::Random::new(3);
    for round in 0..12 {
        let copy = dir.path().join(round.to_string());
        std::fs::create_dir(&copy).unwrap();
        for entry in std::fs::read_dir(&good).unwrap() {
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
        if let Ok(Some(loaded)) = load(&copy, CACHE) {
            assert!(saves.iter().any(|save| same(save, &loaded)), "round {round}: {}", loaded.applied_index);
        }
    }
}
