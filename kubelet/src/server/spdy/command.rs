//! Streams of a remote command over SPDY: the client opens `error`, `stdin`, `stdout`, `stderr` and `resize`.

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::sync::mpsc;

use super::session::{self, Stream, Writer};
use crate::server::remote::{Input, Output, Wanted};
use crate::server::websocket::Size;

/// How long the client may take to open the streams that it asked for.
const OPENING: Duration = Duration::from_secs(30);

/// The streams of one command.
#[derive(Default)]
struct Opened {
    error: Option<Writer>,
    stdin: Option<mpsc::Receiver<Bytes>>,
    stdout: Option<Writer>,
    stderr: Option<Writer>,
    resize: Option<mpsc::Receiver<Bytes>>,
}

/// Carries the streams until the status is sent or the client is gone.
pub(in crate::server) async fn carry(
    upgraded: Upgraded,
    wanted: Wanted,
    to: mpsc::Sender<Input>,
    from: mpsc::Receiver<Output>,
) {
    let (streams, arriving) = mpsc::channel(8);
    let connection = session::run(TokioIo::new(upgraded), streams);
    let work = async {
        match tokio::time::timeout(OPENING, open(arriving, wanted)).await {
            Ok(Some((opened, rest))) => command(opened, rest, to, from).await,
            _ => tracing::debug!("a client did not open its streams"),
        }
    };
    let connection = client::spawn(connection);
    work.await;
    // With the last writer gone the connection says good-bye; a client that does not is cut off.
    let end = tokio::time::timeout(Duration::from_secs(5), connection).await;
    if let Ok(Ok(Err(error))) = end {
        tracing::debug!(%error, "a SPDY connection ended badly");
    }
}

/// Waits until every stream that the request named is there.
async fn open(mut arriving: mpsc::Receiver<Stream>, wanted: Wanted) -> Option<(Opened, mpsc::Receiver<Stream>)> {
    let mut opened = Opened::default();
    loop {
        let complete = opened.error.is_some()
            && opened.stdin.is_some() == wanted.stdin
            && opened.stdout.is_some() == wanted.stdout
            && opened.stderr.is_some() == (wanted.stderr && !wanted.tty)
            && opened.resize.is_some() == wanted.tty;
        if complete {
            return Some((opened, arriving));
        }
        let stream = arriving.recv().await?;
        match stream.header("streamtype") {
            "error" => opened.error = Some(stream.to),
            "stdin" => opened.stdin = Some(stream.from),
            "stdout" => opened.stdout = Some(stream.to),
            "stderr" => opened.stderr = Some(stream.to),
            "resize" => opened.resize = Some(stream.from),
            other => tracing::debug!(other, "a client opened a stream that means nothing"),
        }
    }
}

async fn command(
    opened: Opened,
    mut rest: mpsc::Receiver<Stream>,
    to: mpsc::Sender<Input>,
    mut from: mpsc::Receiver<Output>,
) {
    let stdin = pass_stdin(opened.stdin, to.clone());
    let resize = pass_sizes(opened.resize, to);
    let (error, stdout, stderr) = (opened.error, opened.stdout, opened.stderr);
    let output = async {
        while let Some(output) = from.recv().await {
            let (writer, data, last) = match output {
                Output::Stdout(data) => (&stdout, data, false),
                Output::Stderr(data) => (&stderr, data, false),
                Output::Status(data) => (&error, Bytes::from(data), true),
            };
            let Some(writer) = writer else { continue };
            if !writer.send(data).await {
                return;
            }
            if last {
                break;
            }
        }
        for writer in [&stdout, &stderr, &error].into_iter().flatten() {
            writer.close().await;
        }
    };
    // A client opens no more streams; the end of these is the end of its connection.
    let gone = async { while rest.recv().await.is_some() {} };
    let feed = async { tokio::join!(stdin, resize, gone) };
    tokio::select! {
        () = output => {}
        _ = feed => {}
    }
}

async fn pass_stdin(from: Option<mpsc::Receiver<Bytes>>, to: mpsc::Sender<Input>) {
    let Some(mut from) = from else { return };
    while let Some(data) = from.recv().await {
        if to.send(Input::Stdin(data)).await.is_err() {
            return;
        }
    }
    // The command may have ended meanwhile.
    drop(to.send(Input::StdinClosed).await);
    to.closed().await;
}

async fn pass_sizes(from: Option<mpsc::Receiver<Bytes>>, to: mpsc::Sender<Input>) {
    let Some(mut from) = from else { return to.closed().await };
    while let Some(data) = from.recv().await {
        if let Ok(size) = serde_json::from_slice::<Size>(&data)
            && to.send(Input::Resize(size.width, size.height)).await.is_err()
        {
            return;
        }
    }
    to.closed().await;
}
