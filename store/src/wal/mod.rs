//! The write-ahead log: what is durable here, and only that, may be acknowledged. Segments of records, a group of
//! records per `fdatasync`. The file formats are in [`record`] and [`segment`], the promises in docs/STORE.md.

pub mod record;
pub mod recover;
pub mod segment;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raft::eraftpb::{ConfState, Entry, EntryType, HardState};

use self::record::Kind;
use self::segment::{Active, Header};
use crate::codec::{Malformed, Reader, Writer};
use crate::disk::{Disk, DiskFile};
use crate::image::{decode_members, encode_members};

/// Room kept in every segment for what the store itself must log when the disk is full: lease ends, terms.
/// In a small segment it is a quarter.
const RESERVE: usize = 64 << 10;
/// What is not a segment yet; left-overs go at the opening.
const UNFINISHED: &str = ".tmp";
/// A segment in the making.
const NEXT: &str = "next.tmp";

/// Whose log this is; written once when it is made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Identity {
    pub cluster: u64,
    pub member: u64,
    /// The members that the cluster began with.
    pub members: ConfState,
}

pub struct Options {
    /// Length of a segment file in bytes.
    pub segment_bytes: u64,
}

/// A full segment.
struct Sealed {
    path: PathBuf,
    bytes: u64,
    /// Index of the last entry in it or before it.
    last_index: u64,
}

pub struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: Options,
    identity: Identity,
    hard_state: HardState,
    active: Active,
    sealed: VecDeque<Sealed>,
    /// Bytes of records that were released.
    gone: u64,
    last_index: u64,
    /// A file of zeros that another thread made ahead, whole and unused.
    prepared: Option<PathBuf>,
    /// Random; every segment's salt derives from it.
    seed: u64,
}

impl Log {
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Gathers an entry into the next group.
    pub fn add_entry(&mut self, entry: &Entry) {
        let mut writer = Writer::with_capacity(entry.data.len() + 24);
        writer.varint(entry.index);
        writer.varint(entry.term);
        writer.u8(entry_type(entry));
        writer.raw(&entry.data);
        self.active.add(Kind::Entry, &writer.finish());
        self.last_index = entry.index;
    }

    pub fn add_hard_state(&mut self, hard_state: &HardState) {
        self.hard_state = hard_state.clone();
        self.active.add(Kind::HardState, &encode_hard_state(hard_state));
    }

    /// Says that the store is closed in order.
    pub fn add_closed(&mut self) {
        self.active.add(Kind::Closed, &[]);
    }

    /// Makes sure that a group of `records` with `bytes` of data would fit, and some of the store's own beside it,
    /// beginning a new segment where it does not. Fails when the disk is full; the log is as before then and this may
    /// be tried again. Nothing of a group may be gathered yet.
    pub fn reserve(&mut self, records: usize, bytes: usize) -> io::Result<()> {
        let reserve = RESERVE.min(self.active.header.capacity as usize / 4);
        self.room_for(records, bytes, reserve)
    }

    /// As [`Log::reserve`], but what is kept for the store itself may be used up.
    pub fn make_room(&mut self, records: usize, bytes: usize) -> io::Result<()> {
        self.room_for(records, bytes, 0)
    }

    fn room_for(&mut self, records: usize, bytes: usize, reserve: usize) -> io::Result<()> {
        let needed = bytes + records * (record::HEADER + 48) + reserve;
        if self.active.room() >= needed { Ok(()) } else { self.roll(needed as u64) }
    }

    /// Writes the gathered group. It may be tried again after a failure.
    pub fn write(&mut self) -> io::Result<()> {
        self.active.write()
    }

    /// Makes the written group durable. Must not be tried again after a failure.
    pub fn sync(&mut self) -> io::Result<()> {
        self.active.sync()
    }

    /// Once half of the active segment is used: its number, and path and length of the file to prepare. Each segment
    /// names another file, so that one which comes late is never written to while it is in use.
    pub fn wants_next(&self) -> Option<(u64, PathBuf, u64)> {
        let number = self.active.header.number;
        let half = self.active.used() as u64 > self.active.header.capacity / 2;
        let file = || (number, self.dir.join(format!("after-{number:016x}{UNFINISHED}")), self.options.segment_bytes);
        (half && self.prepared.is_none()).then(file)
    }

    /// A file that [`Log::wants_next`] named was made with [`segment::prepare`].
    pub fn next_is_prepared(&mut self, path: PathBuf) {
        if let Some(surplus) = self.prepared.replace(path.clone())
            && surplus != path
            && let Err(error) = self.disk.remove(&surplus)
        {
            tracing::warn!(%error, path = %surplus.display(), "log: a surplus file stays until the next start");
        }
    }

    /// Bytes of records ever written, counted from the oldest that was there at the opening.
    pub fn written(&self) -> u64 {
        self.gone + self.sealed.iter().map(|segment| segment.bytes).sum::<u64>() + self.active.used() as u64
    }

