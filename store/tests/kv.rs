//! The store as its user sees it, on a real directory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use store::{
    Compare, CompareResult, CompareTarget, Config, Error, EventKind, Kv, Op, OpResponse, PutRequest, RangeRequest,
    Store, TxnRequest, TxnResponse, WatchRequest, WatchStream,
};

fn config(dir: &tempfile::TempDir) -> Config {
    Config { dir: dir.path().join("store"), segment_bytes: 1 << 20, ..Default::default() }
}

fn put(key: &str, value: &str) -> Op {
    Op::Put(PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..Default::default()
    })
}

fn put_leased(key: &str, lease: i64) -> Op {
    Op::Put(PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::new(),
        lease,
        ..Default::default()
    })
}

fn delete(key: &str) -> Op {
    Op::Delete { start: Bytes::copy_from_slice(key.as_bytes()), end: Bytes::new(), prev_kv: true }
}

async fn run(store: &Store, ops: Vec<Op>) -> TxnResponse {
    store.txn(TxnRequest { success: ops, ..Default::default() }).await.unwrap()
}

async fn get(store: &Store, key: &str, revision: i64) -> Result<Option<String>, Error> {
    let start = Bytes::copy_from_slice(key.as_bytes());
    let response = store.range(RangeRequest { start, revision, ..Default::default() }).await?;
    Ok(response.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned()))
}

fn all() -> RangeRequest {
    RangeRequest { start: Bytes::from_static(b"\0"), end: Bytes::from_static(b"\0"), ..Default::default() }
}

async fn watch(store: &Store, start_revision: i64) -> WatchStream {
    let all = all();
    store
        .watch(WatchRequest { start: all.start, end: all.end, start_revision, prev_kv: true, ..Default::default() })
        .await
        .unwrap()
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(&dir)).unwrap();
    run(&store, vec![put("a", "1"), put("b", "1")]).await;
    run(&store, vec![put("a", "2")]).await;
    run(&store, vec![delete("b")]).await;
    let lease = store.lease_grant(0, 100).await.unwrap();
    run(&store, vec![put_leased("l", lease)]).await;
    store.close().await;
    assert!(matches!(store.range(all()).await, Err(Error::Stopped)));

    let store = Store::open(config(&dir)).unwrap();
    let response = store.range(all()).await.unwrap();
    assert_eq!((response.revision, response.count), (5, 2));
    assert_eq!(response.kvs[0].version, 2);
    assert_eq!(get(&store, "a", 2).await.unwrap().as_deref(), Some("1"));
    assert_eq!(get(&store, "b", 3).await.unwrap().as_deref(), Some("1"));
    assert_eq!(get(&store, "b", 4).await.unwrap(), None);
    let info = store.lease_time_to_live(lease, true).await.unwrap();
    assert_eq!((info.granted_ttl, info.ttl, info.keys), (100, 100, vec![Bytes::from("l")]));
    let mut events = watch(&store, 2).await;
    let batch = events.next().await.unwrap().unwrap();
    let seen: Vec<_> =
        batch.events.iter().map(|event| (event.kind, event.kv.mod_revision, event.prev.is_some())).collect();
    assert_eq!(
        seen,
        [
            (EventKind::Put, 2, false),
            (EventKind::Put, 2, false),
            (EventKind::Put, 3, true),
            (EventKind::Delete, 4, true),
            (EventKind::Put, 5, false)
        ]
    );
    store.close().await;
    assert!(events.next().await.is_none(), "the watch ends with the store");
}

#[tokio::test]
async fn a_second_process_is_refused_and_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(&dir)).unwrap();
    match Store::open(config(&dir)) {
        Err(Error::Io { source, .. }) => assert_eq!(source.kind(), std::io::ErrorKind::WouldBlock),
        other => panic!("{:?}", other.map(|_| "opened")),
    }
    store.close().await;
    let mut directories = vec![dir.path().join("store")];
    while let Some(path) = directories.pop() {
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
        for entry in std::fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            // sled makes its own files; its directory is closed.
            let sled = path.parent().is_some_and(|dir| dir.ends_with("state"));
            if path.is_dir() && !sled {
                directories.push(path);
            }
        }
    }
    let store = Store::open(config(&dir)).unwrap();
    store.close().await;
}

