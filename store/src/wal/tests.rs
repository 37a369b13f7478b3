//! The log under flips, cuts, power cuts at every operation, and a full disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::path::PathBuf;

use super::recover::{Opening, Recovered, open};
use super::*;
use crate::disk::sim::{Random, SimDisk};
use crate::kv::Error;

const DIR: &str = "/log";

fn opening(disk: &SimDisk, after: u64) -> Opening<'static> {
    Opening {
        disk: Arc::new(disk.clone()),
        dir: Path::new(DIR),
        options: Options { segment_bytes: 128 << 10 },
        seed: 7,
        identity: Identity { cluster: 1, member: 2, members: ConfState::from(([2], [])) },
        after,
    }
}

fn entry(index: u64, size: usize) -> Entry {
    Entry { index, term: 1, data: vec![index as u8; size].into(), ..Default::default() }
}

fn append(log: &mut Log, entries: std::ops::Range<u64>, size: usize) -> io::Result<()> {
    log.make_room(entries.clone().count(), entries.clone().count() * size)?;
    entries.for_each(|index| log.add_entry(&entry(index, size)));
    log.write()?;
    log.sync()
}

fn indexes(recovered: &Recovered) -> Vec<u64> {
    recovered.entries.iter().map(|entry| entry.index).collect()
}

fn first_segment() -> PathBuf {
    Path::new(DIR).join(segment::file_name(1))
}

#[test]
fn entries_come_back_across_segments() {
    let disk = SimDisk::default();
    let (mut log, _) = open(opening(&disk, 0)).unwrap();
    for group in 0..50 {
        append(&mut log, 1 + group * 10..11 + group * 10, 1000).unwrap();
    }
    log.add_hard_state(&HardState { term: 4, vote: 2, commit: 9, ..Default::default() });
    log.write().unwrap();
    log.sync().unwrap();
    assert!(disk.list(Path::new(DIR)).unwrap().len() > 3);
    let (mut log, recovered) = open(opening(&disk, 0)).unwrap();
    assert_eq!(indexes(&recovered), (1..=500).collect::<Vec<_>>());
    assert_eq!((recovered.hard_state.term, recovered.torn), (4, 0));
    assert!(recovered.entries.iter().all(|read| *read == entry(read.index, 1000)));
    log.release(400).unwrap();
    append(&mut log, 501..502, 10).unwrap();
    let (log, recovered) = open(opening(&disk, 400)).unwrap();
    assert_eq!(indexes(&recovered), (401..=501).collect::<Vec<_>>());
    assert_eq!((recovered.hard_state.term, log.identity().member), (4, 2));
    let gap = open(opening(&disk, 5)).map(|_| ()).unwrap_err();
    assert!(gap.to_string().contains("a gap"), "{gap}");
    let ahead = open(opening(&disk, 900)).map(|_| ()).unwrap_err();
    assert!(ahead.to_string().contains("log ends at entry 501"), "{ahead}");
}

#[test]
fn a_later_leaders_entries_replace() {
    let disk = SimDisk::default();
    let (mut log, _) = open(opening(&disk, 0)).unwrap();
    append(&mut log, 1..6, 10).unwrap();
    append(&mut log, 3..5, 20).unwrap();
    let (_, recovered) = open(opening(&disk, 0)).unwrap();
    assert_eq!(indexes(&recovered), [1, 2, 3, 4]);
    assert_eq!(recovered.entries[2].data.len(), 20);
}

/// Three groups of two entries; the byte offset at which each group begins, and the end.
fn small() -> (SimDisk, Vec<usize>) {
    let disk = SimDisk::default();
    let (mut log, _) = open(opening(&disk, 0)).unwrap();
    let mut starts = Vec::new();
    for group in 0..3 {
        starts.push(log.active.used());
        append(&mut log, 1 + group * 2..3 + group * 2, 30).unwrap();
    }
    starts.push(log.active.used());
    (disk, starts)
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let (disk, starts) = small();
    let (last, end) = (starts[2], starts[3]);
    for at in 0..end {
        let flipped = disk.fork();
        flipped.corrupt(&first_segment(), |bytes| bytes[at] ^= 1 << (at % 8));
        match open(opening(&flipped, 0)) {
            Err(Error::Corrupt(what)) => {
                assert!(at < last, "at {at}: {what}");
                assert!(what.contains("0000000000000001.wal at offset"), "{what}");
            }
            Ok((_, recovered)) => {
                // In the last group it cannot be told from a write that was cut short.
                assert!(at >= last && recovered.torn > 0, "at {at} of {end} is not noticed");
                let read = indexes(&recovered);
                assert_eq!(read, (1..=read.len() as u64).collect::<Vec<_>>());
                assert!(read.len() >= 4 && recovered.entries.iter().all(|read| *read == entry(read.index, 30)));
            }
            Err(other) => panic!("at {at}: {other}"),
        }
    }
}

