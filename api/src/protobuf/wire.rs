//! The wire format: varints, tags, and values by wire type.

use super::Error;

/// A field's value on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    /// Which the API never uses.
    Fixed32,
    Bytes(&'a [u8]),
}

/// What is left of a message.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or_else(short)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::new("proto: integer overflow"))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(short)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// The next field's number and value, or `None` at the end.
    pub fn field(&mut self) -> Result<Option<(u32, Wire<'a>)>, Error> {
        if self.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|n| *n > 0 && *n < 1 << 29);
        let number = number.ok_or_else(|| Error(format!("proto: illegal tag {} (wire type {})", tag >> 3, tag & 7)))?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| short())?;
                Wire::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Wire::Fixed32)?,
            // Groups, which the API never had.
            other => return Err(Error(format!("proto: illegal wireType {other}"))),
        };
        Ok(Some((number, wire)))
    }
}

fn short() -> Error {
    Error::new("unexpected EOF")
}

impl<'a> Wire<'a> {
    fn mismatch(self) -> Error {
        let number = match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Fixed32 => 5,
        };
        Error(format!("proto: wrong wireType = {number}"))
    }

    pub fn bytes(self) -> Result<&'a [u8], Error> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(other.mismatch()),
        }
    }

    pub fn varint(self) -> Result<u64, Error> {
        match self {
            Self::Varint(value) => Ok(value),
            other => Err(other.mismatch()),
        }
    }

    pub fn double(self) -> Result<f64, Error> {
        match self {
            Self::Fixed64(bits) => Ok(f64::from_bits(bits)),
            other => Err(other.mismatch()),
        }
    }

    pub fn text(self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Error::new("proto: a text is not valid UTF-8"))
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`put_varint`] writes.
pub(super) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

pub(super) fn put_int(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

pub(super) fn put_double(out: &mut Vec<u8>, number: u32, value: f64) {
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_head(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

/// What stands before the bytes of a field.
pub(super) fn put_head(out: &mut Vec<u8>, number: u32, length: usize) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, length as u64);
}

/// A field that `write` writes. Its length gets one byte at first, which is enough for most; longer ones are moved.
pub(super) fn put_nested(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    put_varint(out, u64::from(number) << 3 | 2);
    let at = out.len();
    out.push(0);
    write(out);
    let length = (out.len() - at - 1) as u64;
    let more = varint_len(length) - 1;
    if more > 0 {
        let end = out.len();
        out.resize(end + more, 0);
        out.copy_within(at + 1..end, at + 1 + more);
    }
    let mut rest = length;
    for slot in &mut out[at..=at + more] {
        *slot = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[at + more] &= 0x7f;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for length in [0usize, 1, 127, 128, 16_383, 16_384, 70_000] {
            let (mut nested, mut plain) = (Vec::new(), Vec::new());
            put_nested(&mut nested, 17, |out| out.resize(out.len() + length, 7));
            put_bytes(&mut plain, 17, &vec![7; length]);
            assert_eq!(nested, plain);
            let (number, wire) = Reader(&nested).field().unwrap().unwrap();
            assert_eq!((number, wire.bytes().unwrap().len()), (17, length));
        }
        for value in [0, 1, 127, 128, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!((Reader(&out).varint().unwrap(), out.len()), (value, varint_len(value)));
        }
    }

    #[test]
    fn damage_is_refused() {
        for bytes in [&[0x80][..], &[0xff; 11], &[0x0a, 5, 1], &[0x0b], &[0x00, 0], &[0x09, 1], &[0x0d, 1]] {
            assert!(Reader(bytes).field().is_err(), "{bytes:?}");
        }
        let huge = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert!(Reader(&huge).field().is_err());
    }
}
