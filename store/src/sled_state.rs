//! The applied state in sled, so that a restart reads it instead of replaying a long log. Never the only copy: every
//! batch carries a sum over all entries; what does not add up is thrown away and rebuilt from a snapshot and the log.
//!
//! A change is under `c`, its revision (8 bytes), number (4) and piece (2), big-endian, in pieces far below sled's
//! segment. `d` is the state's description behind its CRC, `s` the sum. Changes are added before the description that
//! includes them and removed, oldest first, after the one that no longer needs them; so a crash between batches leaves
//! only surplus, which loading drops or compaction removes.

use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use imbl::ordmap::DiffItem;
use sled::{Batch, Db, IVec};

use crate::core::mvcc::{Change, Place};
use crate::core::state::State;
use crate::image;

const PIECE: usize = 64 << 10;
/// Bytes that one batch adds at most, roughly.
const BATCH: usize = 4 << 20;
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
    Io(#[from] std::io::Error),
    #[error("sled's copy is damaged: {0}")]
    Damaged(&'static str),
    #[error("sled panicked")]
    Panicked,
}

impl From<crate::codec::Malformed> for Fault {
    fn from(malformed: crate::codec::Malformed) -> Self {
        Fault::Damaged(malformed.0)
    }
}

pub struct SledState {
    db: Db,
    /// What the database holds.
    held: State,
    sum: u64,
}

impl SledState {
    /// Opens the database in `path`, or makes an empty one, and loads what it holds.
    pub fn open(path: &Path, cache_bytes: u64) -> Result<(SledState, State), Fault> {
        // sled asserts on some kinds of damage.
        catch_unwind(AssertUnwindSafe(|| SledState::open_and_load(path, cache_bytes))).unwrap_or(Err(Fault::Panicked))
    }

    fn open_and_load(path: &Path, cache_bytes: u64) -> Result<(SledState, State), Fault> {
        std::fs::create_dir_all(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
        let db = open_database(path, cache_bytes)?;
        let mut sled = SledState { db, held: State::default(), sum: 0 };
        sled.load()?;
        let state = sled.held.clone();
        Ok((sled, state))
    }

    /// Throws the database away, so that the next opening makes an empty one.
    pub fn discard(path: &Path) -> Result<(), Fault> {
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn load(&mut self) -> Result<(), Fault> {
        let Some(described) = self.db.get(DESCRIPTION)? else {
            return if self.db.is_empty() { Ok(()) } else { self.clear() };
        };
        let (crc, description) = described.split_at_checked(4).ok_or(Fault::Damaged("description is cut short"))?;
        if crc32fast::hash(description).to_le_bytes() != crc {
            return Err(Fault::Damaged("description's checksum is wrong"));
        }
        let mut state = image::decode_description(Bytes::copy_from_slice(description))?;
        let revision = state.mvcc.revision();
        let mut surplus = Vec::new();
        let mut whole: Option<(Place, Vec<u8>)> = None;
        for item in self.db.scan_prefix([CHANGE]) {
            let (key, value) = item?;
            self.sum = self.sum.wrapping_add(weight(&key, &value));
            let (place, piece) = place_of(&key).ok_or(Fault::Damaged("key of a change"))?;
            if place.0 > revision {
                surplus.push((key, value));
                continue;
            }
            match &mut whole {
                Some((current, bytes)) if *current == place && piece > 0 => bytes.extend_from_slice(&value),
                _ if piece > 0 => return Err(Fault::Damaged("first piece of a change is missing")),
                _ => {
                    if let Some(done) = whole.replace((place, value.to_vec())) {
                        restore(&mut state, done)?;
                    }
                }
            }
        }
        if let Some(done) = whole {
            restore(&mut state, done)?;
        }
        let stored = self.db.get(SUM)?.ok_or(Fault::Damaged("sum is missing"))?;
        if stored != self.sum.to_le_bytes() {
            return Err(Fault::Damaged("its changes do not add up"));
        }
        state.attach_all();
        self.held = state;
        self.drop_surplus(surplus)
    }

    /// Changes without a description: a crash before the first description.
    fn clear(&mut self) -> Result<(), Fault> {
        self.db.clear()?;
        Ok(())
    }

    fn drop_surplus(&mut self, surplus: Vec<(IVec, IVec)>) -> Result<(), Fault> {
        if surplus.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        for (key, value) in surplus {
            self.sum = self.sum.wrapping_sub(weight(&key, &value));
            batch.remove(key);
        }
        self.commit(batch)
    }

    fn commit(&mut self, mut batch: Batch) -> Result<(), Fault> {
        batch.insert(SUM, &self.sum.to_le_bytes());
        self.db.apply_batch(batch)?;
        Ok(())
    }

    /// Brings the database to `state`, writing only what differs from what it holds. After an error it must be
    /// discarded.
    pub fn save(&mut self, state: &State) -> Result<(), Fault> {
        catch_unwind(AssertUnwindSafe(|| self.save_difference(state))).unwrap_or(Err(Fault::Panicked))
    }

    fn save_difference(&mut self, state: &State) -> Result<(), Fault> {
        let held = std::mem::take(&mut self.held);
        let (mut batch, mut bytes) = (Batch::default(), 0);
        for item in held.mvcc.changes().diff(state.mvcc.changes()) {
            let (DiffItem::Add(place, change) | DiffItem::Update { new: (place, change), .. }) = item else { continue };
            bytes += self.each_piece(*place, change, |sled, key, piece| {
                sled.sum = sled.sum.wrapping_add(weight(&key, piece));
                batch.insert(&key, piece);
            });
            if bytes > BATCH {
                self.commit(std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        let description = image::encode_description(state);
        let mut checked = crc32fast::hash(&description).to_le_bytes().to_vec();
        checked.extend_from_slice(&description);
        batch.insert(DESCRIPTION, checked);
        self.commit(std::mem::take(&mut batch))?;
        bytes = 0;
        for item in held.mvcc.changes().diff(state.mvcc.changes()) {
            let DiffItem::Remove(place, change) = item else { continue };
            bytes += self.each_piece(*place, change, |sled, key, piece| {
                sled.sum = sled.sum.wrapping_sub(weight(&key, piece));
                batch.remove(&key);
            });
            if bytes > BATCH {
                self.commit(std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        self.commit(batch)?;
        self.db.flush()?;
        self.held = state.clone();
        Ok(())
    }

    fn each_piece(
        &mut self,
        place: Place,
        change: &Change,
        mut visit: impl FnMut(&mut SledState, [u8; 15], &[u8]),
    ) -> usize {
        let encoded = image::encode_change(place, change);
        for (number, piece) in encoded.chunks(PIECE).enumerate() {
            visit(self, key_of(place, number as u16), piece);
        }
        encoded.len()
    }
}

/// sled's threads may give its file back a little after its handle is dropped. No other process has it: the store's own
/// lock is held.
fn open_database(path: &Path, cache_bytes: u64) -> Result<Db, Fault> {
    let config = sled::Config::new().path(path).cache_capacity(cache_bytes).flush_every_ms(None);
    let mut tries = 0;
    loop {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") && tries < LOCK_TRIES => {
                tries += 1;
                std::thread::sleep(LOCK_AGAIN);
            }
            other => return Ok(other?),
        }
    }
}

fn restore(state: &mut State, (place, bytes): (Place, Vec<u8>)) -> Result<(), Fault> {
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

fn place_of(key: &[u8]) -> Option<(Place, u16)> {
    if key.len() != 15 {
        return None;
    }
    let revision = i64::from_be_bytes(key[1..9].try_into().ok()?);
    let sub = u32::from_be_bytes(key[9..13].try_into().ok()?);
    Some(((revision, sub), u16::from_be_bytes(key[13..].try_into().ok()?)))
}

/// What an entry adds to the sum.
fn weight(key: &[u8], value: &[u8]) -> u64 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    crc.update(value);
    u64::from(crc.finalize()).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

/// Where the database is in a data directory.
pub fn path(dir: &Path) -> PathBuf {
    dir.join("state")
}


#[cfg(test)]
mod tests;
