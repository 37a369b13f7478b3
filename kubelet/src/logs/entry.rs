//! One line of a log in CRI's format: `TIME STREAM TAG CONTENT`.

/// A parsed line; its content is without the line's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub time: &'a [u8],
    /// `stdout` or `stderr`.
    pub stream: &'a [u8],
    /// The container's line goes on in the next entry of its stream.
    pub partial: bool,
    pub content: &'a [u8],
}

/// Parses one line, with or without its end; `None` when it is not in the format.
pub fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let (time, rest) = split(line)?;
    let (stream, rest) = split(rest)?;
    if stream != b"stdout" && stream != b"stderr" {
        return None;
    }
    let (tags, content) = split(rest).unwrap_or((rest, b""));
    let partial = tags.split(|b| *b == b':').next() == Some(b"P");
    Some(Entry { time, stream, partial, content })
}

fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|b| *b == b' ')?;
    Some((&line[..at], &line[at + 1..]))
}

impl Entry<'_> {
    /// When it was written, nanoseconds since the epoch.
    pub fn nanos(&self) -> Option<i64> {
        let text = std::str::from_utf8(self.time).ok()?;
        let time: jiff::Timestamp = text.parse().ok()?;
        i64::try_from(time.as_nanosecond()).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn lines() {
        let full = parse(b"2026-01-02T03:04:05.000000006Z stdout F a b\n").unwrap();
        assert_eq!((full.stream, full.partial, full.content), (&b"stdout"[..], false, &b"a b"[..]));
        assert_eq!(full.nanos().unwrap() % 1_000_000_000, 6);
        assert!(parse(b"2026-01-02T03:04:05Z stderr P x").unwrap().partial);
        assert_eq!(parse(b"2026-01-02T03:04:05Z stderr F ").unwrap().content, b"");
        for bad in [&b""[..], b"x", b"a b c", b"time nostream F x"] {
            assert_eq!(parse(bad), None);
        }
    }
}
