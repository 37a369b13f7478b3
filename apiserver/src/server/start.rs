//! Start: caches warm, rows ready, what every cluster has created.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::{Object, Reason};
use apiserver_auth::UserInfo;
use arc_swap::ArcSwap;
use store::Kv;
use tokio_util::sync::CancellationToken;

use super::{Server, Shared};
use crate::cache::Caches;
use crate::cache::feed::{FeedError, TransformerFor};
use crate::config::Config;
use crate::leases::Leases;
use crate::metrics::Metrics;
use crate::quirks;
use crate::rows::{self, Rows};

/// How long the caches may take to hold what the store held at the start.
const WARM: Duration = Duration::from_secs(60);

/// The server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error("start API server: read the store's revision: {0}")]
    Store(#[from] store::Error),
    #[error("start API server: the caches did not reach the store's revision {0}")]
    Cold(i64),
    #[error("start API server: create {what}: {status}")]
    Bootstrap { what: String, status: api::Status },
}

impl Server {
    /// Fills the caches and creates what every cluster has. Requests are answered from then on.
    pub async fn start(config: Config, kv: Arc<dyn Kv>) -> Result<Self, StartError> {
        let table = Arc::new(config.table.clone());
        let transformer: TransformerFor = match config.transformer.clone() {
            None => Arc::new(|_: &str| None),
            Some(transformer) => {
                Arc::new(move |prefix: &str| quirks::SEALED.contains(&prefix).then(|| transformer.clone()))
            }
        };
        let storage = rows::storage_rows(&table).into_iter();
        let (caches, feed) = Caches::open(kv.clone(), storage, transformer, config.observers.clone()).await?;
        tokio::spawn(feed.run());
        let ttl: HashMap<String, u64> = quirks::TIME_TO_LIVE.iter().map(|(p, s)| ((*p).to_owned(), *s)).collect();
        let rows = Rows::new(table, &caches);
        let shared = Arc::new(Shared {
            leases: Leases::new(kv.clone(), ttl),
            rows: ArcSwap::from_pointee(rows),
            metrics: Metrics::default(),
            anonymous: Arc::new(UserInfo::anonymous()),
            stopping: CancellationToken::new(),
            discovery: crate::nonresource::Documents::default(),
            config,
            kv,
            caches,
        });
        let revision = shared.caches.store_revision().await?;
        if !shared.caches.progress.wait(revision, WARM).await {
            return Err(StartError::Cold(revision));
        }
        let server = Self { shared };
        server.bootstrap().await?;
        Ok(server)
    }

    async fn bootstrap(&self) -> Result<(), StartError> {
        for object in &self.shared.config.bootstrap {
            self.ensure(object.clone()).await?;
        }
        Ok(())
    }

    /// Creates an object unless it is there.
    async fn ensure(&self, object: Object) -> Result<(), StartError> {
        let what = format!("{} {}", api::object::str_at(&object, &["kind"]), api::object::name(&object));
        match crate::bootstrap::create(&self.shared, object).await {
            Ok(()) => Ok(()),
            Err(status) if status.is(Reason::AlreadyExists) => Ok(()),
            Err(status) => Err(StartError::Bootstrap { what, status }),
        }
    }
}
