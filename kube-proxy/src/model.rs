//! Services and endpoints as the proxy needs them: parsed once when they arrive, small to keep.

use std::net::IpAddr;
use std::str::FromStr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use kube::ResourceExt;

use crate::net::Cidr;

/// Timeout of session affinity where the API object has none, seconds (upstream's default).
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// Namespace and name of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    pub namespace: String,
    pub name: String,
}

impl Name {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The name of a namespaced object.
    pub fn of(object: &impl ResourceExt) -> Self {
        Self::new(object.namespace().unwrap_or_default(), object.name_any())
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Transport protocol of a Service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// The API's name, TCP where it is missing; none for one that is unknown.
    pub fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("TCP" | "") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// IPPROTO number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: Option<u16>,
}

/// A Service with cluster IPs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    pub cluster_ips: Vec<IpAddr>,
    pub external_ips: Vec<IpAddr>,
    /// Addresses of the load balancer that packets keep until they reach the node (ipMode VIP).
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use the load balancer's addresses; empty for everybody.
    pub source_ranges: Vec<Cidr>,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// Timeout of `sessionAffinity: ClientIP`, seconds.
    pub affinity_seconds: Option<u32>,
    pub health_check_node_port: Option<u16>,
    pub ports: Vec<Port>,
}

fn addresses(texts: Option<&Vec<String>>) -> Vec<IpAddr> {
    texts.into_iter().flatten().filter_map(|text| text.parse().ok()).collect()
}

fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}

impl Service {
    /// The Service, or nothing if the proxy has no part in it: headless, or ExternalName.
    pub fn from_api(object: &core::Service) -> Option<Self> {
        let spec = object.spec.as_ref()?;
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        let first = spec.cluster_ip.as_deref().unwrap_or_default();
        if kind == "ExternalName" || first.is_empty() || first == "None" {
            return None;
        }
        let mut cluster_ips = addresses(spec.cluster_ips.as_ref());
        if cluster_ips.is_empty() {
            cluster_ips.extend(first.parse::<IpAddr>());
        }
        let ranges = spec.load_balancer_source_ranges.iter().flatten();
        let mut source_ranges: Vec<Cidr> = ranges.filter_map(|text| text.trim().parse().ok()).collect();
        // A range of everything of one IP version stands for no restriction of that version.
        for v4 in [true, false] {
            if source_ranges.iter().any(|range| range.prefix() == 0 && range.addr().is_ipv4() == v4) {
                source_ranges.retain(|range| range.addr().is_ipv4() != v4);
            }
        }
        let external =
            kind == "NodePort" || kind == "LoadBalancer" || !spec.external_ips.iter().flatten().all(String::is_empty);
        let external_local = external && spec.external_traffic_policy.as_deref() == Some("Local");
        Some(Self {
            cluster_ips,
            external_ips: addresses(spec.external_ips.as_ref()),
            load_balancer_ips: load_balancer_ips(object),
            source_ranges,
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local,
            affinity_seconds: affinity(spec),
            health_check_node_port: (external_local && kind == "LoadBalancer")
                .then_some(spec.health_check_node_port)
                .flatten()
                .and_then(port_number),
            ports: spec.ports.iter().flatten().filter_map(port).collect(),
        })
    }

    /// Whether there is another way in than the cluster IP.
    pub fn externally_accessible(&self, port: &Port) -> bool {
        port.node_port.is_some() || !self.load_balancer_ips.is_empty() || !self.external_ips.is_empty()
    }
}

fn port(port: &core::ServicePort) -> Option<Port> {
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: Protocol::parse(port.protocol.as_deref())?,
        port: port_number(port.port)?,
        node_port: port.node_port.and_then(port_number),
    })
}

fn affinity(spec: &core::ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = config.and_then(|client_ip| client_ip.timeout_seconds);
    Some(seconds.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(DEFAULT_AFFINITY_SECONDS))
}

fn load_balancer_ips(object: &core::Service) -> Vec<IpAddr> {
    let status = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    status
        .and_then(|status| status.ingress.as_ref())
        .into_iter()
        .flatten()
        .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|ingress| IpAddr::from_str(ingress.ip.as_deref()?).ok())
        .collect()
}

/// One address of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceEndpoint {
    pub addr: IpAddr,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub node: Option<String>,
    pub hints: Option<Box<Hints>>,
}

/// Which nodes and zones should use an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    pub zones: Vec<String>,
    pub nodes: Vec<String>,
}

/// An EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The Service it belongs to.
    pub service: Name,
    /// (port name, protocol, port).
    pub ports: Vec<(String, Protocol, u16)>,
    pub endpoints: Vec<SliceEndpoint>,
}

impl Slice {
    /// The slice, or nothing if it belongs to no Service or holds no IP addresses.
    pub fn from_api(object: &discovery::EndpointSlice) -> Option<Self> {
        let service = object.labels().get("kubernetes.io/service-name")?;
        if object.address_type == "FQDN" {
            return None;
        }
        let ports = object.ports.iter().flatten();
        let ports = ports.filter_map(|port| {
            let protocol = Protocol::parse(port.protocol.as_deref())?;
            Some((port.name.clone().unwrap_or_default(), protocol, port_number(port.port?)?))
        });
        Some(Self {
            service: Name::new(object.namespace().unwrap_or_default(), service),
            ports: ports.collect(),
            endpoints: object.endpoints.iter().flat_map(|endpoints| endpoints.iter().filter_map(endpoint)).collect(),
        })
    }
}

fn endpoint(endpoint: &discovery::Endpoint) -> Option<SliceEndpoint> {
    // All addresses of one endpoint are the same backend; upstream uses the first.
    let addr = endpoint.addresses.first()?.parse().ok()?;
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    let hints = endpoint.hints.as_ref().map(|hints| Hints {
        zones: hints.for_zones.iter().flatten().map(|zone| zone.name.clone()).collect(),
        nodes: hints.for_nodes.iter().flatten().map(|node| node.name.clone()).collect(),
    });
    Some(SliceEndpoint {
        addr,
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
        node: endpoint.node_name.clone(),
        hints: hints.map(Box::new),
    })
}
