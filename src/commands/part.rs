//! One component alone, as `kube-apiserver`, `kube-scheduler` and the others are run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use apiserver_auth::pki::{Pki, Profile};
use jiff::Timestamp;
use store::Kv;

use super::{machine, require_root, start_logging, up};
use crate::cli::{ApiserverArgs, EtcdArgs, PartArgs};
use crate::cluster::{self, API_PORT, ApiServer, Machine};
use crate::layout::{Layout, write_private};
use crate::node::{self, Clients, Dns};
use crate::parts::Parts;
use crate::progress::Progress;

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
    runtime.block_on(serve(args, part, etcd, &layout))
}

async fn serve(args: &PartArgs, part: Part, etcd: Option<&EtcdArgs>, layout: &Layout) -> Result<()> {
    let machine = machine(&args.node)?;
    let progress = Progress::start();
    let mut parts = Parts::new();
    let api = match part {
        Part::Apiserver => Some(match etcd {
            Some(etcd) => {
                let kv = remote(etcd).await?;
                ApiServer::start_on(kv, layout, &machine, &mut parts, &progress).await?
            }
            None => ApiServer::start(layout, &machine, &mut parts, &progress).await?,
        }),
        _ => {
            let clients = clients(args, part, layout, &machine).await?;
            start(args, part, layout, &machine, &clients, &mut parts).await?;
            progress.reached(&format!("{} started", part.name()));
            None
        }
    };
    up::stop_signal(&parts).await?;
    parts.end(up::PATIENCE).await;
    if let Some(api) = api {
        api.close().await;
    }
    Ok(())
}

async fn start(
    args: &PartArgs,
    part: Part,
    layout: &Layout,
    machine: &Machine,
    clients: &Clients,
    parts: &mut Parts,
) -> Result<()> {
    match part {
        Part::Apiserver => {}
        Part::Scheduler => cluster::start_scheduler(clients, machine, parts),
        Part::ControllerManager => {
            cluster::start_controllers(clients, &cluster::authority(layout)?, None, machine, parts);
        }
        Part::Kubelet => {
            let core = node::open_runtime(layout, &args.node.registry_mirror).await?;
            node::start_kubelet(layout, machine, clients, core, parts);
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

/// Clients by the kubeconfig given, or by a certificate from the data directory's own CA. One identity serves all
/// parts of the component.
async fn clients(args: &PartArgs, part: Part, layout: &Layout, machine: &Machine) -> Result<Clients> {
    let path = match &args.kubeconfig {
        Some(path) => path.clone(),
        None => own_kubeconfig(part, layout, machine)?,
    };
    let client = client::from_kubeconfig(&path).await?;
    Ok(Arc::new(move |_| client.clone()))
}

fn own_kubeconfig(part: Part, layout: &Layout, machine: &Machine) -> Result<PathBuf> {
    let now = Timestamp::now();
    let pki = Pki::ensure(&layout.pki(), &[], now).context("load the cluster's certificates")?;
    let server = format!("https://{}:{API_PORT}", machine.ip);
    let text = pki.kubeconfig(&server, &part.profile(machine), now).context("make the component's kubeconfig")?;
    let path = layout.pki().join(format!("{}.kubeconfig", part.name()));
    write_private(&path, text.as_bytes())?;
    Ok(path)
}
