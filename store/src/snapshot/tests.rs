//! Snapshots under flips, cuts and a power cut at every operation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::command::Command;
use crate::disk::sim::SimDisk;
use crate::kv::{Op, PutRequest, TxnRequest};

const DIR: &str = "/snapshots";

pub fn sample(keys: usize, size: usize) -> State {
    let mut state = State::default();
    state.apply(Command::LeaseGrant { id: 9, ttl: 60 }).unwrap();
    for round in 0..2 {
        for key in 0..keys {
            let (lease, value) = (if key % 3 == 0 { 9 } else { 0 }, vec![round; size]);
            let put =
                Op::Put(PutRequest { key: format!("{key}").into(), value: value.into(), lease, ..Default::default() });
            state.apply(Command::Txn(TxnRequest { success: vec![put], ..Default::default() })).unwrap();
        }
    }
    let delete = Op::Delete { start: "0".into(), end: Bytes::new(), prev_kv: false };
    state.apply(Command::Txn(TxnRequest { success: vec![delete], ..Default::default() })).unwrap();
    state.apply(Command::Compact { revision: 3 }).unwrap();
    (state.applied_index, state.applied_term) = (41, 3);
    state.members.voters = vec![5];
    state
}

pub fn same(left: &State, right: &State) -> bool {
    image::encode_description(left) == image::encode_description(right)
        && left.mvcc.changes() == right.mvcc.changes()
        && left.attached == right.attached
}

#[test]
fn round_trips_and_the_two_newest_stay() {
    for size in [10, 5000] {
        let (disk, dir) = (SimDisk::default(), Path::new(DIR));
        let mut state = sample(200, size);
        let mut released = Vec::new();
        for index in [50, 60, 70] {
            state.applied_index = index;
            released.push(save(&disk, dir, &state).unwrap().released);
            assert!(same(&load(&disk, dir, index).unwrap(), &state));
        }
        assert_eq!(list(&disk, dir).unwrap(), [60, 70]);
        assert_eq!(released.last(), Some(&60));
    }
}

#[test]
fn every_flipped_byte_is_found_and_the_older_one_serves() {
    let (disk, dir) = (SimDisk::default(), Path::new(DIR));
    let mut state = sample(6, 8);
    save(&disk, dir, &state).unwrap();
    state.applied_index = 60;
    save(&disk, dir, &state).unwrap();
    let path = dir.join(file_name(60));
    let length = disk.read(&path).unwrap().len();
    for at in 0..length {
        let flipped = disk.fork();
        flipped.corrupt(&path, |bytes| bytes[at] ^= 1 << (at % 8));
        let error = load(&flipped, dir, 60).map(|_| ()).unwrap_err();
        assert!(matches!(&error, Error::Corrupt(what) if what.contains("at offset")), "at {at}: {error}");
        assert_eq!(newest(&flipped, dir).unwrap().unwrap().applied_index, 41);
        let cut = disk.fork();
        cut.corrupt(&path, |bytes| bytes.truncate(at));
        assert!(matches!(load(&cut, dir, 60), Err(Error::Corrupt(_))), "cut at {at}");
    }
    disk.corrupt(&path, |bytes| bytes[30] ^= 1);
    disk.corrupt(&dir.join(file_name(41)), |bytes| bytes[30] ^= 1);
    assert!(matches!(newest(&disk, dir), Err(Error::Corrupt(_))), "nothing is left to serve");
}

#[test]
fn an_unfinished_one_is_never_seen() {
    let dir = Path::new(DIR);
    let mut cut = 0;
    loop {
        let disk = SimDisk::default();
        let mut state = sample(6, 8);
        save(&disk, dir, &state).unwrap();
        state.applied_index = 60;
        disk.cut_power_after(cut);
        let done = save(&disk, dir, &state).is_ok();
        disk.power_cycle(&mut crate::disk::sim::Random::new(cut));
        prepare(&disk, dir).unwrap();
        let found = newest(&disk, dir).unwrap().unwrap();
        assert!(found.applied_index == 60 || !done, "cut at {cut}");
        assert!([41, 60].contains(&found.applied_index));
        if done {
            return;
        }
        cut += 1;
    }
}
