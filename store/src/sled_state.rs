//! A copy of the applied state in sled, brought up to date with each snapshot, to fall back on when no snapshot is
//! whole. Never the only copy: a sum over all entries is in every batch, and what does not add up is thrown away.
//!
//! sled is opened for each use and closed again: open, it takes some 25 MB and half a second of page cache work, and
//! reads never need it.
//!
//! A change is under `c`, its revision (8 bytes), number (4) and piece (2), big-endian, in pieces far below sled's
//! segment. `d` is the state's description (with the applied index) behind its CRC, `s` the sum. Changes are added
//! before the description that includes them, in batches; what is no longer needed goes after, oldest first. So a crash
//! between batches leaves only surplus: newer changes, which loading passes over, or older ones, which compaction
//! removes again.

use std::io;
use std::iter::Peekable;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sled::{Batch, Db, IVec};

use crate::core::mvcc::Place;
use crate::core::state::State;
use crate::image;

const PIECE: usize = 64 << 10;
/// Bytes that one batch takes at most, roughly.
const BATCH: usize = 1 << 20;
/// How often a lock that a former handle still holds is tried again, and after what time.
const LOCK_TRIES: u32 = 300;
const LOCK_AGAIN: Duration = Duration::from_millis(10);
const CHANGE: u8 = b'c';
const DESCRIPTION: &[u8] = b"d";
const SUM: &[u8] = b"s";

/// Why sled's copy is not used.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("sled: {0}")]
    Sled(#[from] sled::Error),
    #[error("sled: {0}")]
    Io(#[from] io::Error),
    #[error("sled's copy is damaged: {0}")]
    Damaged(&'static str),
    #[error("sled panicked")]
    Panicked,
    #[error("stopped between two batches")]
    Stopped,
}

impl From<crate::codec::Malformed> for Fault {
    fn from(malformed: crate::codec::Malformed) -> Self {
        Fault::Damaged(malformed.0)
    }
}

/// sled asserts on some kinds of damage.
fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Fault::Panicked))
}

/// Where the database is in a data directory.
pub fn path(dir: &Path) -> PathBuf {
    dir.join("state")
}

/// Throws the copy away.
pub fn discard(path: &Path) -> Result<(), Fault> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// The state that was saved last; `None` when there is none.
pub fn load(path: &Path, cache_bytes: u64) -> Result<Option<State>, Fault> {
    if !path.exists() {
        return Ok(None);
    }
    guarded(|| Copy::open(path, cache_bytes)?.load())
}

/// Brings the copy to `state`, writing only what differs. After an error it must be discarded. It ends early, with
/// nothing spoilt, when `stop` is set.
pub fn save(path: &Path, cache_bytes: u64, state: &State, stop: &AtomicBool) -> Result<(), Fault> {
    match guarded(|| Copy::open(path, cache_bytes)?.save(state, stop)) {
        Err(Fault::Stopped) => Ok(()),
        other => other,
    }
}

struct Copy {
    db: Db,
    batch: Batch,
    batch_bytes: usize,
    /// Over everything that the database has with the batch.
    sum: u64,
}

impl Copy {
    /// sled's threads may give its file back a little after its handle is dropped. No other process has it: the store's
    /// own lock is held.
    fn open(path: &Path, cache_bytes: u64) -> Result<Copy, Fault> {
        std::fs::create_dir_all(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
        let config = sled::Config::new().path(path).cache_capacity(cache_bytes).flush_every_ms(None);
        let mut tries = 0;
        let db = loop {
            match config.open() {
                Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") && tries < LOCK_TRIES => {
                    tries += 1;
                    std::thread::sleep(LOCK_AGAIN);
                }
                other => break other?,
            }
        };
        Ok(Copy { db, batch: Batch::default(), batch_bytes: 0, sum: 0 })
    }

    fn load(self) -> Result<Option<State>, Fault> {
        let Some(described) = self.db.get(DESCRIPTION)? else { return Ok(None) };
        let (crc, description) = described.split_at_checked(4).ok_or(Fault::Damaged("description is cut short"))?;
        if crc32fast::hash(description).to_le_bytes() != crc {
            return Err(Fault::Damaged("description's checksum is wrong"));
        }
        let mut state = image::decode_description(Bytes::copy_from_slice(description))?;
        let revision = state.mvcc.revision();
        let mut sum = 0u64;
        let mut whole: Option<(Place, Vec<u8>)> = None;
        for item in self.db.scan_prefix([CHANGE]) {
            let (key, value) = item?;
            sum = sum.wrapping_add(weight(&key, &value));
            let (place, piece) = place_of(&key)?;
            match &mut whole {
                _ if place.0 > revision => {}
                Some((current, bytes)) if *current == place && piece > 0 => bytes.extend_from_slice(&value),
                _ if piece > 0 => return Err(Fault::Damaged("first piece of a change is missing")),
                _ => restore(&mut state, whole.replace((place, value.to_vec())))?,
            }
        }
        restore(&mut state, whole)?;
        if self.stored_sum()? != sum {
            return Err(Fault::Damaged("its changes do not add up"));
        }
        state.attach_all();
        Ok(Some(state))
    }

