//! The pipeline for components in the same process: no socket, no TLS, the same stages.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use apiserver_auth::UserInfo;
use bytes::Bytes;
use http::HeaderValue;

use super::{Server, Shared};
use crate::http::body::{BoxError, ReqBody};
use crate::http::{OMIT, Response};
use crate::pipeline::entry::{self, Peer};

/// A tower service that answers requests as one user.
#[derive(Clone)]
pub struct InProcess {
    server: Arc<Shared>,
    peer: Peer,
}

impl Server {
    /// The pipeline under a given identity; authorization and all else apply as to any client. Answers come without
    /// managedFields, as if each request had asked for that, unless it says otherwise: no component looks at them, and
    /// an update that leaves them
    /// out keeps them.
    pub fn in_process(&self, user: UserInfo) -> InProcess {
        InProcess { server: self.shared.clone(), peer: Peer::Trusted(Arc::new(user)) }
    }
}

impl<B> tower::Service<http::Request<B>> for InProcess
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let (server, peer) = (self.server.clone(), self.peer.clone());
        let (mut parts, body) = request.into_parts();
        parts.headers.entry(OMIT).or_insert(HeaderValue::from_static("managedFields"));
        Box::pin(async move { Ok(entry::handle(&server, parts, ReqBody::new(body), &peer).await) })
    }
}
