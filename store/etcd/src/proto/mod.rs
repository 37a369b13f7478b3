//! The messages of etcd's v3 API, field by field as `rpc.proto` and `kv.proto` of etcd number them. Written by hand: a
//! build needs neither `protoc` nor a compiler of protos.

mod kv;
mod lease;
mod maintenance;
mod watch;

pub use kv::*;
pub use lease::*;
pub use maintenance::*;
pub use watch::*;

/// What every response begins with.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ResponseHeader {
    #[prost(uint64, tag = "1")]
    pub cluster_id: u64,
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
    /// The store's revision when the request was applied.
    #[prost(int64, tag = "3")]
    pub revision: i64,
    #[prost(uint64, tag = "4")]
    pub raft_term: u64,
}
