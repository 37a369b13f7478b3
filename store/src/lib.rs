//! A revisioned key-value store with etcd's model. It knows bytes and revisions, never kinds.
//!
//! [`Kv`] is what a reader or writer may ask; the embedded store implements it, and so can a client of real etcd.

pub mod kv;

pub use kv::{
    Compare, CompareResult, CompareTarget, Error, Event, EventKind, KeyValue, Kv, LeaseInfo, Op, OpResponse,
    RangeRequest, RangeResponse, TxnRequest, TxnResponse, WatchBatch, WatchRequest, WatchStream,
};
