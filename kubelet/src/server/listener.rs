//! Accepting connections, each served by a task of its own: slow, half-open and flooding clients stop nobody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use client::strangers::{DRAIN, Running, Standing, Strangers};
use http::Request;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;

use super::route::{Answer, Router};
use super::{identity, tls};

/// How long accepting pauses when the process is out of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// The largest headers of a request with its request line, in bytes; larger ones are answered with 431. Bodies have no
/// limit of their own: nothing reads one.
const MAX_HEADERS: usize = 64 * 1024;

/// What clients may take.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Connections at once that are not taken over for streams; more wait.
    pub connections: usize,
    /// Connections at a time whose clients have not shown who they are.
    pub strangers: usize,
    /// Such a connection is closed when it made no request for so long.
    pub stranger_idle: Duration,
    /// As `stranger_idle`, of clients that are known.
    pub known_idle: Duration,
    /// The TLS handshake must be done by then.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1000,
            strangers: 128,
            stranger_idle: Duration::from_secs(30),
            known_idle: Duration::from_secs(100),
            handshake: Duration::from_secs(10),
        }
    }
}

pub struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    router: Arc<Router>,
    limits: Arc<Limits>,
}

impl Server {
    /// Listens; nothing is served yet.
    ///
    /// # Errors
    /// The address is taken, or the certificates are no use.
    pub async fn bind(agent: Arc<Agent>, listen: SocketAddr, limits: Limits) -> anyhow::Result<Self> {
        let tls = tls::server_config(&agent.config)?;
        let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
        let router = Arc::new(Router::new(agent));
        Ok(Self { listener, acceptor: TlsAcceptor::from(Arc::new(tls)), router, limits: Arc::new(limits) })
    }

    /// Where it listens.
    #[cfg(test)]
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the token is cancelled; then connections are cut.
    pub async fn serve(self, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(self.limits.connections));
        let strangers = Strangers::default();
        let mut connections = JoinSet::new();
        loop {
            let slot = tokio::select! {
                () = stop.cancelled() => break,
                slot = slots.clone().acquire_owned() => slot,
            };
            let Ok(slot) = slot else { break };
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let (standing, _) = strangers.enter(self.limits.strangers);
                        let (acceptor, router) = (self.acceptor.clone(), self.router.clone());
                        let limits = self.limits.clone();
                        connections.spawn(async move {
                            connection(stream, acceptor, router, standing, &limits).await;
                            drop(slot);
                        });
                    }
                    Err(error) => {
                        // Out of files, most likely: a moment lets some be closed.
                        tracing::warn!(%error, "accepting a connection failed");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
            while connections.try_join_next().is_some() {}
        }
        connections.shutdown().await;
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Arc<Router>,
    standing: Arc<Standing>,
    limits: &Limits,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps gathering small writes");
    }
    let stream = tokio::select! {
        done = tokio::time::timeout(limits.handshake, acceptor.accept(stream)) => match done {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => return tracing::debug!("a TLS handshake took too long"),
        },
        () = standing.cut.cancelled() => return tracing::debug!("a stranger made place in its TLS handshake"),
    };
    let user = stream.get_ref().1.peer_certificates().and_then(|chain| identity::of_certificate(chain.first()?));
    let own = standing.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, user, standing) = (router.clone(), user.clone(), own.clone());
        async move {
            let running = standing.begin();
            let answer = router.serve(request, user, &standing).await;
            Ok::<_, std::convert::Infallible>(held(answer, running))
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.known_idle).max_buf_size(MAX_HEADERS);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = standing.cut.cancelled() => return tracing::debug!("a stranger made place"),
        () = standing.idle(limits.stranger_idle, limits.known_idle) => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(DRAIN, connection).await {
                Ok(ended) => ended,
                Err(_) => return tracing::debug!("a connection that was to close did not"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}

/// The answer, whose request runs until its body is sent.
fn held(answer: Answer, running: Running) -> Answer {
    answer.map(|body| {
        let body = body.map_frame(move |frame| {
            let _held = &running;
            frame
        });
        UnsyncBoxBody::new(body)
    })
}
