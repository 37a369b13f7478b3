//! The members of a remote etcd: one HTTP/2 connection to each that is used, and which to ask next.

use std::error::Error as _;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, stream};
use http::Uri;
use http::uri::PathAndQuery;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prost::Message;
use rustls::{ClientConfig, RootCertStore};
use store::Error;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

use super::{RemoteConfig, RemoteError};
use crate::error::from_status;
use crate::server::tls;

/// A connection must stand by then.
const CONNECT: Duration = Duration::from_secs(3);
/// An endpoint must have answered by then; etcd itself gives up on a write after 7 s.
const ANSWER: Duration = Duration::from_secs(15);
/// How often a connection in use is asked whether it is alive, and how long it may take to answer (clientv3's, as
/// Kubernetes sets them).
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(10);

/// When a request may go to another endpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It changes nothing.
    Always,
    /// Only when it certainly was not sent: done twice it would be wrong.
    Unsent,
}

#[derive(Clone)]
pub struct Endpoints {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    origins: Arc<[Uri]>,
    /// Counts up; its remainder is the endpoint that is asked.
    current: Arc<AtomicUsize>,
}

/// No answer: the connection could not be made or broke.
#[derive(Debug, thiserror::Error)]
#[error("{origin}: {source}")]
struct Broken {
    origin: Uri,
    #[source]
    source: hyper_util::client::legacy::Error,
}

/// One endpoint as tonic wants it.
#[derive(Clone)]
struct Endpoint {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    origin: Uri,
}

impl tower::Service<http::Request<Body>> for Endpoint {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = Broken;
    type Future = BoxFuture<'static, Result<Self::Response, Broken>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (answer, origin) = (self.client.request(request), self.origin.clone());
        async move { answer.await.map_err(|source| Broken { origin, source }) }.boxed()
    }
}

