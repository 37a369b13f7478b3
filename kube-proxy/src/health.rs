//! Health checks of external load balancers: for each Service with `externalTrafficPolicy: Local` a port (its
//! `healthCheckNodePort`) that says whether this node has ready endpoints, and so should get traffic.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::model::Name;

/// Connections to one port at once, at most.
const CONNECTIONS: usize = 64;
/// How long a client may take to send its request.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is to be said on a port: which Service, and how many ready endpoints are here.
pub type Checks = BTreeMap<u16, (Name, usize)>;

/// The ports that answer.
pub struct HealthServers {
    addrs: Vec<IpAddr>,
    running: HashMap<u16, Server>,
}

struct Server {
    service: Name,
    local: Arc<AtomicUsize>,
    /// Ends with the server.
    _tasks: JoinSet<()>,
}

impl HealthServers {
    /// No ports yet; they will answer on these addresses.
    pub fn new(addrs: Vec<IpAddr>) -> Self {
        Self { addrs, running: HashMap::new() }
    }

    /// Opens, updates and closes ports. One that cannot be opened is tried again at the next change.
    pub async fn update(&mut self, checks: &Checks) {
        self.running.retain(|port, server| checks.get(port).is_some_and(|(service, _)| *service == server.service));
        for (port, (service, local)) in checks {
            if let Some(server) = self.running.get(port) {
                server.local.store(*local, Ordering::Relaxed);
                continue;
            }
            match self.open(*port, service, *local).await {
                Ok(server) => _ = self.running.insert(*port, server),
                Err(error) => tracing::error!(%error, port, %service, "health check port not opened"),
            }
        }
    }

    async fn open(&self, port: u16, service: &Name, local: usize) -> std::io::Result<Server> {
        let count = Arc::new(AtomicUsize::new(local));
        let mut tasks = JoinSet::new();
        for addr in &self.addrs {
            let listener = TcpListener::bind(SocketAddr::new(*addr, port)).await?;
            tasks.spawn(accept(listener, service.clone(), count.clone()));
        }
        Ok(Server { service: service.clone(), local: count, _tasks: tasks })
    }
}

async fn accept(listener: TcpListener, service: Name, local: Arc<AtomicUsize>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                while connections.try_join_next().is_some() {}
                let (service, local) = (service.clone(), local.clone());
                connections.spawn(async move {
                    converse(stream, &service, &local).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, %service, "accept health check");
                // Out of descriptors, most likely: let others finish.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, service: &Name, local: &AtomicUsize) {
    let answer = service_fn(|_| async { Ok::<_, Infallible>(respond(service, local.load(Ordering::Relaxed))) });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = connection.await {
        tracing::debug!(%error, %service, "health check");
    }
}

/// Upstream's answer: 200 with ready endpoints here, else 503.
fn respond(service: &Name, local: usize) -> Response<Full<Bytes>> {
    let status = if local > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({
        "service": {"namespace": service.namespace, "name": service.name},
        "localEndpoints": local,
        "serviceProxyHealthy": true,
    });
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert("x-content-type-options", header::HeaderValue::from_static("nosniff"));
    headers.insert("x-load-balancing-endpoint-weight", header::HeaderValue::from(local));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_without_endpoints_are_unhealthy() {
        let name = Name::new("ns", "web");
        for (local, status) in [(0, 503), (2, 200)] {
            let response = respond(&name, local);
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()["x-load-balancing-endpoint-weight"], local.to_string().as_str());
        }
    }
}