#[test]
fn a_closed_log_has_no_torn_tail() {
    let (disk, starts) = small();
    let (mut log, _) = open(opening(&disk, 0)).unwrap();
    log.add_closed();
    log.write().unwrap();
    log.sync().unwrap();
    assert!(open(opening(&disk, 0)).unwrap().1.closed);
    for at in starts[0]..starts[3] {
        let flipped = disk.fork();
        flipped.corrupt(&first_segment(), |bytes| bytes[at] ^= 4);
        assert!(matches!(open(opening(&flipped, 0)), Err(Error::Corrupt(_))), "at {at}");
    }
}

#[test]
fn a_tail_cut_anywhere_in_the_last_group_is_cut_off() {
    let (disk, starts) = small();
    for at in starts[2]..starts[3] {
        let torn = disk.fork();
        torn.corrupt(&first_segment(), |bytes| bytes[at..].fill(0));
        let (mut log, recovered) = open(opening(&torn, 0)).unwrap();
        let count = recovered.entries.len() as u64;
        assert!((4..=6).contains(&count), "at {at}");
        append(&mut log, count + 1..count + 3, 30).unwrap();
        let (_, recovered) = open(opening(&torn, 0)).unwrap();
        assert_eq!(indexes(&recovered), (1..=count + 2).collect::<Vec<_>>(), "at {at}");
    }
}

#[test]
fn missing_and_foreign_segments_are_refused() {
    let disk = SimDisk::default();
    let (mut log, _) = open(opening(&disk, 0)).unwrap();
    for index in 1..=60 {
        append(&mut log, index..index + 1, 10_000).unwrap();
    }
    let segment = |number| Path::new(DIR).join(segment::file_name(number));
    let missing = disk.fork();
    missing.remove(&segment(3)).unwrap();
    assert!(matches!(open(opening(&missing, 0)), Err(Error::Corrupt(what)) if what.contains("segment 3 is missing")));
    let swapped = disk.fork();
    let other = swapped.read(&segment(4)).unwrap();
    swapped.corrupt(&segment(3), |bytes| *bytes = other);
    assert!(matches!(open(opening(&swapped, 0)), Err(Error::Corrupt(_))));
    let cut = disk.fork();
    cut.corrupt(&segment(2), |bytes| bytes.truncate(70_000));
    assert!(matches!(open(opening(&cut, 0)), Err(Error::Corrupt(_))));
    let newer = disk.fork();
    newer.corrupt(&segment(1), |bytes| {
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    });
    assert!(matches!(open(opening(&newer, 0)), Err(Error::Corrupt(what)) if what.contains("format version 2")));
}

/// The power goes at every disk operation in turn: what was synced is there, in order, and the log goes on.
#[test]
fn power_cuts_lose_nothing_that_was_synced() {
    for seed in 0..6 {
        let mut cut = 0;
        loop {
            let (disk, mut random) = (SimDisk::default(), Random::new(seed * 1000 + cut));
            let made = open(opening(&disk, 0)).map(|(log, _)| log);
            let mut log = made.unwrap();
            disk.cut_power_after(cut);
            let mut synced = 0;
            let finished = (0..12).all(|group| {
                let done = append(&mut log, 1 + group * 3..4 + group * 3, 3000).is_ok();
                synced += if done { 3 } else { 0 };
                done
            });
            disk.power_cycle(&mut random);
            let (mut log, recovered) = open(opening(&disk, 0)).unwrap();
            let read = indexes(&recovered);
            assert_eq!(read, (1..=read.len() as u64).collect::<Vec<_>>());
            assert!(read.len() as u64 >= synced, "{} of {synced} after a cut at {cut}, seed {seed}", read.len());
            let next = read.len() as u64 + 1;
            append(&mut log, next..next + 2, 100).unwrap();
            assert_eq!(open(opening(&disk, 0)).unwrap().1.entries.len() as u64, next + 1);
            if finished {
                break;
            }
            cut += 1;
        }
        assert!(cut > 20);
    }
}

#[test]
fn a_full_disk_may_be_tried_again() {
    let disk = SimDisk::default();
    let (mut log, _) = open(opening(&disk, 0)).unwrap();
    disk.set_full(true);
    let mut next = 1;
    let error = loop {
        match append(&mut log, next..next + 1, 5000) {
            Ok(()) => next += 1,
            Err(error) => break error,
        }
    };
    assert!(crate::disk::is_full(&error) && next > 5);
    disk.set_full(false);
    append(&mut log, next..next + 5, 5000).unwrap();
    assert_eq!(open(opening(&disk, 0)).unwrap().1.entries.len() as u64, next + 4);
}
