//! The server: what requests share, its start, and the ways into it.

pub mod access;
pub mod connection;
pub mod in_process;
pub mod listener;
pub mod objects;
pub mod start;
pub mod tls;
pub mod writes;

use std::sync::Arc;
use std::time::Duration;

use api::{Reason, Status};
use arc_swap::ArcSwap;
use store::Kv;
use tokio_util::sync::CancellationToken;

use crate::cache::Caches;
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::rows::Rows;

pub use in_process::InProcess;
pub use start::StartError;

/// How long a read waits for the caches to reach a revision (upstream's `blockTimeout`).
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a writer waits for its own write to be in the caches before it is answered all the same.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);

/// What every request has at hand.
pub struct Shared {
    pub settings: Settings,
    /// The certificate that clients see.
    pub serving: Arc<tls::Serving>,
    /// Whether the store takes writes.
    pub writes: writes::Writes,
    pub access: access::Access,
    pub kv: Arc<dyn Kv>,
    pub caches: Arc<Caches>,
    pub rows: ArcSwap<Rows>,
    pub metrics: Metrics,
    /// Turns of requests that come over connections.
    pub turns: tokio::sync::Semaphore,
    /// How kubelets are reached.
    pub kubelets: crate::proxy::KubeletClient,
    /// What nodes and Pods use, asked of kubelets.
    pub gauge: crate::resource_metrics::Gauge,
    pub leases: crate::leases::Leases,
    pub allocator: Arc<crate::allocate::Allocator>,
    /// Cancelled when the server stops: watches end, new requests are refused.
    pub stopping: CancellationToken,
    /// Who a request without credentials is.
    pub anonymous: Arc<apiserver_auth::UserInfo>,
}

impl Shared {
    /// Returns when the caches hold everything that was committed before the call.
    pub async fn fresh(&self) -> Result<(), Status> {
        let revision = self.caches.store_revision().await.map_err(crate::pipeline::commit::unavailable)?;
        self.reached(revision).await
    }

    /// Returns when the caches hold everything up to `revision`; 504 when that takes too long.
    pub async fn reached(&self, revision: i64) -> Result<(), Status> {
        if self.caches.progress.wait(revision, PATIENCE).await {
            return Ok(());
        }
        let current = self.caches.progress.applied();
        let message = format!("Timeout: Too large resource version: {revision}, current: {current}");
        let mut status = Status::failure(Reason::Timeout, message);
        let details = status.details.get_or_insert_default();
        details.retry_after_seconds = 1;
        details.causes.push(api::status::Cause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        });
        Err(status)
    }

    /// Returns when a write of this server is visible to its readers.
    pub async fn visible(&self, revision: i64) {
        if !self.caches.progress.wait(revision, WRITE_PATIENCE).await {
            tracing::warn!(revision, "the watch cache lags; a committed write is answered before it is visible");
        }
    }
}

/// A running API server. Dropping it does not stop it; cancel the token given to [`Server::serve`] for that.
#[derive(Clone)]
pub struct Server {
    pub(crate) shared: Arc<Shared>,
}