#[tokio::test]
async fn guarded_updates_race_to_one_winner() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(&dir)).unwrap();
    let revision = run(&store, vec![put("counter", "0")]).await.revision;
    let guarded = |value: usize| TxnRequest {
        compare: vec![Compare {
            key: "counter".into(),
            end: Bytes::new(),
            result: CompareResult::Equal,
            target: CompareTarget::ModRevision(revision),
        }],
        success: vec![put("counter", &value.to_string())],
        failure: vec![Op::Range(RangeRequest { start: "counter".into(), ..Default::default() })],
    };
    let all = futures::future::join_all((1..=50).map(|value| store.txn(guarded(value)))).await;
    let (won, lost): (Vec<_>, Vec<_>) = all.into_iter().map(Result::unwrap).partition(|response| response.succeeded);
    assert_eq!((won.len(), lost.len()), (1, 49));
    for response in lost {
        let [OpResponse::Range(range)] = &response.responses[..] else { panic!("{response:?}") };
        assert_eq!(range.kvs[0].mod_revision, won[0].revision);
    }
    store.close().await;
}

#[tokio::test]
async fn bad_requests_get_etcds_errors_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(&dir)).unwrap();
    let try_ops =
        async |ops| store.txn(TxnRequest { success: ops, ..Default::default() }).await.unwrap_err().to_string();
    let large = "x".repeat(2 << 20);
    assert_eq!(try_ops(vec![put("", "1")]).await, "etcdserver: key is not provided");
    assert_eq!(try_ops(vec![put("a", "1"), put("a", "2")]).await, "etcdserver: duplicate key given in txn request");
    assert_eq!(try_ops(vec![put("a", &large)]).await, "etcdserver: request is too large");
    assert_eq!(
        try_ops((0..129).map(|n| put(&n.to_string(), "")).collect()).await,
        "etcdserver: too many operations in txn request"
    );
    assert_eq!(try_ops(vec![put("a", "1"), put_leased("b", 9)]).await, "etcdserver: requested lease not found");
    let future = Op::Range(RangeRequest { start: "a".into(), revision: 99, ..Default::default() });
    assert_eq!(try_ops(vec![put("a", "1"), future]).await, "etcdserver: mvcc: required revision is a future revision");
    assert_eq!(
        get(&store, "a", 7).await.unwrap_err().to_string(),
        "etcdserver: mvcc: required revision is a future revision"
    );
    assert!(matches!(store.compact(5).await, Err(Error::FutureRevision)));
    assert!(matches!(store.lease_revoke(5).await, Err(Error::LeaseNotFound)));
    assert!(matches!(store.lease_keep_alive(5).await, Err(Error::LeaseNotFound)));
    assert!(matches!(store.lease_grant(5, i64::MAX).await, Err(Error::LeaseTtlTooLarge)));
    assert_eq!(store.lease_grant(5, 10).await.unwrap(), 5);
    assert!(matches!(store.lease_grant(5, 10).await, Err(Error::LeaseExists)));
    assert_eq!(store.lease_time_to_live(6, false).await.unwrap().ttl, -1);
    assert_eq!(store.range(all()).await.unwrap().revision, 1);
    store.close().await;
}

