//! The whole store on a disk that fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use bytes::Bytes;

use super::*;
use crate::disk::sim::SimDisk;
use crate::kv::PutRequest;
use crate::sled_state;

fn config(dir: &tempfile::TempDir) -> Config {
    Config { dir: dir.path().to_owned(), segment_bytes: 128 << 10, snapshot_bytes: 1 << 30, ..Default::default() }
}

fn put(key: &str, size: usize) -> TxnRequest {
    let put = Op::Put(PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: vec![1; size].into(),
        ..Default::default()
    });
    TxnRequest { success: vec![put], ..Default::default() }
}

async fn count(store: &Store) -> i64 {
    let all = Bytes::from_static(b"\0");
    store.range(RangeRequest { start: all.clone(), end: all, ..Default::default() }).await.unwrap().count
}

#[tokio::test]
async fn a_full_disk_refuses_writes_keeps_reads_and_recovers() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), SimDisk::default());
    let store = Store::open_on(Arc::new(disk.clone()), config(&dir)).unwrap();
    disk.set_full(true);
    let mut written = 0;
    let refused = loop {
        match store.txn(put(&format!("{written}"), 4000)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.to_string(), "etcdserver: mvcc: database space exceeded");
    assert_eq!(count(&store).await, written);
    assert!(store.failure().is_none());
    assert!(store.lease_keep_alive(1).await.is_err());
    disk.set_full(false);
    store.txn(put("room", 4000)).await.unwrap();
    assert_eq!(count(&store).await, written + 1);
    store.close().await;
    let store = Store::open_on(Arc::new(disk), config(&dir)).unwrap();
    assert_eq!(count(&store).await, written + 1);
    store.close().await;
}

#[tokio::test]
async fn a_failed_sync_ends_acknowledgement_for_good() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), SimDisk::default());
    let store = Store::open_on(Arc::new(disk.clone()), config(&dir)).unwrap();
    store.txn(put("before", 10)).await.unwrap();
    disk.set_fail_sync(true);
    let error = store.txn(put("lost", 10)).await.unwrap_err();
    assert!(error.to_string().starts_with("store sync the log: "), "{error}");
    disk.set_fail_sync(false);
    assert!(matches!(store.txn(put("after", 10)).await, Err(Error::Io { .. })));
    assert!(matches!(store.lease_grant(0, 10).await, Err(Error::Io { .. })));
    assert_eq!(count(&store).await, 1, "reads serve what is durable");
    assert!(store.failure().is_some());
    store.close().await;
}

#[tokio::test]
async fn damaged_copies_are_rebuilt_and_a_log_that_lost_them_all_is_refused() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Arc::new(RealDisk));
    let config = Config { snapshot_bytes: 64 << 10, ..config(&dir) };
    let store = Store::open_on(disk.clone(), config.clone()).unwrap();
    for round in 0..400 {
        store.txn(put(&format!("{}", round % 10), 2000)).await.unwrap();
    }
    let revision = store.newest().unwrap().mvcc.revision();
    store.close().await;
    let files = |name: &str| {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(dir.path().join(name)).unwrap().map(|e| e.unwrap().path()).collect();
        paths.retain(|path| name != "snapshots" || path.extension().is_some_and(|kind| kind == "snap"));
        paths.sort();
        paths
    };
    let damage = |path: &PathBuf| {
        let mut bytes = std::fs::read(path).unwrap();
        bytes.iter_mut().skip(20).for_each(|byte| *byte = 0x55);
        std::fs::write(path, bytes).unwrap();
    };
    let state = || files("state").into_iter().filter(|path| path.is_file()).collect::<Vec<_>>();
    assert_eq!(files("snapshots").len(), 2);
    // The newest snapshot, then all of them, then sled's copy and the newest: still everything is there.
    for step in 0..3 {
        let damaged = match step {
            0 => files("snapshots")[1..].to_vec(),
            1 => files("snapshots"),
            _ => [state(), files("snapshots")[1..].to_vec()].concat(),
        };
        damaged.iter().for_each(damage);
        let store = Store::open_on(disk.clone(), config.clone()).unwrap();
        assert_eq!(store.newest().unwrap().mvcc.revision(), revision, "step {step}");
        assert_eq!(count(&store).await, 10);
        store.close().await;
    }
    sled_state::discard(&dir.path().join("state")).unwrap();
    files("snapshots").iter().for_each(damage);
    assert!(
        matches!(Store::open_on(disk.clone(), config.clone()), Err(Error::Corrupt(what)) if what.contains(".snap"))
    );
    files("snapshots").iter().for_each(|path| std::fs::remove_file(path).unwrap());
    assert!(matches!(Store::open_on(disk, config), Err(Error::Corrupt(what)) if what.contains("a gap")));
}
