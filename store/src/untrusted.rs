//! What reads payloads of the log, for the fuzz targets: they are checked by CRC, and must be no danger all the same.

use protobuf::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeV2, Message};

use crate::wal;
use crate::wal::segment::Header;

/// The payload of a record, of whichever kind it says that it is.
pub fn payload(bytes: &[u8]) {
    drop(wal::decode_hard_state(bytes));
    drop(wal::decode_identity(bytes));
    if let Ok(entry) = wal::decode_entry(bytes) {
        drop(ConfChange::parse_from_bytes(&entry.data));
        drop(ConfChangeV2::parse_from_bytes(&entry.data));
    }
}

/// The beginning of a segment.
pub fn segment(bytes: &[u8]) {
    if let Ok(header) = Header::decode(bytes) {
        drop(wal::segment::scan(bytes, &header, |_| Ok::<(), String>(())));
    }
}

/// A message from another member.
pub fn message(bytes: &[u8]) {
    if let Ok(message) = Message::parse_from_bytes(bytes) {
        std::hint::black_box(message.entries.len());
    }
}
