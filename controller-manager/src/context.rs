//! What all controllers share: configuration, clients, informers, and the way a controller is run over a queue.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use client::queue::Work;
use client::{Api, Informer, Recorder, WorkQueue, watch};
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Secret,
    Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Client;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{Clients, IDENTITY};

/// How the controllers are set up.
///
/// Not `Debug`: it holds the authority's private key.
#[derive(Clone)]
pub struct Config {
    /// In whose name the lease is held, as [`client::leader::Election::identity`] has it.
    pub identity: String,
    /// PEM of the cluster's CA, published in each namespace.
    pub ca_pem: String,
    /// PEM of its private key (PKCS #8), with which certificate requests are signed.
    pub ca_key_pem: String,
    /// Addresses for Services of type LoadBalancer: `192.0.2.0/28` or `192.0.2.10-192.0.2.20`. Without it they get
    /// the addresses of the nodes that are ready.
    pub load_balancer_range: Option<String>,
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
    pub certificate_requests: Informer<CertificateSigningRequest>,
    pub endpoints: Informer<Endpoints>,
    pub budgets: Informer<PodDisruptionBudget>,
    pub cluster_roles: Informer<ClusterRole>,
    pub replication_controllers: Informer<ReplicationController>,
    pub volumes: Informer<PersistentVolume>,
    pub claims: Informer<PersistentVolumeClaim>,
    pub storage_classes: Informer<StorageClass>,
    /// In namespace `kube-system`, of type `bootstrap.kubernetes.io/token`.
    pub bootstrap_tokens: Informer<Secret>,
    clients: Clients,
    /// What closes each queue.
    queues: Mutex<Vec<Box<dyn Fn() + Send>>>,
}

impl Context {
    pub fn new(config: Config, clients: Clients, stop: CancellationToken) -> Arc<Self> {
        let client = clients(IDENTITY);
        let everything = watch::Config::default;
        let tokens = watch::Config::default().fields("type=bootstrap.kubernetes.io/token");
        let named_root_ca = watch::Config::default().fields("metadata.name=kube-root-ca.crt");
        Arc::new(Self {
            pods: pods(&client, &stop),
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
            root_cas: Informer::start(Api::all(client.clone()), named_root_ca, stop.clone()),
            certificate_requests: Informer::start(Api::all(client.clone()), everything(), stop.clone()),
            endpoints: Informer::start(Api::all(client.clone()), everything(), stop.clone()),
            budgets: Informer::start(Api::all(client.clone()), everything(), stop.clone()),
            cluster_roles: Informer::start(Api::all(client.clone()), everything(), stop.clone()),
            replication_controllers: Informer::start(Api::all(client.clone()), everything(), stop.clone()),
            volumes: Informer::start(Api::all(client.clone()), everything(), stop.clone()),
            claims: Informer::start(Api::all(client.clone()), everything(), stop.clone()),
            storage_classes: Informer::start(Api::all(client.clone()), everything(), stop.clone()),
            bootstrap_tokens: Informer::start(Api::namespaced(client, "kube-system"), tokens, stop.clone()),
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
    pub fn queue<T: Clone + Eq + Hash + Send + 'static>(&self) -> WorkQueue<T> {
        let queue = WorkQueue::new();
        let closed = queue.clone();
        self.queues.lock().push(Box::new(move || closed.close()));
        queue
    }

    /// Ends the controllers' workers.
    pub fn close(&self) {
        for close in self.queues.lock().drain(..) {
            close();
        }
    }

    /// Runs a controller: once `ready` is there, workers take keys from the queue.
    pub fn spawn<T, R, F, W>(&self, name: &'static str, queue: WorkQueue<T>, workers: usize, ready: R, work: F)
    where
        T: Clone + Eq + Hash + Send + Debug + 'static,
        R: Future<Output = ()> + Send + 'static,
        F: Fn(T) -> W + Send + Sync + 'static,
        W: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let work: Work<T> = Arc::new(move |key| Box::pin(work(key)));
        client::spawn(run(self.stop.clone(), name, queue, workers, Box::pin(ready), work));
    }
}

async fn run<T: Clone + Eq + Hash + Send + Debug + 'static>(
    stop: CancellationToken,
    name: &'static str,
    queue: WorkQueue<T>,
    workers: usize,
    ready: BoxFuture<'static, ()>,
    work: Work<T>,
) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = ready => {}
    }
    client::queue::run(queue, workers, name, work).await;
}

fn pods(client: &Client, stop: &CancellationToken) -> Informer<Pod> {
    let informer = Informer::with_index(crate::pods::index);
    let (api, everything) = (Api::<Pod>::all(client.clone()), watch::Config::default());
    informer.watch_reading(api, everything, stop.clone(), client::sparse::pod, crate::pods::kept);
    informer
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
