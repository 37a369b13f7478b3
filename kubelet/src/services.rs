//! Environment variables of Services (`NAME_SERVICE_HOST` and the docker-link forms), from a watch of all Services.

use std::collections::BTreeMap;

use client::Api;
use client::watch::{self as api_watch, Event, Watch};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use kube::ResourceExt;
use parking_lot::RwLock;
use tokio::sync::watch;

/// What of a Service the variables need.
#[derive(Clone, Debug)]
struct Entry {
    address: String,
    ports: Vec<ServicePort>,
}

type Key = (String, String);

/// The cluster's Services.
pub struct Services {
    entries: RwLock<BTreeMap<Key, Entry>>,
    listed: watch::Sender<bool>,
}

impl Default for Services {
    fn default() -> Self {
        Self { entries: RwLock::default(), listed: watch::Sender::new(false) }
    }
}

impl Services {
    /// Follows the API until the task is dropped.
    pub async fn follow(&self, client: kube::Client) {
        let api: Api<Service> = Api::all(client);
        let mut events = Watch::new(api, api_watch::Config::default());
        let mut fresh = BTreeMap::new();
        while let Some(event) = events.next().await {
            match event {
                Event::Init => fresh.clear(),
                Event::InitApply(service) => {
                    fresh.extend(entry(&service));
                }
                Event::InitDone => {
                    *self.entries.write() = std::mem::take(&mut fresh);
                    self.listed.send_replace(true);
                }
                Event::Apply(service) => match entry(&service) {
                    Some((key, value)) => drop(self.entries.write().insert(key, value)),
                    None => drop(self.entries.write().remove(&key(&service))),
                },
                Event::Delete(service) => drop(self.entries.write().remove(&key(&service))),
                Event::Unread(unread) => {
                    let key = (unread.key.namespace, unread.key.name);
                    if unread.deleted {
                        self.entries.write().remove(&key);
                    } else if let Some(known) = self.entries.read().get(&key) {
                        fresh.insert(key, known.clone());
                    }
                }
            }
        }
    }

    /// The variables for a Pod of this namespace. The master Service `default/kubernetes` is in every Pod; the
    /// namespace's own only with `links`. Waits until the Services were listed once.
    pub async fn variables(&self, namespace: &str, links: bool) -> BTreeMap<String, String> {
        let mut listed = self.listed.subscribe();
        // The sender lives as long as we do.
        drop(listed.wait_for(|l| *l).await);
        let entries = self.entries.read();
        let mut vars = BTreeMap::new();
        if let Some(master) = entries.get(&("default".to_owned(), "kubernetes".to_owned())) {
            add(&mut vars, "kubernetes", master);
        }
        if links {
            for ((ns, name), entry) in entries.iter() {
                if ns == namespace {
                    add(&mut vars, name, entry);
                }
            }
        }
        vars
    }
}

fn key(service: &Service) -> Key {
    (service.namespace().unwrap_or_default(), service.name_any())
}

/// The entry of a Service that has an address of the cluster.
fn entry(service: &Service) -> Option<(Key, Entry)> {
    let spec = service.spec.as_ref()?;
    let address = spec.cluster_ip.clone().filter(|ip| !ip.is_empty() && ip != "None")?;
    Some((key(service), Entry { address, ports: spec.ports.clone().unwrap_or_default() }))
}

fn add(vars: &mut BTreeMap<String, String>, name: &str, entry: &Entry) {
    let prefix = name.to_uppercase().replace('-', "_");
    let Some(first) = entry.ports.first() else { return };
    let host_port = |port: i32| {
        if entry.address.contains(':') {
            format!("[{}]:{port}", entry.address)
        } else {
            format!("{}:{port}", entry.address)
        }
    };
    let protocol = |p: &ServicePort| p.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    vars.insert(format!("{prefix}_SERVICE_HOST"), entry.address.clone());
    vars.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    for port in &entry.ports {
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            let name = name.to_uppercase().replace('-', "_");
            vars.insert(format!("{prefix}_SERVICE_PORT_{name}"), port.port.to_string());
        }
    }
    let url = |p: &ServicePort| format!("{}://{}", protocol(p).to_lowercase(), host_port(p.port));
    vars.insert(format!("{prefix}_PORT"), url(first));
    for port in &entry.ports {
        let base = format!("{prefix}_PORT_{}_{}", port.port, protocol(port).to_uppercase());
        vars.insert(base.clone(), url(port));
        vars.insert(format!("{base}_PROTO"), protocol(port).to_lowercase());
        vars.insert(format!("{base}_PORT"), port.port.to_string());
        vars.insert(format!("{base}_ADDR"), entry.address.clone());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[test]
    fn docker_link_variables() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "redis-primary", "namespace": "n"},
            "spec": {"clusterIP": "10.0.0.11", "ports": [{"name": "main-port", "port": 6379}]}}))
        .unwrap();
        let mut vars = BTreeMap::new();
        let (key, value) = entry(&service).unwrap();
        add(&mut vars, &key.1, &value);
        let text: Vec<_> = vars.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            text,
            [
                "REDIS_PRIMARY_PORT=tcp://10.0.0.11:6379",
                "REDIS_PRIMARY_PORT_6379_TCP=tcp://10.0.0.11:6379",
                "REDIS_PRIMARY_PORT_6379_TCP_ADDR=10.0.0.11",
                "REDIS_PRIMARY_PORT_6379_TCP_PORT=6379",
                "REDIS_PRIMARY_PORT_6379_TCP_PROTO=tcp",
                "REDIS_PRIMARY_SERVICE_HOST=10.0.0.11",
                "REDIS_PRIMARY_SERVICE_PORT=6379",
                "REDIS_PRIMARY_SERVICE_PORT_MAIN_PORT=6379",
            ]
        );
    }

    #[test]
    fn headless_services_have_none() {
        let service: Service =
            serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": {"clusterIP": "None"}})).unwrap();
        assert!(entry(&service).is_none());
    }
}
