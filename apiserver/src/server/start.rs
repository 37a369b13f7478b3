//! Start: caches warm, rows ready, what every cluster has created.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use apiserver_auth::pki::Pki;
use apiserver_auth::{Transformer, UserInfo};
use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use store::Kv;
use tokio_util::sync::CancellationToken;

use super::access::{Access, Indexes};
use super::tls::Serving;
use super::writes::Writes;
use super::{Server, Shared};
use crate::allocate::Allocator;
use crate::cache::feed::{FeedError, TransformerFor};
use crate::cache::{Caches, Observer};
use crate::config::Config;
use crate::leases::Leases;
use crate::metrics::Metrics;
use crate::proxy::KubeletClient;
use crate::quirks;
use crate::resource_metrics::{self, switch};
use crate::rows::{self, Rows};
use crate::standing::{self, Standing};

/// How long the caches may take to hold what the store held at the start.
const WARM: Duration = Duration::from_secs(60);

/// The server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error("start API server: {0}")]
    Certificates(#[from] apiserver_auth::authn::x509::CertificateError),
    #[error("start API server: {0}")]
    Tls(#[from] super::tls::TlsError),
    #[error("start API server: read the store's revision: {0}")]
    Store(#[from] store::Error),
    #[error("start API server: the caches did not reach the store's revision {0}")]
    Cold(i64),
    #[error("start API server: create {what}: {status}")]
    Bootstrap { what: String, status: api::Status },
}

impl Server {
    /// Fills the caches and creates what every cluster has. Requests are answered from then on.
    pub fn start(config: Config, kv: Arc<dyn Kv>) -> BoxFuture<'static, Result<Self, StartError>> {
        // Boxed here, so that this crate and not its caller compiles what runs.
        Box::pin(Self::begin(config, kv))
    }

    async fn begin(config: Config, kv: Arc<dyn Kv>) -> Result<Self, StartError> {
        let Config { table, pki, settings } = config;
        let table = Arc::new(table);
        let serving = Arc::new(Serving::new(&pki.serving)?);
        let kubelets = KubeletClient::new(&pki.kubelet_client, &pki.ca.pem())?;
        let seal: Arc<dyn Transformer> = Arc::new(pki.seal);
        let transformer: TransformerFor =
            Arc::new(move |prefix: &str| quirks::SEALED.contains(&prefix).then(|| seal.clone()));
        let indexes = Arc::new(Indexes::default());
        let allocator = Allocator::new(&settings);
        let metrics_switch = Arc::new(switch::Switch::default());
        let storage = rows::storage_rows(&table).into_iter();
        let standing = Arc::new(Standing::default());
        let observers: Vec<Arc<dyn Observer>> =
            vec![indexes.clone(), allocator.clone(), metrics_switch.clone(), standing.clone()];
        let (caches, feed) = Caches::open(kv.clone(), storage, transformer, observers).await?;
        let ttl: HashMap<String, u64> = quirks::TIME_TO_LIVE.iter().map(|(p, s)| ((*p).to_owned(), *s)).collect();
        let rows = Rows::new(table, &caches);
        let access = Access::new(pki.ca.der().clone(), pki.keys, &rows, &indexes)?;
        tokio::spawn(feed.run());
        let shared = Arc::new(Shared {
            leases: Leases::new(kv.clone(), ttl),
            rows: ArcSwap::from_pointee(rows),
            metrics: Metrics::default(),
            turns: tokio::sync::Semaphore::new(settings.limits.in_flight),
            gauge: resource_metrics::Gauge::default(),
            anonymous: Arc::new(UserInfo::anonymous()),
            stopping: CancellationToken::new(),
            access,
            kubelets,
            allocator,
            settings,
            serving,
            writes: Writes::default(),
            kv,
            caches,
        });
        let revision = shared.caches.store_revision().await?;
        if !shared.caches.progress.wait(revision, WARM).await {
            return Err(StartError::Cold(revision));
        }
        tokio::spawn(crate::compact::run(shared.clone()));
        let server = Self { shared };
        server.bootstrap().await?;
        switch::set(&server.shared).await;
        tokio::spawn(switch::follow(server.shared.clone(), metrics_switch));
        tokio::spawn(standing::follow(server.shared.clone(), standing));
        Ok(server)
    }

    /// Serves another table from now on (CRDs came or went). New resources are read from the store first, so that they
    /// are complete when the first request reaches them.
    ///
    /// # Errors
    /// A new resource cannot be read.
    pub async fn set_table(&self, table: api::Table) -> Result<(), FeedError> {
        for resource in rows::storage_rows(&table) {
            self.shared.caches.add(resource).await?;
        }
        self.shared.rows.store(Arc::new(Rows::new(Arc::new(table), &self.shared.caches)));
        Ok(())
    }

    /// Shows the certificates of `pki` from the next connection on, to clients and to kubelets.
    ///
    /// # Errors
    /// A certificate cannot be used; the old ones stay.
    pub fn renew_certificates(&self, pki: &Pki) -> Result<(), super::tls::TlsError> {
        self.shared.kubelets.renew(&pki.kubelet_client, &pki.ca.pem())?;
        self.shared.serving.renew(&pki.serving)
    }

    async fn bootstrap(&self) -> Result<(), StartError> {
        crate::bootstrap::run(&self.shared).await.map_err(|(what, status)| StartError::Bootstrap { what, status })
    }
}
