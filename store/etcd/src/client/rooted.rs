//! A store seen from another root: keys that its user calls `/registry/…` lie in it under a prefix of the user's
//! choice, so that several clusters share one etcd.

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use store::{
    Compare, Error, Event, KeyValue, Kv, LeaseInfo, Op, OpResponse, RangeRequest, RangeResponse, TxnRequest,
    TxnResponse, WatchBatch, WatchRequest, WatchStream,
};

/// Where keys begin, as the user says it and as they are stored. Neither ends with a slash.
#[derive(Clone)]
struct Roots {
    said: Bytes,
    stored: Bytes,
}

pub struct Rooted<K> {
    inner: K,
    roots: Roots,
}

impl<K> Rooted<K> {
    /// Keys beginning with `said` are stored beginning with `stored`.
    pub fn new(inner: K, said: &str, stored: &str) -> Self {
        let bytes = |text: &str| Bytes::copy_from_slice(text.trim_end_matches('/').as_bytes());
        Rooted { inner, roots: Roots { said: bytes(said), stored: bytes(stored) } }
    }
}

fn moved(key: &Bytes, from: &Bytes, to: &Bytes) -> Option<Bytes> {
    let rest = key.strip_prefix(&from[..])?;
    Some([&to[..], rest].concat().into())
}

impl Roots {
    /// A key or an end of a range. Others than ours (the least and greatest) are the same on both sides.
    fn store(&self, key: Bytes) -> Bytes {
        moved(&key, &self.said, &self.stored).unwrap_or(key)
    }

    /// A stored key as the user says it; `None` when it is nothing of the user's.
    fn say(&self, key: &Bytes) -> Option<Bytes> {
        if key.get(self.stored.len()) != Some(&b'/') {
            return None;
        }
        moved(key, &self.stored, &self.said)
    }

    fn kv(&self, kv: KeyValue) -> Option<KeyValue> {
        Some(KeyValue { key: self.say(&kv.key)?, ..kv })
    }

    fn range(&self, request: RangeRequest) -> RangeRequest {
        RangeRequest { start: self.store(request.start), end: self.store(request.end), ..request }
    }

    fn answer(&self, answer: RangeResponse) -> RangeResponse {
        let kvs = answer.kvs.into_iter().filter_map(|kv| self.kv(kv)).collect();
        RangeResponse { kvs, ..answer }
    }

    fn txn(&self, request: TxnRequest) -> TxnRequest {
        let compare =
            |compare: Compare| Compare { key: self.store(compare.key), end: self.store(compare.end), ..compare };
        TxnRequest {
            compare: request.compare.into_iter().map(compare).collect(),
            success: request.success.into_iter().map(|op| self.op(op)).collect(),
            failure: request.failure.into_iter().map(|op| self.op(op)).collect(),
        }
    }

    fn op(&self, op: Op) -> Op {
        match op {
            Op::Range(request) => Op::Range(self.range(request)),
            Op::Put(put) => Op::Put(store::PutRequest { key: self.store(put.key), ..put }),
            Op::Delete { start, end, prev_kv } => {
                Op::Delete { start: self.store(start), end: self.store(end), prev_kv }
            }
            Op::Txn(txn) => Op::Txn(self.txn(txn)),
        }
    }

    fn txn_answer(&self, answer: TxnResponse) -> TxnResponse {
        let response = |response| match response {
            OpResponse::Range(answer) => OpResponse::Range(self.answer(answer)),
            OpResponse::Put { prev } => OpResponse::Put { prev: prev.and_then(|kv| self.kv(kv)) },
            OpResponse::Delete { deleted, prev } => {
                OpResponse::Delete { deleted, prev: prev.into_iter().filter_map(|kv| self.kv(kv)).collect() }
            }
            OpResponse::Txn(answer) => OpResponse::Txn(self.txn_answer(answer)),
        };
        TxnResponse { responses: answer.responses.into_iter().map(response).collect(), ..answer }
    }

    /// Events of others are left out; how far the watch is stays.
    fn batch(&self, batch: WatchBatch) -> WatchBatch {
        let event = |event: Event| {
            Some(Event { kind: event.kind, kv: self.kv(event.kv)?, prev: event.prev.and_then(|kv| self.kv(kv)) })
        };
        WatchBatch { revision: batch.revision, events: batch.events.into_iter().filter_map(event).collect() }
    }
}

#[async_trait]
impl<K: Kv> Kv for Rooted<K> {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        let answer = self.inner.range(self.roots.range(request)).await?;
        Ok(self.roots.answer(answer))
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Error> {
        let answer = self.inner.txn(self.roots.txn(request)).await?;
        Ok(self.roots.txn_answer(answer))
    }

    async fn compact(&self, revision: i64) -> Result<(), Error> {
        self.inner.compact(revision).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, Error> {
        let (start, end) = (self.roots.store(request.start), self.roots.store(request.end));
        let stream = self.inner.watch(WatchRequest { start, end, ..request }).await?;
        let roots = self.roots.clone();
        Ok(stream.map(move |batch| batch.map(|batch| roots.batch(batch))).boxed())
    }

    async fn lease_grant(&self, id: i64, ttl_seconds: i64) -> Result<i64, Error> {
        self.inner.lease_grant(id, ttl_seconds).await
    }

    async fn lease_revoke(&self, id: i64) -> Result<(), Error> {
        self.inner.lease_revoke(id).await
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<i64, Error> {
        self.inner.lease_keep_alive(id).await
    }

    async fn lease_time_to_live(&self, id: i64, keys: bool) -> Result<LeaseInfo, Error> {
        let lease = self.inner.lease_time_to_live(id, keys).await?;
        let keys = lease.keys.iter().filter_map(|key| self.roots.say(key)).collect();
        Ok(LeaseInfo { keys, ..lease })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_move_between_the_roots() {
        let rooted = Rooted::new((), "/registry", "/clusters/a/");
        let (store, say) = (
            |key: &'static str| rooted.roots.store(Bytes::from_static(key.as_bytes())),
            |key: &'static str| rooted.roots.say(&Bytes::from_static(key.as_bytes())),
        );
        for (said, stored) in [
            ("/registry/pods/x", "/clusters/a/pods/x"),
            ("/registry/", "/clusters/a/"),
            ("/registry0", "/clusters/a0"),
            ("\0", "\0"),
        ] {
            assert_eq!(store(said), stored, "{said}");
        }
        assert_eq!(say("/clusters/a/pods/x").as_deref(), Some(&b"/registry/pods/x"[..]));
        for foreign in ["/registry/pods/x", "/clusters/ab/pods/x", "/clusters/a"] {
            assert_eq!(say(foreign), None, "{foreign}");
        }
    }
}
