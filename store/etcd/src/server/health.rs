//! `grpc.health.v1.Health`: whether the store takes writes.

use futures::stream;
use tonic::Status;

use std::sync::Arc;

use super::{Answers, Server};
use crate::proto::{HealthCheckRequest, HealthCheckResponse, ServingStatus};

impl Server {
    /// Why the store does not take writes, if so.
    pub fn ailment(&self) -> Option<String> {
        if let Some(error) = self.store.failure() {
            return Some(error.to_string());
        }
        self.store.is_full().then(|| "ALARM NOSPACE".to_owned())
    }

    pub async fn health_check(&self, request: HealthCheckRequest) -> Result<HealthCheckResponse, Status> {
        // The whole server, or the name that etcd registers for the same.
        if !matches!(&*request.service, "" | "etcdserver") {
            return Err(Status::not_found("unknown service"));
        }
        let status = if self.ailment().is_none() { ServingStatus::Serving } else { ServingStatus::NotServing };
        Ok(HealthCheckResponse { status: status as i32 })
    }

    /// The health now and whenever it changed, looked at after each write.
    pub(super) fn health_watch(self: &Arc<Self>, request: HealthCheckRequest) -> Answers<HealthCheckResponse> {
        let begin = (self.clone(), self.store.states(), None);
        let changes = stream::unfold(begin, move |(server, mut states, last)| {
            let request = request.clone();
            async move {
                loop {
                    let now = match server.health_check(request.clone()).await {
                        Ok(now) => now,
                        Err(_) => HealthCheckResponse { status: ServingStatus::ServiceUnknown as i32 },
                    };
                    if last != Some(now) {
                        return Some((Ok(now), (server, states, Some(now))));
                    }
                    states.changed().await.ok()?;
                }
            }
        });
        Answers::until(&self.stopping, changes)
    }
}
