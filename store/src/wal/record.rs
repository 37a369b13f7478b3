//! One record of the log: a header that binds the bytes to their place, then the payload.
//!
//! | offset | bytes | meaning |
//! |---|---|---|
//! | 0 | 4 | payload length |
//! | 4 | 4 | CRC-32 of salt, segment number, offset, the rest of the header and the payload |
//! | 8 | 4 | CRC of the record before this one (of the segment's header for the first): the chain |
//! | 12 | 4 | offset at which this record's group begins; everything before it was synced before this was written |
//! | 16 | 1 | kind |
//! | 17 | 3 | zero |
//!
//! Integers are little-endian. Records are padded with zeros to a multiple of four bytes. The CRC covers the place, so
//! bytes of another log, segment or offset never pass. The group's offset tells a torn tail (nothing intact lies in a
//! later group) from damage (something does, so the damaged bytes had been synced).

pub const HEADER: usize = 20;
/// Larger payloads are refused; the greatest transaction is far below.
pub const MAX_PAYLOAD: usize = 512 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Who this log belongs to, and its members when it began: first in every segment.
    Identity = 1,
    /// Raft's term, vote and commit index.
    HardState = 2,
    Entry = 3,
    /// The store was closed in order; whatever was before it is complete.
    Closed = 4,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Identity, Kind::HardState, Kind::Entry, Kind::Closed].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// What a record's CRC covers besides its own bytes.
#[derive(Clone, Copy)]
pub struct Place {
    pub salt: u64,
    pub segment: u64,
    pub offset: u32,
}

/// Length with header and padding.
pub fn size(payload: usize) -> usize {
    (HEADER + payload).next_multiple_of(4)
}

/// Appends a record to `out`. Returns its CRC, the next record's `previous`.
pub fn write(out: &mut Vec<u8>, place: Place, previous: u32, group: u32, kind: Kind, payload: &[u8]) -> u32 {
    let start = out.len();
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&previous.to_le_bytes());
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(&[kind as u8, 0, 0, 0]);
    out.extend_from_slice(payload);
    let crc = checksum(place, &out[start..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    out.resize(start + size(payload.len()), 0);
    crc
}

fn checksum(place: Place, record: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&place.salt.to_le_bytes());
    crc.update(&place.segment.to_le_bytes());
    crc.update(&place.offset.to_le_bytes());
    crc.update(&record[..4]);
    crc.update(&record[8..]);
    crc.finalize()
}

#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub kind: Kind,
    pub payload: &'a [u8],
    pub crc: u32,
    pub previous: u32,
    pub group: u32,
    /// Offset after its padding.
    pub end: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    Record(Record<'a>),
    /// Zeros: nothing was written here.
    Blank,
    Bad,
}

/// Parses the record at `offset` of a whole segment file.
pub fn parse(file: &[u8], salt: u64, segment: u64, offset: usize) -> Parsed<'_> {
    let rest = &file[offset.min(file.len())..];
    if rest.iter().take(HEADER).all(|byte| *byte == 0) {
        return Parsed::Blank;
    }
    parse_written(rest, Place { salt, segment, offset: offset as u32 }).map_or(Parsed::Bad, Parsed::Record)
}

fn parse_written(rest: &[u8], place: Place) -> Option<Record<'_>> {
    let word = |at: usize| Some(u32::from_le_bytes(rest.get(at..at + 4)?.try_into().ok()?));
    let (length, crc, previous, group) = (word(0)? as usize, word(4)?, word(8)?, word(12)?);
    let kind = Kind::from_byte(*rest.get(16)?)?;
    let whole = rest.get(..size(length))?;
    let zeros = whole[17..20].iter().chain(&whole[HEADER + length..]).all(|byte| *byte == 0);
    if !zeros || length > MAX_PAYLOAD || group > place.offset || checksum(place, &whole[..HEADER + length]) != crc {
        return None;
    }
    let payload = &whole[HEADER..HEADER + length];
    Some(Record { kind, payload, crc, previous, group, end: place.offset as usize + whole.len() })
}
