//! From a request's path to the method that answers it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response, header};
use hyper::body::Incoming;
use prost::Message;
use tonic::body::Body;
use tonic::server::{Grpc, ServerStreamingService, StreamingService, UnaryService};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::{Answers, Server};
use crate::GRPC_OVERHEAD;

/// The largest request, in bytes: the store's own limit and gRPC's overhead.
const LARGEST: usize = (1536 << 10) + GRPC_OVERHEAD;

type Answer<T> = Pin<Box<dyn Future<Output = Result<tonic::Response<T>, Status>> + Send>>;

/// A method that takes one message and answers with one.
struct Unary<F>(F);

impl<F, R, M, N> UnaryService<M> for Unary<F>
where
    F: FnMut(M) -> R,
    R: Future<Output = Result<N, Status>> + Send + 'static,
{
    type Response = N;
    type Future = Answer<N>;

    fn call(&mut self, request: tonic::Request<M>) -> Answer<N> {
        let answer = (self.0)(request.into_inner());
        Box::pin(async move { answer.await.map(tonic::Response::new) })
    }
}

/// A method that takes a stream, or one message, and answers with a stream.
struct Stream<F>(F);

impl<F, M, N> StreamingService<M> for Stream<F>
where
    F: FnMut(Streaming<M>) -> Answers<N>,
    N: Send + 'static,
{
    type Response = N;
    type ResponseStream = Answers<N>;
    type Future = Answer<Answers<N>>;

    fn call(&mut self, request: tonic::Request<Streaming<M>>) -> Answer<Answers<N>> {
        let answers = (self.0)(request.into_inner());
        Box::pin(async move { Ok(tonic::Response::new(answers)) })
    }
}

impl<F, M, N> ServerStreamingService<M> for Stream<F>
where
    F: FnMut(M) -> Answers<N>,
    N: Send + 'static,
{
    type Response = N;
    type ResponseStream = Answers<N>;
    type Future = Answer<Answers<N>>;

    fn call(&mut self, request: tonic::Request<M>) -> Answer<Answers<N>> {
        let answers = (self.0)(request.into_inner());
        Box::pin(async move { Ok(tonic::Response::new(answers)) })
    }
}

fn grpc<M, N>() -> Grpc<ProstCodec<N, M>>
where
    M: Message + Default + Send + 'static,
    N: Message + Send + 'static,
{
    Grpc::new(ProstCodec::default()).max_decoding_message_size(LARGEST).max_encoding_message_size(usize::MAX)
}

/// A service's method as the unary method of [`Server`] of that name.
macro_rules! unary {
    ($server:ident, $request:ident, $method:ident) => {{
        let server = $server.clone();
        let call = Unary(move |message| {
            let server = server.clone();
            async move { server.$method(message).await }
        });
        grpc().unary(call, $request).await
    }};
}

impl Server {
    /// Answers a request of any kind.
    pub(super) async fn route(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
            return Ok(self.rpc(request).await);
        }
        let (parts, _) = request.into_parts();
        Ok(self.http(&parts.method, parts.uri.path()).await)
    }

    async fn rpc(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let Some((service, method)) = request.uri().path().strip_prefix('/').and_then(|path| path.split_once('/'))
        else {
            return Status::unimplemented("malformed method name").into_http();
        };
        match service {
            "etcdserverpb.KV" => match method {
                "Range" => unary!(self, request, range),
                "Put" => unary!(self, request, put),
                "DeleteRange" => unary!(self, request, delete_range),
                "Txn" => unary!(self, request, txn),
                "Compact" => unary!(self, request, compact),
                _ => unknown(service, method),
            },
            "etcdserverpb.Watch" if method == "Watch" => {
                grpc().streaming(Stream(|requests| self.watch(requests)), request).await
            }
            "etcdserverpb.Lease" => match method {
                "LeaseGrant" => unary!(self, request, lease_grant),
                "LeaseRevoke" => unary!(self, request, lease_revoke),
                "LeaseKeepAlive" => grpc().streaming(Stream(|requests| self.lease_keep_alive(requests)), request).await,
                "LeaseTimeToLive" => unary!(self, request, lease_time_to_live),
                "LeaseLeases" => unary!(self, request, lease_leases),
                _ => unknown(service, method),
            },
            "etcdserverpb.Cluster" if method == "MemberList" => unary!(self, request, member_list),
            "etcdserverpb.Maintenance" => match method {
                "Status" => unary!(self, request, status),
                "Alarm" => unary!(self, request, alarm),
                "Defragment" => unary!(self, request, defragment),
                "Hash" => unary!(self, request, hash),
                "HashKV" => unary!(self, request, hash_kv),
                _ => unknown(service, method),
            },
            "grpc.health.v1.Health" => match method {
                "Check" => unary!(self, request, health_check),
                "Watch" => grpc().server_streaming(Stream(|message| self.health_watch(message)), request).await,
                _ => unknown(service, method),
            },
            _ => unknown(service, method),
        }
    }
}

/// What this store does not have, as gRPC servers say it.
fn unknown(service: &str, method: &str) -> Response<Body> {
    Status::unimplemented(format!("unknown method {method} for service {service}")).into_http()
}
