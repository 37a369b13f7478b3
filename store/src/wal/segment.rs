//! One file of the log: a header, then records, then zeros up to its full size, which were written and synced before
//! its first use, so that syncing a group needs no change of the file's metadata.

use std::io;
use std::path::{Path, PathBuf};

use super::record::{self, Parsed, Record};
use crate::disk::{Disk, DiskFile};

/// First version of the format. A later version must read this one or say how to migrate.
pub const FORMAT: u32 = 1;
const MAGIC: &[u8; 8] = b"coxwal\r\n";
/// Bytes before the first record.
pub const HEADER: usize = 64;
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Segments are numbered from 1 without gaps.
    pub number: u64,
    /// Length of the file.
    pub capacity: u64,
    /// Random; no stored bytes can be made to look like records of this file.
    pub salt: u64,
    /// CRC of the last record of the segment before; 0 in the first.
    pub previous: u32,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.capacity.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.salt.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.previous.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn decode(file: &[u8]) -> Result<Header, String> {
        let bytes = file.get(..HEADER).ok_or("header is cut short")?;
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if &bytes[..8] != MAGIC {
            return Err("not a log segment".into());
        }
        if crc32fast::hash(&bytes[..60]) != word(60) {
            return Err("header's checksum is wrong".into());
        }
        if word(8) != FORMAT {
            return Err(format!("format version {} is not {FORMAT}, the one this program knows", word(8)));
        }
        Ok(Header { number: long(16), capacity: long(24), salt: long(32), previous: word(40) })
    }

    /// The first record's `previous`.
    pub fn chain(&self) -> u32 {
        crc32fast::hash(&self.encode())
    }
}

pub fn file_name(number: u64) -> String {
    format!("{number:016x}.wal")
}

pub fn number_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_suffix(".wal")?, 16).ok()
}

/// Writes and syncs `bytes` zeros as a new file.
pub fn prepare(disk: &dyn Disk, path: &Path, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
    let mut file = disk.create(path)?;
    fill(&mut *file, 0, bytes)?;
    file.sync()?;
    Ok(file)
}

/// Writes zeros from `from` up to `to`.
pub fn fill(file: &mut dyn DiskFile, mut from: u64, to: u64) -> io::Result<()> {
    while from < to {
        let length = (to - from).min(ZEROS.len() as u64);
        file.write_at(&ZEROS[..length as usize], from)?;
        from += length;
    }
    Ok(())
}

/// The segment that is being written.
pub struct Active {
    pub header: Header,
    pub path: PathBuf,
    file: Box<dyn DiskFile>,
    /// Where the next group goes.
    at: usize,
    /// CRC of the last record.
    chain: u32,
    /// The group that is being gathered, and its records' last CRC.
    group: Vec<u8>,
    group_chain: u32,
    written: bool,
}

impl Active {
    pub fn new(header: Header, path: PathBuf, file: Box<dyn DiskFile>, at: usize, chain: u32) -> Self {
        Active { header, path, file, at, chain, group: Vec::new(), group_chain: chain, written: false }
    }

    pub fn chain(&self) -> u32 {
        self.chain
    }

    /// Bytes left for records beyond the gathered group.
    pub fn room(&self) -> usize {
        (self.header.capacity as usize).saturating_sub(self.at + self.group.len())
    }

    pub fn used(&self) -> usize {
        self.at
    }

    pub fn add(&mut self, kind: record::Kind, payload: &[u8]) {
        let offset = (self.at + self.group.len()) as u32;
        let place = record::Place { salt: self.header.salt, segment: self.header.number, offset };
        self.group_chain = record::write(&mut self.group, place, self.group_chain, self.at as u32, kind, payload);
    }

    /// Writes the gathered group. It may be tried again after a failure.
    pub fn write(&mut self) -> io::Result<()> {
        if !self.written && !self.group.is_empty() {
            self.file.write_at(&self.group, self.at as u64)?;
            self.written = true;
        }
        Ok(())
    }

    /// Makes the written group durable. Must not be tried again after a failure.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync()?;
        self.at += self.group.len();
        self.chain = self.group_chain;
        self.group.clear();
        self.group.shrink_to(1 << 20);
        self.written = false;
        Ok(())
    }
}

/// How a segment's records end.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// At this offset, with this CRC of the last record; only zeros after it.
    Clean { at: usize, chain: u32 },
    /// A write was cut short at this offset; nothing from there on had been acknowledged.
    Torn { at: usize, chain: u32 },
    /// Bytes at this offset had been synced and are not what was written.
    Damaged { at: usize },
}

/// Reads a whole segment file, handing each intact record to `take`.
pub fn scan<'a, E>(
    file: &'a [u8],
    header: &Header,
    mut take: impl FnMut(Record<'a>) -> Result<(), E>,
) -> Result<End, E> {
    let (mut at, mut chain) = (HEADER, header.chain());
    loop {
        match record::parse(file, header.salt, header.number, at) {
            Parsed::Record(record) if record.previous == chain => {
                (at, chain) = (record.end, record.crc);
                take(record)?;
            }
            Parsed::Record(_) | Parsed::Bad | Parsed::Blank => break,
        }
    }
    let rest = &file[at.min(file.len())..];
    if file.len() as u64 != header.capacity {
        return Ok(End::Damaged { at: file.len() });
    }
    if is_zero(rest) {
        return Ok(End::Clean { at, chain });
    }
    if later_group(file, header, at) { Ok(End::Damaged { at }) } else { Ok(End::Torn { at, chain }) }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|chunk| chunk == &ZEROS[..chunk.len()])
}

/// Whether an intact record after `at` belongs to a group that began after `at`.
fn later_group(file: &[u8], header: &Header, at: usize) -> bool {
    // Each candidate costs a checksum of what it claims to be; the total is bounded.
    let mut budget = file.len().saturating_mul(64);
    let mut offset = at + 4;
    while offset + record::HEADER <= file.len() && budget > 0 {
        let word = |at: usize| u32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]) as usize;
        let group = word(offset + 12);
        if group > at && group <= offset {
            budget = budget.saturating_sub(word(offset).min(file.len() - offset) + record::HEADER);
            if matches!(record::parse(file, header.salt, header.number, offset), Parsed::Record(_)) {
                return true;
            }
        }
        offset += 4;
    }
    false
}
