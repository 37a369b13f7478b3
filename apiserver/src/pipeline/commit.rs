//! The only place where the pipeline writes to the store.

use std::sync::Arc;

use api::{Object, Reason, Status};
use bytes::Bytes;
use store::{Compare, CompareResult, CompareTarget, Op, PutRequest, TxnRequest};

use crate::cache::{Cached, Facts};
use crate::convert;
use crate::rows::Row;
use crate::server::Shared;
use crate::storage::{self, Layout};

/// A store that cannot answer, as the client sees it.
pub fn unavailable(error: store::Error) -> Status {
    match error {
        store::Error::RequestTooLarge => {
            Status::failure(Reason::RequestEntityTooLarge, format!("Request entity too large: {error}"))
        }
        store::Error::NoLeader | store::Error::Stopped | store::Error::Unavailable { .. } => {
            let mut status = Status::failure(Reason::ServerTimeout, error.to_string());
            status.details.get_or_insert_default().retry_after_seconds = 1;
            status
        }
        // Upstream hands on what etcd says, without a reason: `Error from server: etcdserver: mvcc: database space
        // exceeded`.
        _ => Status { reason: None, ..Status::failure(Reason::InternalError, error.to_string()) },
    }
}

fn sealing(error: apiserver_auth::seal::SealError) -> Status {
    tracing::error!(%error, "encryption at rest");
    Status::internal(error)
}

/// An object about to be written, in the row's form, and its bytes as they are stored.
pub struct Prepared {
    key: Bytes,
    /// Key within the cache.
    short: String,
    plain: Bytes,
    value: Bytes,
}

impl Prepared {
    /// Encodes an object; it is handed to the feed so that it need not be decoded again.
    pub fn new(server: &Shared, row: &Row, object: Object) -> Result<Self, Status> {
        let (namespace, name) = (api::object::namespace(&object).to_owned(), api::object::name(&object).to_owned());
        let object = if row.is_storage() { object } else { convert::object_to_storage(row, object) };
        let key = Bytes::from(row.storage_key(&namespace, &name));
        let plain = Bytes::from(storage::encode(&object));
        let value = server.caches.seal_value(&row.storage.storage_prefix, &key, plain.clone()).map_err(sealing)?;
        server.caches.hints.put(&key, &value, Arc::new(object));
        Ok(Self { key, short: row.key(&namespace, &name), plain, value })
    }

    /// The entry that the cache will hold, for an answer that need not wait for it or that is never stored.
    fn entry(&self, row: &Row, revision: i64) -> Result<Arc<Cached>, Status> {
        let facts = Facts::none();
        if revision == 0 {
            let layout = storage::layout(&self.plain).unwrap_or(Layout { metadata: 0 });
            return Ok(Arc::new(Cached::new(
                &self.short,
                row.resource.namespaced,
                0,
                self.plain.clone(),
                layout,
                facts,
            )));
        }
        let mut wire = Vec::new();
        let layout = storage::splice_into(&mut wire, &self.plain, revision).map_err(Status::internal)?;
        Ok(Arc::new(Cached::new(&self.short, row.resource.namespaced, revision, wire.into(), layout, facts)))
    }

    /// The entry of a dry run: as it would have been stored, at the revision that it had.
    pub fn dry(self, server: &Shared, row: &Row, revision: i64) -> Result<Arc<Cached>, Status> {
        server.caches.hints.take(&self.key, &self.value);
        self.entry(row, revision)
    }
}

/// The committed entry, once readers see it too.
async fn committed(server: &Shared, row: &Row, prepared: &Prepared, revision: i64) -> Result<Arc<Cached>, Status> {
    server.visible(revision).await;
    match row.cache.get(&prepared.short) {
        Some(cached) if cached.revision == revision => Ok(cached),
        _ => prepared.entry(row, revision),
    }
}

fn compare(key: &Bytes, revision: i64) -> Compare {
    Compare {
        key: key.clone(),
        end: Bytes::new(),
        result: CompareResult::Equal,
        target: CompareTarget::ModRevision(revision),
    }
}

/// Writes if the key's revision is still the expected one; 0 expects no key. `None` when it is not.
pub async fn put(server: &Shared, row: &Row, prepared: Prepared, expected: i64) -> Result<Option<Arc<Cached>>, Status> {
    put_with(server, row, prepared, expected, Vec::new()).await
}

/// As [`put`], with other comparisons and writes in the same transaction.
pub async fn put_with(
    server: &Shared,
    row: &Row,
    prepared: Prepared,
    expected: i64,
    beside: Vec<(Compare, Op)>,
) -> Result<Option<Arc<Cached>>, Status> {
    let lease = server.leases.lease_for(&row.storage.storage_prefix).await.map_err(unavailable)?;
    let put =
        Op::Put(PutRequest { key: prepared.key.clone(), value: prepared.value.clone(), lease, ..Default::default() });
    let mut txn =
        TxnRequest { compare: vec![compare(&prepared.key, expected)], success: vec![put], failure: Vec::new() };
    for (compare, op) in beside {
        txn.compare.push(compare);
        txn.success.push(op);
    }
    let answer = server.commit(txn).await;
    match answer {
        Ok(done) if done.succeeded => committed(server, row, &prepared, done.revision).await.map(Some),
        Ok(_) => {
            server.caches.hints.take(&prepared.key, &prepared.value);
            Ok(None)
        }
        Err(error) => {
            server.caches.hints.take(&prepared.key, &prepared.value);
            Err(unavailable(error))
        }
    }
}

/// Removes an object if its revision is still the expected one; `None` when it is not. Returns the deletion's revision.
pub async fn delete(
    server: &Shared,
    row: &Row,
    namespace: &str,
    name: &str,
    expected: i64,
) -> Result<Option<i64>, Status> {
    let key = Bytes::from(row.storage_key(namespace, name));
    let txn = TxnRequest {
        compare: vec![compare(&key, expected)],
        success: vec![Op::Delete { start: key, end: Bytes::new(), prev_kv: false }],
        failure: Vec::new(),
    };
    let done = server.commit(txn).await.map_err(unavailable)?;
    if !done.succeeded {
        return Ok(None);
    }
    server.visible(done.revision).await;
    Ok(Some(done.revision))
}
