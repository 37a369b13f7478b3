//! A small in-memory `Kv`: etcd's model without disk, leases that never end by themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use parking_lot::Mutex;
use store::*;
use tokio::sync::broadcast;

#[derive(Default)]
struct State {
    revision: i64,
    compacted: i64,
    keys: BTreeMap<Bytes, KeyValue>,
    history: Vec<Event>,
    leases: i64,
}

/// The store double.
pub struct Memory {
    state: Mutex<State>,
    /// Writing this key panics.
    bomb: Mutex<String>,
    batches: broadcast::Sender<WatchBatch>,
}

fn in_range(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        _ => key >= start && key < end,
    }
}

impl State {
    fn at(&self, revision: i64) -> BTreeMap<Bytes, KeyValue> {
        if revision == 0 || revision == self.revision {
            return self.keys.clone();
        }
        let mut keys = BTreeMap::new();
        for event in self.history.iter().filter(|e| e.kv.mod_revision <= revision) {
            match event.kind {
                EventKind::Put => drop(keys.insert(event.kv.key.clone(), event.kv.clone())),
                EventKind::Delete => drop(keys.remove(&event.kv.key)),
            }
        }
        keys
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found = self.keys.get(&compare.key);
        let order = match &compare.target {
            CompareTarget::ModRevision(v) => found.map_or(0, |k| k.mod_revision).cmp(v),
            CompareTarget::CreateRevision(v) => found.map_or(0, |k| k.create_revision).cmp(v),
            CompareTarget::Version(v) => found.map_or(0, |k| k.version).cmp(v),
            CompareTarget::Lease(v) => found.map_or(0, |k| k.lease).cmp(v),
            CompareTarget::Value(v) => found.map_or(&b""[..], |k| &k.value).cmp(&v[..]),
        };
        match compare.result {
            CompareResult::Equal => order.is_eq(),
            CompareResult::NotEqual => order.is_ne(),
            CompareResult::Greater => order.is_gt(),
            CompareResult::Less => order.is_lt(),
        }
    }

    fn apply(&mut self, op: Op, revision: i64, events: &mut Vec<Event>) -> OpResponse {
        match op {
            Op::Put(PutRequest { key, value, lease, .. }) => {
                let old = self.keys.get(&key);
                let kv = KeyValue {
                    key: key.clone(),
                    value,
                    create_revision: old.map_or(revision, |o| o.create_revision),
                    mod_revision: revision,
                    version: old.map_or(1, |o| o.version + 1),
                    lease,
                };
                let prev = self.keys.insert(key, kv.clone());
                events.push(Event { kind: EventKind::Put, kv, prev: prev.clone() });
                OpResponse::Put { prev }
            }
            Op::Delete { start, end, .. } => {
                let gone: Vec<Bytes> = self.keys.keys().filter(|k| in_range(k, &start, &end)).cloned().collect();
                for key in &gone {
                    let prev = self.keys.remove(key);
                    let kv = KeyValue {
                        key: key.clone(),
                        value: Bytes::new(),
                        create_revision: 0,
                        mod_revision: revision,
                        version: 0,
                        lease: 0,
                    };
                    events.push(Event { kind: EventKind::Delete, kv, prev });
                }
                OpResponse::Delete { deleted: gone.len() as i64, prev: Vec::new() }
            }
            Op::Range(_) | Op::Txn(_) => OpResponse::Range(RangeResponse::default()),
        }
    }
}

impl Memory {
    pub fn new() -> Arc<Self> {
        let state = State { revision: 1, ..State::default() };
        Arc::new(Self { state: Mutex::new(state), bomb: Mutex::default(), batches: broadcast::channel(65536).0 })
    }

    pub fn revision(&self) -> i64 {
        self.state.lock().revision
    }

    /// Makes the write of a key panic.
    pub fn explode_at(&self, key: &str) {
        key.clone_into(&mut self.bomb.lock());
    }

    fn defuse(&self, ops: &[Op]) {
        let bomb = self.bomb.lock().clone();
        let explodes = |op: &Op| matches!(op, Op::Put(put) if put.key == bomb.as_bytes());
        assert!(bomb.is_empty() || !ops.iter().any(explodes), "the store double explodes, as it was told to");
    }

    /// The stored bytes of a key.
    pub fn value(&self, key: &str) -> Option<Bytes> {
        self.state.lock().keys.get(key.as_bytes()).map(|kv| kv.value.clone())
    }
}

#[async_trait]
impl Kv for Memory {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        let state = self.state.lock();
        if request.revision > state.revision {
            return Err(Error::FutureRevision);
        }
        if request.revision > 0 && request.revision < state.compacted {
            return Err(Error::Compacted { compact_revision: state.compacted });
        }
        if request.count_only {
            return Ok(RangeResponse { revision: state.revision, ..RangeResponse::default() });
        }
        let all: Vec<KeyValue> = state
            .at(request.revision)
            .into_values()
            .filter(|kv| in_range(&kv.key, &request.start, &request.end))
            .collect();
        let count = all.len();
        let limit = if request.limit == 0 { count } else { request.limit as usize };
        let kvs: Vec<_> = all.into_iter().take(limit).collect();
        Ok(RangeResponse { revision: state.revision, more: kvs.len() < count, kvs, count: count as i64 })
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Error> {
        self.defuse(&request.success);
        let mut state = self.state.lock();
        let succeeded = request.compare.iter().all(|c| state.holds(c));
        let ops = if succeeded { request.success } else { request.failure };
        let revision = state.revision + 1;
        let mut events = Vec::new();
        let responses = ops.into_iter().map(|op| state.apply(op, revision, &mut events)).collect();
        if !events.is_empty() {
            state.revision = revision;
            state.history.extend(events.iter().cloned());
            // Nobody may be watching.
            let _ = self.batches.send(WatchBatch { revision, events });
        }
        Ok(TxnResponse { revision: state.revision, succeeded, responses })
    }

    async fn compact(&self, revision: i64) -> Result<(), Error> {
        self.state.lock().compacted = revision;
        Ok(())
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, Error> {
        let state = self.state.lock();
        if request.start_revision > 0 && request.start_revision < state.compacted {
            let error = Error::Compacted { compact_revision: state.compacted };
            return Ok(futures::stream::iter([Err(error)]).boxed());
        }
        let live = self.batches.subscribe();
        let mut past: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
        if request.start_revision > 0 {
            for event in state.history.iter().filter(|e| e.kv.mod_revision >= request.start_revision) {
                past.entry(event.kv.mod_revision).or_default().push(event.clone());
            }
        }
        drop(state);
        let past = past.into_iter().map(|(revision, events)| Ok(WatchBatch { revision, events }));
        let live = futures::stream::unfold(live, |mut live| async move {
            match live.recv().await {
                Ok(batch) => Some((Ok(batch), live)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((Err(Error::Lagging), live)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        });
        Ok(futures::stream::iter(past).chain(live).boxed())
    }

    async fn lease_grant(&self, _: i64, _: i64) -> Result<i64, Error> {
        let mut state = self.state.lock();
        state.leases += 1;
        Ok(state.leases)
    }

    async fn lease_revoke(&self, _: i64) -> Result<(), Error> {
        Ok(())
    }

    async fn lease_keep_alive(&self, _: i64) -> Result<i64, Error> {
        Ok(60)
    }

    async fn lease_time_to_live(&self, id: i64, _: bool) -> Result<LeaseInfo, Error> {
        Ok(LeaseInfo { id, granted_ttl: 60, ttl: 60, keys: Vec::new() })
    }
}
