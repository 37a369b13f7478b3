//! One component alone, as `kube-apiserver`, `kube-scheduler` and the others are run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use apiserver_auth::pki::{LIFETIME, Pki, Profile};
use jiff::{SignedDuration, Timestamp};
use kubelet::Shutdown;
use kubelet_runtime::Core;
use store::Kv;

use super::{machine, require_root, start_logging, up};
use crate::block;
use crate::certificates::until;
use crate::cli::{ApiserverArgs, EtcdArgs, PartArgs};
use crate::cluster::{self, API_PORT, ApiServer, Machine};
use crate::layout::{Layout, write_or_keep};
use crate::node::{self, Clients, Dns};
use crate::parts::Parts;
use crate::progress::Progress;
use crate::slot::Slot;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Apiserver,
    Scheduler,
    ControllerManager,
    Kubelet,
    Proxy,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Apiserver => "apiserver",
            Self::Scheduler => "scheduler",
            Self::ControllerManager => "controller-manager",
            Self::Kubelet => "kubelet",
            Self::Proxy => "proxy",
        }
    }

    /// The user (and groups) that the component is, when no kubeconfig says otherwise.
    fn profile(self, machine: &Machine) -> Profile {
        match self {
            Self::Apiserver => Pki::admin(),
            Self::Scheduler => Profile::client("system:kube-scheduler", &[]),
            Self::ControllerManager => Profile::client("system:kube-controller-manager", &[]),
            Self::Kubelet => Profile::client(&format!("system:node:{}", machine.name), &["system:nodes"]),
            Self::Proxy => Profile::client("system:kube-proxy", &[]),
        }
    }
}

pub fn run(args: PartArgs, part: Part) -> Result<()> {
    run_on(&args, part, None)
}

/// The API server alone, on the embedded store or on an etcd.
pub fn run_apiserver(args: ApiserverArgs) -> Result<()> {
    let etcd = Some(&args.etcd).filter(|etcd| !etcd.etcd_servers.is_empty());
    run_on(&args.part, Part::Apiserver, etcd)
}

fn run_on(args: &PartArgs, part: Part, etcd: Option<&EtcdArgs>) -> Result<()> {
    require_root(part.name())?;
    let layout = Layout::create(&args.dir.data_dir)?;
    start_logging()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    block::on(&runtime, Box::pin(serve(args, part, etcd, &layout)))
}

async fn serve(args: &PartArgs, part: Part, etcd: Option<&EtcdArgs>, layout: &Layout) -> Result<()> {
    let machine = machine(&args.node)?;
    let progress = Progress::start();
    let mut parts = Parts::new();
    if part == Part::Apiserver {
        let api = match etcd {
            Some(etcd) => {
                let kv = remote(etcd).await?;
                ApiServer::start_on(kv, layout, &machine, &mut parts, &progress).await?
            }
            None => ApiServer::start(layout, &machine, &mut parts, &progress).await?,
        };
        up::stop_signal(&parts).await?;
        parts.end(up::PATIENCE).await;
        api.close().await;
        return Ok(());
    }
    let core = match part {
        Part::Kubelet => Some(node::open_runtime(layout, &args.node.registry_mirror).await?),
        _ => None,
    };
    let shutdown = Shutdown::default();
    loop {
        let (clients, due) = clients(args, part, layout, &machine).await?;
        start(part, layout, &machine, &clients, core.clone(), &shutdown, &mut parts)?;
        progress.reached(&format!("{} started", part.name()));
        let stopped = tokio::select! {
            stopped = up::end_signal(&parts, &shutdown) => Some(stopped),
            () = due => None,
        };
        parts.end(up::PATIENCE).await;
        match stopped {
            Some(stopped) => return stopped,
            // The component begins anew with a new certificate.
            None => parts = Parts::new(),
        }
    }
}

fn start(
    part: Part,
    layout: &Layout,
    machine: &Machine,
    clients: &Clients,
    core: Option<Arc<Core>>,
    shutdown: &Shutdown,
    parts: &mut Parts,
) -> Result<()> {
    match part {
        Part::Apiserver => {}
        Part::Scheduler => {
            cluster::start_scheduler(clients, Slot::take(layout, "scheduler", &machine.name)?, parts);
        }
        Part::ControllerManager => {
            let slot = Slot::take(layout, "controllers", &machine.name)?;
            cluster::start_controllers(clients, &cluster::authority(layout)?, None, slot, parts);
        }
        Part::Kubelet => {
            let core = core.context("the kubelet needs a container runtime")?;
            node::start_kubelet(layout, machine, clients, core, shutdown, parts);
        }
        Part::Proxy => node::start_proxy(layout, machine, clients, Dns::Served, parts),
    }
    Ok(())
}

/// How long etcd may take to answer for the first time (kube-apiserver's patience).
const ETCD_PATIENCE: Duration = Duration::from_secs(20);

/// A client of the etcd that the arguments name.
async fn remote(args: &EtcdArgs) -> Result<Arc<dyn Kv>> {
    let config = store_etcd::RemoteConfig {
        endpoints: args.etcd_servers.clone(),
        ca_file: args.etcd_cafile.clone(),
        identity: args.etcd_certfile.clone().zip(args.etcd_keyfile.clone()),
    };
    let remote = store_etcd::Remote::new(&config).context("make the client of etcd")?;
    remote.ready(ETCD_PATIENCE).await.with_context(|| format!("reach etcd at {}", args.etcd_servers.join(", ")))?;
    Ok(match args.etcd_prefix.trim_end_matches('/') {
        "/registry" => Arc::new(remote),
        prefix => Arc::new(store_etcd::Rooted::new(remote, "/registry", prefix)),
    })
}

/// Clients by the kubeconfig given, or by a certificate from the data directory's own CA; and what returns when they
/// are to be made anew. One identity serves all parts of the component.
async fn clients(
    args: &PartArgs,
    part: Part,
    layout: &Layout,
    machine: &Machine,
) -> Result<(Clients, impl Future<Output = ()>)> {
    let now = Timestamp::now();
    let (path, due) = match &args.kubeconfig {
        // Whoever made it renews it.
        Some(path) => (path.clone(), None),
        None => own_kubeconfig(part, layout, machine, now).map(|(path, due)| (path, Some(due)))?,
    };
    let client = client::from_kubeconfig(&path).await?;
    let due = async move {
        match due {
            Some(due) => until(due).await,
            None => std::future::pending().await,
        }
    };
    Ok((Arc::new(move |_| client.clone()), due))
}

/// Where the component's kubeconfig is, and when it is to be made anew.
fn own_kubeconfig(part: Part, layout: &Layout, machine: &Machine, now: Timestamp) -> Result<(PathBuf, Timestamp)> {
    let pki = Pki::ensure(&layout.pki(), &[], now).context("load the cluster's certificates")?;
    let server = format!("https://{}:{API_PORT}", machine.ip);
    let text = pki.kubeconfig(&server, &part.profile(machine), now).context("make the component's kubeconfig")?;
    let path = layout.pki().join(format!("{}.kubeconfig", part.name()));
    // On a full disk that of an earlier start goes on, which was made when a third of its life was left at least.
    let life = if write_or_keep(&path, text.as_bytes())? { LIFETIME * 2 / 3 } else { SignedDuration::from_hours(24) };
    Ok((path, now + life))
}
