//! Frames of SPDY/3.1: reading them from bytes, writing them to bytes.

use bytes::{BufMut, Bytes, BytesMut};

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
/// Nothing more comes on the stream from its sender.
pub(super) const FIN: u8 = 1;
pub(super) const HEADER: usize = 8;
/// Larger frames than any client here sends are an attack or a mistake.
pub(super) const MAX_FRAME: usize = 16 << 20;

/// What a peer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Data {
        stream: u32,
        fin: bool,
        data: Bytes,
    },
    SynStream {
        stream: u32,
        fin: bool,
        block: Bytes,
    },
    RstStream {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// Settings, windows and the rest, which change nothing here.
    Other,
}

/// Length of the whole frame whose header this is; the error is a frame too large.
pub(super) fn length(header: [u8; HEADER]) -> Result<usize, String> {
    let length = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
    if length > MAX_FRAME { Err(format!("a frame of {length} bytes is too large")) } else { Ok(HEADER + length) }
}

/// Parses a whole frame.
pub(super) fn parse(mut frame: Bytes) -> Result<Frame, String> {
    let short = || "a frame is too short".to_owned();
    let header: [u8; HEADER] = frame.get(..HEADER).and_then(|h| h.try_into().ok()).ok_or_else(short)?;
    let body = frame.split_off(HEADER);
    let word = |at: usize| -> Result<u32, String> {
        let bytes: [u8; 4] = body.get(at..at + 4).and_then(|b| b.try_into().ok()).ok_or_else(short)?;
        Ok(u32::from_be_bytes(bytes))
    };
    let fin = header[4] & FIN != 0;
    if header[0] & 0x80 == 0 {
        let stream = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        return Ok(Frame::Data { stream, fin, data: body });
    }
    let version = u16::from_be_bytes([header[0] & 0x7f, header[1]]);
    if version != VERSION {
        return Err(format!("a frame is of SPDY version {version}"));
    }
    Ok(match u16::from_be_bytes([header[2], header[3]]) {
        SYN_STREAM => {
            let stream = word(0)? & 0x7fff_ffff;
            if body.len() < 10 {
                return Err(short());
            }
            Frame::SynStream { stream, fin, block: body.slice(10..) }
        }
        RST_STREAM => Frame::RstStream { stream: word(0)? & 0x7fff_ffff },
        PING => Frame::Ping { id: word(0)? },
        GOAWAY => Frame::GoAway,
        _ => Frame::Other,
    })
}

fn control(kind: u16, flags: u8, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER + body.len());
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    out.put_u32((u32::from(flags) << 24) | u32::try_from(body.len()).unwrap_or(0));
    out.put_slice(body);
    out.freeze()
}

pub(super) fn data(stream: u32, fin: bool, data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER + data.len());
    out.put_u32(stream);
    out.put_u32((u32::from(u8::from(fin)) << 24) | u32::try_from(data.len()).unwrap_or(0));
    out.put_slice(data);
    out.freeze()
}

pub(super) fn syn_reply(stream: u32, block: &[u8]) -> Bytes {
    let mut body = stream.to_be_bytes().to_vec();
    body.extend_from_slice(block);
    control(SYN_REPLY, 0, &body)
}

pub(super) fn rst_stream(stream: u32) -> Bytes {
    const CANCEL: u32 = 5;
    control(RST_STREAM, 0, &[stream.to_be_bytes(), CANCEL.to_be_bytes()].concat())
}

pub(super) fn ping(id: u32) -> Bytes {
    control(PING, 0, &id.to_be_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn frames_there_and_back() {
        let frame = data(3, true, b"abc");
        assert_eq!(length(frame[..8].try_into().unwrap()).unwrap(), frame.len());
        assert_eq!(parse(frame).unwrap(), Frame::Data { stream: 3, fin: true, data: Bytes::from_static(b"abc") });
        assert_eq!(parse(ping(7)).unwrap(), Frame::Ping { id: 7 });
        assert_eq!(parse(rst_stream(9)).unwrap(), Frame::RstStream { stream: 9 });
        assert_eq!(parse(syn_reply(1, b"x")).unwrap(), Frame::Other);
        let syn = control(SYN_STREAM, FIN, &[&5_u32.to_be_bytes()[..], &[0; 6], b"block"].concat());
        let want = Frame::SynStream { stream: 5, fin: true, block: Bytes::from_static(b"block") };
        assert_eq!(parse(syn).unwrap(), want);
    }

    #[test]
    fn broken_frames_are_errors() {
        assert!(parse(Bytes::from_static(b"abc")).is_err());
        assert!(parse(control(SYN_STREAM, 0, &[0; 4])).is_err());
        assert!(parse(Bytes::from_static(&[0x80, 9, 0, 1, 0, 0, 0, 0])).is_err());
        assert!(length([0, 0, 0, 0, 0, 0xff, 0xff, 0xff]).is_ok_and(|l| l <= MAX_FRAME + HEADER));
    }
}
