//! A range of keys as etcd's requests name it: one key, all keys from one on, or a half-open span.

use std::ops::Bound;

use bytes::Bytes;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRange {
    One(Bytes),
    From(Bytes),
    Span(Bytes, Bytes),
}

impl KeyRange {
    /// `end` empty means the one key `start`; `end == [0]` all keys from `start` on.
    pub fn new(start: Bytes, end: Bytes) -> Self {
        match &end[..] {
            [] => KeyRange::One(start),
            [0] => KeyRange::From(start),
            _ => KeyRange::Span(start, end),
        }
    }

    pub fn start(&self) -> &Bytes {
        match self {
            KeyRange::One(start) | KeyRange::From(start) | KeyRange::Span(start, _) => start,
        }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(start) => start == key,
            KeyRange::From(start) => key >= &start[..],
            KeyRange::Span(start, end) => key >= &start[..] && key < &end[..],
        }
    }

    /// A span whose end is not after its start holds nothing.
    pub fn is_empty(&self) -> bool {
        matches!(self, KeyRange::Span(start, end) if end <= start)
    }

    /// Bounds for an ordered map of keys; `None` when the range holds nothing.
    pub fn bounds(&self) -> Option<(Bound<&Bytes>, Bound<&Bytes>)> {
        let start = Bound::Included(self.start());
        match self {
            _ if self.is_empty() => None,
            KeyRange::One(key) => Some((start, Bound::Included(key))),
            KeyRange::From(_) => Some((start, Bound::Unbounded)),
            KeyRange::Span(_, end) => Some((start, Bound::Excluded(end))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let range = |start: &'static str, end: &'static str| KeyRange::new(start.into(), end.into());
        let table = [
            ("b", "", "b", true),
            ("b", "", "ba", false),
            ("b", "\0", "b", true),
            ("b", "\0", "zz", true),
            ("b", "\0", "a", false),
            ("b", "d", "b", true),
            ("b", "d", "czz", true),
            ("b", "d", "d", false),
            ("d", "b", "c", false),
        ];
        for (start, end, key, expected) in table {
            assert_eq!(range(start, end).contains(key.as_bytes()), expected, "[{start}, {end}) {key}");
        }
        assert!(range("d", "b").bounds().is_none());
    }
}
