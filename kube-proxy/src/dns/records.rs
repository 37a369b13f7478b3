//! What the cluster's DNS knows: Services, their endpoints, and namespaces, small and by every key that is asked for.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use kube::ResourceExt;

use crate::model::{Name, Protocol};

/// How a Service is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    ClusterIps(Vec<IpAddr>),
    Headless,
    /// A name elsewhere.
    External(String),
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub kind: Kind,
    /// (name, protocol, port).
    pub ports: Vec<(String, Protocol, u16)>,
}

impl Service {
    pub fn from_api(object: &core::Service) -> Option<Self> {
        let spec = object.spec.as_ref()?;
        let ports = spec.ports.iter().flatten().filter_map(|port| {
            let number = u16::try_from(port.port).ok()?;
            Some((port.name.clone().unwrap_or_default(), Protocol::parse(port.protocol.as_deref())?, number))
        });
        let ports = ports.collect();
        if spec.type_.as_deref() == Some("ExternalName") {
            return Some(Self { kind: Kind::External(spec.external_name.clone()?), ports });
        }
        let first = spec.cluster_ip.as_deref()?;
        if first == "None" {
            return Some(Self { kind: Kind::Headless, ports });
        }
        let mut ips: Vec<IpAddr> = spec.cluster_ips.iter().flatten().filter_map(|ip| ip.parse().ok()).collect();
        if ips.is_empty() {
            ips.push(first.parse().ok()?);
        }
        Some(Self { kind: Kind::ClusterIps(ips), ports })
    }
}

/// A ready endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub ip: IpAddr,
    pub hostname: Option<String>,
}

impl Endpoint {
    /// Its label under the Service's name: the host name, or its address in letters that a label may have.
    pub fn label(&self) -> String {
        match (&self.hostname, self.ip) {
            (Some(hostname), _) => hostname.to_ascii_lowercase(),
            (None, IpAddr::V4(ip)) => ip.to_string().replace('.', "-"),
            (None, IpAddr::V6(ip)) => ip.to_string().replace(':', "-"),
        }
    }
}

/// The ready endpoints of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    pub service: Name,
    pub endpoints: Vec<Endpoint>,
    pub ports: Vec<(String, Protocol, u16)>,
}

impl Slice {
    pub fn from_api(object: &discovery::EndpointSlice) -> Option<Self> {
        let service = object.labels().get("kubernetes.io/service-name")?;
        let endpoints = object.endpoints.iter().flat_map(|endpoints| endpoints.iter());
        let ready = endpoints.filter(|endpoint| {
            // Addresses of Services that publish unready ones are marked ready.
            endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
        });
        let endpoints = ready.flat_map(|endpoint| {
            let ips = endpoint.addresses.iter().filter_map(|addr| addr.parse().ok());
            ips.map(|ip| Endpoint { ip, hostname: endpoint.hostname.clone() })
        });
        let ports = object.ports.iter().flatten().filter_map(|port| {
            let number = u16::try_from(port.port?).ok()?;
            Some((port.name.clone().unwrap_or_default(), Protocol::parse(port.protocol.as_deref())?, number))
        });
        Some(Self {
            service: Name::new(object.namespace().unwrap_or_default(), service),
            endpoints: endpoints.collect(),
            ports: ports.collect(),
        })
    }
}

/// Everything by name and by address.
#[derive(Debug, Default)]
pub struct Records {
    services: HashMap<Name, Service>,
    slices: HashMap<Name, Slice>,
    namespaces: HashSet<String>,
    slices_of: HashMap<Name, BTreeSet<Name>>,
    by_cluster_ip: HashMap<IpAddr, BTreeSet<Name>>,
    by_endpoint_ip: HashMap<IpAddr, BTreeSet<Name>>,
}

fn link<K: std::hash::Hash + Eq>(map: &mut HashMap<K, BTreeSet<Name>>, key: K, name: &Name) {
    map.entry(key).or_default().insert(name.clone());
}

fn unlink<K: std::hash::Hash + Eq>(map: &mut HashMap<K, BTreeSet<Name>>, key: &K, name: &Name) {
    if let Some(names) = map.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            map.remove(key);
        }
    }
}

impl Records {
    /// Puts a Service in, or takes it out.
    pub fn set_service(&mut self, name: Name, service: Option<Service>) {
        if let Some(Service { kind: Kind::ClusterIps(ips), .. }) = self.services.remove(&name) {
            ips.iter().for_each(|ip| unlink(&mut self.by_cluster_ip, ip, &name));
        }
        let Some(service) = service else { return };
        if let Kind::ClusterIps(ips) = &service.kind {
            ips.iter().for_each(|ip| link(&mut self.by_cluster_ip, *ip, &name));
        }
        self.services.insert(name, service);
    }

    /// Puts an EndpointSlice in, or takes it out.
    pub fn set_slice(&mut self, name: Name, slice: Option<Slice>) {
        if let Some(old) = self.slices.remove(&name) {
            unlink(&mut self.slices_of, &old.service, &name);
            old.endpoints.iter().for_each(|endpoint| unlink(&mut self.by_endpoint_ip, &endpoint.ip, &name));
        }
        let Some(slice) = slice else { return };
        link(&mut self.slices_of, slice.service.clone(), &name);
        slice.endpoints.iter().for_each(|endpoint| link(&mut self.by_endpoint_ip, endpoint.ip, &name));
        self.slices.insert(name, slice);
    }

    /// Says that a namespace exists, or not.
    pub fn set_namespace(&mut self, name: String, exists: bool) {
        match exists {
            true => self.namespaces.insert(name),
            false => self.namespaces.remove(&name),
        };
    }

    /// Takes out all Services but these.
    pub fn retain_services(&mut self, kept: &BTreeSet<Name>) {
        let gone: Vec<Name> = self.services.keys().filter(|name| !kept.contains(name)).cloned().collect();
        gone.into_iter().for_each(|name| self.set_service(name, None));
    }

    /// Takes out all EndpointSlices but these.
    pub fn retain_slices(&mut self, kept: &BTreeSet<Name>) {
        let gone: Vec<Name> = self.slices.keys().filter(|name| !kept.contains(name)).cloned().collect();
        gone.into_iter().for_each(|name| self.set_slice(name, None));
    }

    /// Forgets all namespaces but these.
    pub fn retain_namespaces(&mut self, kept: &BTreeSet<Name>) {
        self.namespaces.retain(|name| kept.contains(&Name::new("", name)));
    }

    pub fn service(&self, name: &Name) -> Option<&Service> {
        self.services.get(name)
    }

    pub fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    /// The slices of a Service, in the order of their names.
    pub fn slices(&self, service: &Name) -> impl Iterator<Item = &Slice> {
        self.slices_of.get(service).into_iter().flatten().filter_map(|name| self.slices.get(name))
    }

    /// The Services with this cluster IP.
    pub fn with_cluster_ip(&self, ip: IpAddr) -> impl Iterator<Item = &Name> {
        self.by_cluster_ip.get(&ip).into_iter().flatten()
    }

    /// The ready endpoints with this address, with their Services.
    pub fn with_endpoint_ip(&self, ip: IpAddr) -> impl Iterator<Item = (&Name, &Endpoint)> {
        let slices = self.by_endpoint_ip.get(&ip).into_iter().flatten().filter_map(|name| self.slices.get(name));
        slices.flat_map(move |slice| {
            slice.endpoints.iter().filter(move |endpoint| endpoint.ip == ip).map(|endpoint| (&slice.service, endpoint))
        })
    }
}
