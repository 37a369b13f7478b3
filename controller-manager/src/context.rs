//! What all controllers share: configuration, clients, informers, and the way a controller is run over a queue.

use std::sync::Arc;

use api::NamespacedName;
use client::{Informer, Recorder, WorkQueue};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher;
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{Clients, IDENTITY};

/// How the controllers are set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// This machine's name, part of the lease holder's identity.
    pub host: String,
    /// PEM of the cluster's CA, published in each namespace.
    pub ca_pem: String,
    /// The Pod network (IPv4) of which each node gets a part.
    pub cluster_cidr: String,
    /// Prefix length of a node's part.
    pub node_mask: u8,
}

/// Clones of the informers are handed to the controllers; the watches run once.
pub struct Context {
    pub config: Config,
    pub stop: CancellationToken,
    pub pods: Informer<Pod>,
    pub replica_sets: Informer<ReplicaSet>,
    pub deployments: Informer<Deployment>,
    pub services: Informer<Service>,
    pub endpoint_slices: Informer<EndpointSlice>,
    pub nodes: Informer<Node>,
    /// In namespace `kube-node-lease`: the nodes' heartbeats.
    pub node_leases: Informer<Lease>,
    pub namespaces: Informer<Namespace>,
    pub service_accounts: Informer<ServiceAccount>,
    /// Only those named `kube-root-ca.crt`.
    pub root_cas: Informer<ConfigMap>,
    clients: Clients,
    queues: Mutex<Vec<WorkQueue<NamespacedName>>>,
}

impl Context {
    pub fn new(config: Config, clients: Clients, stop: CancellationToken) -> Arc<Self> {
        let client = clients(IDENTITY);
        let everything = watcher::Config::default;
        let named_root_ca = watcher::Config::default().fields("metadata.name=kube-root-ca.crt");
        Arc::new(Self {
            pods: Informer::start(Api::all(client.clone()), everything(), stop.clone()),
            replica_sets: Informer::start(Api::all(client.clone()), everything(), stop.clone()),
            deployments: Informer::start(Api::all(client.clone()), everything(), stop.clone()),
            services: Informer::start(Api::all(client.clone()), everything(), stop.clone()),
            endpoint_slices: Informer::start(Api::all(client.clone()), everything(), stop.clone()),
            nodes: Informer::start(Api::all(client.clone()), everything(), stop.clone()),
            node_leases: Informer::start(
                Api::namespaced(client.clone(), "kube-node-lease"),
                everything(),
                stop.clone(),
            ),
            namespaces: Informer::start(Api::all(client.clone()), everything(), stop.clone()),
            service_accounts: Informer::start(Api::all(client.clone()), everything(), stop.clone()),
            root_cas: Informer::start(Api::all(client), named_root_ca, stop.clone()),
            config,
            stop,
            clients,
            queues: Mutex::default(),
        })
    }

    /// The client of a controller, which acts as its own service account.
    pub fn client(&self, controller: &str) -> Client {
        (self.clients)(&format!("system:serviceaccount:kube-system:{controller}"))
    }

    pub fn recorder(&self, controller: &str) -> Recorder {
        Recorder::new(self.client(controller), controller, "")
    }

    /// A queue that is closed with the context.
    pub fn queue(&self) -> WorkQueue<NamespacedName> {
        let queue = WorkQueue::new();
        self.queues.lock().push(queue.clone());
        queue
    }

    /// Ends the controllers' workers.
    pub fn close(&self) {
        for queue in self.queues.lock().drain(..) {
            queue.close();
        }
    }

    /// Runs a controller: once `ready` is there, workers take keys from the queue.
    pub fn spawn<R, F, W>(
        &self,
        name: &'static str,
        queue: WorkQueue<NamespacedName>,
        workers: usize,
        ready: R,
        work: F,
    ) where
        R: Future<Output = ()> + Send + 'static,
        F: Fn(NamespacedName) -> W + Clone + Send + Sync + 'static,
        W: Future<Output = anyhow::Result<()>> + Send,
    {
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => return,
                () = ready => {}
            }
            client::queue::run(queue, workers, name, work).await;
        });
    }
}

/// Whether an API error has a code: 404 and 409 are often answers rather than failures.
pub fn is_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

/// A deletion of what may be gone already.
pub fn gone_is_fine<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(error) if !is_code(&error, 404) => Err(error),
        _ => Ok(()),
    }
}
