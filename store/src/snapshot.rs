//! Snapshots of the applied state: files that are whole or not there, with a checksum over every block.
//!
//! A file is `coxsnap\n`, the format version (4 bytes), four zero bytes, then blocks: payload length (4), CRC-32 of the
//! block's number, the CRC before it and the payload (4), payload. The first block describes the state and says how
//! many changes follow; the last is empty. Integers are little-endian. The name is the last entry's index in hex.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::codec::{Malformed, Reader, Writer};
use crate::core::state::State;
use crate::disk::{Disk, DiskFile};
use crate::image;
use crate::kv::Error;
use crate::wal::recover::io_error;

const FORMAT: u32 = 1;
const MAGIC: &[u8; 8] = b"coxsnap\n";
const HEADER: usize = 16;
const BLOCK: usize = 256 << 10;
/// Written back piece by piece, so that the log's own syncs do not wait behind one large one.
const SYNC_EVERY: u64 = 4 << 20;
const UNFINISHED: &str = "snapshot.tmp";
/// The newest and, should that be damaged, the one before it; the log reaches back to the older.
const KEEP: usize = 2;

pub fn file_name(index: u64) -> String {
    format!("{index:016x}.snap")
}

fn index_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_suffix(".snap")?, 16).ok()
}

/// Applied indexes of the snapshots in `dir`, oldest first.
pub fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, Error> {
    let names = disk.list(dir).map_err(io_error(format!("list {}", dir.display())))?;
    let mut indexes: Vec<u64> = names.iter().filter_map(|name| index_of(name)).collect();
    indexes.sort_unstable();
    Ok(indexes)
}

pub struct Saved {
    /// The entry up to which the log is not needed any more: the older of two snapshots, nothing while there is one.
    pub released: u64,
    /// Length of the new snapshot.
    pub bytes: u64,
}

/// Writes a snapshot, durable under its name when this returns, and removes those that are no longer needed.
pub fn save(disk: &dyn Disk, dir: &Path, state: &State) -> Result<Saved, Error> {
    let path = dir.join(file_name(state.applied_index));
    let unfinished = dir.join(UNFINISHED);
    let write = || {
        let bytes = write(disk, &unfinished, state)?;
        disk.rename(&unfinished, &path)?;
        disk.sync_dir(dir)?;
        Ok(bytes)
    };
    let bytes = write().map_err(io_error(format!("save snapshot {}", path.display())))?;
    let mut indexes = list(disk, dir)?;
    let stay = indexes.split_off(indexes.len().saturating_sub(KEEP));
    for index in indexes {
        let old = dir.join(file_name(index));
        disk.remove(&old).map_err(io_error(format!("remove snapshot {}", old.display())))?;
    }
    Ok(Saved { released: if stay.len() == KEEP { stay[0] } else { 0 }, bytes })
}

struct Blocks<'a> {
    file: &'a mut dyn DiskFile,
    at: u64,
    synced: u64,
    number: u32,
    chain: u32,
}

impl Blocks<'_> {
    fn put(&mut self, payload: &[u8]) -> io::Result<()> {
        self.chain = checksum(self.number, self.chain, payload);
        self.number += 1;
        let mut block = Vec::with_capacity(payload.len() + 8);
        block.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        block.extend_from_slice(&self.chain.to_le_bytes());
        block.extend_from_slice(payload);
        self.file.write_at(&block, self.at)?;
        self.at += block.len() as u64;
        if self.at - self.synced >= SYNC_EVERY {
            self.synced = self.at;
            self.file.sync()?;
        }
        Ok(())
    }
}

fn checksum(number: u32, chain: u32, payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&number.to_le_bytes());
    crc.update(&chain.to_le_bytes());
    crc.update(payload);
    crc.finalize()
}

fn write(disk: &dyn Disk, path: &Path, state: &State) -> io::Result<u64> {
    let mut file = disk.create(path)?;
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&FORMAT.to_le_bytes());
    header.resize(HEADER, 0);
    file.write_at(&header, 0)?;
    let mut blocks =
        Blocks { file: &mut *file, at: HEADER as u64, synced: 0, number: 0, chain: crc32fast::hash(&header) };
    let mut first = Writer::default();
    first.varint(state.mvcc.changes().len() as u64);
    first.raw(&image::encode_description(state));
    blocks.put(&first.finish())?;
    let mut gathered = Writer::with_capacity(BLOCK + (BLOCK >> 2));
    for (place, change) in state.mvcc.changes() {
        gathered.bytes(&image::encode_change(*place, change));
        if gathered.written() >= BLOCK {
            blocks.put(&gathered.finish())?;
            gathered = Writer::with_capacity(BLOCK + (BLOCK >> 2));
        }
    }
    if gathered.written() > 0 {
        blocks.put(&gathered.finish())?;
    }
    blocks.put(&[])?;
    let bytes = blocks.at;
    file.sync()?;
    Ok(bytes)
}

