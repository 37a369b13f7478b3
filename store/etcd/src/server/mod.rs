//! The server: etcd's services on an open store, gRPC and plain HTTP on the same port.

mod cluster;
mod hash;
mod health;
mod http;
mod kv;
mod lease;
mod listener;
mod maintenance;
mod range;
mod route;
pub mod tls;
mod watch;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::stream::{BoxStream, Stream, StreamExt};
use store::{Error, Store};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::error::status;
use crate::proto::ResponseHeader;

/// What the member says of itself.
#[derive(Clone, Debug, Default)]
pub struct Member {
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
}

/// etcd's API on one store.
pub struct Server {
    store: Arc<Store>,
    member: Member,
    /// Cancelled when streams must end.
    stopping: CancellationToken,
}

impl Server {
    pub fn new(store: Arc<Store>, member: Member) -> Arc<Server> {
        Arc::new(Server { store, member, stopping: CancellationToken::new() })
    }

    /// A response's header at the store's newest revision.
    fn header(&self) -> ResponseHeader {
        self.header_at(self.store.status().revision)
    }

    fn header_at(&self, revision: i64) -> ResponseHeader {
        let ids = self.store.ids();
        let raft_term = self.store.status().applied_term;
        ResponseHeader { cluster_id: ids.cluster, member_id: ids.member, revision, raft_term }
    }
}

/// A method's stream of answers. A type of its own, for the compiler sees no `Send` through a boxed trait in a future.
struct Answers<T>(BoxStream<'static, Result<T, Status>>);

impl<T: Send + 'static> Answers<T> {
    /// The stream, and etcd's word that the server stopped when it does.
    fn until(
        stopping: &CancellationToken,
        stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Answers<T> {
        let stopped = stopping.clone();
        let last = futures::stream::once(std::future::ready(()));
        let answers = stream.take_until(stopping.clone().cancelled_owned()).map(Some).chain(last.map(|()| None));
        let answers = answers.filter_map(move |item| {
            let end = stopped.is_cancelled().then(|| Err(status(Error::Stopped)));
            std::future::ready(item.or(end))
        });
        Answers(answers.boxed())
    }
}

impl<T> Stream for Answers<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}
