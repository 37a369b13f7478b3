//! What every cluster has comes back when somebody deletes it (`kubectl delete all --all` takes the `kubernetes`
//! Service along): upstream looks every ten seconds, here the deletion tells.

use std::sync::Arc;
use std::time::Duration;

use api::{Object, Resource};
use client::Backoff;
use tokio::sync::Notify;

use crate::bootstrap;
use crate::cache::Observer;
use crate::server::Shared;

/// How long the caches may take to hold a deletion that the store has.
const SEEN: Duration = Duration::from_secs(10);

/// Told when one of these objects is deleted.
#[derive(Default)]
pub struct Standing(Notify);

impl Observer for Standing {
    fn wants(&self, _: &Resource) -> bool {
        false
    }

    fn changed(&self, _: &Resource, _: &str, _: &str, _: Option<&Object>) {}

    fn deleted(&self, resource: &Resource, namespace: &str, name: &str) {
        if bootstrap::stands(&resource.plural, namespace, name) {
            self.0.notify_one();
        }
    }
}

/// Makes them again, until the server stops.
pub async fn follow(server: Arc<Shared>, standing: Arc<Standing>) {
    let mut backoff = Backoff::default();
    loop {
        tokio::select! {
            () = standing.0.notified() => {}
            () = server.stopping.cancelled() => return,
        }
        let Err(error) = restore(&server).await else {
            backoff = Backoff::default();
            continue;
        };
        tracing::warn!(error, "an object that every cluster has is not made again yet");
        standing.0.notify_one();
        tokio::select! {
            () = tokio::time::sleep(backoff.wait()) => {}
            () = server.stopping.cancelled() => return,
        }
    }
}

async fn restore(server: &Arc<Shared>) -> Result<(), String> {
    // The deletion was told of before the caches had it.
    let revision = server.caches.store_revision().await.map_err(|error| error.to_string())?;
    if !server.caches.progress.wait(revision, SEEN).await {
        return Err(format!("the caches did not reach the store's revision {revision}"));
    }
    bootstrap::standing(server).await.map_err(|(what, status)| format!("create {what}: {status}"))
}
