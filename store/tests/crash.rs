//! `kill -9` at random moments while several tasks write: after each start every acknowledged write is there and the
//! history has neither gap nor repeat. Small segments and snapshots, so that rolling, saving and truncating are hit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use store::{
    Compare, CompareResult, CompareTarget, Config, Kv, Op, PutRequest, RangeRequest, Store, TxnRequest, WatchRequest,
};

const DIR: &str = "STORE_CRASH_DIR";
const WRITERS: usize = 8;
const ROUNDS: u64 = 10;

fn open(dir: &std::path::Path) -> Arc<Store> {
    let config =
        Config { dir: dir.to_owned(), segment_bytes: 256 << 10, snapshot_bytes: 1 << 20, ..Default::default() };
    Store::open(config).unwrap()
}

async fn read(store: &Store, key: &str) -> (u64, i64) {
    let start = Bytes::copy_from_slice(key.as_bytes());
    let response = store.range(RangeRequest { start, ..Default::default() }).await.unwrap();
    let Some(kv) = response.kvs.first() else { return (0, 0) };
    (String::from_utf8_lossy(&kv.value[..16]).parse().unwrap(), kv.mod_revision)
}

/// Counts up under its key, each step guarded by the one before, and prints what was acknowledged.
async fn write(store: Arc<Store>, writer: usize) {
    let key = format!("writer-{writer}");
    let (mut number, mut revision) = read(&store, &key).await;
    loop {
        number += 1;
        let value = format!("{number:016}{}", "x".repeat(number as usize % 2000));
        let guard = Compare {
            key: key.clone().into(),
            end: Bytes::new(),
            result: CompareResult::Equal,
            target: CompareTarget::ModRevision(revision),
        };
        let put = Op::Put(PutRequest { key: key.clone().into(), value: value.into(), ..Default::default() });
        let txn = TxnRequest { compare: vec![guard], success: vec![put], ..Default::default() };
        revision = match store.txn(txn).await {
            Ok(response) if response.succeeded => response.revision,
            other => {
                eprintln!("writer {writer}: {other:?}");
                std::process::exit(3);
            }
        };
        writeln!(std::io::stdout().lock(), "acknowledged {writer} {number} {revision}").unwrap();
    }
}

/// Not a test: what the parent kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let store = open(std::path::Path::new(&dir));
    futures::future::join_all((0..WRITERS).map(|writer| tokio::spawn(write(store.clone(), writer)))).await;
}

/// Runs the child for `time`, kills it, and returns what it had been told is written: number and revision by writer.
fn run_and_kill(dir: &std::path::Path, time: Duration) -> BTreeMap<usize, (u64, i64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (first, started) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut acknowledged = BTreeMap::new();
        for line in output.lines().map_while(Result::ok) {
            // The test harness prints to the same place.
            let Some((_, line)) = line.split_once("acknowledged ") else { continue };
            let words: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
            let [writer, number, revision] = words[..] else { continue };
            acknowledged.insert(writer as usize, (number, revision as i64));
            if acknowledged.len() == 1 {
                first.send(()).ok();
            }
        }
        acknowledged
    });
    started.recv_timeout(Duration::from_secs(60)).unwrap();
    std::thread::sleep(time);
    assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

async fn check(dir: &std::path::Path, acknowledged: &BTreeMap<usize, (u64, i64)>) {
    let store = open(dir);
    let mut newest = 0;
    for (writer, (number, revision)) in acknowledged {
        let (found, at) = read(&store, &format!("writer-{writer}")).await;
        assert!(found == *number && at == *revision || found == number + 1 && at > *revision, "writer {writer}");
        newest = newest.max(*revision);
    }
    let (start, end) = (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
    let now = store.range(RangeRequest { start: start.clone(), end: end.clone(), ..Default::default() }).await.unwrap();
    assert!(now.revision >= newest);
    let mut events = store.watch(WatchRequest { start, end, start_revision: 1, ..Default::default() }).await.unwrap();
    let mut next = 2;
    while next <= now.revision {
        for event in events.next().await.unwrap().unwrap().events {
            assert_eq!(event.kv.mod_revision, next);
            next += 1;
        }
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_minus_nine_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut seed = u64::from(std::process::id());
    for round in 0..ROUNDS {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round);
        let (path, time) = (path.clone(), Duration::from_millis((seed >> 33) % 400));
        let killed = path.clone();
        let acknowledged = tokio::task::spawn_blocking(move || run_and_kill(&killed, time)).await.unwrap();
        check(&path, &acknowledged).await;
    }
    assert!(std::fs::read_dir(path.join("snapshots")).unwrap().count() > 0, "nothing was written");
}
