//! SPDY/3.1 as Kubernetes uses it: multiplexed byte streams for exec, attach and port-forward. Flow control windows are
//! not kept, as clients of Kubernetes keep none.

pub(super) mod command;
mod frame;
mod headers;
pub(super) mod session;

use bytes::Bytes;

/// Reads frames one after the other, with the blocks of those that have one, as a connection does.
pub(crate) fn read_all(bytes: &Bytes) {
    let mut decoder = headers::Decoder::default();
    let mut rest = bytes.clone();
    while let Some(head) = rest.get(..frame::HEADER).and_then(|head| <[u8; frame::HEADER]>::try_from(head).ok()) {
        let Ok(length) = frame::length(head) else { return };
        if rest.len() < length {
            return;
        }
        match frame::parse(rest.split_to(length)) {
            Ok(frame::Frame::SynStream { block, .. }) if decoder.decode(&block).is_none() => return,
            Ok(_) => {}
            Err(_) => return,
        }
    }
}
