//! The kubelet's HTTPS server: logs, exec, attach, port-forward, Pods, statistics, health.

mod auth;
mod exec;
mod identity;
mod logs;
mod metrics;
mod portforward;
mod remote;
mod route;
mod spdy;
mod stats;
mod tls;
mod upgrade;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;

pub(crate) use spdy::read_all as read_spdy;
pub(crate) use websocket::read_one as read_channel;

/// Connections at once; more wait.
const MAX_CONNECTIONS: usize = 1000;
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(30);

pub struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    router: Arc<route::Router>,
}

impl Server {
    /// Listens; nothing is served yet.
    ///
    /// # Errors
    /// The address is taken, or the certificates are no use.
    pub async fn bind(agent: Arc<Agent>, listen: SocketAddr) -> anyhow::Result<Self> {
        let tls = tls::server_config(&agent.config)?;
        let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
        let router = Arc::new(route::Router::new(agent));
        Ok(Self { listener, acceptor: TlsAcceptor::from(Arc::new(tls)), router })
    }

    /// Serves until the token is cancelled; then connections are cut.
    pub async fn serve(self, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let (acceptor, router) = (self.acceptor.clone(), self.router.clone());
                        connections.spawn(async move {
                            connection(stream, acceptor, router).await;
                            drop(slot);
                        });
                    }
                    Err(error) => {
                        // Out of files, most likely: a moment lets some be closed.
                        tracing::warn!(%error, "accepting a connection failed");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
            while connections.try_join_next().is_some() {}
        }
        connections.shutdown().await;
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Arc<route::Router>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps gathering small writes");
    }
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let user = stream.get_ref().1.peer_certificates().and_then(|chain| identity::of_certificate(chain.first()?));
    let service = service_fn(move |request| {
        let (router, user) = (router.clone(), user.clone());
        async move { Ok::<_, std::convert::Infallible>(router.serve(request, user).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await {
        tracing::debug!(%error, "a connection ended badly");
    }
}
