//! The proxy's loop: changes of the API come in, are collected while a transaction runs, and go out as the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use client::Api;
use client::watch::{Event, Watch};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, SelectAll, StreamExt, select_all};
use k8s_openapi::api::core::v1::{Node as ApiNode, Service as ApiService};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Client, ResourceExt};
use nft::Ip;
use nft::netlink::Socket;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::apply::Backend;
use crate::config::Config;
use crate::conntrack::Stale;
use crate::health::{Checks, HealthServers};
use crate::index::Index;
use crate::model::{Name, Service, Slice};
use crate::node;
use crate::plan::endpoints::{self, is_version};
use crate::plan::{Node, plan};
use crate::ruleset::{Changes, Ruleset};
use crate::watch::{Change, Listing, selecting};

/// Events taken in before the next transaction, at most.
const MAX_EVENTS: usize = 4096;
/// Pause before a transaction that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
const SERVICES: &str = "!service.kubernetes.io/service-proxy-name";
const SLICES: &str = "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name";
const ZONE: &str = "topology.kubernetes.io/zone";

enum Watched {
    Service(Box<Event<ApiService>>),
    Slice(Box<Event<EndpointSlice>>),
    Node(Box<Event<ApiNode>>),
}

/// One IP version's share of the kernel's state.
struct Side {
    backend: Backend,
    ruleset: Ruleset,
    conntrack: Socket,
    /// Whether the kernel's table is as `ruleset` was when last applied.
    taken_over: bool,
}

impl Side {
    fn open(config: &Config, ip: Ip) -> Result<Self, nft::Error> {
        let backend = Backend::open(config, ip)?;
        Ok(Self { backend, ruleset: Ruleset::default(), conntrack: Socket::open()?, taken_over: false })
    }

    /// Brings the kernel up to date; blocks while it works.
    fn commit(&mut self, changes: &Changes, node_ips: &[IpAddr]) -> Result<(), nft::Error> {
        let all;
        let udp = if self.taken_over {
            self.taken_over = false;
            self.backend.apply(changes, &self.ruleset)?;
            &changes.udp
        } else {
            self.backend.take_over(&self.ruleset)?;
            all = self.ruleset.udp();
            &all
        };
        self.taken_over = true;
        let stale = Stale { frontends: udp, node_ips };
        let deleted = stale.delete(&mut self.conntrack, self.backend.ip() == Ip::V6);
        match deleted {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "deleted stale UDP connections"),
            Err(error) => tracing::warn!(%error, "stale UDP connections stay"),
        }
        Ok(())
    }
}

struct Proxy {
    config: Config,
    node: Node,
    index: Index,
    services: Listing,
    slices: Listing,
    nodes: Listing,
    sides: Vec<Side>,
    checks: BTreeMap<Name, (u16, usize)>,
}

/// Keeps the node's ruleset as the API says, until cancelled. The rules stay afterwards.
pub fn run(config: Config, client: Client, cancel: CancellationToken) -> BoxFuture<'static, anyhow::Result<()>> {
    // Boxed here, so that this crate and not its caller compiles what runs.
    Box::pin(work(config, client, cancel))
}

async fn work(config: Config, client: Client, cancel: CancellationToken) -> anyhow::Result<()> {
    let events = watch_all(&client, &config.node_name);
    let network = config.manage_node_network.then(|| node::run(config.clone(), client, cancel.clone()));
    let mut drive = std::pin::pin!(Proxy::open(config)?.drive(events, &cancel));
    tokio::select! {
        result = &mut drive => result,
        // Whoever comes after us must not find a transaction of ours still under way.
        Some(result) = async { Some(network?.await) } => match result {
            Ok(()) => drive.await,
            failed => failed,
        },
    }
}

fn watch_all(client: &Client, node_name: &str) -> SelectAll<BoxStream<'static, Watched>> {
    let services = Watch::new(Api::<ApiService>::all(client.clone()), selecting(SERVICES));
    let slices = Watch::new(Api::<EndpointSlice>::all(client.clone()), selecting(SLICES));
    let own = selecting("").fields(&format!("metadata.name={node_name}"));
    let nodes = Watch::new(Api::<ApiNode>::all(client.clone()), own);
    select_all([
        services.map(|event| Watched::Service(Box::new(event))).boxed(),
        slices.map(|event| Watched::Slice(Box::new(event))).boxed(),
        nodes.map(|event| Watched::Node(Box::new(event))).boxed(),
    ])
}

