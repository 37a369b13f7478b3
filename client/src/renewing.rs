//! A client that goes on when its kubeconfig, or the certificates that it names, are replaced: what a request is sent
//! by is made anew when the files have changed. Requests that run, watches too, end on the connections they began on.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use kube::client::Body;
use kube::config::Kubeconfig;
use parking_lot::Mutex;
use tokio::time::Instant;
use tower::util::BoxCloneService;
use tower::{BoxError, Service, ServiceExt as _};

use crate::transport::{Error, over_tcp};

/// Files are looked at by the first request after so long, not without requests.
const LOOK: Duration = Duration::from_secs(1);

/// What requests are sent by.
pub(crate) type Transport = BoxCloneService<Request<Body>, Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError>;

/// Tells one version of a file from the next: inode, size and time of change; `None` when it is not there.
type Stamp = Option<(u64, u64, i64, i64)>;

fn stamp(path: &Path) -> Stamp {
    let meta = fs::metadata(path).ok()?;
    Some((meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
}

/// The transport of now, and the files that it was made from.
struct Made {
    transport: Transport,
    files: Vec<(PathBuf, Stamp)>,
    namespace: String,
}

struct State {
    made: Made,
    looked: Instant,
}

/// A service that makes its transport anew.
pub(crate) struct Renewing {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

impl Renewing {
    /// By the current context of the kubeconfig.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let made = make(path).await?;
        let state = State { made, looked: Instant::now() };
        Ok(Self { path: path.to_owned(), state: Arc::new(Mutex::new(state)) })
    }

    pub fn namespace(&self) -> String {
        self.state.lock().made.namespace.clone()
    }
}

/// Reads the kubeconfig. Files are stamped before they are read: what changes meanwhile is seen at the next look.
async fn make(path: &Path) -> Result<Made, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let own = stamp(path);
    let kubeconfig = Kubeconfig::read_from(path).map_err(read)?;
    let clusters = kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref());
    let users = kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref());
    let named = clusters
        .filter_map(|cluster| cluster.certificate_authority.as_ref())
        .chain(users.flat_map(|user| user.client_certificate.iter().chain(&user.client_key)));
    let mut files = vec![(path.to_owned(), own)];
    files.extend(named.map(|file| (PathBuf::from(file), stamp(Path::new(file)))));
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(read)?;
    let transport =
        over_tcp(&config).map_err(|source| Error::Client { path: path.to_owned(), source: Box::new(source) })?;
    Ok(Made { transport, files, namespace: config.default_namespace })
}

/// The transport for a request of now.
async fn current(path: &Path, state: &Mutex<State>) -> Transport {
    let changed = {
        let mut state = state.lock();
        let is_due = state.looked.elapsed() >= LOOK;
        if is_due {
            state.looked = Instant::now();
        }
        is_due && state.made.files.iter().any(|(file, of)| stamp(file) != *of)
    };
    if changed {
        match make(path).await {
            Ok(made) => {
                tracing::info!(kubeconfig = %path.display(), "credentials were replaced");
                state.lock().made = made;
            }
            // Half-written, or a certificate without its key: looked at again.
            Err(error) => {
                let error = crate::transport::chain(&error);
                tracing::warn!(error, "replaced credentials are no use, the former ones are kept");
            }
        }
    }
    state.lock().made.transport.clone()
}

impl Service<Request<Body>> for Renewing {
    type Response = Response<UnsyncBoxBody<Bytes, BoxError>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Each request waits for its own transport.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (path, state) = (self.path.clone(), Arc::clone(&self.state));
        Box::pin(async move { current(&path, &state).await.oneshot(request).await })
    }
}
