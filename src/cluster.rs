//! The control plane in one process: store, API server, controllers, scheduler.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use apiserver_auth::pki::Pair;
use store::{Kv, Store};
use tokio::net::TcpListener;

use crate::certificates::Certificates;
use crate::layout::Layout;
use crate::node::Clients;
use crate::parts::Parts;
use crate::progress::Progress;
use crate::slot::Slot;

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
        let advertise = SocketAddr::new(machine.ip, API_PORT);
        let certificates = Certificates::new(layout, machine, format!("https://{advertise}"));
        let good = certificates.ensure(jiff::Timestamp::now())?;
        if let Some(why) = good.put_off() {
            tracing::warn!("{why}");
            progress.reached(&why);
        }
        let due = good.due();
        let authority = authority(layout)?;
        let server = apiserver::Server::start(apiserver::Config::new(good.pki, advertise), kv).await?;
        let server = Arc::new(server);
        client::spawn(certificates.keep(Arc::clone(&server), due, parts.stop.clone()));
        let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), API_PORT);
        let listener = TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
        let (serving, stop) = (Arc::clone(&server), parts.stop.clone());
        client::spawn(async move {
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

/// Starts the controllers, which stand for election in the slot's name.
///
/// `load_balancer_range` is as [`controller_manager::Config::load_balancer_range`] has it.
pub fn start_controllers(
    clients: &Clients,
    authority: &Pair,
    load_balancer_range: Option<&str>,
    slot: Slot,
    parts: &mut Parts,
) {
    let config = controller_manager::Config {
        identity: slot.identity().to_owned(),
        ca_pem: authority.certificate.clone(),
        ca_key_pem: authority.key.clone(),
        load_balancer_range: load_balancer_range.map(str::to_owned),
        cluster_cidr: POD_NETWORK.to_owned(),
        node_mask: NODE_MASK,
    };
    let clients = Arc::clone(clients);
    let slot = Arc::new(slot);
    parts.keep("controllers", move |stop| {
        let (config, clients, slot) = (config.clone(), Arc::clone(&clients), Arc::clone(&slot));
        async move {
            let ended = controller_manager::run(config, clients, stop).await;
            drop(slot);
            ended
        }
    });
}

/// Starts the scheduler, which stands for election in the slot's name.
pub fn start_scheduler(clients: &Clients, slot: Slot, parts: &mut Parts) {
    let clients = Arc::clone(clients);
    let slot = Arc::new(slot);
    parts.keep("scheduler", move |stop| {
        let (client, slot) = (clients("system:kube-scheduler"), Arc::clone(&slot));
        async move {
            let ended = scheduler::run(client, scheduler::Config { identity: slot.identity().to_owned() }, stop).await;
            drop(slot);
            ended
        }
    });
}
