//! Opens the log: reads every segment, checks every record and the chain through all of them, cuts a torn tail and
//! says so, and refuses anything else that is not what was written.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use raft::eraftpb::{Entry, HardState};

use super::record::{Kind, Record};
use super::segment::{self, Active, End, Header};
use super::{
    FirstRecords, Identity, Log, NEXT, Options, Sealed, UNFINISHED, decode_entry, decode_hard_state, decode_identity,
    salt, start_segment,
};
use crate::disk::Disk;
use crate::kv::Error;

/// What the log says about the time before.
#[derive(Debug, Default)]
pub struct Recovered {
    pub hard_state: HardState,
    /// Entries after the index that was asked for.
    pub entries: Vec<Entry>,
    /// Whether the store was closed in order.
    pub closed: bool,
    /// Bytes of a torn tail that were cut off.
    pub torn: usize,
}

/// Where and as what a log is opened.
pub struct Opening<'a> {
    pub disk: Arc<dyn Disk>,
    pub dir: &'a Path,
    pub options: Options,
    /// Random.
    pub seed: u64,
    /// For a log that does not exist yet.
    pub identity: Identity,
    /// Index of the last entry that is already in the state.
    pub after: u64,
}

/// An IO error of the store, named.
pub fn io_error(operation: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let operation = operation.into();
    move |source| Error::Io { operation, source: Arc::new(source) }
}

/// Opens the log, or makes it.
pub fn open(opening: Opening<'_>) -> Result<(Log, Recovered), Error> {
    let Opening { disk, dir, .. } = &opening;
    disk.create_dir(dir).map_err(io_error(format!("make {}", dir.display())))?;
    let names = disk.list(dir).map_err(io_error(format!("list {}", dir.display())))?;
    for name in names.iter().filter(|name| name.ends_with(UNFINISHED)) {
        disk.remove(&dir.join(name)).map_err(io_error(format!("remove left-over {name}")))?;
    }
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment::number_of(name)).collect();
    numbers.sort_unstable();
    if numbers.is_empty() { create(opening) } else { read(opening, &numbers) }
}

/// The first segment is small, so that a first start need not wait for many zeros.
fn create(opening: Opening<'_>) -> Result<(Log, Recovered), Error> {
    let Opening { disk, dir, options, seed, identity, after } = opening;
    if after > 0 {
        return Err(Error::Corrupt(format!("{}: there is a state but no log", dir.display())));
    }
    let capacity = (options.segment_bytes / 8).max(64 << 10);
    let header = Header { number: 1, capacity, salt: salt(seed, 1), previous: 0 };
    let hard_state = HardState::default();
    let first = FirstRecords { identity: &identity, hard_state: &hard_state, last_index: 0 };
    let active = segment::prepare(&*disk, &dir.join(NEXT), capacity)
        .and_then(|file| start_segment(&*disk, dir, file, header, first))
        .map_err(io_error(format!("make the log's first segment in {}", dir.display())))?;
    let (sealed, dir) = (VecDeque::new(), dir.to_owned());
    let log =
        Log { disk, dir, options, identity, hard_state, active, sealed, gone: 0, last_index: 0, prepared: None, seed };
    Ok((log, Recovered::default()))
}

/// Collects records across segments.
struct Reading {
    after: u64,
    identity: Option<Identity>,
    hard_state: HardState,
    entries: Vec<Entry>,
    last_index: u64,
    closed: bool,
}

impl Reading {
    fn take(&mut self, record: &Record<'_>) -> Result<(), String> {
        self.closed = record.kind == Kind::Closed;
        match record.kind {
            Kind::Identity => {
                let (identity, last_index) = decode_identity(record.payload).map_err(|error| error.to_string())?;
                if self.identity.is_some() && last_index != self.last_index {
                    return Err(format!("segment follows entry {last_index}, not {}", self.last_index));
                }
                self.last_index = last_index;
                self.identity = Some(identity);
            }
            Kind::HardState => {
                self.hard_state = decode_hard_state(record.payload).map_err(|error| error.to_string())?;
            }
            Kind::Entry => self.take_entry(decode_entry(record.payload).map_err(|error| error.to_string())?)?,
            Kind::Closed => {}
        }
        Ok(())
    }