#[tokio::test]
async fn a_lease_takes_its_keys_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(&dir)).unwrap();
    let short = store.lease_grant(0, 2).await.unwrap();
    let kept = store.lease_grant(0, 2).await.unwrap();
    run(&store, vec![put_leased("short", short), put_leased("kept", kept), put("free", "")]).await;
    let mut events = watch(&store, 3).await;
    let alive = async {
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(store.lease_keep_alive(kept).await.unwrap(), 2);
        }
    };
    let batch = tokio::select! {
        batch = events.next() => batch.unwrap().unwrap(),
        () = alive => unreachable!(),
    };
    assert_eq!((batch.events.len(), batch.events[0].kind), (1, EventKind::Delete));
    assert_eq!(batch.events[0].kv.key, "short");
    assert_eq!(store.lease_time_to_live(short, true).await.unwrap().ttl, -1);
    store.lease_revoke(kept).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().events[0].kv.key, "kept");
    assert_eq!(store.range(all()).await.unwrap().count, 1);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_history_is_complete_under_concurrent_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(&dir)).unwrap();
    const WRITERS: usize = 16;
    const WRITES: usize = 100;
    let last = 1 + (WRITERS * WRITES) as i64;
    let mut readers = Vec::new();
    for start in [1, 2, 700, last] {
        let mut events = watch(&store, start).await;
        readers.push(tokio::spawn(async move {
            let mut next = start.max(2);
            while next <= last {
                let batch = events.next().await.unwrap().unwrap();
                for event in batch.events {
                    assert_eq!(event.kv.mod_revision, next, "no gap, no repeat, in order");
                    next += 1;
                }
                assert_eq!(batch.revision + 1, next);
            }
        }));
    }
    let writers = (0..WRITERS).map(|writer| {
        let store: Arc<Store> = store.clone();
        tokio::spawn(async move {
            for n in 0..WRITES {
                let ops = if n % 10 == 9 {
                    vec![delete(&format!("{writer}"))]
                } else {
                    vec![put(&format!("{writer}"), &n.to_string())]
                };
                run(&store, ops).await;
            }
        })
    });
    for task in futures::future::join_all(writers).await {
        task.unwrap();
    }
    for reader in readers {
        tokio::time::timeout(Duration::from_secs(60), reader).await.unwrap().unwrap();
    }
    store.close().await;
}

#[tokio::test]
async fn compaction_ends_what_it_must() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(&dir)).unwrap();
    for n in 0..10 {
        run(&store, vec![put("k", &n.to_string())]).await;
    }
    let mut behind = watch(&store, 2).await;
    let mut exactly = watch(&store, 8).await;
    store.compact(8).await.unwrap();
    let status = store.status();
    assert_eq!((status.revision, status.compact_revision, status.keys), (11, 8, 1));
    assert!(matches!(store.compact(8).await, Err(Error::Compacted { compact_revision: 8 })));
    assert!(matches!(behind.next().await, Some(Err(Error::Compacted { compact_revision: 8 }))));
    assert!(behind.next().await.is_none());
    assert_eq!(exactly.next().await.unwrap().unwrap().events.len(), 4);
    assert!(matches!(get(&store, "k", 7).await, Err(Error::Compacted { .. })));
    assert_eq!(get(&store, "k", 8).await.unwrap().as_deref(), Some("6"));
    store.close().await;
    let store = Store::open(config(&dir)).unwrap();
    assert!(matches!(get(&store, "k", 7).await, Err(Error::Compacted { .. })));
    assert_eq!(get(&store, "k", 8).await.unwrap().as_deref(), Some("6"));
    store.close().await;
}

#[tokio::test]
async fn progress_says_how_far_a_quiet_watch_has_seen() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(&dir)).unwrap();
    run(&store, vec![put("other", "1")]).await;
    let request = WatchRequest { start: "mine".into(), progress_notify: true, start_revision: 1, ..Default::default() };
    let mut events = store.watch(request).await.unwrap();
    let batch = events.next().await.unwrap().unwrap();
    assert_eq!((batch.revision, batch.events.len()), (2, 0));
    run(&store, vec![put("other", "2")]).await;
    let batch = tokio::time::timeout(Duration::from_secs(60), events.next()).await.unwrap().unwrap().unwrap();
    assert_eq!((batch.revision, batch.events.len()), (3, 0));
    store.close().await;
}
