//! etcd's v3 API over gRPC: a server of it on a [`store::Store`], and a client of it that is a [`store::Kv`], so that
//! any program for etcd can use our store, and our API server any etcd.

pub mod client;
mod error;
mod keys;
pub mod proto;
pub mod server;

pub use client::{Remote, RemoteConfig, Rooted};

/// The release of etcd whose API is spoken, as `/version` and the status say it: clients choose features by it.
pub const SPOKEN_VERSION: &str = "3.6.8";

/// The larger of what etcd and gRPC clients take for a message's overhead, added to the largest request.
const GRPC_OVERHEAD: usize = 512 << 10;
