//! The control plane in one process: store, API server, controllers, scheduler.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use apiserver_auth::pki::{Pair, Pki, Profile, ensure_pair};
use store::{Kv, Store};
use tokio::net::TcpListener;

use crate::layout::{Layout, write_private};
use crate::node::Clients;
use crate::parts::Parts;
use crate::progress::Progress;

pub const API_PORT: u16 = 6443;
/// All nodes' Pods, and the part of each node.
pub const POD_NETWORK: &str = "10.244.0.0/16";
pub const SERVICE_NETWORK: &str = "10.96.0.0/12";
const NODE_MASK: u8 = 24;

/// What is known about this machine.
#[derive(Clone, Debug)]
pub struct Machine {
    pub name: String,
    pub ip: IpAddr,
}

/// A running API server and its store.
pub struct ApiServer {
    pub server: Arc<apiserver::Server>,
    pub authority: Pair,
    /// The embedded store, when it is used.
    store: Option<Arc<Store>>,
}

impl ApiServer {
    /// Opens the embedded store, starts the API server and has it listen. Returns when it answers.
    pub async fn start(layout: &Layout, machine: &Machine, parts: &mut Parts, progress: &Progress) -> Result<Self> {
        let store = Store::open(store::Config { dir: layout.store(), ..store::Config::default() })
            .with_context(|| format!("open the store in {}", layout.store().display()))?;
        let kv: Arc<dyn Kv> = store.clone();
        let api = Self::start_on(kv, layout, machine, parts, progress).await?;
        Ok(Self { store: Some(store), ..api })
    }

    /// As [`ApiServer::start`], on a store that is somebody else's.
    pub async fn start_on(
        kv: Arc<dyn Kv>,
        layout: &Layout,
        machine: &Machine,
        parts: &mut Parts,
        progress: &Progress,
    ) -> Result<Self> {
        let now = jiff::Timestamp::now();
        let names = [machine.name.clone(), machine.ip.to_string()];
        let mut pki = Pki::ensure(&layout.pki(), &names, now).context("make the cluster's certificates")?;
        let authority = authority(layout)?;
        let kubelet = Profile::server(&format!("system:node:{}", machine.name), &names);
        ensure_pair(&layout.pki(), "kubelet-server", &kubelet, &pki.ca, now)
            .context("make the kubelet's certificate")?;
        let advertise = SocketAddr::new(machine.ip, API_PORT);
        let admin = pki.kubeconfig(&format!("https://{advertise}"), &Pki::admin(), now);
        write_private(&layout.kubeconfig(), admin.context("make the admin's kubeconfig")?.as_bytes())?;
        // Joining nodes see the CA in the server's chain and know it by the pin in their token.
        pki.serving.certificate.push_str(&authority.certificate);
        let server = apiserver::Server::start(apiserver::Config::new(pki, advertise), kv).await?;
        let server = Arc::new(server);
        let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), API_PORT);
        let listener = TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
        let (serving, stop) = (Arc::clone(&server), parts.stop.clone());
        tokio::spawn(async move {
            if let Err(error) = serving.serve(listener, stop.clone()).await {
                tracing::error!(%error, "the API server ended");
                stop.cancel();
            }
        });
        progress.reached(&format!("API ready at https://{advertise}"));
        Ok(Self { server, authority, store: None })
    }

    /// Closes the store; everything acknowledged is on disk already.
    pub async fn close(self) {
        if let Some(store) = self.store {
            store.close().await;
        }
    }
}

/// The cluster's certificate authority, from its directory.
pub fn authority(layout: &Layout) -> Result<Pair> {
    let read = |name: &str| {
        let path = layout.pki().join(name);
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    Ok(Pair { certificate: read("ca.crt")?, key: read("ca.key")? })
}

/// Starts the controllers.
///
/// `load_balancer_range` is as [`controller_manager::Config::load_balancer_range`] has it.
pub fn start_controllers(
    clients: &Clients,
    authority: &Pair,
    load_balancer_range: Option<&str>,
    machine: &Machine,
    parts: &mut Parts,
) {
    let config = controller_manager::Config {
        host: machine.name.clone(),
        ca_pem: authority.certificate.clone(),
        ca_key_pem: authority.key.clone(),
        load_balancer_range: load_balancer_range.map(str::to_owned),
        cluster_cidr: POD_NETWORK.to_owned(),
        node_mask: NODE_MASK,
    };
    let clients = Arc::clone(clients);
    parts.keep("controllers", move |stop| controller_manager::run(config.clone(), Arc::clone(&clients), stop));
}

/// Starts the scheduler.
pub fn start_scheduler(clients: &Clients, machine: &Machine, parts: &mut Parts) {
    let (host, clients) = (machine.name.clone(), Arc::clone(clients));
    parts.keep("scheduler", move |stop| {
        let client = clients("system:kube-scheduler");
        scheduler::run(client, scheduler::Config { host: host.clone() }, stop)
    });
}
