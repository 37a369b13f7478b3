//! Loads whatever speaks etcd's API: `cargo run --release -p store-etcd --example load URL [BYTES]`. Prints puts a
//! second by
//! 1, 32 and 1,000 tasks, linearizable reads by 32, and events a second to 100 watches, all over one connection.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use store::{Kv, Op, PutRequest, RangeRequest, TxnRequest, WatchRequest};
use store_etcd::{Remote, RemoteConfig};

const TIME: Duration = Duration::from_secs(5);
const WATCHES: usize = 100;

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Clone, Copy)]
enum Load {
    Put(usize),
    Read,
}

async fn one(kv: &Remote, load: Load, key: Bytes) -> Result<(), store::Error> {
    match load {
        Load::Put(bytes) => {
            let put = PutRequest { key, value: Bytes::from(vec![b'x'; bytes]), ..Default::default() };
            kv.txn(TxnRequest { success: vec![Op::Put(put)], ..Default::default() }).await.map(drop)
        }
        Load::Read => kv.range(RangeRequest { start: key, ..Default::default() }).await.map(drop),
    }
}

/// Requests a second.
async fn run(kv: &Arc<Remote>, tasks: usize, load: Load) -> Result<f64, Failure> {
    let (done, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let running: Vec<_> = (0..tasks)
        .map(|task| {
            let (kv, done) = (kv.clone(), done.clone());
            tokio::spawn(async move {
                for round in 0u64.. {
                    if start.elapsed() > TIME {
                        break;
                    }
                    one(&kv, load, Bytes::from(format!("/bench/{task}/{}", round % 16))).await?;
                    done.fetch_add(1, Ordering::Relaxed);
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

/// Events a second that reach all watches together while 32 tasks put.
async fn watch(kv: &Arc<Remote>, bytes: usize) -> Result<f64, Failure> {
    let (seen, last) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicI64::new(0)));
    for _ in 0..WATCHES {
        let request = WatchRequest { start: "/bench/".into(), end: "/bench0".into(), ..Default::default() };
        let mut events = kv.watch(request).await?;
        let (seen, last) = (seen.clone(), last.clone());
        tokio::spawn(async move {
            while let Some(Ok(batch)) = events.next().await {
                seen.fetch_add(batch.events.len() as u64, Ordering::Relaxed);
                last.fetch_max(batch.revision, Ordering::Relaxed);
            }
        });
    }
    let start = Instant::now();
    let puts = run(kv, 32, Load::Put(bytes)).await? * TIME.as_secs_f64();
    while seen.load(Ordering::Relaxed) < puts as u64 * WATCHES as u64 * 99 / 100 && start.elapsed() < 4 * TIME {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(seen.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1);
    let url = words.next().ok_or("which URL?")?;
    let bytes = words.next().map_or(Ok(256), |word| word.parse())?;
    let kv = Arc::new(Remote::new(&RemoteConfig { endpoints: vec![url], ..Default::default() })?);
    kv.ready(Duration::from_secs(10)).await?;
    for tasks in [1, 32, 1000] {
        println!("put {bytes} B, {tasks:4} tasks: {:8.0}/s", run(&kv, tasks, Load::Put(bytes)).await?);
    }
    println!("read {bytes} B,  32 tasks: {:8.0}/s", run(&kv, 32, Load::Read).await?);
    println!("events to {WATCHES} watches: {:8.0}/s", watch(&kv, bytes).await?);
    Ok(())
}
