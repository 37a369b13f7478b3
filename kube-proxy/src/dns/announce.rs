//! Makes the cluster's DNS reachable: the Service kube-system/kube-dns, and one EndpointSlice of it for each node's
//! server. Servers keep them for all nodes: a node's own credentials need not reach objects that others depend on.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use client::{Api, Watch};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{DeleteParams, PostParams};
use kube::{Client, Resource, ResourceExt};

use super::Config;
use crate::model::Name;
use crate::node::plan::Peer;
use crate::watch::{Change, Listing, selecting};

const NAMESPACE: &str = "kube-system";
const SERVICE: &str = "kube-dns";
/// Says to the EndpointSlice controller that the slices are not its own.
const MANAGER: &str = "cox-dns";
const DNS_PORT: i32 = 53;
/// Pause before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The Service as it should be.
fn service(cluster_ip: IpAddr, target: u16) -> Service {
    let port = |name: &str, protocol: &str| ServicePort {
        name: Some(name.to_owned()),
        port: DNS_PORT,
        protocol: Some(protocol.to_owned()),
        target_port: Some(IntOrString::Int(target.into())),
        ..ServicePort::default()
    };
    Service {
        metadata: ObjectMeta {
            name: Some(SERVICE.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            labels: Some(map(&[
                ("k8s-app", "kube-dns"),
                ("kubernetes.io/cluster-service", "true"),
                ("kubernetes.io/name", "CoreDNS"),
            ])),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some(cluster_ip.to_string()),
            ports: Some(vec![port("dns", "UDP"), port("dns-tcp", "TCP")]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// Whether the control plane has lost the node. One that says itself that it is not ready still answers.
fn is_lost(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "Unknown")
}

/// The slice that leads to a node's server. It belongs to the Node and goes with it.
fn slice(node: &Node, addr: SocketAddr) -> Option<EndpointSlice> {
    let node_name = node.name_any();
    let port = |name: &str, protocol: &str| EndpointPort {
        name: Some(name.to_owned()),
        port: Some(addr.port().into()),
        protocol: Some(protocol.to_owned()),
        ..EndpointPort::default()
    };
    let family = if addr.is_ipv4() { "IPv4" } else { "IPv6" };
    let up = Some(!is_lost(node));
    let endpoint = Endpoint {
        addresses: vec![addr.ip().to_string()],
        conditions: Some(EndpointConditions { ready: up, serving: up, terminating: Some(false) }),
        // Each node's Pods ask their own node's server.
        hints: Some(EndpointHints {
            for_nodes: Some(vec![ForNode { name: node_name.clone() }]),
            ..EndpointHints::default()
        }),
        node_name: Some(node_name.clone()),
        ..Endpoint::default()
    };
    Some(EndpointSlice {
        metadata: ObjectMeta {
            name: Some(format!("{SERVICE}-{node_name}-{}", family.to_ascii_lowercase())),
            namespace: Some(NAMESPACE.to_owned()),
            labels: Some(map(&[
                ("endpointslice.kubernetes.io/managed-by", MANAGER),
                ("kubernetes.io/service-name", SERVICE),
            ])),
            owner_references: Some(vec![OwnerReference {
                api_version: Node::api_version(&()).into_owned(),
                kind: Node::kind(&()).into_owned(),
                name: node_name,
                uid: node.uid()?,
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(vec![endpoint]),
        ports: Some(vec![port("dns", "UDP"), port("dns-tcp", "TCP")]),
    })
}

/// Where a node's server listens: the gateway address of each of its Pod networks.
pub fn addresses(node: &Node, port: u16) -> Vec<SocketAddr> {
    let peer = Peer::from_api(&node.name_any(), node);
    peer.pod_cidrs.iter().map(|cidr| SocketAddr::new(cidr.gateway(), port)).collect()
}

/// Whether the Service that is there is one that we keep: one with a selector leads to somebody else's DNS.
fn is_ours(found: &Service) -> bool {
    let selector = found.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_none_or(BTreeMap::is_empty)
}

/// Whether both have the same ports; node ports and the like are not ours to say.
fn same_ports(a: &Service, b: &Service) -> bool {
    let ports = |service: &Service| -> Vec<ServicePort> {
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        ports
            .map(|port| ServicePort {
                name: port.name.clone(),
                port: port.port,
                protocol: port.protocol.clone(),
                target_port: port.target_port.clone(),
                ..ServicePort::default()
            })
            .collect()
    };
    ports(a) == ports(b)
}

/// What the API says of what we keep.
#[derive(Debug, Default)]
struct Observed {
    nodes: BTreeMap<Name, Node>,
    slices: BTreeMap<Name, EndpointSlice>,
    service: Option<Service>,
}

/// One change to be made.
#[derive(Debug)]
enum Action {
    CreateService(Box<Service>),
    ReplaceService(Box<Service>),
    CreateSlice(Box<EndpointSlice>),
    ReplaceSlice(Box<EndpointSlice>),
    DeleteSlice(String),
}

/// What has to change; pure. Nothing, if somebody else's DNS has the Service.
fn plan(observed: &Observed, cluster_ip: IpAddr, port: u16) -> Vec<Action> {
    let mut actions = Vec::new();
    let wanted = service(cluster_ip, port);
    match &observed.service {
        None => actions.push(Action::CreateService(Box::new(wanted))),
        Some(found) if !is_ours(found) => return actions,
        Some(found) if !same_ports(found, &wanted) => {
            let mut changed = found.clone();
            if let Some(spec) = &mut changed.spec {
                spec.ports = wanted.spec.and_then(|spec| spec.ports);
            }
            actions.push(Action::ReplaceService(Box::new(changed)));
        }
        Some(_) => {}
    }
    let slices =
        observed.nodes.values().flat_map(|node| addresses(node, port).into_iter().filter_map(|addr| slice(node, addr)));
    let mut obsolete: BTreeMap<&Name, &EndpointSlice> = observed.slices.iter().collect();
    for wanted in slices {
        match obsolete.remove(&Name::of(&wanted)) {
            None => actions.push(Action::CreateSlice(Box::new(wanted))),
            Some(found) if !same_slice(found, &wanted) => {
                let mut changed = wanted;
                changed.metadata.resource_version = found.metadata.resource_version.clone();
                actions.push(Action::ReplaceSlice(Box::new(changed)));
            }
            Some(_) => {}
        }
    }
    actions.extend(obsolete.into_keys().map(|name| Action::DeleteSlice(name.name.clone())));
    actions
}

fn same_slice(a: &EndpointSlice, b: &EndpointSlice) -> bool {
    a.endpoints == b.endpoints
        && a.ports == b.ports
        && a.metadata.labels == b.metadata.labels
        && a.metadata.owner_references == b.metadata.owner_references
}

/// What an action left in the API.
#[derive(Debug)]
enum Done {
    Service(Box<Service>),
    Slice(Box<EndpointSlice>),
    SliceDeleted(String),
    /// Another server did something in the same moment: the watch will say.
    Overtaken,
}

impl Observed {
    /// Notes what was done before the watch says it: a plan that is made meanwhile must not do it again.
    fn note(&mut self, done: Done) {
        match done {
            Done::Service(service) => self.service = Some(*service),
            Done::Slice(slice) => _ = self.slices.insert(Name::of(&*slice), *slice),
            Done::SliceDeleted(name) => _ = self.slices.remove(&Name::new(NAMESPACE, name)),
            Done::Overtaken => {}
        }
    }
}

async fn perform(client: &Client, action: Action) -> anyhow::Result<Done> {
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    let post = PostParams::default();
    let service = |made| Done::Service(Box::new(made));
    let (what, result) = match action {
        Action::CreateService(wanted) => match services.create(&post, &wanted).await {
            // The address is looked at before the name: another server may have made the Service with it.
            Err(kube::Error::Api(status)) if status.code == 422 => {
                let there = services.get_opt(SERVICE).await.context("read Service")?;
                ("create Service", there.map(service).ok_or(kube::Error::Api(status)))
            }
            made => ("create Service", made.map(service)),
        },
        Action::ReplaceService(wanted) => {
            ("update Service", services.replace(SERVICE, &post, &wanted).await.map(service))
        }
        Action::CreateSlice(slice) => {
            ("create EndpointSlice", slices.create(&post, &slice).await.map(|made| Done::Slice(Box::new(made))))
        }
        Action::ReplaceSlice(slice) => {
            let replaced = slices.replace(&slice.name_any(), &post, &slice).await;
            ("update EndpointSlice", replaced.map(|made| Done::Slice(Box::new(made))))
        }
        Action::DeleteSlice(name) => {
            let deleted = slices.delete(&name, &DeleteParams::default()).await;
            ("delete EndpointSlice", deleted.map(|_| Done::SliceDeleted(name)))
        }
    };
    match result {
        Err(kube::Error::Api(status))
            if status.is_already_exists() || status.is_conflict() || status.is_not_found() =>
        {
            // A missing namespace is no race: it has to be tried again.
            let missing = status.is_not_found() && what.starts_with("create");
            if missing { Err(kube::Error::Api(status)).context(what) } else { Ok(Done::Overtaken) }
        }
        other => other.context(what),
    }
}

/// Keeps Service and slices for as long as it is polled.
pub async fn run(config: Config, client: Client) -> anyhow::Result<()> {
    let mut nodes = Watch::new(Api::<Node>::all(client.clone()), selecting(""));
    let labels = format!("endpointslice.kubernetes.io/managed-by={MANAGER}");
    let api = Api::<EndpointSlice>::namespaced(client.clone(), NAMESPACE);
    let mut slices = Watch::new(api, selecting(&labels));
    let api = Api::<Service>::namespaced(client.clone(), NAMESPACE);
    let by_name = selecting("").fields(&format!("metadata.name={SERVICE}"));
    let mut services = Watch::new(api, by_name);
    let mut listings = (Listing::default(), Listing::default(), Listing::default());
    let mut observed = Observed::default();
    let mut retry = false;
    loop {
        tokio::select! {
            event = nodes.next() => {
                take(&mut observed.nodes, listings.0.step(event.context("watch of Nodes ended")?));
            }
            event = slices.next() => {
                take(&mut observed.slices, listings.1.step(event.context("watch of EndpointSlices ended")?));
            }
            event = services.next() => match listings.2.step(event.context("watch of kube-dns ended")?) {
                Some(Change::Set(name, service)) if name.name == SERVICE => observed.service = Some(*service),
                Some(Change::Remove(_)) => observed.service = None,
                Some(Change::Retain(names)) if names.is_empty() => observed.service = None,
                _ => {}
            },
            () = tokio::time::sleep(RETRY), if retry => {}
        }
        if !(listings.0.is_synced() && listings.1.is_synced() && listings.2.is_synced()) {
            continue;
        }
        retry = false;
        for action in plan(&observed, config.cluster_ip, config.port) {
            match perform(&client, action).await {
                Ok(done) => observed.note(done),
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "cluster DNS not announced, will be tried again");
                    retry = true;
                    break;
                }
            }
        }
    }
}

fn take<K>(objects: &mut BTreeMap<Name, K>, change: Option<Change<K>>) {
    match change {
        Some(Change::Set(name, object)) => _ = objects.insert(name, *object),
        Some(Change::Remove(name)) => _ = objects.remove(&name),
        Some(Change::Retain(names)) => objects.retain(|name, _| names.contains(name)),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    fn node(name: &str, cidr: Option<&str>, ready: &str) -> Node {
        serde_json::from_value(
            json!({"metadata": {"name": name, "uid": format!("uid-{name}")}, "spec": {"podCIDR": cidr},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}}),
        )
        .unwrap()
    }

    fn observed(nodes: Vec<Node>) -> Observed {
        let nodes = nodes.into_iter().map(|node| (Name::of(&node), node)).collect();
        Observed { nodes, ..Observed::default() }
    }

    fn ip() -> IpAddr {
        [10, 96, 0, 10].into()
    }

    /// Plans, and notes what the API would answer, before any watch says it.
    fn settle(observed: &mut Observed) -> Vec<String> {
        let actions = plan(observed, ip(), 10053);
        let names = actions.iter().map(|action| format!("{action:?}").split('(').next().unwrap().to_owned()).collect();
        for action in actions {
            observed.note(match action {
                Action::CreateService(service) | Action::ReplaceService(service) => Done::Service(service),
                Action::CreateSlice(slice) | Action::ReplaceSlice(slice) => Done::Slice(slice),
                Action::DeleteSlice(name) => Done::SliceDeleted(name),
            });
        }
        names
    }

    #[test]
    fn one_slice_for_each_node_with_a_pod_network() {
        let nodes = vec![node("a", Some("10.244.0.0/24"), "True"), node("b", None, "True")];
        let mut observed = observed(nodes);
        assert_eq!(settle(&mut observed), ["CreateService", "CreateSlice"]);
        assert_eq!(settle(&mut observed), Vec::<String>::new());
        let slice = observed.slices.values().next().unwrap();
        assert_eq!(slice.endpoints.as_ref().unwrap()[0].addresses, ["10.244.0.1"]);

        observed.nodes.insert(Name::new("", "a"), node("a", Some("10.244.0.0/24"), "Unknown"));
        assert_eq!(settle(&mut observed), ["ReplaceSlice"]);
        let endpoint = &observed.slices.values().next().unwrap().endpoints.as_ref().unwrap()[0];
        assert_eq!(endpoint.conditions.as_ref().unwrap().ready, Some(false));

        observed.nodes.clear();
        assert_eq!(settle(&mut observed), ["DeleteSlice"]);
    }

    #[test]
    fn another_dns_keeps_the_service_and_changed_ports_are_mended() {
        let mut observed = observed(vec![node("a", Some("10.244.0.0/24"), "True")]);
        settle(&mut observed);
        observed.service.as_mut().unwrap().spec.as_mut().unwrap().ports = None;
        assert_eq!(settle(&mut observed), ["ReplaceService"]);
        let selector = BTreeMap::from([("k8s-app".to_owned(), "kube-dns".to_owned())]);
        observed.service.as_mut().unwrap().spec.as_mut().unwrap().selector = Some(selector);
        observed.slices.clear();
        assert_eq!(settle(&mut observed), Vec::<String>::new());
    }
}
