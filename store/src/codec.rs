//! Compact binary primitives for log entries, records and snapshots: LEB128 integers and length-prefixed bytes.

use bytes::Bytes;

use crate::kv::Error;

/// Bytes that do not decode. Whoever reads from disk turns it into [`Error::Corrupt`] with the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Error::Corrupt(malformed.to_string())
    }
}

/// Appends to a buffer.
#[derive(Default)]
pub struct Writer {
    buffer: Vec<u8>,
}

impl Writer {
    pub fn with_capacity(bytes: usize) -> Self {
        Writer { buffer: Vec::with_capacity(bytes) }
    }

    pub fn u8(&mut self, value: u8) {
        self.buffer.push(value);
    }

    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.buffer.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.push(value as u8);
    }

    /// Two's complement as an unsigned varint: revisions and leases are hardly ever negative.
    pub fn int(&mut self, value: i64) {
        self.varint(value as u64);
    }

    pub fn bytes(&mut self, value: &[u8]) {
        self.varint(value.len() as u64);
        self.buffer.extend_from_slice(value);
    }

    pub fn raw(&mut self, value: &[u8]) {
        self.buffer.extend_from_slice(value);
    }

    /// Bytes so far.
    pub fn written(&self) -> usize {
        self.buffer.len()
    }

    pub fn finish(self) -> Vec<u8> {
        self.buffer
    }
}

/// Reads what a [`Writer`] wrote. Byte strings are slices of the input, not copies.
pub struct Reader {
    input: Bytes,
    at: usize,
}

impl Reader {
    pub fn new(input: Bytes) -> Self {
        Reader { input, at: 0 }
    }

    /// Length of the whole input.
    pub fn total(&self) -> usize {
        self.input.len()
    }

    pub fn is_empty(&self) -> bool {
        self.at == self.input.len()
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        let byte = *self.input.get(self.at).ok_or(Malformed("byte: input ends"))?;
        self.at += 1;
        Ok(byte)
    }

    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(Malformed("integer: more than 64 bits"));
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("integer: more than 64 bits"))
    }

    pub fn int(&mut self) -> Result<i64, Malformed> {
        Ok(self.varint()? as i64)
    }

    /// A number of elements, each of which takes at least one byte: no larger than what is left of the input.
    pub fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.varint()?;
        if count > (self.input.len() - self.at) as u64 {
            return Err(Malformed("count: larger than the input"));
        }
        Ok(count as usize)
    }

    pub fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = self.count()?;
        let slice = self.input.slice(self.at..self.at + length);
        self.at += length;
        Ok(slice)
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> Bytes {
        let slice = self.input.slice(self.at..);
        self.at = self.input.len();
        slice
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn round_trips_and_refuses_cut_input() {
        let mut writer = Writer::default();
        for value in [0, 1, 127, 128, 300, u64::MAX] {
            writer.varint(value);
        }
        writer.int(-1);
        writer.bytes(b"key");
        let whole = Bytes::from(writer.finish());
        let read = |input: Bytes| -> Result<(), Malformed> {
            let mut reader = Reader::new(input);
            for value in [0, 1, 127, 128, 300, u64::MAX] {
                assert_eq!(reader.varint()?, value);
            }
            assert_eq!(reader.int()?, -1);
            assert_eq!(reader.bytes()?, "key");
            Ok(())
        };
        read(whole.clone()).unwrap();
        for length in 0..whole.len() {
            assert!(read(whole.slice(..length)).is_err(), "cut at {length}");
        }
    }
}
