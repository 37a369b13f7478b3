//! Lines of a body that comes in pieces.

use bytes::{Bytes, BytesMut};

/// No event is longer: the largest object that a server takes is a fraction of it.
const LONGEST: usize = 32 << 20;

/// A line is longer than any event can be.
#[derive(Debug, thiserror::Error)]
#[error("a line of more than {LONGEST} bytes")]
pub struct TooLong;

/// Splits what comes into lines. A line that lies within one piece is not copied.
#[derive(Debug, Default)]
pub struct Lines {
    /// What came last, from behind the last line that was taken.
    piece: Bytes,
    /// The beginning of a line, from the pieces before.
    begun: BytesMut,
}

impl Lines {
    /// Adds the next piece. All lines of the one before must have been taken.
    pub fn put(&mut self, piece: Bytes) {
        debug_assert!(self.piece.is_empty(), "a piece was put while lines of another were left");
        self.piece = piece;
    }

    /// The next line, without its end; `None` when more must come first. What no line end follows is no line: a
    /// connection may end within an event.
    pub fn take(&mut self) -> Result<Option<Bytes>, TooLong> {
        let Some(end) = memchr::memchr(b'\n', &self.piece) else {
            if self.begun.len() + self.piece.len() > LONGEST {
                return Err(TooLong);
            }
            self.begun.extend_from_slice(&std::mem::take(&mut self.piece));
            return Ok(None);
        };
        let line = self.piece.split_to(end);
        self.piece = self.piece.split_off(1);
        if self.begun.is_empty() {
            return Ok(Some(line));
        }
        self.begun.extend_from_slice(&line);
        // Not `split`: a watch must not keep the room for the longest line that it ever had.
        Ok(Some(std::mem::take(&mut self.begun).freeze()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lines(pieces: &[&'static str]) -> Vec<String> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.put(Bytes::from_static(piece.as_bytes()));
            while let Some(line) = lines.take().unwrap() {
                found.push(String::from_utf8(line.to_vec()).unwrap());
            }
        }
        found
    }

    #[test]
    fn pieces_and_lines_need_not_agree() {
        for (pieces, found) in [
            (&["a\nb\n"][..], &["a", "b"][..]),
            (&["a", "b\nc", "", "\n"], &["ab", "c"]),
            (&["\n", "a\n\nb"], &["", "a", ""]),
            (&["half"], &[]),
        ] {
            assert_eq!(lines(pieces), found, "{pieces:?}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        lines.put(vec![b'x'; LONGEST].into());
        assert_eq!(lines.take().unwrap(), None);
        lines.put(Bytes::from_static(b"x"));
        assert!(lines.take().is_err());
    }
}
