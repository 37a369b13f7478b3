//! The store's history is kept for a while and then forgotten, as upstream's compactor does it.

use std::sync::Arc;
use std::time::Duration;

use crate::server::Shared;

/// History is kept for one to two of these (upstream's `--etcd-compaction-interval`).
const INTERVAL: Duration = Duration::from_secs(300);

/// Compacts until the server stops.
pub async fn run(server: Arc<Shared>) {
    let mut earlier = server.caches.progress.applied();
    let mut done = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = server.stopping.cancelled() => return,
        }
        server.caches.all().values().for_each(|cache| cache.rest());
        let now = server.caches.progress.applied();
        if earlier > done {
            match server.kv.compact(earlier).await {
                // Another API server of the cluster may have been faster.
                Ok(()) | Err(store::Error::Compacted { .. }) => done = earlier,
                Err(error) => tracing::warn!(revision = earlier, %error, "the store's history could not be compacted"),
            }
        }
        earlier = now;
    }
}
