//! `etcdserverpb.Lease`.

use futures::stream;
use store::core::lease::MIN_TTL;
use store::{Error, Kv};
use tonic::{Status, Streaming};

use std::sync::Arc;

use super::{Answers, Server};
use crate::error::status;
use crate::proto;

impl Server {
    pub async fn lease_grant(&self, request: proto::LeaseGrantRequest) -> Result<proto::LeaseGrantResponse, Status> {
        let id = self.store.lease_grant(request.id, request.ttl).await.map_err(status)?;
        let header = Some(self.header());
        Ok(proto::LeaseGrantResponse { header, id, ttl: request.ttl.max(MIN_TTL), error: String::new() })
    }

    pub async fn lease_revoke(&self, request: proto::LeaseRevokeRequest) -> Result<proto::LeaseRevokeResponse, Status> {
        self.store.lease_revoke(request.id).await.map_err(status)?;
        Ok(proto::LeaseRevokeResponse { header: Some(self.header()) })
    }

    /// Renews leases one after the other, as the client names them. A lease that is gone is answered, with no time.
    pub(super) fn lease_keep_alive(
        self: &Arc<Self>,
        requests: Streaming<proto::LeaseKeepAliveRequest>,
    ) -> Answers<proto::LeaseKeepAliveResponse> {
        let server = self.clone();
        let answers = stream::unfold((server, requests), |(server, mut requests)| async move {
            let answer = match requests.message().await {
                Ok(Some(request)) => server.renew(request.id).await,
                Ok(None) => return None,
                Err(error) => Err(error),
            };
            Some((answer, (server, requests)))
        });
        Answers::until(&self.stopping, answers)
    }

    async fn renew(&self, id: i64) -> Result<proto::LeaseKeepAliveResponse, Status> {
        let ttl = match self.store.lease_keep_alive(id).await {
            Ok(ttl) => ttl,
            Err(Error::LeaseNotFound) => 0,
            Err(error) => return Err(status(error)),
        };
        Ok(proto::LeaseKeepAliveResponse { header: Some(self.header()), id, ttl })
    }

    pub async fn lease_time_to_live(
        &self,
        request: proto::LeaseTimeToLiveRequest,
    ) -> Result<proto::LeaseTimeToLiveResponse, Status> {
        let lease = self.store.lease_time_to_live(request.id, request.keys).await.map_err(status)?;
        let store::LeaseInfo { id, granted_ttl, ttl, keys } = lease;
        Ok(proto::LeaseTimeToLiveResponse { header: Some(self.header()), id, ttl, granted_ttl, keys })
    }

    pub async fn lease_leases(&self, _: proto::LeaseLeasesRequest) -> Result<proto::LeaseLeasesResponse, Status> {
        let state = self.store.newest().map_err(status)?;
        let leases = state.leases.keys().map(|id| proto::LeaseStatus { id: *id }).collect();
        Ok(proto::LeaseLeasesResponse { header: Some(self.header()), leases })
    }
}
