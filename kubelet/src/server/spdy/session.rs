//! One SPDY connection, server's side: streams that the client opens, each with its headers and its bytes both ways.

use std::collections::HashMap;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::frame::{self, Frame, HEADER};
use super::headers::{Decoder, empty_block};

/// Pieces of a stream that wait for their reader; then the whole connection waits.
const QUEUE: usize = 16;
/// Streams at once; a client that opens more is cut off.
const MAX_STREAMS: usize = 1000;
/// Data is written in frames of at most this size.
const MAX_DATA: usize = 64 << 10;

/// A stream that the client opened.
#[derive(Debug)]
pub(in crate::server) struct Stream {
    pub headers: Vec<(String, String)>,
    /// What the client writes; ends when it closes its side.
    pub from: mpsc::Receiver<Bytes>,
    pub to: Writer,
}

impl Stream {
    /// The value of a header; names are lower case.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }
}

/// Our side of a stream.
#[derive(Clone, Debug)]
pub(in crate::server) struct Writer {
    id: u32,
    out: mpsc::Sender<Bytes>,
}

impl Writer {
    /// Writes; false when the connection is gone.
    pub async fn send(&self, mut data: Bytes) -> bool {
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(MAX_DATA));
            if self.out.send(frame::data(self.id, false, &piece)).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Nothing more comes from us.
    pub async fn close(&self) {
        // A connection that is gone is closed enough.
        drop(self.out.send(frame::data(self.id, true, b"")).await);
    }

    /// The stream is over, both ways.
    pub async fn reset(&self) {
        drop(self.out.send(frame::rst_stream(self.id)).await);
    }
}

/// Runs the connection until either side ends it; new streams go to `streams`.
///
/// # Errors
/// The client broke the protocol, or the connection broke.
pub(in crate::server) async fn run<S>(io: S, streams: mpsc::Sender<Stream>) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (read, write) = tokio::io::split(io);
    let (out, frames) = mpsc::channel(QUEUE);
    let writer = client::spawn(write_all(write, frames));
    let mut session = Session { decoder: Decoder::default(), open: HashMap::new(), streams, out, replied: false };
    let result = session.read(read).await;
    drop(session);
    // Streams may still have something to say; the writer ends with the last of them.
    if let Err(error) = writer.await {
        tracing::debug!(%error, "writing to a SPDY connection broke off");
    }
    result
}

async fn write_all<W: AsyncWrite + Unpin>(mut write: W, mut frames: mpsc::Receiver<Bytes>) {
    while let Some(frame) = frames.recv().await {
        if write.write_all(&frame).await.is_err() {
            return;
        }
        if frames.is_empty() && write.flush().await.is_err() {
            return;
        }
    }
    // The client sees the end of the connection.
    drop(write.shutdown().await);
}

struct Session {
    decoder: Decoder,
    open: HashMap<u32, mpsc::Sender<Bytes>>,
    streams: mpsc::Sender<Stream>,
    out: mpsc::Sender<Bytes>,
    /// The first reply, which has the zlib header, was written.
    replied: bool,
}

impl Session {
    async fn read<R: AsyncRead + Unpin>(&mut self, mut read: R) -> Result<(), String> {
        let mut buffer = BytesMut::with_capacity(MAX_DATA);
        loop {
            while let Some(head) = buffer.get(..HEADER).and_then(|h| <[u8; HEADER]>::try_from(h).ok()) {
                let length = frame::length(head)?;
                if buffer.len() < length {
                    buffer.reserve(length - buffer.len());
                    break;
                }
                let whole = buffer.split_to(length).freeze();
                if !self.take(frame::parse(whole)?).await? {
                    return Ok(());
                }
            }
            if read.read_buf(&mut buffer).await.map_err(|e| format!("reading: {e}"))? == 0 {
                return if buffer.has_remaining() {
                    Err("the connection ended inside a frame".to_owned())
                } else {
                    Ok(())
                };
            }
        }
    }

