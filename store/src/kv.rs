//! The store's interface: etcd's KV, Watch and Lease services as one Rust trait.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// A key with its value and history counters, as etcd's `mvccpb.KeyValue`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    /// Revision at which the key was created (since its last deletion).
    pub create_revision: i64,
    /// Revision of the last write.
    pub mod_revision: i64,
    /// Number of writes since the creation, beginning with 1.
    pub version: i64,
    /// Lease that the key dies with; 0 for none.
    pub lease: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Put,
    Delete,
}

/// One change of one key. A deletion's `kv` has only the key and, as `mod_revision`, the revision of the deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    pub kv: KeyValue,
    /// The key before the change, when the watch asked for it and it existed.
    pub prev: Option<KeyValue>,
}

/// A range read. `end` empty means the one key `start`; `end == [0]` means all keys from `start` on.
#[derive(Clone, Debug, Default)]
pub struct RangeRequest {
    pub start: Bytes,
    pub end: Bytes,
    /// At most this many keys; 0 is no limit.
    pub limit: i64,
    /// Read at this revision; 0 is the newest, linearizable.
    pub revision: i64,
    pub keys_only: bool,
    pub count_only: bool,
}

#[derive(Clone, Debug, Default)]
pub struct RangeResponse {
    /// The store's revision at the time of the read.
    pub revision: i64,
    /// In key order.
    pub kvs: Vec<KeyValue>,
    /// Whether `limit` cut the result.
    pub more: bool,
    /// Number of keys in the range, whatever `limit`.
    pub count: i64,
}

#[derive(Clone, Debug)]
pub enum CompareTarget {
    Version(i64),
    CreateRevision(i64),
    ModRevision(i64),
    Value(Bytes),
    Lease(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    Equal,
    NotEqual,
    Greater,
    Less,
}

#[derive(Clone, Debug)]
pub struct Compare {
    pub key: Bytes,
    /// As [`RangeRequest::end`]: every key of the range must satisfy the comparison.
    pub end: Bytes,
    pub result: CompareResult,
    pub target: CompareTarget,
}

/// A write of one key.
#[derive(Clone, Debug, Default)]
pub struct PutRequest {
    pub key: Bytes,
    pub value: Bytes,
    /// The key dies with this lease; 0 for none.
    pub lease: i64,
    /// Answer with the key as it was before.
    pub prev_kv: bool,
    /// Leave the value as it is; the key must exist.
    pub ignore_value: bool,
    /// Leave the lease as it is; the key must exist.
    pub ignore_lease: bool,
}

#[derive(Clone, Debug)]
pub enum Op {
    Range(RangeRequest),
    Put(PutRequest),
    Delete { start: Bytes, end: Bytes, prev_kv: bool },
    Txn(TxnRequest),
}

/// If all comparisons hold, `success` runs, else `failure`; all writes get one revision.
#[derive(Clone, Debug, Default)]
pub struct TxnRequest {
    pub compare: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
}

#[derive(Clone, Debug)]
pub enum OpResponse {
    Range(RangeResponse),
    Put { prev: Option<KeyValue> },
    Delete { deleted: i64, prev: Vec<KeyValue> },
    Txn(TxnResponse),
}

#[derive(Clone, Debug)]
pub struct TxnResponse {
    /// The store's revision after the transaction (unchanged when nothing was written).
    pub revision: i64,
    pub succeeded: bool,
    pub responses: Vec<OpResponse>,
}

#[derive(Clone, Debug, Default)]
pub struct WatchRequest {
    /// As [`RangeRequest`].
    pub start: Bytes,
    pub end: Bytes,
    /// First revision wanted; 0 is the next one.
    pub start_revision: i64,
    pub prev_kv: bool,
    /// Send empty batches now and then that say up to which revision the watcher has seen everything.
    pub progress_notify: bool,
}

/// Events in revision order. All events of one revision come in one batch.
#[derive(Clone, Debug)]
pub struct WatchBatch {
    /// Everything up to this revision was delivered.
    pub revision: i64,
    pub events: Vec<Event>,
}

/// Ends with an error (`Compacted` when history is gone, `Lagging` when the watcher read too slowly) or with the store.
pub type WatchStream = BoxStream<'static, Result<WatchBatch, Error>>;

#[derive(Clone, Debug)]
pub struct LeaseInfo {
    pub id: i64,
    pub granted_ttl: i64,
    /// Seconds left; -1 when the lease is gone.
    pub ttl: i64,
    pub keys: Vec<Bytes>,
}

/// Texts are etcd's, so that clients which match on them keep working.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted { compact_revision: i64 },
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    #[error("etcdserver: key not found")]
    KeyNotFound,
    #[error("watch ended: its reader lagged behind the store's bounded buffer")]
    Lagging,
    #[error("etcdserver: no leader")]
    NoLeader,
    #[error("etcdserver: server stopped")]
    Stopped,
    /// A remote store could not be asked, or went away before it answered: what was asked may have happened.
    #[error("{operation}: {reason}")]
    Unavailable { operation: &'static str, reason: String },
    /// A remote store refused with an error that has no variant of its own.
    #[error("{operation}: {reason}")]
    Refused { operation: &'static str, reason: String },
    /// The disk refused; nothing was acknowledged.
    #[error("store {operation}: {source}")]
    Io {
        operation: String,
        #[source]
        source: std::sync::Arc<std::io::Error>,
    },
    /// Stored bytes are damaged; nothing of them is served.
    #[error("store data is damaged: {0}")]
    Corrupt(String),
}

/// What etcd offers of its KV, Watch and Lease services. Nothing here exceeds it.
#[async_trait]
pub trait Kv: Send + Sync + 'static {
    /// Reads a range, linearizable unless a revision is named.
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error>;
    /// Answers only after the entry is on the disks of a quorum.
    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Error>;
    /// Forgets history below `revision`; reads and watches below it fail with `Compacted`.
    async fn compact(&self, revision: i64) -> Result<(), Error>;
    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, Error>;
    /// `id` 0 lets the store choose. Returns the id.
    async fn lease_grant(&self, id: i64, ttl_seconds: i64) -> Result<i64, Error>;
    async fn lease_revoke(&self, id: i64) -> Result<(), Error>;
    /// Returns the renewed time to live in seconds.
    async fn lease_keep_alive(&self, id: i64) -> Result<i64, Error>;
    async fn lease_time_to_live(&self, id: i64, keys: bool) -> Result<LeaseInfo, Error>;
    /// Figures for metrics, by the names that etcd's own have; none when the store has its own endpoint for them.
    fn figures(&self) -> Vec<(&'static str, i64)> {
        Vec::new()
    }
}
