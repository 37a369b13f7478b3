//! Making a `kube::Client`: from a kubeconfig file, or straight onto the API server's pipeline in the same process.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Request, Response};
use kube::client::Body;
use tower::{BoxError, Service};

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

/// A client by the current context of a kubeconfig file.
pub async fn from_kubeconfig(path: &Path) -> Result<kube::Client, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    connect(kube::config::Kubeconfig::read_from(path).map_err(read)?, path).await
}

/// A client by the current context of a kubeconfig's text, which is in no file.
pub async fn from_kubeconfig_text(text: &str) -> Result<kube::Client, Error> {
    let path = Path::new("(in memory)");
    let read = |source| Error::Read { path: path.to_owned(), source };
    connect(kube::config::Kubeconfig::from_yaml(text).map_err(read)?, path).await
}

async fn connect(kubeconfig: kube::config::Kubeconfig, path: &Path) -> Result<kube::Client, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(read)?;
    kube::Client::try_from(config).map_err(|source| Error::Client { path: path.to_owned(), source: Box::new(source) })
}
