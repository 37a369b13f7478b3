//! Links, addresses, routes and neighbours by rtnetlink.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Context;
use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{
    Handle, LinkBridge, LinkDummy, LinkUnspec, LinkVxlan, MulticastGroup, RouteMessageBuilder, new_connection,
    new_multicast_connection,
};

use super::link_name;
use super::plan::{Action, Mac, Route, State, View, desired, steps, tunnel_mac};
use crate::config::Config;
use crate::net::Cidr;

/// Protocol number of our routes, by which they are found again.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(203);
const VNI: u32 = 1;
const VXLAN_PORT: u16 = 8472;
/// What one VXLAN header with outer IPv4 takes of an Ethernet segment's 1500 bytes.
const TUNNEL_MTU: u32 = 1450;

/// The kernel's network state, as far as it is ours.
pub struct Kernel {
    handle: Handle,
    gateway_link: String,
    tunnel_link: String,
}

/// Says when somebody else may have changed links or routes that are ours.
pub struct Disturbances {
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    prefix: String,
}

impl Disturbances {
    fn is_ours(&self, link: &LinkMessage) -> bool {
        name_of(link).is_some_and(|name| name.starts_with(&self.prefix))
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        while let Some((message, _)) = self.messages.next().await {
            let NetlinkPayload::InnerMessage(message) = message.payload else { continue };
            let ours = match &message {
                RouteNetlinkMessage::DelRoute(route) => route.header.protocol == PROTOCOL,
                RouteNetlinkMessage::DelLink(link) => self.is_ours(link),
                // When a link goes down its routes go without a word; when it comes up again they are missing. Ours
                // (and the Pods' that come and go all day) carry no route that could be lost so.
                RouteNetlinkMessage::NewLink(link) => came_up(link) && !self.is_ours(link),
                _ => false,
            };
            if ours {
                return;
            }
        }
        // The connection to the kernel ended: there is nothing more to hear.
        std::future::pending::<()>().await;
    }
}

fn came_up(link: &LinkMessage) -> bool {
    link.header.flags.contains(LinkFlags::Up) && link.header.change_mask.contains(LinkFlags::Up)
}

fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

fn route_addr(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

/// The kernel's errno in an answer.
fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(-message.raw_code()),
        _ => None,
    }
}

/// Lets deletions succeed of what is gone.
fn unless_gone(result: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match result {
        Err(error)
            if matches!(errno(&error), Some(libc::ENOENT | libc::ESRCH | libc::ENODEV | libc::EADDRNOTAVAIL)) =>
        {
            Ok(())
        }
        other => other,
    }
}

