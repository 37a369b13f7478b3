//! What all parts of one node agent share: its configuration, its ways to the API and the runtime, its caches.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret};
use kubelet_runtime::cri::Runtime;
use tokio::sync::watch;

use crate::cgroup::Cgroups;
use crate::config::Config;
use crate::downward::Allocatable;
use crate::events::Recorder;
use crate::images::Images;
use crate::node::machine::Machine;
use crate::node::pressure::Pressure;
use crate::objects::Objects;
use crate::pod::registry::Registry;
use crate::services::Services;
use crate::static_pods::Mirrors;
use crate::volumes::token::Tokens;

/// One node agent's shared parts.
pub struct Agent {
    pub config: Config,
    pub client: kube::Client,
    pub runtime: Arc<dyn Runtime>,
    pub recorder: Recorder,
    pub pods: Arc<Registry>,
    pub config_maps: Objects<ConfigMap>,
    pub secrets: Objects<Secret>,
    pub services: Services,
    pub images: Images,
    pub tokens: Tokens,
    pub cgroups: Cgroups,
    pub machine: Machine,
    pub pressure: Pressure,
    pub mirrors: Mirrors,
    /// The node's own object as the API last showed it.
    pub node: watch::Sender<Option<Arc<Node>>>,
    /// Told when something that stands in the node's status changed: images, network, pressure.
    pub node_changed: tokio::sync::Notify,
}

impl Agent {
    /// Puts the parts together; nothing is started yet but the recorder's task.
    pub fn new(
        config: Config,
        client: kube::Client,
        runtime: Arc<dyn Runtime>,
        machine: Machine,
        cgroups: Cgroups,
    ) -> Arc<Self> {
        let pods = Arc::new(Registry::default());
        let notify = {
            let pods = pods.clone();
            Arc::new(move |uid: &str| pods.objects_changed(uid))
        };
        Arc::new(Self {
            recorder: Recorder::start(client.clone(), &config.node_name),
            config_maps: Objects::new(client.clone(), "configmap", notify.clone()),
            secrets: Objects::new(client.clone(), "secret", notify),
            services: Services::default(),
            images: Images::default(),
            tokens: Tokens::default(),
            cgroups,
            pressure: Pressure::default(),
            mirrors: Mirrors::default(),
            node: watch::Sender::new(None),
            node_changed: tokio::sync::Notify::new(),
            pods,
            machine,
            config,
            client,
            runtime,
        })
    }

    /// What the node offers Pods.
    pub fn allocatable(&self) -> Allocatable {
        Allocatable {
            cpu_millis: (self.machine.cpus * 1000).saturating_sub(signed(self.config.reserved_cpu_millis)),
            memory_bytes: self.machine.memory_bytes.saturating_sub(signed(self.config.reserved_memory_bytes)),
            ephemeral_bytes: self.machine.storage_bytes / 10 * 9,
        }
    }

    /// The scheme of container ids, `cox` for our runtime.
    pub fn runtime_name(&self) -> String {
        self.runtime.version().0
    }

    pub fn host_ip(&self) -> String {
        match self.config.node_ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => ip.to_string(),
        }
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
