//! Streams of a remote command in a WebSocket: each message begins with its channel's number
//! (`v4.channel.k8s.io`; `v5` can close a channel, too).

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::remote::{Input, Output};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// v5: the message's one byte is the channel that is closed.
const CLOSE: u8 = 255;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Size {
    pub width: u16,
    pub height: u16,
}

/// Carries the streams until the status is sent or the client is gone.
pub(super) async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    closes: bool,
    to: mpsc::Sender<Input>,
    from: mpsc::Receiver<Output>,
) {
    let (sink, stream) = socket.split();
    tokio::select! {
        () = read(stream, closes, to) => {}
        () = write(sink, from) => {}
    }
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: SplitStream<WebSocketStream<S>>,
    closes: bool,
    to: mpsc::Sender<Input>,
) {
    while let Some(Ok(message)) = stream.next().await {
        let data: Bytes = match message {
            Message::Binary(data) => data,
            Message::Text(text) => text.into(),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        let Some(input) = input(data, closes) else { continue };
        if to.send(input).await.is_err() {
            // The command has ended; what the client still says is read and thrown away until it has its status.
            while let Some(Ok(_)) = stream.next().await {}
            return;
        }
    }
}

/// Reads one message, of either version of the protocol.
pub(crate) fn read_one(data: &Bytes) {
    drop((input(data.clone(), false), input(data.clone(), true)));
}

fn input(data: Bytes, closes: bool) -> Option<Input> {
    match *data.first()? {
        STDIN if data.len() > 1 => Some(Input::Stdin(data.slice(1..))),
        RESIZE => serde_json::from_slice::<Size>(&data[1..]).ok().map(|size| Input::Resize(size.width, size.height)),
        CLOSE if closes && data.get(1) == Some(&STDIN) => Some(Input::StdinClosed),
        _ => None,
    }
}

async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    mut from: mpsc::Receiver<Output>,
) {
    while let Some(output) = from.recv().await {
        let (channel, data, last) = match output {
            Output::Stdout(data) => (STDOUT, data, false),
            Output::Stderr(data) => (STDERR, data, false),
            Output::Status(data) => (ERROR, Bytes::from(data), true),
        };
        let mut message = Vec::with_capacity(data.len() + 1);
        message.push(channel);
        message.extend_from_slice(&data);
        if sink.send(Message::Binary(message.into())).await.is_err() {
            return;
        }
        if last {
            break;
        }
    }
    let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    // The client may have closed first.
    drop(sink.send(Message::Close(Some(close))).await);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use tokio_tungstenite::tungstenite::protocol::Role;

    #[tokio::test]
    async fn channels_both_ways() {
        let (ours, theirs) = tokio::io::duplex(4096);
        let server = WebSocketStream::from_raw_socket(ours, Role::Server, None).await;
        let mut client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        let (to, mut input) = mpsc::channel(4);
        let (output, from) = mpsc::channel(4);
        let carried = client::spawn(carry(server, true, to, from));
        for message in [&b"\0hi"[..], b"\x04{\"Width\":80,\"Height\":24}", b"\xff\0"] {
            client.send(Message::Binary(message.to_vec().into())).await.unwrap();
        }
        assert!(matches!(input.recv().await.unwrap(), Input::Stdin(d) if d == "hi"));
        assert!(matches!(input.recv().await.unwrap(), Input::Resize(80, 24)));
        assert!(matches!(input.recv().await.unwrap(), Input::StdinClosed));
        output.send(Output::Stdout("out".into())).await.unwrap();
        output.send(Output::Status(b"{}".to_vec())).await.unwrap();
        let mut next = async || client.next().await.unwrap().unwrap();
        assert_eq!(next().await, Message::Binary(b"\x01out".to_vec().into()));
        assert_eq!(next().await, Message::Binary(b"\x03{}".to_vec().into()));
        assert!(matches!(next().await, Message::Close(_)));
        carried.await.unwrap();
    }
}
