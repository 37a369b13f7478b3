//! The part of SPDY/3.1 that one forwarded connection needs: an error stream and a data stream, opened by the client.
//! Header blocks are deflate's stored blocks: nothing of the dictionary is used, and what the server answers is not
//! read.

use anyhow::{Context as _, bail};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{Method, Request, header};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::error::{ApiError, Result};
use crate::session::Session;

const ERROR_STREAM: u32 = 1;
const DATA_STREAM: u32 = 3;
const SYN_STREAM: u16 = 1;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FIN: u8 = 1;
/// The largest frame that is read.
const MAX_FRAME: usize = 1 << 20;
const BLOCK: usize = 32 << 10;

/// A connection to the port of a Pod, by `uri` of its `portforward`.
pub(crate) async fn connect(session: &Session, uri: &str) -> Result<TokioIo<hyper::upgrade::Upgraded>> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        .header("X-Stream-Protocol-Version", "portforward.k8s.io")
        .body(Body::empty())
        .with_context(|| format!("request to {uri}"))?;
    let response = session.client.send(request).await.map_err(super::command::refused)?;
    if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        let code = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.context("read the server's answer")?;
        return Err(ApiError::of(code, &body.to_bytes()).into());
    }
    Ok(TokioIo::new(hyper::upgrade::on(response).await.context("upgrade to SPDY/3.1")?))
}

/// Carries one local connection to a port of the Pod.
///
/// # Errors
/// A side broke, or the Pod's side says why it cannot.
pub(crate) async fn forward<S, L>(remote: S, local: L, port: u16) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    L: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_remote, mut to_remote) = tokio::io::split(remote);
    let (mut from_local, mut to_local) = tokio::io::split(local);
    let mut opening = BytesMut::new();
    let mut headers = Headers::default();
    syn_stream(&mut opening, ERROR_STREAM, &headers.block(port, "error"));
    syn_stream(&mut opening, DATA_STREAM, &headers.block(port, "data"));
    data(&mut opening, ERROR_STREAM, FIN, b"");
    to_remote.write_all(&opening).await?;
    let (pings, mut pinged) = tokio::sync::mpsc::channel::<Bytes>(4);
    let upward = async {
        let mut buffer = vec![0; BLOCK];
        let mut is_open = true;
        loop {
            let mut frame = BytesMut::new();
            tokio::select! {
                count = from_local.read(&mut buffer), if is_open => match count? {
                    0 => {
                        is_open = false;
                        data(&mut frame, DATA_STREAM, FIN, b"");
                    }
                    count => data(&mut frame, DATA_STREAM, 0, &buffer[..count]),
                },
                ping = pinged.recv() => match ping {
                    Some(ping) => frame.extend_from_slice(&ping),
                    None => return anyhow::Ok(()),
                },
            }
            to_remote.write_all(&frame).await?;
        }
    };
    let downward = async {
        let mut failure = String::new();
        let mut open = [true, true];
        while open != [false, false] {
            let Some(frame) = Frame::read(&mut from_remote).await? else { break };
            match frame {
                Frame::Data { stream: DATA_STREAM, is_last, data } => {
                    to_local.write_all(&data).await?;
                    if is_last {
                        to_local.shutdown().await?;
                        open[1] = false;
                    }
                }
                Frame::Data { is_last, data, .. } => {
                    failure.push_str(&String::from_utf8_lossy(&data));
                    open[0] &= !is_last;
                }
                Frame::Reset(DATA_STREAM) => open[1] = false,
                Frame::Reset(_) => open[0] = false,
                Frame::Ping(frame) => pings.send(frame).await.context("answer a ping")?,
                Frame::GoAway => break,
                Frame::Other => {}
            }
        }
        anyhow::Ok(failure)
    };
    let failure = tokio::select! {
        failure = downward => failure?,
        done = upward => {
            done?;
            String::new()
        }
    };
    if !failure.is_empty() {
        bail!("{failure}");
    }
    Ok(())
}

/// The deflate stream of all header blocks of a connection.
#[derive(Default)]
struct Headers {
    has_begun: bool,
}

