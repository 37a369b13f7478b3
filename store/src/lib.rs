//! A revisioned key-value store with etcd's model. It knows bytes and revisions, never kinds.
//!
//! [`Kv`] is what a reader or writer may ask; the embedded [`Store`] implements it, and so can a client of real etcd.
//! What is promised, under which faults, and how that is shown: docs/STORE.md.

mod check;
pub mod codec;
pub mod command;
pub mod core;
pub mod disk;
mod driver;
pub mod engine;
mod image;
mod keeper;
pub mod keys;
pub mod kv;
mod sled_state;
pub mod snapshot;
mod store;
pub mod untrusted;
pub mod wal;
mod watch;

pub use kv::{
    Compare, CompareResult, CompareTarget, Error, Event, EventKind, KeyValue, Kv, LeaseInfo, Op, OpResponse,
    PutRequest, RangeRequest, RangeResponse, TxnRequest, TxnResponse, WatchBatch, WatchRequest, WatchStream,
};
pub use store::{Config, Ids, Status, Store};

#[cfg(test)]
mod simulation;
