//! A client of the API on a thread of its own, inside the cluster's network namespace.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use kube::Client;
use testkit::Cluster;
use testkit::load::enter;

/// Between tries while the server is away.
pub const PAUSE: Duration = Duration::from_millis(20);

/// Says when to end.
#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A running client. It is told to end when this is dropped.
pub struct Session<T> {
    pub stop: Stop,
    thread: Option<JoinHandle<Result<T>>>,
}

impl<T: Send + 'static> Session<T> {
    /// `work` gets a client with the administrator's rights.
    pub fn start<W, F>(cluster: &Cluster, work: W) -> Self
    where
        W: FnOnce(Client, Stop) -> F + Send + 'static,
        F: Future<Output = Result<T>>,
    {
        let (namespace, kubeconfig) = (cluster.network.open().unwrap(), cluster.dir.join("kubeconfig"));
        let stop = Stop::default();
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            enter(&namespace)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
            runtime.block_on(async { work(connect(&kubeconfig).await?, told).await })
        });
        Self { stop, thread: Some(thread) }
    }

    /// Tells it to end and waits for what it has found.
    pub fn end(mut self) -> Result<T> {
        self.stop.set();
        let thread = self.thread.take().context("it has ended")?;
        thread.join().map_err(|_| anyhow!("a client of the API panicked"))?
    }
}

impl<T> Drop for Session<T> {
    fn drop(&mut self) {
        self.stop.set();
    }
}

async fn connect(kubeconfig: &Path) -> Result<Client> {
    client::from_kubeconfig(kubeconfig).await.context("make a client")
}