    fn stored_sum(&self) -> Result<u64, Fault> {
        let Some(stored) = self.db.get(SUM)? else { return Ok(0) };
        let bytes = <[u8; 8]>::try_from(&stored[..]).map_err(|_| Fault::Damaged("sum is cut short"))?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn save(mut self, state: &State, stop: &AtomicBool) -> Result<(), Fault> {
        self.sum = self.stored_sum()?;
        let mut there = self.places().peekable();
        for (place, change) in state.mvcc.changes() {
            skip_before(&mut there, *place)?;
            // A place's content never changes.
            if there.next_if(|found| found.as_ref().is_ok_and(|found| found == place)).is_some() {
                continue;
            }
            let encoded = image::encode_change(*place, change);
            for (number, piece) in encoded.chunks(PIECE).enumerate() {
                let key = key_of(*place, number as u16);
                self.sum = self.sum.wrapping_add(weight(&key, piece));
                self.batch.insert(&key, piece);
            }
            self.grow(encoded.len(), stop)?;
        }
        let description = image::encode_description(state);
        let mut checked = crc32fast::hash(&description).to_le_bytes().to_vec();
        checked.extend_from_slice(&description);
        self.batch.insert(DESCRIPTION, checked);
        self.commit()?;
        self.remove_surplus(state, stop)?;
        self.db.flush()?;
        Ok(())
    }

    /// Places that the database has, each once.
    fn places(&self) -> impl Iterator<Item = Result<Place, Fault>> + use<> {
        self.db.scan_prefix([CHANGE]).keys().filter_map(|key| match key.map_err(Fault::from) {
            Ok(key) => place_of(&key).map(|(place, piece)| (piece == 0).then_some(place)).transpose(),
            Err(error) => Some(Err(error)),
        })
    }

    fn remove_surplus(&mut self, state: &State, stop: &AtomicBool) -> Result<(), Fault> {
        for item in self.db.scan_prefix([CHANGE]) {
            let (key, value) = item?;
            if !state.mvcc.changes().contains_key(&place_of(&key)?.0) {
                self.sum = self.sum.wrapping_sub(weight(&key, &value));
                self.batch.remove(&key);
                self.grow(key.len() + value.len(), stop)?;
            }
        }
        self.commit()
    }

    fn grow(&mut self, bytes: usize, stop: &AtomicBool) -> Result<(), Fault> {
        self.batch_bytes += bytes;
        if self.batch_bytes <= BATCH {
            return Ok(());
        }
        if stop.load(Ordering::Relaxed) { Err(Fault::Stopped) } else { self.commit() }
    }

    fn commit(&mut self) -> Result<(), Fault> {
        let mut batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        batch.insert(SUM, &self.sum.to_le_bytes());
        Ok(self.db.apply_batch(batch)?)
    }
}

fn skip_before<I: Iterator<Item = Result<Place, Fault>>>(there: &mut Peekable<I>, place: Place) -> Result<(), Fault> {
    while let Some(found) = there.next_if(|found| found.as_ref().map_or(true, |found| *found < place)) {
        found?;
    }
    Ok(())
}

fn restore(state: &mut State, whole: Option<(Place, Vec<u8>)>) -> Result<(), Fault> {
    let Some((place, bytes)) = whole else { return Ok(()) };
    let (inside, change) = image::decode_change(bytes.into())?;
    if inside != place {
        return Err(Fault::Damaged("change is under the wrong key"));
    }
    state.mvcc.restore(place, change);
    Ok(())
}

fn key_of((revision, sub): Place, piece: u16) -> [u8; 15] {
    let mut key = [CHANGE; 15];
    key[1..9].copy_from_slice(&revision.to_be_bytes());
    key[9..13].copy_from_slice(&sub.to_be_bytes());
    key[13..].copy_from_slice(&piece.to_be_bytes());
    key
}

fn place_of(key: &IVec) -> Result<(Place, u16), Fault> {
    let key = <[u8; 15]>::try_from(&key[..]).map_err(|_| Fault::Damaged("key of a change"))?;
    let revision = i64::from_be_bytes([key[1], key[2], key[3], key[4], key[5], key[6], key[7], key[8]]);
    let sub = u32::from_be_bytes([key[9], key[10], key[11], key[12]]);
    Ok(((revision, sub), u16::from_be_bytes([key[13], key[14]])))
}

/// What an entry adds to the sum.
fn weight(key: &[u8], value: &[u8]) -> u64 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    crc.update(value);
    u64::from(crc.finalize()).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

#[cfg(test)]
mod tests;
