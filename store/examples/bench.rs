//! Synced transactions a second by 1, 32 and 1,000 tasks: `cargo run --release -p store --example bench [DIR] [BYTES]`.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use store::{Compare, CompareResult, CompareTarget, Config, Kv, Op, PutRequest, RangeRequest, Store, TxnRequest};

fn update(key: Bytes, value: Bytes, expected: i64) -> TxnRequest {
    TxnRequest {
        compare: vec![Compare {
            key: key.clone(),
            end: Bytes::new(),
            result: CompareResult::Equal,
            target: CompareTarget::ModRevision(expected),
        }],
        success: vec![Op::Put(PutRequest { key: key.clone(), value, ..Default::default() })],
        failure: vec![Op::Range(RangeRequest { start: key, ..Default::default() })],
    }
}

async fn load(store: &Arc<Store>, tasks: usize, bytes: usize, time: Duration) -> Result<f64, Box<dyn Error>> {
    let done = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let running: Vec<_> = (0..tasks)
        .map(|task| {
            let (store, done) = (store.clone(), done.clone());
            tokio::spawn(async move {
                for round in 0u64.. {
                    if start.elapsed() > time {
                        break;
                    }
                    let key = Bytes::from(format!("/registry/bench/{tasks}/{task}/{}", round / 2));
                    let created = store.txn(update(key.clone(), Bytes::from(vec![b'x'; bytes]), 0)).await?;
                    store.txn(update(key, Bytes::from(vec![b'y'; bytes]), created.revision)).await?;
                    done.fetch_add(2, Ordering::Relaxed);
                }
                Ok::<(), store::Error>(())
            })
        })
        .collect();
    for task in running {
        task.await??;
    }
    Ok(done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let base = args.next().unwrap_or_else(|| std::env::temp_dir().display().to_string());
    let bytes = args.next().map_or(Ok(256), |bytes| bytes.parse())?;
    let dir = std::path::Path::new(&base).join(format!("cox-store-bench-{}", std::process::id()));
    let opened = Instant::now();
    let store = Store::open(Config { dir: dir.clone(), ..Default::default() })?;
    println!("first start: {:?}", opened.elapsed());
    for tasks in [1, 32, 1000] {
        let rate = load(&store, tasks, bytes, Duration::from_secs(4)).await?;
        println!("{tasks:5} tasks, {bytes} B: {rate:8.0} synced txn/s");
    }
    let closed = Instant::now();
    store.close().await;
    println!("close: {:?}", closed.elapsed());
    let opened = Instant::now();
    let store = Store::open(Config { dir: dir.clone(), ..Default::default() })?;
    let all = RangeRequest {
        start: Bytes::from_static(b"\0"),
        end: Bytes::from_static(b"\0"),
        count_only: true,
        ..Default::default()
    };
    println!("restart with {} keys: {:?}", store.range(all).await?.count, opened.elapsed());
    store.close().await;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