    /// Removes segments that hold only entries up to `index`, which are in a durable snapshot.
    pub fn release(&mut self, index: u64) -> io::Result<()> {
        let mut removed = false;
        while let Some(segment) = self.sealed.front().filter(|segment| segment.last_index <= index) {
            self.disk.remove(&segment.path)?;
            self.gone += segment.bytes;
            self.sealed.pop_front();
            removed = true;
        }
        if removed { self.disk.sync_dir(&self.dir) } else { Ok(()) }
    }

    /// Begins a new segment of at least `needed` bytes for records.
    fn roll(&mut self, needed: u64) -> io::Result<()> {
        let number = self.active.header.number + 1;
        let capacity = self.options.segment_bytes.max(needed + segment::HEADER as u64 + 4096);
        let header = Header { number, capacity, salt: salt(self.seed, number), previous: self.active.chain() };
        let path = self.dir.join(NEXT);
        let file = match self.prepared.take_if(|_| capacity == self.options.segment_bytes) {
            Some(prepared) => {
                self.disk.rename(&prepared, &path)?;
                self.disk.open(&path)?
            }
            None => segment::prepare(&*self.disk, &path, capacity)?,
        };
        let first =
            FirstRecords { identity: &self.identity, hard_state: &self.hard_state, last_index: self.last_index };
        let next = start_segment(&*self.disk, &self.dir, file, header, first)?;
        let old = std::mem::replace(&mut self.active, next);
        let bytes = old.used() as u64;
        self.sealed.push_back(Sealed { path: old.path, bytes, last_index: self.last_index });
        Ok(())
    }
}

fn salt(seed: u64, number: u64) -> u64 {
    (seed ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// What every segment repeats, so that the ones before it can go.
struct FirstRecords<'a> {
    identity: &'a Identity,
    hard_state: &'a HardState,
    /// Index of the last entry before the segment.
    last_index: u64,
}

/// Makes the new file [`NEXT`] a durable segment with its header and first records; it gets its final name last.
fn start_segment(
    disk: &dyn Disk,
    dir: &Path,
    mut file: Box<dyn DiskFile>,
    header: Header,
    first: FirstRecords<'_>,
) -> io::Result<Active> {
    file.write_at(&header.encode(), 0)?;
    let path = dir.join(segment::file_name(header.number));
    let mut active = Active::new(header, path, file, segment::HEADER, header.chain());
    active.add(Kind::Identity, &encode_identity(first.identity, first.last_index));
    active.add(Kind::HardState, &encode_hard_state(first.hard_state));
    active.write()?;
    active.sync()?;
    disk.rename(&dir.join(NEXT), &active.path)?;
    disk.sync_dir(dir)?;
    Ok(active)
}

fn entry_type(entry: &Entry) -> u8 {
    match entry.get_entry_type() {
        EntryType::EntryNormal => 0,
        EntryType::EntryConfChange => 1,
        EntryType::EntryConfChangeV2 => 2,
    }
}

pub(crate) fn decode_entry(payload: &[u8]) -> Result<Entry, Malformed> {
    let mut reader = Reader::new(bytes::Bytes::copy_from_slice(payload));
    let (index, term) = (reader.varint()?, reader.varint()?);
    let kind = match reader.u8()? {
        0 => EntryType::EntryNormal,
        1 => EntryType::EntryConfChange,
        2 => EntryType::EntryConfChangeV2,
        _ => return Err(Malformed("entry: unknown type")),
    };
    let mut entry = Entry { index, term, data: reader.rest(), ..Default::default() };
    entry.set_entry_type(kind);
    Ok(entry)
}

fn encode_hard_state(state: &HardState) -> Vec<u8> {
    let mut writer = Writer::with_capacity(24);
    writer.varint(state.term);
    writer.varint(state.vote);
    writer.varint(state.commit);
    writer.finish()
}

pub(crate) fn decode_hard_state(payload: &[u8]) -> Result<HardState, Malformed> {
    let mut reader = Reader::new(bytes::Bytes::copy_from_slice(payload));
    let (term, vote, commit) = (reader.varint()?, reader.varint()?, reader.varint()?);
    Ok(HardState { term, vote, commit, ..Default::default() })
}

fn encode_identity(identity: &Identity, last_index: u64) -> Vec<u8> {
    let mut writer = Writer::with_capacity(64);
    writer.varint(last_index);
    writer.varint(identity.cluster);
    writer.varint(identity.member);
    encode_members(&mut writer, &identity.members);
    writer.finish()
}

pub(crate) fn decode_identity(payload: &[u8]) -> Result<(Identity, u64), Malformed> {
    let mut reader = Reader::new(bytes::Bytes::copy_from_slice(payload));
    let last_index = reader.varint()?;
    let (cluster, member) = (reader.varint()?, reader.varint()?);
    Ok((Identity { cluster, member, members: decode_members(&mut reader)? }, last_index))
}

#[cfg(test)]
mod tests;
