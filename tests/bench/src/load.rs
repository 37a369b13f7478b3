//! Load: many clients that do the same for a time, and how much they got done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::http::{Access, Connection};

/// The clients of the table's throughput rows.
pub const CLIENTS: usize = 32;

/// The next request of a client: (client, number) to method, path and body.
pub type Next = Arc<dyn Fn(usize, u64) -> (&'static str, String, String) + Send + Sync>;

/// Runs the clients and returns requests per second. Each request must succeed.
pub async fn throughput(access: &Access, clients: usize, time: Duration, next: Next) -> Result<f64> {
    let mut connections = Vec::with_capacity(clients);
    for _ in 0..clients {
        connections.push(access.connect().await?);
    }
    let done = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let end = start + time;
    let tasks = connections.into_iter().enumerate().map(|(number, connection)| {
        tokio::spawn(client(connection, number, end, Arc::clone(&next), Arc::clone(&done)))
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.context("a client's task")??;
    }
    Ok(done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
}

async fn client(mut on: Connection, number: usize, end: Instant, next: Next, done: Arc<AtomicU64>) -> Result<()> {
    let mut count = 0;
    while Instant::now() < end {
        let (method, path, body) = next(number, count);
        let (code, _) = on.request(method, &path, body.as_bytes(), None).await?;
        ensure!(code < 300, "{method} {path} answered {code}");
        count += 1;
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Sends requests 0 to `count`, shared among the clients, once each.
pub async fn once_each(access: &Access, clients: usize, count: u64, next: Next) -> Result<()> {
    let numbers = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::with_capacity(clients);
    for client in 0..clients {
        let (mut connection, numbers, next) = (access.connect().await?, Arc::clone(&numbers), Arc::clone(&next));
        tasks.push(tokio::spawn(async move {
            loop {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(());
                }
                let (method, path, body) = next(client, number);
                let (code, _) = connection.request(method, &path, body.as_bytes(), None).await?;
                ensure!(code < 300 || code == 409, "{method} {path} answered {code}");
            }
        }));
    }
    for task in tasks {
        task.await.context("a client's task")??;
    }
    Ok(())
}
