//! One side of the comparison: clusters of ours, a new one for each row, each in its namespace; or another cluster by
//! its kubeconfig.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sched::{CloneFlags, setns};
use testkit::Cluster;

use crate::http::Access;
use crate::rows::{Needs, Row};

/// Ends a run that hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a side measured.
#[derive(Default)]
pub struct Figures {
    measured: BTreeMap<&'static str, f64>,
    /// Rows that could not be measured, and why.
    pub failed: BTreeMap<&'static str, String>,
}

impl Figures {
    pub fn of(&self, row: &str) -> Option<f64> {
        self.measured.get(row).copied()
    }
}

/// The cluster that a row loads.
pub struct Target {
    pub kubeconfig: PathBuf,
    /// How long a load lasts.
    pub time: Duration,
    /// The cluster of ours; none when another is loaded.
    cluster: Option<Cluster>,
    namespaces: Cell<u32>,
}

impl Target {
    /// How the API server is reached.
    pub fn access(&self) -> Result<Access> {
        Access::read(&self.kubeconfig)
    }

    /// The cluster that was made for the row.
    pub fn own(&self) -> Result<&Cluster> {
        self.cluster.as_ref().context("only for a cluster that was made for the row")
    }

    /// A new namespace for a row's objects.
    pub async fn namespace(&self) -> Result<String> {
        let name = format!("bench-{}-{}", std::process::id(), self.namespaces.get());
        self.namespaces.set(self.namespaces.get() + 1);
        let mut connection = self.access()?.connect().await?;
        let body = format!(r#"{{"metadata":{{"name":"{name}"}}}}"#);
        connection.json("POST", "/api/v1/namespaces", body.as_bytes()).await?;
        // Pods can be created as soon as the namespace has its service account.
        let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        let start = Instant::now();
        while connection.request("GET", &account, b"", None).await?.0 != 200 {
            ensure!(start.elapsed() < PATIENCE, "namespace {name} got no service account");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(name)
    }

    /// Deletes a row's namespace and waits until it is gone, so that the next row finds a quiet cluster. A cluster of
    /// ours goes with the row.
    pub async fn remove(&self, namespace: &str) -> Result<()> {
        if self.cluster.is_some() {
            return Ok(());
        }
        let mut connection = self.access()?.connect().await?;
        let path = format!("/api/v1/namespaces/{namespace}");
        connection.json("DELETE", &path, b"").await?;
        let start = Instant::now();
        while connection.request("GET", &path, b"", None).await?.0 != 404 {
            ensure!(start.elapsed() < PATIENCE, "namespace {namespace} is not gone after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

/// Measures the rows on clusters of ours. `cox` is the program's file.
pub fn ours(cox: &Path, rows: &[&'static Row], time: Duration) -> Figures {
    measure_all(rows, |row| {
        let cluster = Cluster::prepare(cox, &[])?;
        if row.needs != Needs::Prepared {
            cluster.start()?;
        }
        let kubeconfig = cluster.dir.join("kubeconfig");
        Ok(Target { kubeconfig, time, cluster: Some(cluster), namespaces: Cell::new(0) })
    })
}

/// Measures on another cluster the rows that can be.
pub fn theirs(kubeconfig: &Path, rows: &[&'static Row], time: Duration) -> Figures {
    let rows: Vec<_> = rows.iter().copied().filter(|row| row.needs == Needs::Any).collect();
    measure_all(&rows, |_| {
        Ok(Target { kubeconfig: kubeconfig.to_owned(), time, cluster: None, namespaces: Cell::new(0) })
    })
}

fn measure_all(rows: &[&'static Row], target: impl Fn(&Row) -> Result<Target> + Sync) -> Figures {
    let mut figures = Figures::default();
    for row in rows {
        eprintln!("measuring {}", row.name);
        // A thread of its own, because it enters the cluster's network namespace for good.
        let done = std::thread::scope(|scope| {
            scope.spawn(|| measure(row, &target(row)?)).join().unwrap_or_else(|_| Err(anyhow!("the row panicked")))
        });
        match done {
            Ok(figure) => drop(figures.measured.insert(row.name, figure)),
            Err(error) => drop(figures.failed.insert(row.name, format!("{error:#}"))),
        }
    }
    figures
}

fn measure(row: &Row, target: &Target) -> Result<f64> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().worker_threads(2);
    if let Some(cluster) = &target.cluster {
        let file = cluster.network.path();
        let namespace = File::open(&file).with_context(|| format!("open {}", file.display()))?;
        setns(&namespace, CloneFlags::CLONE_NEWNET).context("enter the cluster's network")?;
    }
    // Threads of the runtime are made by this one, and inherit its network.
    let runtime = runtime.build().context("start a runtime")?;
    runtime.block_on((row.measure)(target))
}
