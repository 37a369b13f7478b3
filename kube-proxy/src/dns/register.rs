//! Makes the cluster's DNS reachable: the Service kube-system/kube-dns, and one EndpointSlice of it for each node whose
//! server answers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::Context;
use k8s_openapi::api::core::v1::{Node, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::PostParams;
use kube::{Api, Client, Resource, ResourceExt};

const NAMESPACE: &str = "kube-system";
const SERVICE: &str = "kube-dns";
/// Says to the EndpointSlice controller that the slices are not its own.
const MANAGER: &str = "cox-dns";
const DNS_PORT: i32 = 53;

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

/// The slice that leads to this node's server. It belongs to the Node and goes with it.
fn slice(node: &Node, addr: SocketAddr) -> Option<EndpointSlice> {
    let node_name = node.name_any();
    let port = |name: &str, protocol: &str| EndpointPort {
        name: Some(name.to_owned()),
        port: Some(addr.port().into()),
        protocol: Some(protocol.to_owned()),
        ..EndpointPort::default()
    };
    let family = if addr.is_ipv4() { "IPv4" } else { "IPv6" };
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
                name: node_name.clone(),
                uid: node.uid()?,
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(vec![Endpoint {
            addresses: vec![addr.ip().to_string()],
            conditions: Some(EndpointConditions { ready: Some(true), serving: Some(true), terminating: Some(false) }),
            // Each node's Pods ask their own node's server.
            hints: Some(EndpointHints {
                for_nodes: Some(vec![ForNode { name: node_name.clone() }]),
                ..EndpointHints::default()
            }),
            node_name: Some(node_name),
            ..Endpoint::default()
        }]),
        ports: Some(vec![port("dns", "UDP"), port("dns-tcp", "TCP")]),
    })
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

/// Makes the Service exist with our ports. False if somebody else's DNS has it.
async fn ensure_service(client: &Client, cluster_ip: IpAddr, target: u16) -> anyhow::Result<bool> {
    let api: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let wanted = service(cluster_ip, target);
    let Some(mut found) = api.get_opt(SERVICE).await.context("get Service kube-dns")? else {
        match api.create(&PostParams::default(), &wanted).await {
            Ok(_) => return Ok(true),
            // Another node's server was faster.
            Err(kube::Error::Api(status)) if status.is_already_exists() => return Ok(true),
            Err(error) => return Err(error).context("create Service kube-dns"),
        }
    };
    if !is_ours(&found) {
        return Ok(false);
    }
    if !same_ports(&found, &wanted)
        && let Some(spec) = &mut found.spec
    {
        spec.ports = wanted.spec.and_then(|spec| spec.ports);
        api.replace(SERVICE, &PostParams::default(), &found).await.context("update Service kube-dns")?;
    }
    Ok(true)
}

async fn ensure_slice(client: &Client, wanted: &EndpointSlice) -> anyhow::Result<()> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    let name = wanted.name_any();
    let Some(mut found) = api.get_opt(&name).await.with_context(|| format!("get EndpointSlice {name}"))? else {
        let created = api.create(&PostParams::default(), wanted).await;
        return created.map(|_| ()).with_context(|| format!("create EndpointSlice {name}"));
    };
    let same = found.endpoints == wanted.endpoints
        && found.ports == wanted.ports
        && found.metadata.labels == wanted.metadata.labels
        && found.metadata.owner_references == wanted.metadata.owner_references;
    if same {
        return Ok(());
    }
    found.endpoints.clone_from(&wanted.endpoints);
    found.ports.clone_from(&wanted.ports);
    found.metadata.labels.clone_from(&wanted.metadata.labels);
    found.metadata.owner_references.clone_from(&wanted.metadata.owner_references);
    let replaced = api.replace(&name, &PostParams::default(), &found).await;
    replaced.map(|_| ()).with_context(|| format!("update EndpointSlice {name}"))
}

/// Announces the servers of this node.
pub async fn register(client: &Client, cluster_ip: IpAddr, node: &Node, addrs: &[SocketAddr]) -> anyhow::Result<()> {
    let Some(first) = addrs.first() else { return Ok(()) };
    if !ensure_service(client, cluster_ip, first.port()).await? {
        tracing::info!("Service kube-system/kube-dns has a selector: the cluster's DNS is left to it");
        return Ok(());
    }
    for addr in addrs {
        let wanted = slice(node, *addr).context("the Node has no UID")?;
        ensure_slice(client, &wanted).await?;
    }
    Ok(())
}
