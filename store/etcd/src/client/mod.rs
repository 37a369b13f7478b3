//! A client of etcd's API as a [`Kv`]: what is asked goes to one endpoint until that fails, then to the next.

mod convert;
mod endpoints;
mod rooted;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use store::{Error, Kv, LeaseInfo, RangeRequest, RangeResponse, TxnRequest, TxnResponse, WatchRequest, WatchStream};

pub use self::rooted::Rooted;

use self::endpoints::{Endpoints, Repeat};
use crate::proto;
use crate::server::tls::TlsError;

/// Which etcd is spoken to, and as whom.
#[derive(Clone, Debug, Default)]
pub struct RemoteConfig {
    /// `http://HOST:PORT` or `https://HOST:PORT`, one member or several of the same cluster.
    pub endpoints: Vec<String>,
    /// Who signs the members' certificates; needed for `https`.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// The client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("no endpoint of etcd is named")]
    NoEndpoints,
    #[error("{0:?} is no endpoint of etcd: http://HOST:PORT or https://HOST:PORT is")]
    Endpoint(String),
    #[error("{0} needs the file of the authority that signs etcd's certificates")]
    NoAuthority(String),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("set up TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// An etcd, or what speaks like one.
pub struct Remote {
    endpoints: Endpoints,
}

impl Remote {
    /// Does not connect yet; each request does when it must.
    pub fn new(config: &RemoteConfig) -> Result<Remote, RemoteError> {
        Ok(Remote { endpoints: Endpoints::new(config)? })
    }

    /// Waits until some endpoint answers, as long as `patience`; then fails with the last error.
    pub async fn ready(&self, patience: Duration) -> Result<(), Error> {
        const PAUSE: Duration = Duration::from_millis(200);
        let start = tokio::time::Instant::now();
        loop {
            let ask = RangeRequest { start: "\0".into(), count_only: true, limit: 1, ..Default::default() };
            match self.range(ask).await {
                Ok(_) => return Ok(()),
                Err(error @ (Error::Unavailable { .. } | Error::NoLeader)) if start.elapsed() < patience => {
                    tracing::debug!(%error, "etcd is not ready");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[async_trait]
impl Kv for Remote {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        let revision = request.revision;
        let ask = proto::RangeRequest::from(request);
        let answer = self.endpoints.ask("range", "/etcdserverpb.KV/Range", ask, Repeat::Always).await;
        match answer {
            Ok(answer) => Ok(convert::range_response(answer)),
            // A range does not say what is compacted; a watch does.
            Err(Error::Compacted { .. }) => {
                Err(Error::Compacted { compact_revision: watch::compact_revision(&self.endpoints, revision).await })
            }
            Err(error) => Err(error),
        }
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Error> {
        let ask = proto::TxnRequest::from(request);
        let answer = self.endpoints.ask("txn", "/etcdserverpb.KV/Txn", ask, Repeat::Unsent).await?;
        convert::txn_response(answer)
    }

    async fn compact(&self, revision: i64) -> Result<(), Error> {
        let ask = proto::CompactionRequest { revision, physical: false };
        let answer = self.endpoints.ask("compact", "/etcdserverpb.KV/Compact", ask, Repeat::Unsent).await;
        answer.map(|_: proto::CompactionResponse| ())
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, Error> {
        if request.start.is_empty() {
            return Err(Error::EmptyKey);
        }
        watch::open(self.endpoints.clone(), request).await
    }

    async fn lease_grant(&self, id: i64, ttl_seconds: i64) -> Result<i64, Error> {
        let ask = proto::LeaseGrantRequest { ttl: ttl_seconds, id };
        let path = "/etcdserverpb.Lease/LeaseGrant";
        let answer: proto::LeaseGrantResponse = self.endpoints.ask("lease grant", path, ask, Repeat::Unsent).await?;
        Ok(answer.id)
    }

    async fn lease_revoke(&self, id: i64) -> Result<(), Error> {
        let (path, ask) = ("/etcdserverpb.Lease/LeaseRevoke", proto::LeaseRevokeRequest { id });
        let answer = self.endpoints.ask("lease revoke", path, ask, Repeat::Unsent).await;
        answer.map(|_: proto::LeaseRevokeResponse| ())
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<i64, Error> {
        let (path, ask) = ("/etcdserverpb.Lease/LeaseKeepAlive", proto::LeaseKeepAliveRequest { id });
        let answer: proto::LeaseKeepAliveResponse = self.endpoints.first("lease keep-alive", path, ask).await?;
        if answer.ttl > 0 { Ok(answer.ttl) } else { Err(Error::LeaseNotFound) }
    }

    async fn lease_time_to_live(&self, id: i64, keys: bool) -> Result<LeaseInfo, Error> {
        let (path, ask) = ("/etcdserverpb.Lease/LeaseTimeToLive", proto::LeaseTimeToLiveRequest { id, keys });
        let answer = self.endpoints.ask("lease time to live", path, ask, Repeat::Always).await?;
        let proto::LeaseTimeToLiveResponse { id, ttl, granted_ttl, keys, .. } = answer;
        Ok(LeaseInfo { id, granted_ttl, ttl, keys })
    }
}
