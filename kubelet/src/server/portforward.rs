//! `/portForward`: TCP connections to a Pod's ports as pairs of SPDY streams, over a plain upgrade or tunnelled in a
//! WebSocket.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::{Sink, Stream as _};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use kubelet_runtime::cri::Runtime;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::agent::Agent;

use super::route::{Answer, text};
use super::spdy::session::{self, Stream, Writer};
use super::upgrade::{self, Offer};

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const PROTOCOL: &str = "portforward.k8s.io";
/// How long the second stream of a pair may stay away.
const PAIRING: Duration = Duration::from_secs(30);
const BLOCK: usize = 32 << 10;

pub(super) fn serve(agent: &Arc<Agent>, namespace: &str, pod: &str, mut request: Request<Incoming>) -> Answer {
    let sandbox = agent.pods.find(namespace, pod).and_then(|entry| entry.snapshot().sandbox_id.clone());
    let Some(sandbox) = sandbox else { return text(StatusCode::NOT_FOUND, "pod does not exist") };
    let offer = match upgrade::offer(&request, &[TUNNEL], &[PROTOCOL]) {
        Ok(offer) => offer,
        Err(answer) => return *answer,
    };
    let (answer, connection) = offer.take(&mut request);
    let runtime = agent.runtime.clone();
    client::spawn(async move {
        let upgraded = match connection.await {
            Ok(upgraded) => upgraded,
            Err(error) => return tracing::debug!(%error, "a client left before its ports were forwarded"),
        };
        let ended = match offer {
            Offer::WebSocket { .. } => {
                let socket = upgrade::websocket(upgraded).await;
                forward(runtime, sandbox, Tunnel { socket, pending: Bytes::new() }).await
            }
            Offer::Spdy { .. } => forward(runtime, sandbox, TokioIo::new(upgraded)).await,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a port-forward connection ended badly");
        }
    });
    answer
}

/// Half of a pair, waiting for the other.
#[derive(Default)]
struct Half {
    data: Option<Stream>,
    error: Option<Stream>,
}

async fn forward<S>(runtime: Arc<dyn Runtime>, sandbox: String, io: S) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (streams, mut arriving) = mpsc::channel(8);
    let connection = client::spawn(session::run(io, streams));
    let mut halves: HashMap<String, Half> = HashMap::new();
    let mut running = JoinSet::new();
    loop {
        let idle = halves.is_empty();
        let stream = tokio::select! {
            stream = arriving.recv() => match stream {
                Some(stream) => stream,
                None => break,
            },
            () = tokio::time::sleep(PAIRING), if !idle => {
                for half in std::mem::take(&mut halves).into_values() {
                    for stream in [half.data, half.error].into_iter().flatten() {
                        stream.to.reset().await;
                    }
                }
                continue;
            }
        };
        let id = stream.header("requestid").to_owned();
        let half = halves.entry(id.clone()).or_default();
        match stream.header("streamtype") {
            "error" => half.error = Some(stream),
            "data" => half.data = Some(stream),
            other => {
                tracing::debug!(other, "a client opened a stream that means nothing");
                stream.to.reset().await;
                continue;
            }
        }
        if half.data.is_some()
            && half.error.is_some()
            && let Some(Half { data: Some(data), error: Some(error) }) = halves.remove(&id)
        {
            running.spawn(pair(runtime.clone(), sandbox.clone(), data, error));
        }
        while running.try_join_next().is_some() {}
    }
    // The client has gone, and with it the other side of what still runs.
    running.shutdown().await;
    connection.await.map_err(|e| e.to_string())?
}

/// One connection to a port; what goes wrong is written to the error stream.
async fn pair(runtime: Arc<dyn Runtime>, sandbox: String, data: Stream, error: Stream) {
    let port = data.header("port").to_owned();
    let result = match port.parse::<u16>().ok().filter(|p| *p > 0) {
        None => Err(format!("unable to parse {port:?} as a port")),
        Some(number) => match runtime.port_forward(&sandbox, number).await {
            Ok(socket) => copy(socket, data.from, &data.to).await.map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        },
    };
    if let Err(message) = result {
        let message = format!("error forwarding port {port} to pod {sandbox}: {message}");
        error.to.send(message.into()).await;
    }
    error.to.close().await;
    data.to.close().await;
}

async fn copy(socket: OwnedFd, mut from: mpsc::Receiver<Bytes>, to: &Writer) -> io::Result<()> {
    let socket = AnyStream::new(socket)?;
    let (mut read, mut write) = tokio::io::split(socket);
    let upward = async {
        while let Some(data) = from.recv().await {
            write.write_all(&data).await?;
        }
        write.shutdown().await
    };
    let downward = async {
        let mut buffer = BytesMut::with_capacity(BLOCK);
        loop {
            buffer.reserve(BLOCK);
            if read.read_buf(&mut buffer).await? == 0 || !to.send(buffer.split().freeze()).await {
                return Ok(());
            }
        }
    };
    tokio::pin!(upward);
    tokio::pin!(downward);
    // When the Pod has said everything the connection is over; when the client has, the answer is waited for.
    tokio::select! {
        done = &mut downward => done,
        done = &mut upward => match done {
            Ok(()) => downward.await,
            // The Pod closed its side; what it still says is passed on.
            Err(_) => downward.await,
        },
    }
}

/// A connected socket of whichever family the runtime gives.
enum AnyStream {
    Tcp(tokio::net::TcpStream),
    Unix(UnixStream),
}

impl AnyStream {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        let name: nix::sys::socket::SockaddrStorage = nix::sys::socket::getsockname(fd.as_raw_fd())?;
        if name.as_sockaddr_in().is_some() || name.as_sockaddr_in6().is_some() {
            let stream = std::net::TcpStream::from(fd);
            stream.set_nonblocking(true)?;
            return Ok(Self::Tcp(tokio::net::TcpStream::from_std(stream)?));
        }
        let stream = std::os::unix::net::UnixStream::from(fd);
        stream.set_nonblocking(true)?;
        Ok(Self::Unix(UnixStream::from_std(stream)?))
    }
}

impl AsyncRead for AnyStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for AnyStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// The bytes in a WebSocket's binary messages as one stream.
struct Tunnel<S> {
    socket: WebSocketStream<S>,
    pending: Bytes,
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tunnel<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.pending.is_empty() {
            match ready!(Pin::new(&mut this.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(data))) => this.pending = data,
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        let piece = this.pending.len().min(buf.remaining());
        buf.put_slice(&this.pending[..piece]);
        this.pending.advance(piece);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let socket = &mut self.get_mut().socket;
        ready!(Pin::new(&mut *socket).poll_ready(cx)).map_err(broken)?;
        Pin::new(socket).start_send(Message::Binary(Bytes::copy_from_slice(buf))).map_err(broken)?;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx).map_err(broken)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_close(cx).map_err(broken)
    }
}
