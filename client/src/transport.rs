//! Making a `kube::Client`: from a kubeconfig file, or straight onto the API server's pipeline in the same process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt as _};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

use crate::renewing::{Renewing, Transport};

/// A server that is there answers a connection, TLS included, by then: one that is gone must not hold up the next try.
const CONNECT: Duration = Duration::from_secs(5);
/// A quiet connection is asked for a sign of life after this long, then every so often; without one it ends, and a
/// watch on it is resumed elsewhere. What is sent must be acknowledged within the same time.
const QUIET: Duration = Duration::from_secs(10);
const SIGN: Duration = Duration::from_secs(5);
const SIGNS: u32 = 2;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read kubeconfig {path}: {source}")]
    Read {
        path: PathBuf,
        #[source]
        source: kube::config::KubeconfigError,
    },
    #[error("make a client from kubeconfig {path}: {source}")]
    Client {
        path: PathBuf,
        #[source]
        source: Box<kube::Error>,
    },
}

/// A client whose requests are function calls: no socket and no TLS in between.
pub fn in_process<S, B>(service: S, default_namespace: &str) -> kube::Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    kube::Client::new(service, default_namespace)
}

/// A client by the current context of a kubeconfig file. It goes on when the file, or certificates in files that it
/// names, are replaced.
pub async fn from_kubeconfig(path: &Path) -> Result<kube::Client, Error> {
    let service = Renewing::open(path).await?;
    let namespace = service.namespace();
    Ok(kube::Client::new(service, namespace))
}

/// A client by the current context of a kubeconfig's text, which is in no file.
pub async fn from_kubeconfig_text(text: &str) -> Result<kube::Client, Error> {
    let path = Path::new("(in memory)");
    let read = |source| Error::Read { path: path.to_owned(), source };
    let kubeconfig = kube::config::Kubeconfig::from_yaml(text).map_err(read)?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(read)?;
    let service =
        over_tcp(&config).map_err(|source| Error::Client { path: path.to_owned(), source: Box::new(source) })?;
    Ok(kube::Client::new(service, config.default_namespace))
}

/// An error with its causes, as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors say their cause themselves.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// kube's own stack, but over connections that notice when the other side is gone.
pub(crate) fn over_tcp(config: &kube::Config) -> Result<Transport, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(QUIET));
    tcp.set_keepalive_interval(Some(SIGN));
    tcp.set_keepalive_retries(Some(SIGNS));
    tcp.set_tcp_user_timeout(Some(QUIET + SIGN * SIGNS));
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(Some(CONNECT));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(legacy::Builder::new(TokioExecutor::new()).build(connector));
    let erased = |response: Response<_>| response.map(|body| BodyExt::map_err(body, BoxError::from).boxed_unsync());
    Ok(Transport::new(ServiceExt::map_response(service, erased)))
}
