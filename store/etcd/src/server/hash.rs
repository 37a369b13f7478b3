//! The hash of history up to a revision, byte by byte as etcd takes it (`HashKV`): CRC-32C over the name of its bucket,
//! then over each change's revision and `mvccpb.KeyValue`, in the order of revisions. Equal histories have equal
//! hashes, ours or etcd's.

use bytes::{BufMut, BytesMut};
use prost::Message;
use store::Error;
use store::core::mvcc::{Change, Mvcc, Place};

use crate::keys::deleted;
use crate::proto::KeyValue;

/// Name of etcd's bucket of keys.
const BUCKET: &[u8] = b"key";

/// Hashes what is needed to read at `revision` (0 is the newest) and later up to it.
pub fn of(mvcc: &Mvcc, revision: i64) -> Result<u32, Error> {
    let upper = mvcc.readable(revision)?;
    let mut crc = Crc::new();
    crc.update(BUCKET);
    let mut buffer = BytesMut::new();
    let compacted = mvcc.compacted();
    for (place, change) in mvcc.changes().range(..=(upper, u32::MAX)) {
        // Removal of what is compacted goes on for a while. Of it counts what a compaction at `upper` would keep.
        let needed = || mvcc.at(&change.kv.key, upper).is_some_and(|at| at.kv.mod_revision == place.0);
        if place.0 <= compacted && !needed() {
            continue;
        }
        buffer.clear();
        encode(*place, change, &mut buffer);
        crc.update(&buffer);
    }
    Ok(crc.finish())
}

fn encode((revision, sub): Place, change: &Change, buffer: &mut BytesMut) {
    buffer.put_i64(revision);
    buffer.put_u8(b'_');
    buffer.put_i64(i64::from(sub));
    let kv = if change.deleted {
        buffer.put_u8(b't');
        deleted(change.kv.key.clone(), 0)
    } else {
        KeyValue::from(change.kv.clone())
    };
    // A buffer in memory grows as needed.
    let encoded = kv.encode_to_vec();
    buffer.extend_from_slice(&encoded);
}

/// CRC-32C (Castagnoli).
struct Crc(u32);

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

impl Crc {
    fn new() -> Self {
        Crc(!0)
    }

    fn update(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |crc, byte| crc >> 8 ^ TABLE[(crc as u8 ^ byte) as usize]);
    }

    fn finish(self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Crc;

    #[test]
    fn known_checksum() {
        let mut crc = Crc::new();
        crc.update(b"123456789");
        assert_eq!(crc.finish(), 0xe306_9283);
    }
}