impl Proxy {
    fn open(config: Config) -> anyhow::Result<Self> {
        let node = Node {
            name: config.node_name.clone(),
            zone: None,
            ips: config.node_ips.clone(),
            pod_cidrs: config.pod_cidrs.clone(),
        };
        let mut sides = Vec::new();
        for ip in [Ip::V4, Ip::V6] {
            if config.service_cidrs.iter().any(|cidr| is_version(cidr.addr(), ip)) {
                sides.push(Side::open(&config, ip).context("open nf_tables")?);
            }
        }
        let (services, slices, nodes) = (Listing::default(), Listing::default(), Listing::default());
        Ok(Self { config, node, index: Index::default(), services, slices, nodes, sides, checks: BTreeMap::new() })
    }

    fn is_synced(&self) -> bool {
        self.services.is_synced() && self.slices.is_synced()
    }

    /// Follows the events until cancelled. A transaction that has begun is waited for.
    async fn drive(
        mut self,
        mut events: SelectAll<BoxStream<'static, Watched>>,
        cancel: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut not_before = Instant::now();
        let mut health = HealthServers::new(self.config.node_ips.clone());
        let mut pending = false;
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                event = events.next() => {
                    let Some(event) = event else { anyhow::bail!("watches ended") };
                    self.take(event);
                    for _ in 0..MAX_EVENTS {
                        match futures::FutureExt::now_or_never(events.next()) {
                            Some(Some(event)) => self.take(event),
                            _ => break,
                        }
                    }
                    pending |= self.index.is_dirty() || self.sides.iter().any(|side| !side.taken_over);
                    if !self.is_synced() || !pending || Instant::now() < not_before {
                        continue;
                    }
                }
                () = tokio::time::sleep_until(not_before), if pending && self.is_synced() => {}
            }
            let (next, failed) = self.sync().await?;
            self = next;
            health.update(&self.health_checks()).await;
            pending = failed;
            not_before = Instant::now() + if failed { RETRY } else { self.config.min_sync_gap };
        }
    }

    fn take(&mut self, event: Watched) {
        match event {
            Watched::Service(event) => match self.services.step(*event) {
                Some(Change::Set(name, object)) => self.index.set_service(name, Service::from_api(&object)),
                Some(Change::Remove(name)) => self.index.set_service(name, None),
                Some(Change::Retain(names)) => self.index.retain_services(&names),
                None => {}
            },
            Watched::Slice(event) => match self.slices.step(*event) {
                Some(Change::Set(name, object)) => self.index.set_slice(name, Slice::from_api(&object)),
                Some(Change::Remove(name)) => self.index.set_slice(name, None),
                Some(Change::Retain(names)) => self.index.retain_slices(&names),
                None => {}
            },
            Watched::Node(event) => {
                if let Some(Change::Set(_, object)) = self.nodes.step(*event) {
                    let zone = object.labels().get(ZONE).cloned();
                    if zone != self.node.zone {
                        self.node.zone = zone;
                        self.index.touch_all();
                    }
                }
            }
        }
    }

    /// Plans what changed and commits it, off the async threads. Says whether some of it failed.
    async fn sync(mut self) -> anyhow::Result<(Self, bool)> {
        tokio::task::spawn_blocking(move || {
            let failed = self.commit();
            (self, failed)
        })
        .await
        .context("apply Services to nf_tables")
    }

    fn commit(&mut self) -> bool {
        let dirty = self.index.take_dirty();
        self.note_health(&dirty);
        let mut failed = false;
        for side in &mut self.sides {
            let ip = side.backend.ip();
            let mut changes = Changes::default();
            for name in &dirty {
                let new = self.index.get(name).map(|(service, slices)| plan(name, service, &slices, &self.node, ip));
                side.ruleset.update(name, new.unwrap_or_default(), &mut changes);
            }
            if let Err(error) = side.commit(&changes, &self.config.node_ips) {
                tracing::error!(%error, "Services not applied, will be tried again");
                failed = true;
            }
        }
        failed
    }

    /// Counts the ready endpoints here of changed Services that load balancers ask about.
    fn note_health(&mut self, dirty: &BTreeSet<Name>) {
        for name in dirty {
            let port = self.index.get(name).and_then(|(service, slices)| {
                let port = service.health_check_node_port?;
                Some((port, endpoints::ready_here(&slices, &self.node)))
            });
            match port {
                Some(check) => _ = self.checks.insert(name.clone(), check),
                None => _ = self.checks.remove(name),
            }
        }
    }

    fn health_checks(&self) -> Checks {
        self.checks.iter().map(|(name, (port, local))| (*port, (name.clone(), *local))).collect()
    }
}