impl Headers {
    fn block(&mut self, port: u16, kind: &str) -> Bytes {
        let port = port.to_string();
        let pairs = [("port", port.as_str()), ("requestid", "0"), ("streamtype", kind)];
        let mut plain = BytesMut::new();
        plain.put_u32(3);
        for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
            plain.put_u32(u32::try_from(text.len()).unwrap_or(0));
            plain.extend_from_slice(text.as_bytes());
        }
        let mut block = BytesMut::new();
        if !self.has_begun {
            self.has_begun = true;
            // zlib's header: deflate with a 32 KiB window, no dictionary.
            block.extend_from_slice(&[0x78, 0x01]);
        }
        let length = u16::try_from(plain.len()).unwrap_or(0);
        block.put_u8(0);
        block.put_u16_le(length);
        block.put_u16_le(!length);
        block.extend_from_slice(&plain);
        // An empty stored block, which tells the reader that the block of headers is complete.
        block.extend_from_slice(&[0, 0, 0, 0xff, 0xff]);
        block.freeze()
    }
}

fn put_length(out: &mut BytesMut, flags: u8, length: usize) {
    out.put_u32(u32::from(flags) << 24 | u32::try_from(length).unwrap_or(0));
}

fn syn_stream(out: &mut BytesMut, stream: u32, headers: &[u8]) {
    out.put_u16(0x8003);
    out.put_u16(SYN_STREAM);
    put_length(out, 0, headers.len() + 10);
    out.put_u32(stream);
    out.put_u32(0);
    out.put_u16(0);
    out.extend_from_slice(headers);
}

fn data(out: &mut BytesMut, stream: u32, flags: u8, bytes: &[u8]) {
    out.put_u32(stream);
    put_length(out, flags, bytes.len());
    out.extend_from_slice(bytes);
}

/// What the server sends.
#[derive(Debug, PartialEq, Eq)]
enum Frame {
    Data {
        stream: u32,
        is_last: bool,
        data: Bytes,
    },
    Reset(u32),
    /// To be sent back as it is.
    Ping(Bytes),
    GoAway,
    Other,
}

impl Frame {
    async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<Self>> {
        let mut head = [0; 8];
        match from.read_exact(&mut head).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let mut fields = &head[..];
        let (first, second) = (fields.get_u32(), fields.get_u32());
        let length = usize::try_from(second & 0x00ff_ffff).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            bail!("a SPDY frame of {length} bytes");
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body).await?;
        if first & 0x8000_0000 == 0 {
            let is_last = second >> 24 & u32::from(FIN) != 0;
            return Ok(Some(Self::Data { stream: first, is_last, data: body.into() }));
        }
        let number = body.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes)).unwrap_or(0);
        let kind = u16::try_from(first & 0xffff).unwrap_or(0);
        Ok(Some(match kind {
            RST_STREAM => Self::Reset(number),
            // Pings with even numbers are the server's own.
            PING if number % 2 == 0 => {
                let mut frame = BytesMut::from(&head[..]);
                frame.extend_from_slice(&body);
                Self::Ping(frame.freeze())
            }
            GOAWAY => Self::GoAway,
            _ => Self::Other,
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read as _;

    use super::*;

    #[test]
    fn header_blocks_inflate_to_the_pairs() {
        let mut headers = Headers::default();
        let mut stream = headers.block(80, "error").to_vec();
        stream.extend_from_slice(&headers.block(80, "data"));
        let mut plain = vec![0; 200];
        let count = flate2::read::ZlibDecoder::new(&stream[..]).read(&mut plain).unwrap();
        let text = String::from_utf8_lossy(&plain[..count]).into_owned();
        assert!(
            text.contains("port\0\0\0\u{2}80\0\0\0\trequestid\0\0\0\u{1}0\0\0\0\nstreamtype\0\0\0\u{5}error"),
            "{text:?}"
        );
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_failures_are_told() {
        let (ours, mut server) = tokio::io::duplex(1 << 16);
        let (local, mut person) = tokio::io::duplex(1 << 16);
        let running = tokio::spawn(forward(ours, local, 80));
        person.write_all(b"hello").await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"hello") {
            let mut byte = [0];
            server.read_exact(&mut byte).await.unwrap();
            seen.push(byte[0]);
        }
        let mut answer = BytesMut::new();
        data(&mut answer, DATA_STREAM, FIN, b"world");
        data(&mut answer, ERROR_STREAM, FIN, b"but");
        server.write_all(&answer).await.unwrap();
        let mut got = [0; 5];
        person.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"world");
        assert_eq!(running.await.unwrap().unwrap_err().to_string(), "but");
    }
}
