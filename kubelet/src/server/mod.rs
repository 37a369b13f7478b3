//! The kubelet's HTTPS server.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::agent::Agent;

pub struct Server {
    _agent: Arc<Agent>,
}

impl Server {
    pub async fn bind(agent: Arc<Agent>, _listen: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self { _agent: agent })
    }

    pub async fn serve(self, stop: CancellationToken) {
        stop.cancelled().await;
    }
}