impl Endpoints {
    pub fn new(config: &RemoteConfig) -> Result<Endpoints, RemoteError> {
        let origins = config.endpoints.iter().map(|url| origin(url)).collect::<Result<Arc<[Uri]>, _>>()?;
        if origins.is_empty() {
            return Err(RemoteError::NoEndpoints);
        }
        let secure = origins.iter().find(|origin| origin.scheme_str() == Some("https"));
        let roots = match (&config.ca_file, secure) {
            (Some(path), _) => tls::authorities(path)?,
            (None, None) => RootCertStore::empty(),
            (None, Some(origin)) => return Err(RemoteError::NoAuthority(origin.to_string())),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = builder.with_root_certificates(roots);
        let mut tls = match &config.identity {
            Some((certificate, key)) => {
                builder.with_client_auth_cert(tls::certificates(certificate)?, tls::key(key)?)?
            }
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_only(true)
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PONG)
            .http2_initial_stream_window_size(2 << 20)
            .http2_initial_connection_window_size(8 << 20)
            .build(HttpsConnector::from((tcp, tls)));
        Ok(Endpoints { client, origins, current: Arc::new(AtomicUsize::new(0)) })
    }

    /// Asks endpoints in turn until one answers or the request must not be repeated.
    pub async fn ask<M, N>(
        &self,
        operation: &'static str,
        path: &'static str,
        message: M,
        repeat: Repeat,
    ) -> Result<N, Error>
    where
        M: Message + Clone + 'static,
        N: Message + Default + 'static,
    {
        self.in_turn(operation, repeat, |mut grpc| {
            let request = tonic::Request::new(message.clone());
            async move {
                let codec = ProstCodec::<M, N>::default();
                grpc.unary(request, PathAndQuery::from_static(path), codec).await.map(tonic::Response::into_inner)
            }
        })
        .await
    }

    /// As [`Endpoints::ask`], of a method that takes and answers streams: one message, and its answer. It must do no
    /// harm twice.
    pub async fn first<M, N>(&self, operation: &'static str, path: &'static str, message: M) -> Result<N, Error>
    where
        M: Message + Clone + 'static,
        N: Message + Default + 'static,
    {
        self.in_turn(operation, Repeat::Always, |mut grpc| {
            let request = tonic::Request::new(stream::iter([message.clone()]));
            async move {
                let codec = ProstCodec::<M, N>::default();
                let answers = grpc.streaming(request, PathAndQuery::from_static(path), codec).await?;
                let answer = answers.into_inner().message().await?;
                answer.ok_or_else(|| Status::unavailable("the stream ended before it answered"))
            }
        })
        .await
    }

    /// Opens a stream on the current endpoint: `message` is sent, and the sending side stays open.
    pub async fn open<M, N>(
        &self,
        operation: &'static str,
        path: &'static str,
        message: M,
    ) -> Result<Streaming<N>, Error>
    where
        M: Message + Clone + 'static,
        N: Message + Default + 'static,
    {
        self.in_turn(operation, Repeat::Always, |mut grpc| {
            use futures::StreamExt as _;
            let request = tonic::Request::new(stream::iter([message.clone()]).chain(stream::pending()));
            async move {
                let codec = ProstCodec::<M, N>::default();
                let answers = grpc.streaming(request, PathAndQuery::from_static(path), codec).await;
                answers.map(tonic::Response::into_inner)
            }
        })
        .await
    }

    async fn in_turn<F, R, T>(&self, operation: &'static str, repeat: Repeat, call: F) -> Result<T, Error>
    where
        F: Fn(Grpc<Endpoint>) -> R,
        R: Future<Output = Result<T, Status>>,
    {
        let mut last = None;
        for _ in 0..self.origins.len() {
            let turn = self.current.load(Ordering::Relaxed);
            let origin = self.origins[turn % self.origins.len()].clone();
            let endpoint = Endpoint { client: self.client.clone(), origin: origin.clone() };
            let grpc = Grpc::with_origin(endpoint, origin.clone()).max_decoding_message_size(usize::MAX);
            let status = match tokio::time::timeout(ANSWER, call(grpc)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => status,
                Err(_) => Status::unavailable(format!("{origin}: no answer within {ANSWER:?}")),
            };
            let failure = failure(operation, &status);
            if !failure.elsewhere {
                return Err(failure.error);
            }
            self.rotate(turn);
            if repeat == Repeat::Unsent && !failure.unsent {
                return Err(failure.error);
            }
            last = Some(failure.error);
        }
        Err(last.unwrap_or(Error::NoLeader))
    }

    /// Leaves the endpoint of this turn, unless somebody did so already.
    fn rotate(&self, turn: usize) {
        // Whoever lost this race finds that the endpoint was left.
        let _ = self.current.compare_exchange(turn, turn + 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The endpoint in use broke a stream.
    pub fn leave(&self) {
        self.rotate(self.current.load(Ordering::Relaxed));
    }
}

struct Failure {
    error: Error,
    /// Another endpoint may do better.
    elsewhere: bool,
    /// The request did not leave.
    unsent: bool,
}

fn failure(operation: &'static str, status: &Status) -> Failure {
    // Only what went wrong on our side of the connection has a source.
    if let Some(source) = status.source() {
        let unsent = source.downcast_ref::<Broken>().is_some_and(|broken| broken.source.is_connect());
        let error = Error::Unavailable { operation, reason: chain(source) };
        return Failure { error, elsewhere: true, unsent };
    }
    let error = from_status(operation, status);
    let elsewhere = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled);
    Failure { error, elsewhere, unsent: false }
}

/// What a broken stream means, asked for `operation`.
pub fn stream_error(operation: &'static str, status: &Status) -> Error {
    failure(operation, status).error
}

/// An error with all that caused it.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

fn origin(url: &str) -> Result<Uri, RemoteError> {
    let wrong = || RemoteError::Endpoint(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let known = matches!(uri.scheme_str(), Some("http" | "https")) && uri.port().is_some();
    if known && matches!(uri.path(), "" | "/") && uri.query().is_none() { Ok(uri) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn endpoints_are_checked() {
        for (url, good) in [
            ("http://127.0.0.1:2379", true),
            ("https://[::1]:2379/", true),
            ("127.0.0.1:2379", false),
            ("ftp://h:1", false),
            ("http://h", false),
            ("http://h:1/x", false),
        ] {
            assert_eq!(origin(url).is_ok(), good, "{url}");
        }
    }

    #[test]
    fn a_secure_endpoint_needs_an_authority() {
        let config = RemoteConfig { endpoints: vec!["https://h:1".into()], ..Default::default() };
        assert!(matches!(Endpoints::new(&config), Err(RemoteError::NoAuthority(_))));
        assert!(matches!(Endpoints::new(&RemoteConfig::default()), Err(RemoteError::NoEndpoints)));
    }
}
