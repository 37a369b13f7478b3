//! A container's log in CRI format: `2024-05-01T10:00:00.000000000Z stdout F line`. A line longer than 16 KiB is split
//! into parts tagged `P`, the last `F`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest part of a line in one entry, as containerd's `max_container_log_line_size`.
const LINE_LIMIT: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn tag(self) -> &'static [u8] {
        match self {
            Stream::Stdout => b" stdout ",
            Stream::Stderr => b" stderr ",
        }
    }
}

/// Cuts a stream of bytes into log entries; keeps the line that has not ended yet.
pub struct Lines {
    stream: Stream,
    pending: Vec<u8>,
}

impl Lines {
    pub fn new(stream: Stream) -> Lines {
        Lines { stream, pending: Vec::new() }
    }

    /// Appends to `out` an entry for each line that `bytes` complete.
    pub fn feed(&mut self, mut bytes: &[u8], now: &[u8], out: &mut Vec<u8>) {
        while let Some(end) = memchr_newline(bytes) {
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or(&[]);
            self.whole(line, now, out);
        }
        while self.pending.len() + bytes.len() > LINE_LIMIT {
            let (part, rest) = bytes.split_at(LINE_LIMIT - self.pending.len());
            bytes = rest;
            self.entry(b"P ", part, now, out);
        }
        self.pending.extend_from_slice(bytes);
    }

    /// The stream has ended: what is left becomes a line.
    pub fn finish(&mut self, now: &[u8], out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            self.entry(b"F ", &[], now, out);
        }
    }

    fn whole(&mut self, mut line: &[u8], now: &[u8], out: &mut Vec<u8>) {
        while self.pending.len() + line.len() > LINE_LIMIT {
            let (part, rest) = line.split_at(LINE_LIMIT - self.pending.len());
            line = rest;
            self.entry(b"P ", part, now, out);
        }
        self.entry(b"F ", line, now, out);
    }

    fn entry(&mut self, tag: &[u8], part: &[u8], now: &[u8], out: &mut Vec<u8>) {
        for piece in [now, self.stream.tag(), tag, &self.pending, part, b"\n"] {
            out.extend_from_slice(piece);
        }
        self.pending = Vec::new();
    }
}

fn memchr_newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

/// The file that entries are appended to.
pub struct LogFile {
    path: PathBuf,
    file: File,
}

impl LogFile {
    pub fn open(path: PathBuf) -> io::Result<LogFile> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file = Self::append(&path)?;
        Ok(LogFile { path, file })
    }

    fn append(path: &PathBuf) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).mode(0o640).open(path)
    }

    /// Goes on in a new file after the old one was renamed.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.file = Self::append(&self.path)?;
        Ok(())
    }

    pub fn write(&mut self, entries: &[u8]) -> io::Result<()> {
        self.file.write_all(entries)
    }
}

/// Unix nanoseconds.
pub fn unix_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC with nine digits, written without the heap.
pub fn timestamp(nanos: i64) -> [u8; 30] {
    let seconds = nanos.div_euclid(1_000_000_000);
    let fraction = nanos.rem_euclid(1_000_000_000);
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let clock = seconds.rem_euclid(86_400);
    let mut out = *b"0000-00-00T00:00:00.000000000Z";
    for (at, width, value) in [
        (0, 4, year),
        (5, 2, month),
        (8, 2, day),
        (11, 2, clock / 3600),
        (14, 2, clock / 60 % 60),
        (17, 2, clock % 60),
        (20, 9, fraction),
    ] {
        let mut value = value;
        for place in out.iter_mut().skip(at).take(width).rev() {
            *place = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }
    out
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant's algorithm).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn timestamps_are_rfc3339_in_utc() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (1_709_210_096_000_000_007, "2024-02-29T12:34:56.000000007Z"),
            (951_782_400_123_456_789, "2000-02-29T00:00:00.123456789Z"),
            (4_102_444_799_999_999_999, "2099-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(std::str::from_utf8(&timestamp(nanos)).unwrap(), text);
        }
    }

    fn entries(chunks: &[&[u8]]) -> String {
        let mut lines = Lines::new(Stream::Stdout);
        let mut out = Vec::new();
        for chunk in chunks {
            lines.feed(chunk, b"T", &mut out);
        }
        lines.finish(b"T", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_entries_whatever_the_chunks() {
        assert_eq!(entries(&[b"a\nb\n"]), "T stdout F a\nT stdout F b\n");
        assert_eq!(entries(&[b"a", b"b\n\n"]), "T stdout F ab\nT stdout F \n");
        assert_eq!(entries(&[b"no end"]), "T stdout F no end\n");
        assert_eq!(entries(&[]), "");
    }

    #[test]
    fn long_lines_are_split_at_16_kib() {
        let long = vec![b'x'; LINE_LIMIT + 5];
        let mut with_end = long.clone();
        with_end.push(b'\n');
        let expected = format!("T stdout P {}\nT stdout F xxxxx\n", "x".repeat(LINE_LIMIT));
        assert_eq!(entries(&[&with_end]), expected);
        assert_eq!(entries(&[&long]), expected);
        let exact = vec![b'x'; LINE_LIMIT];
        assert_eq!(entries(&[&exact, b"\n"]), format!("T stdout F {}\n", "x".repeat(LINE_LIMIT)));
    }
}
