//! One connection: TLS handshake, then HTTP/1.1 or HTTP/2 requests into the pipeline.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use client::strangers::{DRAIN, Standing};
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
use crate::metrics::Cut;
use crate::pipeline::entry::{self, Peer};

/// HTTP/2 streams a connection (upstream's default).
const MAX_STREAMS: u32 = 250;

/// The largest headers of a request, in bytes: HTTP/1 with its request line, HTTP/2 as its list. Larger ones are
/// answered
/// with 431.
const MAX_HEADERS_1: usize = 64 * 1024;
const MAX_HEADERS_2: u32 = 64 * 1024;

/// Streams that a client opened and reset at once and that wait to be let go; more end the connection (CVE-2023-44487).
const MAX_RESETS: usize = 50;

/// How often a quiet HTTP/2 connection is asked whether it is alive, and how long it may take to answer.
const PING: Duration = Duration::from_secs(45);

/// Serves a connection until it ends or `stop` is cancelled.
pub async fn serve(
    server: Arc<Shared>,
    stream: TcpStream,
    tls: TlsAcceptor,
    standing: Arc<Standing>,
    stop: CancellationToken,
) {
    let limits = &server.settings.limits;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let handshake = tokio::time::timeout(limits.handshake, tls.accept(stream));
    let stream = tokio::select! {
        done = handshake => match done {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake"),
            Err(_) => return server.metrics.cut(Cut::Handshake),
        },
        () = standing.cut.cancelled() => return server.metrics.cut(Cut::Crowded),
    };
    let certificates: Arc<[CertificateDer<'static>]> =
        stream.get_ref().1.peer_certificates().unwrap_or(&[]).to_vec().into();
    let peer = Peer::Connection { certificates, standing: standing.clone() };
    let shared = server.clone();
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (server, peer) = (shared.clone(), peer.clone());
        async move {
            let (parts, body) = request.into_parts();
            Ok::<Response, Infallible>(entry::handle(&server, parts, ReqBody::new(body), &peer).await)
        }
    });
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(limits.known_idle).max_buf_size(MAX_HEADERS_1);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1 << 20)
        .max_send_buf_size(256 * 1024)
        .max_header_list_size(MAX_HEADERS_2)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS);
    let mut connection = std::pin::pin!(http.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = standing.cut.cancelled() => return server.metrics.cut(Cut::Crowded),
        () = standing.idle(limits.stranger_idle, limits.known_idle) => {
            server.metrics.cut(Cut::Idle);
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(DRAIN, connection).await {
                Ok(ended) => ended,
                Err(_) => return tracing::debug!("a connection that was to close did not"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "connection");
    }
}
