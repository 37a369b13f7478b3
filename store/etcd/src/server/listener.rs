//! Accepting connections: a bounded number, each served by a task of its own.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Server;

/// Connections at a time.
const CONNECTIONS: usize = 10_000;
/// Requests and streams of one connection at a time. Clients of etcd put all they do on one connection.
const STREAMS: u32 = 20_000;
/// A client must have finished the TLS handshake, and then sent a request's headers, by then.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(60);
/// How often a quiet connection is asked whether it is alive, and how long it may take to answer. etcd asks every two
/// hours; half-open connections hold watches, so we ask sooner.
const PING: Duration = Duration::from_secs(600);
const PONG: Duration = Duration::from_secs(20);
/// How long requests may finish when the server stops.
const DRAIN: Duration = Duration::from_secs(5);
/// How long accepting pauses when the process is out of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

impl Server {
    /// Serves connections until `shutdown` is cancelled: streams then end with etcd's word, requests finish.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, tls: Option<TlsAcceptor>, shutdown: CancellationToken) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let tasks = TaskTracker::new();
        while let Some(stream) = accept(&listener, &shutdown).await {
            let Ok(permit) = permits.clone().acquire_owned().await else { break };
            let (server, tls, stop) = (self.clone(), tls.clone(), shutdown.child_token());
            tasks.spawn(async move {
                server.connection(stream, tls, stop).await;
                drop(permit);
            });
        }
        drop(listener);
        self.stopping.cancel();
        tasks.close();
        if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
            tracing::info!(open = tasks.len(), "connections were still open when the store's server stopped");
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, tls: Option<TlsAcceptor>, stop: CancellationToken) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        let Some(tls) = tls else { return self.http_connection(stream, stop).await };
        match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.http_connection(stream, stop).await,
            // As etcd: an operator finds a client's wrong certificate here.
            Ok(Err(error)) => tracing::warn!(%error, "rejected connection"),
            Err(_) => tracing::debug!("TLS handshake timed out"),
        }
    }

    async fn http_connection<S>(self: Arc<Self>, stream: S, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request| -> BoxFuture<'static, _> { self.clone().route(request).boxed() });
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(64 * 1024);
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(1 << 20)
            .max_send_buf_size(256 * 1024);
        let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error, "connection");
        }
    }
}

/// The next connection; `None` when the server stops.
async fn accept(listener: &TcpListener, shutdown: &CancellationToken) -> Option<TcpStream> {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => return Some(stream),
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