impl Kernel {
    /// Connects to the calling task's network namespace.
    pub fn open(config: &Config) -> std::io::Result<(Self, Disturbances)> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route];
        let (connection, handle, messages) = new_multicast_connection(&groups)?;
        client::spawn(connection);
        let kernel = Self {
            handle,
            gateway_link: link_name(&config.cluster_id, "gw"),
            tunnel_link: link_name(&config.cluster_id, "vx"),
        };
        Ok((kernel, Disturbances { messages, prefix: link_name(&config.cluster_id, "") }))
    }

    /// Makes the network what it should be.
    pub async fn bring_about(&mut self, view: &View) -> anyhow::Result<()> {
        let on_link = self.on_link(view).await?;
        let observed = self.observe().await?;
        let wanted = desired(view, &on_link);
        let mut failure = None;
        for step in steps(&wanted, &observed) {
            tracing::debug!(?step, "Pod network");
            if let Err(error) = self.perform(step).await {
                // Other nodes' routes do not depend on this one's.
                failure.get_or_insert(error.context(format!("Pod network: {step:?}")));
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// The other nodes' addresses that the kernel reaches without a gateway.
    async fn on_link(&self, view: &View) -> anyhow::Result<BTreeSet<IpAddr>> {
        let mut found = BTreeSet::new();
        for ip in view.other_ips() {
            let full = if ip.is_ipv4() { 32 } else { 128 };
            let request = RouteMessageBuilder::<IpAddr>::new().destination_prefix(ip, full)?.build();
            let mut answers = Box::pin(self.handle.route().get(request).execute());
            // An error means that there is no route at all: not on a shared segment either.
            if let Ok(Some(route)) = answers.try_next().await {
                let gateway = route
                    .attributes
                    .iter()
                    .any(|attribute| matches!(attribute, RouteAttribute::Gateway(_) | RouteAttribute::Via(_)));
                if !gateway {
                    found.insert(ip);
                }
            }
        }
        Ok(found)
    }

    async fn link(&self, name: &str) -> anyhow::Result<Option<LinkMessage>> {
        let mut links = Box::pin(self.handle.link().get().match_name(name.to_owned()).execute());
        match links.try_next().await {
            Ok(link) => Ok(link),
            Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("look up link {name}")),
        }
    }

    async fn index(&self, name: &str) -> anyhow::Result<u32> {
        self.link(name).await?.map(|link| link.header.index).with_context(|| format!("link {name} is missing"))
    }

    async fn observe(&self) -> anyhow::Result<State> {
        let gateway = self.link(&self.gateway_link).await?;
        let tunnel = self.link(&self.tunnel_link).await?;
        let mut state = State { tunnel: tunnel.as_ref().and_then(tunnel_end), ..State::default() };
        if let Some(link) = &gateway {
            state.gateways = self.addresses(link.header.index).await?;
        }
        let tunnel_index = tunnel.as_ref().map(|link| link.header.index);
        for v4 in [true, false] {
            let request = match v4 {
                true => RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
                false => RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
            };
            let mut routes = Box::pin(self.handle.route().get(request).execute());
            while let Some(route) = routes.try_next().await.context("list routes")? {
                if route.header.protocol == PROTOCOL {
                    state.routes.extend(observed_route(&route, tunnel_index));
                }
            }
        }
        if let Some(index) = tunnel_index {
            self.observe_tunnel(index, &mut state).await?;
        }
        Ok(state)
    }

    async fn addresses(&self, index: u32) -> anyhow::Result<BTreeSet<IpAddr>> {
        let mut found = BTreeSet::new();
        let mut addresses = Box::pin(self.handle.address().get().set_link_index_filter(index).execute());
        while let Some(address) = addresses.try_next().await.context("list addresses of the gateway link")? {
            found.extend(address.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(ip) if !is_link_local(*ip) => Some(*ip),
                _ => None,
            }));
        }
        Ok(found)
    }

    async fn observe_tunnel(&self, index: u32, state: &mut State) -> anyhow::Result<()> {
        for family in [AddressFamily::Inet, AddressFamily::Inet6, AddressFamily::Bridge] {
            let mut neighbours = Box::pin(self.handle.neighbours().get().set_address_family(family).execute());
            while let Some(neighbour) = neighbours.try_next().await.context("list neighbours of the tunnel")? {
                let permanent = neighbour.header.state == NeighbourState::Permanent;
                let Some((ip, mac)) = ip_and_mac(&neighbour).filter(|_| permanent) else { continue };
                if neighbour.header.ifindex != index {
                    continue;
                }
                match family {
                    AddressFamily::Bridge => _ = state.forwarding.insert(mac, ip),
                    _ => _ = state.neighbours.insert(ip, mac),
                }
            }
        }
        Ok(())
    }

    async fn perform(&self, step: Action) -> anyhow::Result<()> {
        match step {
            Action::AddGateway(ip) => self.add_gateway(ip).await,
            Action::DeleteGateway(ip) => self.delete_gateway(ip).await,
            Action::DeleteGatewayLink => delete_link(&self.handle, &self.gateway_link).await,
            Action::MakeTunnel(local) => self.make_tunnel(local).await,
            Action::DeleteTunnel => delete_link(&self.handle, &self.tunnel_link).await,
            Action::SetNeighbour(ip, mac) => {
                let index = self.index(&self.tunnel_link).await?;
                let request = self.handle.neighbours().add(index, ip).link_layer_address(&mac).replace();
                Ok(request.state(NeighbourState::Permanent).execute().await?)
            }
            Action::SetForwarding(mac, ip) => {
                let index = self.index(&self.tunnel_link).await?;
                let request = self.handle.neighbours().add_bridge(index, &mac).destination(ip).replace();
                Ok(request.flags(NeighbourFlags::Own).state(NeighbourState::Permanent).execute().await?)
            }
            Action::DeleteNeighbour(ip) => self.delete_neighbour(ip, None).await,
            Action::DeleteForwarding(mac, ip) => self.delete_neighbour(ip, Some(mac)).await,
            Action::SetRoute(cidr, route) => self.set_route(cidr, route).await,
            Action::DeleteRoute(cidr) => delete_route(&self.handle, cidr).await,
        }
    }

    async fn add_gateway(&self, ip: IpAddr) -> anyhow::Result<()> {
        if self.link(&self.gateway_link).await?.is_none() {
            let dummy = LinkDummy::new(&self.gateway_link).up().build();
            if let Err(error) = self.handle.link().add(dummy).execute().await {
                // Kernels without dummy links: a bridge without ports serves as well.
                if errno(&error) != Some(libc::EOPNOTSUPP) {
                    return Err(error.into());
                }
                let bridge = LinkBridge::new(&self.gateway_link).up().build();
                self.handle.link().add(bridge).execute().await?;
            }
        }
        let index = self.index(&self.gateway_link).await?;
        self.set_up(index).await?;
        let full = if ip.is_ipv4() { 32 } else { 128 };
        Ok(self.handle.address().add(index, ip, full).replace().execute().await?)
    }

    async fn set_up(&self, index: u32) -> anyhow::Result<()> {
        Ok(self.handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await?)
    }

    async fn delete_gateway(&self, ip: IpAddr) -> anyhow::Result<()> {
        let index = self.index(&self.gateway_link).await?;
        let mut addresses =
            Box::pin(self.handle.address().get().set_link_index_filter(index).set_address_filter(ip).execute());
        while let Some(address) = addresses.try_next().await? {
            unless_gone(self.handle.address().del(address).execute().await)?;
        }
        Ok(())
    }

    async fn make_tunnel(&self, local: IpAddr) -> anyhow::Result<()> {
        let link = LinkVxlan::new(&self.tunnel_link, VNI).port(VXLAN_PORT).learning(false);
        let link = match local {
            IpAddr::V4(ip) => link.local(ip),
            IpAddr::V6(ip) => link.local6(ip),
        };
        let link = link.address(tunnel_mac(local).to_vec()).mtu(TUNNEL_MTU).up().build();
        self.handle.link().add(link).execute().await?;
        let index = self.index(&self.tunnel_link).await?;
        self.set_up(index).await
    }

    async fn delete_neighbour(&self, ip: IpAddr, mac: Option<Mac>) -> anyhow::Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = self.index(&self.tunnel_link).await?;
        message.header.state = NeighbourState::Permanent;
        let destination = match ip {
            IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
            IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
        };
        message.attributes.push(NeighbourAttribute::Destination(destination));
        message.header.family = match (mac, ip) {
            (Some(mac), _) => {
                message.header.flags = NeighbourFlags::Own;
                message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
                AddressFamily::Bridge
            }
            (None, IpAddr::V4(_)) => AddressFamily::Inet,
            (None, IpAddr::V6(_)) => AddressFamily::Inet6,
        };
        Ok(unless_gone(self.handle.neighbours().del(message).execute().await)?)
    }

    async fn set_route(&self, cidr: Cidr, route: Route) -> anyhow::Result<()> {
        let base =
            || RouteMessageBuilder::<IpAddr>::new().protocol(PROTOCOL).destination_prefix(cidr.addr(), cidr.prefix());
        let message = match route {
            Route::Via(ip) => base()?.gateway(ip)?.build(),
            Route::Tunnel(ip) => {
                base()?.gateway(ip)?.output_interface(self.index(&self.tunnel_link).await?).onlink().build()
            }
            Route::Gateway { source } => {
                let plain = base()?.scope(RouteScope::Link).output_interface(self.index(&self.gateway_link).await?);
                let Some(source) = source else { return self.replace_route(plain.build()).await };
                let result =
                    self.handle.route().add(plain.clone().pref_source(source)?.build()).replace().execute().await;
                match result {
                    // The node's address is not this machine's own (it may be translated on the way here).
                    Err(error) if errno(&error) == Some(libc::EINVAL) => plain.build(),
                    other => return Ok(other?),
                }
            }
        };
        self.replace_route(message).await
    }

    async fn replace_route(&self, message: RouteMessage) -> anyhow::Result<()> {
        Ok(self.handle.route().add(message).replace().execute().await?)
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

fn tunnel_end(link: &LinkMessage) -> Option<IpAddr> {
    let infos = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    })?;
    let vxlan = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(vxlan)) => Some(vxlan),
        _ => None,
    })?;
    vxlan.iter().find_map(|info| match info {
        InfoVxlan::Local(ip) => Some(IpAddr::V4(*ip)),
        InfoVxlan::Local6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    })
}