/// Reads the snapshot of this index. Damage is an error that names the file and the offset.
pub fn load(disk: &dyn Disk, dir: &Path, index: u64) -> Result<State, Error> {
    let path = dir.join(file_name(index));
    let file = disk.read(&path).map_err(io_error(format!("read snapshot {}", path.display())))?;
    let damaged = |(at, what): (usize, String)| Error::Corrupt(format!("{} at offset {at}: {what}", path.display()));
    let state = read(file.into()).map_err(damaged)?;
    if state.applied_index != index {
        return Err(damaged((0, format!("is the snapshot of entry {}", state.applied_index))));
    }
    Ok(state)
}

fn read(file: Bytes) -> Result<State, (usize, String)> {
    let fault = |at: usize, what: &str| (at, what.to_owned());
    if file.len() < HEADER || &file[..8] != MAGIC || file[12..HEADER] != [0; 4] {
        return Err(fault(0, "not a snapshot"));
    }
    let word = |at: usize| file.get(at..at + 4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    if word(8) != Some(FORMAT) {
        return Err(fault(8, "format version is not the one this program knows"));
    }
    let (mut at, mut number, mut chain) = (HEADER, 0, crc32fast::hash(&file[..HEADER]));
    let (mut state, mut expected) = (None, 0);
    loop {
        let (Some(length), Some(crc)) = (word(at), word(at + 4)) else { return Err(fault(at, "block is cut short")) };
        let start = at + 8;
        let end = start.saturating_add(length as usize);
        if end > file.len() || checksum(number, chain, &file[start..end]) != crc {
            return Err(fault(at, "block's checksum is wrong"));
        }
        let payload = file.slice(start..end);
        match &mut state {
            None => {
                let (count, described) = first_block(payload).map_err(|error| (at, error.to_string()))?;
                (expected, state) = (count, Some(described));
            }
            Some(state) if payload.is_empty() => {
                if end != file.len() || state.mvcc.changes().len() as u64 != expected {
                    return Err(fault(at, "does not end where it should"));
                }
                break;
            }
            Some(state) => changes(payload, state).map_err(|error| (at, error.to_string()))?,
        }
        (at, number, chain) = (end, number + 1, crc);
    }
    let Some(mut state) = state else { unreachable!("the loop ends with a state") };
    state.attach_all();
    Ok(state)
}

fn first_block(payload: Bytes) -> Result<(u64, State), Malformed> {
    let mut reader = Reader::new(payload);
    let count = reader.varint()?;
    Ok((count, image::decode_description(reader.rest())?))
}

fn changes(payload: Bytes, state: &mut State) -> Result<(), Malformed> {
    let mut reader = Reader::new(payload);
    while !reader.is_empty() {
        let (place, change) = image::decode_change(reader.bytes()?)?;
        state.mvcc.restore(place, change);
    }
    Ok(())
}

/// The newest snapshot that is whole. Damaged ones are said and set aside; `None` when there never was one, an error
/// when all are damaged.
pub fn newest(disk: &dyn Disk, dir: &Path) -> Result<Option<State>, Error> {
    let mut damage = None;
    let indexes = list(disk, dir)?;
    for (newer, index) in indexes.iter().rev().enumerate() {
        match load(disk, dir, *index) {
            Ok(state) => {
                set_aside(disk, dir, &indexes[indexes.len() - newer..])?;
                return Ok(Some(state));
            }
            Err(error) => {
                tracing::warn!(%error, "snapshot is not used");
                damage.get_or_insert(error);
            }
        }
    }
    damage.map_or(Ok(None), Err)
}

/// Renames damaged snapshots, so that they do not count as copies and can be looked at.
pub fn set_aside(disk: &dyn Disk, dir: &Path, indexes: &[u64]) -> Result<(), Error> {
    for index in indexes {
        let path = dir.join(file_name(*index));
        let aside = dir.join(format!("{}.damaged", file_name(*index)));
        disk.rename(&path, &aside).map_err(io_error(format!("set aside {}", path.display())))?;
    }
    Ok(())
}

/// Removes what a crash left unfinished and makes the directory.
pub fn prepare(disk: &dyn Disk, dir: &Path) -> Result<PathBuf, Error> {
    disk.create_dir(dir).map_err(io_error(format!("make {}", dir.display())))?;
    let unfinished = dir.join(UNFINISHED);
    match disk.remove(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error(format!("remove {}", unfinished.display()))(error))
        }
        _ => Ok(dir.to_owned()),
    }
}

#[cfg(test)]
pub mod tests;