    /// Handles one frame; false ends the session.
    async fn take(&mut self, frame: Frame) -> Result<bool, String> {
        match frame {
            Frame::Data { stream, fin, data } => {
                if let Some(to) = self.open.get(&stream)
                    && !data.is_empty()
                    && to.send(data).await.is_err()
                {
                    // Its reader has gone; what comes is of no interest.
                    self.open.remove(&stream);
                }
                if fin {
                    self.open.remove(&stream);
                }
            }
            Frame::SynStream { stream, fin, block } => return self.opened(stream, fin, &block).await,
            Frame::RstStream { stream } => drop(self.open.remove(&stream)),
            Frame::Ping { id } => return Ok(self.out.send(frame::ping(id)).await.is_ok()),
            // What is open still runs to its end.
            Frame::GoAway | Frame::Other => {}
        }
        Ok(true)
    }

    async fn opened(&mut self, id: u32, fin: bool, block: &[u8]) -> Result<bool, String> {
        let headers = self.decoder.decode(block).ok_or_else(|| "a header block is broken".to_owned())?;
        if self.open.len() >= MAX_STREAMS {
            return Err(format!("more than {MAX_STREAMS} streams are open"));
        }
        let (to, from) = mpsc::channel(QUEUE);
        if !fin {
            self.open.insert(id, to);
        }
        let reply = frame::syn_reply(id, &empty_block(!std::mem::replace(&mut self.replied, true)));
        if self.out.send(reply).await.is_err() {
            return Ok(false);
        }
        let stream = Stream { headers, from, to: Writer { id, out: self.out.clone() } };
        Ok(self.streams.send(stream).await.is_ok())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// SYN_STREAM with one header, its block stored uncompressed.
    fn syn(id: u32, first: bool, name: &str, value: &str) -> Vec<u8> {
        let mut block = 1_u32.to_be_bytes().to_vec();
        for text in [name, value] {
            block.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
            block.extend_from_slice(text.as_bytes());
        }
        let length = u16::try_from(block.len()).unwrap();
        let mut body = [&id.to_be_bytes()[..], &[0; 6]].concat();
        if first {
            body.extend_from_slice(&[0x78, 0x01]);
        }
        body.push(0);
        body.extend_from_slice(&length.to_le_bytes());
        body.extend_from_slice(&(!length).to_le_bytes());
        body.extend_from_slice(&block);
        body.extend_from_slice(&[0, 0, 0, 0xff, 0xff]);
        let size = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[0x80, 3, 0, 1, 0, size[1], size[2], size[3]][..], &body].concat()
    }

    #[tokio::test]
    async fn streams_carry_bytes_both_ways() {
        let (ours, mut client) = tokio::io::duplex(1 << 16);
        let (to, mut streams) = mpsc::channel(4);
        let task = client::spawn(run(ours, to));
        client.write_all(&syn(1, true, "streamType", "stdin")).await.unwrap();
        client.write_all(&syn(3, false, "streamType", "stdout")).await.unwrap();
        client.write_all(&frame::data(1, true, b"in")).await.unwrap();
        let mut stdin = streams.recv().await.unwrap();
        let stdout = streams.recv().await.unwrap();
        assert_eq!((stdin.header("streamtype"), stdout.header("streamtype")), ("stdin", "stdout"));
        assert_eq!(stdin.from.recv().await.unwrap(), "in");
        assert!(stdin.from.recv().await.is_none(), "the client closed it");
        assert!(stdout.to.send("out".into()).await);
        stdout.to.close().await;
        client.write_all(&frame::ping(9)).await.unwrap();
        drop((stdin, stdout));
        client.shutdown().await.unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        let end = [&frame::data(3, false, b"out")[..], &frame::data(3, true, b""), &frame::ping(9)].concat();
        assert!(all.windows(end.len()).any(|w| w == end) || all.ends_with(&end[..end.len() - frame::ping(9).len()]));
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_broken_client_is_an_error_not_a_crash() {
        for bytes in [&b"\x80\x03\0\x01\0\0\0\x02ab"[..], b"\x80\x09\0\x01\0\0\0\0", b"\x80\x03\0\x01\0\0"] {
            let (ours, mut client) = tokio::io::duplex(1 << 16);
            let (to, _streams) = mpsc::channel(4);
            let task = client::spawn(run(ours, to));
            client.write_all(bytes).await.unwrap();
            client.shutdown().await.unwrap();
            assert!(task.await.unwrap().is_err());
        }
    }
}