    fn take_entry(&mut self, entry: Entry) -> Result<(), String> {
        if entry.index > self.last_index + 1 || entry.index == 0 {
            return Err(format!("entry {} follows entry {}", entry.index, self.last_index));
        }
        self.last_index = entry.index;
        if entry.index <= self.after {
            self.entries.clear();
            return Ok(());
        }
        // A later leader's entry replaces what it conflicts with.
        let first = self.entries.first().map_or(entry.index, |first| first.index);
        if first != self.after + 1 {
            return Err(format!("entry {first} follows entry {} of the state: a gap", self.after));
        }
        self.entries.truncate((entry.index - first) as usize);
        self.entries.push(entry);
        Ok(())
    }
}

fn read(opening: Opening<'_>, numbers: &[u64]) -> Result<(Log, Recovered), Error> {
    let Opening { disk, dir, options, seed, after, .. } = opening;
    let mut reading = Reading {
        after,
        identity: None,
        hard_state: HardState::default(),
        entries: Vec::new(),
        last_index: 0,
        closed: false,
    };
    let mut sealed = VecDeque::new();
    let mut previous: Option<(Header, u32)> = None;
    let (mut active, mut torn) = (None, 0);
    for (position, number) in numbers.iter().enumerate() {
        let last = position + 1 == numbers.len();
        let path = dir.join(segment::file_name(*number));
        let file = disk.read(&path).map_err(io_error(format!("read {}", path.display())))?;
        let damaged = |at: usize, what: String| Error::Corrupt(format!("{} at offset {at}: {what}", path.display()));
        let header = Header::decode(&file).map_err(|what| damaged(0, what))?;
        check_order(*number, &header, previous).map_err(|what| damaged(0, what))?;
        let mut at = 0;
        let end = segment::scan(&file, &header, |record| {
            at = record.end;
            reading.take(&record)
        });
        match end.map_err(|what| damaged(at, what))? {
            End::Clean { at, chain } if last => active = Some((header, path.clone(), at, chain)),
            End::Torn { at, chain } if last => {
                torn = file.iter().rposition(|byte| *byte != 0).map_or(0, |end| end + 1 - at);
                active = Some((header, path.clone(), at, chain));
                tracing::warn!(segment = %path.display(), offset = at, bytes = torn, "log: cut a torn tail");
            }
            End::Clean { at, chain } => {
                previous = Some((header, chain));
                sealed.push_back(Sealed { path: path.clone(), bytes: at as u64, last_index: reading.last_index });
            }
            End::Torn { at, .. } | End::Damaged { at } => {
                return Err(damaged(at, "bytes that had been synced are not what was written".into()));
            }
        }
    }
    let Some((header, path, at, chain)) = active else { unreachable!("there is a last segment") };
    let identity = reading.identity.ok_or_else(|| Error::Corrupt(format!("{}: log of nobody", dir.display())))?;
    if reading.last_index < after {
        let last = reading.last_index;
        return Err(Error::Corrupt(format!("{}: log ends at entry {last}, the state at {after}", dir.display())));
    }
    let mut file = disk.open(&path).map_err(io_error(format!("open {}", path.display())))?;
    if torn > 0 {
        // What was cut must not look like a record once new ones lead up to it.
        segment::fill(&mut *file, at as u64, (at + torn) as u64)
            .and_then(|()| file.sync())
            .map_err(io_error(format!("cut the torn tail of {}", path.display())))?;
    }
    let Reading { hard_state, entries, last_index, closed, .. } = reading;
    let recovered = Recovered { hard_state: hard_state.clone(), entries, closed, torn };
    let active = Active::new(header, path, file, at, chain);
    let dir = dir.to_owned();
    let log =
        Log { disk, dir, options, identity, hard_state, active, sealed, gone: 0, last_index, prepared: None, seed };
    Ok((log, recovered))
}

/// Segments follow each other by number and chain.
fn check_order(number: u64, header: &Header, previous: Option<(Header, u32)>) -> Result<(), String> {
    if header.number != number {
        return Err(format!("is segment {}, not {number}", header.number));
    }
    match previous {
        Some((before, _)) if before.number + 1 != number => Err(format!("segment {} is missing", before.number + 1)),
        Some((before, chain)) if chain != header.previous => {
            Err(format!("does not continue segment {}, whose last records are missing", before.number))
        }
        _ => Ok(()),
    }
}
