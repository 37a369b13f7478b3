//! The cluster's DNS: answers for `cluster.local` from caches of the API, everything else from the machine's resolvers.
//!
//! One server runs on each node and listens on the node's gateway address; the Service kube-system/kube-dns leads to
//! all of them, and each node's Pods to their own.

mod cache;
mod forward;
mod records;
mod register;
mod respond;
mod server;
mod zone;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::Event;
use kube::{Api, Client, Resource};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::node::plan::Peer;
use crate::watch::{Change, Listing, changes, selecting};
use records::Records;
use server::{Listener, Shared};

/// Pause before a registration that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

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
        }
    }
}

/// Answers until cancelled.
pub async fn run(config: Config, client: Client, cancel: CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        () = cancel.cancelled() => Ok(()),
        result = serve(config, client) => result,
    }
}

/// One kind's changes on their way into the records.
struct Feed<K: Resource> {
    events: futures::stream::BoxStream<'static, Event<K>>,
    listing: Listing,
}

impl<K> Feed<K>
where
    K: Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    fn new(client: &Client, what: &'static str) -> Self {
        Self { events: changes(Api::all(client.clone()), selecting(""), what), listing: Listing::default() }
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
    let mut services = Feed::<Service>::new(&client, "Services (DNS)");
    let mut slices = Feed::<EndpointSlice>::new(&client, "EndpointSlices (DNS)");
    let mut namespaces = Feed::<Namespace>::new(&client, "Namespaces (DNS)");
    let selector = selecting("").fields(&format!("metadata.name={}", config.node_name));
    let mut nodes = changes(Api::<Node>::all(client.clone()), selector, "this Node (DNS)");
    let mut node: Option<Node> = None;
    let mut listeners = Listeners::default();
    let mut registered: Vec<SocketAddr> = Vec::new();
    loop {
        let mut retry = false;
        // Before the caches are whole, answers would be wrong: nobody is to ask yet.
        if services.listing.is_synced() && slices.listing.is_synced() && namespaces.listing.is_synced() {
            let addrs = addresses(&config, node.as_ref());
            listeners.listen(&addrs, &shared)?;
            if let Some(node) = node.as_ref().filter(|_| registered != addrs) {
                match register::register(&client, config.cluster_ip, node, &addrs).await {
                    Ok(()) => registered = addrs,
                    Err(error) => {
                        tracing::warn!(error = format!("{error:#}"), "cluster DNS not registered, will be tried again");
                        retry = true;
                    }
                }
            }
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
            event = nodes.next() => match event.context("the watch of this Node ended")? {
                Event::Apply(found) | Event::InitApply(found) => {
                    // A Node made anew has another UID, and the slice must belong to it.
                    if node.as_ref().is_some_and(|known| known.metadata.uid != found.metadata.uid) {
                        registered.clear();
                    }
                    node = Some(found);
                }
                Event::Delete(_) => (node, registered) = (None, Vec::new()),
                Event::Init | Event::InitDone => {}
            },
            result = listeners.failed() => result?,
            () = tokio::time::sleep(RETRY), if retry => {}
        }
    }
}

/// Where this node's server is to listen.
fn addresses(config: &Config, node: Option<&Node>) -> Vec<SocketAddr> {
    if !config.listen.is_empty() {
        return config.listen.clone();
    }
    let peer = node.map(|node| Peer::from_api(&config.node_name, node));
    let cidrs = peer.into_iter().flat_map(|peer| peer.pod_cidrs);
    cidrs.map(|cidr| SocketAddr::new(cidr.gateway(), config.port)).collect()
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