fn observed_route(route: &RouteMessage, tunnel: Option<u32>) -> Option<(Cidr, Route)> {
    let (mut to, mut via, mut out, mut source) = (None, None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(addr) => to = route_addr(addr),
            RouteAttribute::Gateway(addr) => via = route_addr(addr),
            RouteAttribute::Oif(index) => out = Some(*index),
            RouteAttribute::PrefSource(addr) => source = route_addr(addr),
            _ => {}
        }
    }
    let cidr = Cidr::new(to?, route.header.destination_prefix_length);
    let route = match via {
        Some(via) if out == tunnel => Route::Tunnel(via),
        Some(via) => Route::Via(via),
        None => Route::Gateway { source },
    };
    Some((cidr, route))
}

fn ip_and_mac(neighbour: &NeighbourMessage) -> Option<(IpAddr, Mac)> {
    let ip = neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        // Forwarding entries carry the address without saying of which version.
        NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
        },
        _ => None,
    })?;
    let mac = neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => Mac::try_from(bytes.as_slice()).ok(),
        _ => None,
    })?;
    Some((ip, mac))
}

async fn delete_link(handle: &Handle, name: &str) -> anyhow::Result<()> {
    let mut links = Box::pin(handle.link().get().match_name(name.to_owned()).execute());
    match links.try_next().await {
        Ok(Some(link)) => Ok(unless_gone(handle.link().del(link.header.index).execute().await)?),
        Ok(None) => Ok(()),
        Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("look up link {name}")),
    }
}

