//! This machine as a node: runtime core, kubelet, service proxy, cluster DNS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::{Api, Informer, watch};
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kubelet::Shutdown;
use kubelet_runtime::Core;
use kubelet_runtime::images::Mirror;

use crate::block;
use crate::cluster::Machine;
use crate::layout::Layout;
use crate::parts::Parts;

/// A client for each identity of the node's parts, by user name.
pub type Clients = Arc<dyn Fn(&str) -> Client + Send + Sync>;

const DNS_IDENTITY: &str = "system:serviceaccount:kube-system:coredns";
/// How long a node may take to become Ready before the command says so. It goes on trying all the same.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// How the runtime core of a cluster's directory is set up.
pub fn runtime_config(layout: &Layout, mirrors: &[(String, String)]) -> kubelet_runtime::Config {
    let mut config = kubelet_runtime::Config::new(layout.dir(), &layout.cluster_id());
    config.mirrors =
        mirrors.iter().map(|(registry, url)| Mirror { registry: registry.clone(), url: url.clone() }).collect();
    config
}

/// How the kubelet of a cluster's directory is set up.
pub fn kubelet_config(layout: &Layout, machine: &Machine) -> kubelet::Config {
    let mut config = kubelet::Config::new(&machine.name, machine.ip, &layout.kubelet());
    config.pod_log_dir = layout.pod_logs();
    config.static_pod_dir = Some(layout.kubelet().join("manifests"));
    config.cgroup_root = format!("/cox-{}", layout.cluster_id());
    config.client_ca = Some(layout.pki().join("ca.crt"));
    config.listen = Some(SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 10250));
    let pair = |suffix: &str| layout.pki().join(format!("kubelet-server.{suffix}"));
    config.serving_certificate = Some(kubelet::ServingCertificate { certificate: pair("crt"), key: pair("key") });
    config
}

/// Opens the container runtime: what ran goes on, and is known again.
pub async fn open_runtime(layout: &Layout, mirrors: &[(String, String)]) -> Result<Arc<Core>> {
    Core::open(runtime_config(layout, mirrors)).await.context("open the container runtime")
}

/// Starts the node's parts. They go on being started until the process ends.
pub async fn start(
    layout: &Layout,
    machine: &Machine,
    mirrors: &[(String, String)],
    clients: &Clients,
    shutdown: &Shutdown,
    parts: &mut Parts,
) -> Result<()> {
    let core = open_runtime(layout, mirrors).await?;
    start_kubelet(layout, machine, clients, core, shutdown, parts);
    start_proxy(layout, machine, clients, Dns::ServedAndAnnounced, parts);
    Ok(())
}

/// Whether this machine also keeps the Service and slices that lead to all nodes' DNS servers: servers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dns {
    Served,
    ServedAndAnnounced,
}

/// Starts the kubelet over a runtime; `shutdown` is how it is told to end its Pods.
pub fn start_kubelet(
    layout: &Layout,
    machine: &Machine,
    clients: &Clients,
    core: Arc<Core>,
    shutdown: &Shutdown,
    parts: &mut Parts,
) {
    let mut config = kubelet_config(layout, machine);
    config.shutdown = shutdown.clone();
    if let Err(error) = kubelet::share_mounts(&config.root_dir) {
        tracing::warn!(%error, "volumes that are mounted after their Pod's sandbox was made will not be seen in it");
    }
    let (user, clients) = (format!("system:node:{}", machine.name), Arc::clone(clients));
    parts.keep("kubelet", move |stop| kubelet::run(config.clone(), clients(&user), core.clone(), stop));
}

/// Starts the service proxy and cluster DNS.
pub fn start_proxy(layout: &Layout, machine: &Machine, clients: &Clients, dns: Dns, parts: &mut Parts) {
    let config = kube_proxy::Config::new(layout.cluster_id(), machine.name.clone(), machine.ip);
    let for_proxy = Arc::clone(clients);
    parts.keep("proxy", move |stop| kube_proxy::run(config.clone(), for_proxy("system:kube-proxy"), stop));
    let mut config = kube_proxy::dns::Config::new(machine.name.clone());
    config.announce = dns == Dns::ServedAndAnnounced;
    let for_dns = Arc::clone(clients);
    parts.keep("dns", move |stop| kube_proxy::dns::run(config.clone(), for_dns(DNS_IDENTITY), stop));
}

/// Returns when the Node is Ready.
pub async fn ready(client: Client, name: &str) -> Result<()> {
    let stop = tokio_util::sync::CancellationToken::new();
    let _watching = stop.clone().drop_guard();
    let changed = Arc::new(tokio::sync::Notify::new());
    let informer: Informer<Node> = Informer::idle();
    let wake = Arc::clone(&changed);
    informer.on_change(move |_| wake.notify_one());
    let only = watch::Config::default().fields(&format!("metadata.name={name}"));
    informer.watch(Api::all(client), only, stop);
    let wait = async {
        while !informer.get("", name).is_some_and(|node| is_ready(&node)) {
            changed.notified().await;
        }
    };
    if tokio::time::timeout(READY_LIMIT, wait).await.is_err() {
        bail!("node {name} is not Ready after {} s; `cox status` says more", READY_LIMIT.as_secs());
    }
    Ok(())
}

pub fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Stops all Pods of a cluster whose process does not run; says how many there were. No container gets longer than
/// `limit`, whatever its grace period.
pub fn stop_pods(layout: &Layout, limit: Duration) -> Result<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let stop = async {
        let core = Core::open(runtime_config(layout, &[])).await.context("open the container runtime")?;
        kubelet::stop_pods(&*core, limit).await.context("stop the Pods")
    };
    block::on(&runtime, Box::pin(stop))
}

/// Removes what the node's parts made in the kernel and below the data directory.
pub fn reset(layout: &Layout) -> Result<()> {
    kubelet_runtime::reset(&runtime_config(layout, &[])).context("remove containers, images and control groups")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    block::on(&runtime, Box::pin(kube_proxy::cleanup(&layout.cluster_id())))
        .context("remove network rules, routes and links")?;
    detach_mounts(layout.dir())
}

/// Detaches every mount below a directory, the innermost first: volumes that no kubelet tore down.
fn detach_mounts(dir: &Path) -> Result<()> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
    let mut below: Vec<&str> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|path| Path::new(path).starts_with(dir) && Path::new(path) != dir)
        .collect();
    below.sort_by_key(|path| std::cmp::Reverse(path.len()));
    for path in below {
        // The table writes blanks and the like as octal.
        let real = path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
        nix::mount::umount2(real.as_str(), nix::mount::MntFlags::MNT_DETACH)
            .with_context(|| format!("detach the mount {real}"))?;
    }
    Ok(())
}
