//! What reads bytes of containers and of clients, for the fuzz targets.

use bytes::Bytes;

/// A line of a container's log.
pub fn log_line(bytes: &[u8]) {
    if let Some(entry) = crate::logs::entry::parse(bytes) {
        drop(entry.nanos());
    }
}

/// Frames of a SPDY connection, one after the other.
pub fn spdy(bytes: &[u8]) {
    crate::server::read_spdy(&Bytes::copy_from_slice(bytes));
}

/// A message of a remote command's WebSocket.
pub fn channel(bytes: &[u8]) {
    crate::server::read_channel(&Bytes::copy_from_slice(bytes));
}