async fn delete_route(handle: &Handle, cidr: Cidr) -> anyhow::Result<()> {
    let builder = RouteMessageBuilder::<IpAddr>::new().protocol(PROTOCOL).scope(RouteScope::NoWhere);
    let message = builder.destination_prefix(cidr.addr(), cidr.prefix())?.build();
    Ok(unless_gone(handle.route().del(message).execute().await)?)
}

/// Removes the cluster's links and routes; they may be gone already.
pub async fn cleanup(cluster_id: &str) -> anyhow::Result<()> {
    let (connection, handle, _) = new_connection().context("open rtnetlink")?;
    let driver = client::spawn(connection);
    let result = async {
        let mut ours: BTreeMap<Cidr, ()> = BTreeMap::new();
        for request in [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ] {
            let mut routes = Box::pin(handle.route().get(request).execute());
            while let Some(route) = routes.try_next().await.context("list routes")? {
                if route.header.protocol == PROTOCOL {
                    ours.extend(observed_route(&route, None).map(|(cidr, _)| (cidr, ())));
                }
            }
        }
        for cidr in ours.into_keys() {
            delete_route(&handle, cidr).await.with_context(|| format!("delete route to {cidr}"))?;
        }
        for suffix in ["gw", "vx"] {
            let name = link_name(cluster_id, suffix);
            delete_link(&handle, &name).await.with_context(|| format!("delete link {name}"))?;
        }
        Ok(())
    }
    .await;
    driver.abort();
    result
}
