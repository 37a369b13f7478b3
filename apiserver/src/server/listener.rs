//! Accepting connections: a bounded number, each served by a task of its own, so that slow clients stop nobody.

use std::sync::Arc;
use std::time::Duration;

use client::strangers::Strangers;
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Server;
use super::connection;

/// How long connections may finish what they are at when the server stops.
const DRAIN: Duration = Duration::from_secs(5);

/// How long accepting pauses when the process is out of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

impl Server {
    /// Serves connections until `shutdown` is cancelled, then lets running requests finish for a short while.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn serve(
        &self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> BoxFuture<'_, Result<(), super::tls::TlsError>> {
        // Boxed here, so that this crate and not its caller compiles what runs.
        Box::pin(self.accept_all(listener, shutdown))
    }

    async fn accept_all(&self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), super::tls::TlsError> {
        let tls = TlsAcceptor::from(super::tls::server_config(
            self.shared.serving.clone(),
            self.shared.access.client_verifier.clone(),
        )?);
        let permits = Arc::new(Semaphore::new(self.shared.settings.max_connections));
        let tasks = TaskTracker::new();
        let strangers = Strangers::default();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = accept(&listener, &permits) => accepted,
            };
            let Some((stream, permit)) = accepted else { break };
            let (shared, tls, stop) = (self.shared.clone(), tls.clone(), shutdown.child_token());
            let (standing, _) = strangers.enter(shared.settings.limits.strangers);
            tasks.spawn(async move {
                let open = shared.metrics.connection_opened();
                connection::serve(shared, stream, tls, standing, stop).await;
                drop(open);
                drop(permit);
            });
        }
        drop(listener);
        self.shared.stopping.cancel();
        for cache in self.shared.caches.all().values() {
            cache.wake_for_stop();
        }
        tasks.close();
        if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
            tracing::info!(open = tasks.len(), "connections were still open when the server stopped");
        }
        Ok(())
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Some((stream, permit)),
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
