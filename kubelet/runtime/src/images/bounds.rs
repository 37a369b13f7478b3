//! What an archive may take while it is read: memory for its headers, and room on the disk.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// The most that the headers of one entry may have, long names and extended attributes included: all of it is held in
/// memory. Tools write a few hundred bytes, and an attribute has 64 KiB at most.
pub const HEADERS_LIMIT: u64 = 1 << 20;
/// Bytes that are written between two looks at what is free.
const STEP: u64 = 1 << 20;
/// What is left free on the disk, so that one archive does not stop all others who write: a twentieth, but no more than
/// this.
const RESERVE: u64 = 1 << 30;
/// The largest window that a zstd frame may ask for, as a power of two: 32 MiB of memory. Builders of images use 8 MiB.
const ZSTD_WINDOW: u32 = 25;

fn bad(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Says how many bytes may be read until it is told anew.
#[derive(Debug, Default)]
pub struct Meter(Cell<u64>);

impl Meter {
    /// The next bytes are headers.
    pub fn headers(&self) {
        self.0.set(HEADERS_LIMIT);
    }

    /// The next bytes are content, which is not held in memory.
    pub fn content(&self) {
        self.0.set(u64::MAX);
    }
}

/// A stream that is read by a meter.
pub struct Metered<'a, R>(pub R, pub &'a Meter);

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self(inner, meter) = self;
        let left = meter.0.get();
        if left == 0 && !buffer.is_empty() {
            return Err(bad(format!("the headers of an entry are larger than {HEADERS_LIMIT} bytes")));
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = inner.read(buffer.get_mut(..most).unwrap_or(&mut []))?;
        meter.0.set(left - read as u64);
        Ok(read)
    }
}

impl<R: Seek> Seek for Metered<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

/// Decompresses zstd with bounded memory.
///
/// # Errors
/// The decoder cannot be made.
pub fn zstd_decoder<'a, R: Read>(stream: R) -> io::Result<zstd::Decoder<'a, io::BufReader<R>>> {
    let mut decoder = zstd::Decoder::new(stream)?;
    decoder.window_log_max(ZSTD_WINDOW)?;
    Ok(decoder)
}

/// Watches what is free on a disk that is written to.
#[derive(Debug)]
pub struct Room {
    /// Any file of the disk.
    on: File,
    unchecked: u64,
}

impl Room {
    pub fn new(on: File) -> Room {
        Room { on, unchecked: 0 }
    }

    fn wrote(&mut self, bytes: usize) -> io::Result<()> {
        self.unchecked += bytes as u64;
        if self.unchecked < STEP {
            return Ok(());
        }
        self.unchecked = 0;
        let disk = nix::sys::statvfs::fstatvfs(&self.on)?;
        let block = disk.fragment_size();
        let reserve = (disk.blocks() * block / 20).min(RESERVE);
        if disk.blocks_available() * block >= reserve {
            return Ok(());
        }
        let text = format!("the disk is full: less than {} MiB would be left free", reserve >> 20);
        Err(io::Error::new(io::ErrorKind::StorageFull, text))
    }

    /// The file, which is written with care.
    pub fn careful<'a>(&'a mut self, file: &'a mut File) -> Careful<'a> {
        Careful { file, room: self }
    }
}

/// A file that is written as long as there is room.
pub struct Careful<'a> {
    file: &'a mut File,
    room: &'a mut Room,
}

impl Write for Careful<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.room.wrote(written)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
