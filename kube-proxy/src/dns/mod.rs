//! The cluster's DNS: answers for `cluster.local` from caches of the API, everything else from the machine's resolvers.
//!
//! One server runs on each node and listens on the node's gateway address; the Service kube-system/kube-dns leads to
//! all of them, and each node's Pods to their own ([`Config::announce`]).

mod announce;
mod cache;
mod forward;
mod records;
mod respond;
mod server;
mod zone;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use client::watch::{Event, Watch};
use client::{Api, FromJson};
use futures::StreamExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Client, Resource};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::watch::{Change, Listing, selecting};
use records::Records;
pub use server::untrusted;
use server::{Listener, Shared};

/// How one node's DNS server runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the Node object of this machine.
    pub node_name: String,
    /// The cluster's domain.
    pub domain: String,
    /// Address of the Service kube-dns.
    pub cluster_ip: IpAddr,
    /// Where to listen; if empty, on the gateway address (the first of the Pod CIDR) of the node, once it has one.
    pub listen: Vec<SocketAddr>,
    /// Port on the gateway address.
    pub port: u16,
    /// Lists the servers to ask for other names.
    pub resolv_conf: PathBuf,
    /// Whether to keep Service kube-dns and the EndpointSlices of all nodes' servers: one process of the control plane
    /// at least has to, several may.
    pub announce: bool,
}

impl Config {
    /// The cluster's usual values: `cluster.local`, 10.96.0.10, port 10053.
    pub fn new(node_name: impl Into<String>) -> Self {
        Self {
            node_name: node_name.into(),
            domain: "cluster.local".to_owned(),
            cluster_ip: Ipv4Addr::new(10, 96, 0, 10).into(),
            listen: Vec::new(),
            port: 10053,
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            announce: true,
        }
    }
}

/// Answers until cancelled.
pub fn run(config: Config, client: Client, cancel: CancellationToken) -> BoxFuture<'static, anyhow::Result<()>> {
    // Boxed here, so that this crate and not its caller compiles what runs.
    Box::pin(work(config, client, cancel))
}

async fn work(config: Config, client: Client, cancel: CancellationToken) -> anyhow::Result<()> {
    let announcer = config.announce.then(|| announce::run(config.clone(), client.clone()));
    tokio::select! {
        () = cancel.cancelled() => Ok(()),
        result = serve(config, client) => result,
        Some(result) = async { Some(announcer?.await) } => result,
    }
}

/// One kind's changes on their way into the records.
struct Feed<K> {
    events: Watch<K>,
    listing: Listing,
}

impl<K: FromJson + Resource<DynamicType = ()>> Feed<K> {
    fn new(client: &Client) -> Self {
        Self { events: Watch::new(Api::all(client.clone()), selecting("")), listing: Listing::default() }
    }

    async fn next(&mut self) -> anyhow::Result<Option<Change<K>>> {
        let event = self.events.next().await.context("a watch of the DNS ended")?;
        Ok(self.listing.step(event))
    }
}

fn take_service(records: &mut Records, change: Change<Service>) {
    match change {
        Change::Set(name, object) => records.set_service(name, records::Service::from_api(&object)),
        Change::Remove(name) => records.set_service(name, None),
        Change::Retain(names) => records.retain_services(&names),
    }
}

fn take_slice(records: &mut Records, change: Change<EndpointSlice>) {
    match change {
        Change::Set(name, object) => records.set_slice(name, records::Slice::from_api(&object)),
        Change::Remove(name) => records.set_slice(name, None),
        Change::Retain(names) => records.retain_slices(&names),
    }
}

fn take_namespace(records: &mut Records, change: Change<Namespace>) {
    match change {
        Change::Set(name, _) => records.set_namespace(name.name, true),
        Change::Remove(name) => records.set_namespace(name.name, false),
        Change::Retain(names) => records.retain_namespaces(&names),
    }
}

async fn serve(config: Config, client: Client) -> anyhow::Result<()> {
    let own: Vec<IpAddr> = config.listen.iter().map(SocketAddr::ip).chain([config.cluster_ip]).collect();
    let forwarder = forward::Forwarder::new(config.resolv_conf.clone(), own);
    let shared = Arc::new(Shared::new(config.domain.clone(), forwarder));
    let mut services = Feed::<Service>::new(&client);
    let mut slices = Feed::<EndpointSlice>::new(&client);
    let mut namespaces = Feed::<Namespace>::new(&client);
    let selector = selecting("").fields(&format!("metadata.name={}", config.node_name));
    let mut nodes = Watch::new(Api::<Node>::all(client.clone()), selector);
    let mut gateways: Vec<SocketAddr> = Vec::new();
    let mut listeners = Listeners::default();
    loop {
        // Before the caches are whole, answers would be wrong: nobody is to ask yet.
        if services.listing.is_synced() && slices.listing.is_synced() && namespaces.listing.is_synced() {
            let addrs = if config.listen.is_empty() { &gateways } else { &config.listen };
            listeners.listen(addrs, &shared)?;
        }
        tokio::select! {
            change = services.next() => {
                if let Some(change) = change? {
                    take_service(&mut shared.records.write(), change);
                }
            }
            change = slices.next() => {
                if let Some(change) = change? {
                    take_slice(&mut shared.records.write(), change);
                }
            }
            change = namespaces.next() => {
                if let Some(change) = change? {
                    take_namespace(&mut shared.records.write(), change);
                }
            }
            event = nodes.next() => {
                let event = event.context("the watch of this Node ended")?;
                // A Node that is missing for a while keeps its server.
                if let Event::Apply(node) | Event::InitApply(node) = event {
                    gateways = announce::addresses(&node, config.port);
                }
            }
            result = listeners.failed() => result?,
        }
    }
}

/// The listeners of the present addresses.
#[derive(Default)]
struct Listeners {
    addrs: Vec<SocketAddr>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Listeners {
    /// Listens on these addresses and no others.
    fn listen(&mut self, addrs: &[SocketAddr], shared: &Arc<Shared>) -> anyhow::Result<()> {
        if self.addrs == addrs {
            return Ok(());
        }
        self.tasks = JoinSet::new();
        self.addrs = addrs.to_vec();
        for addr in addrs {
            let listener = Listener::bind(*addr).context("cluster DNS")?;
            self.tasks.spawn(listener.serve(shared.clone()));
        }
        Ok(())
    }

    /// Waits for one of them to fail.
    async fn failed(&mut self) -> anyhow::Result<()> {
        match self.tasks.join_next().await {
            Some(result) => result.context("cluster DNS")?,
            None => std::future::pending().await,
        }
    }
}
