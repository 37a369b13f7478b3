//! One connection: TLS handshake, then HTTP/1.1 or HTTP/2 requests into the pipeline.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::http::Response;
use crate::http::body::ReqBody;
use crate::pipeline::entry::{self, Peer};

/// A client must have finished the TLS handshake by then.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A client must have sent a request's headers by then, and a connection may be idle as long (upstream's
/// `ReadHeaderTimeout` is 32 s; keep-alive of clients needs more).
const HEADERS: Duration = Duration::from_secs(120);

/// HTTP/2 streams a connection (upstream's default).
const MAX_STREAMS: u32 = 250;

/// How often a quiet HTTP/2 connection is asked whether it is alive, and how long it may take to answer.
const PING: Duration = Duration::from_secs(45);

/// Serves a connection until it ends or `stop` is cancelled.
pub async fn serve(server: Arc<Shared>, stream: TcpStream, tls: TlsAcceptor, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let stream = match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake"),
        Err(_) => return tracing::debug!("TLS handshake timed out"),
    };
    let certificates: Arc<[CertificateDer<'static>]> =
        stream.get_ref().1.peer_certificates().unwrap_or(&[]).to_vec().into();
    let peer = Peer::Connection { certificates };
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (server, peer) = (server.clone(), peer.clone());
        async move {
            let (parts, body) = request.into_parts();
            Ok::<Response, Infallible>(entry::handle(&server, parts, ReqBody::new(body), &peer).await)
        }
    });
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(64 * 1024);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1 << 20)
        .max_send_buf_size(256 * 1024);
    let mut connection = std::pin::pin!(http.serve_connection_with_upgrades(TokioIo::new(stream), service));
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
