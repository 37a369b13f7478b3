//! How a server is started.

use std::net::IpAddr;
use std::sync::Arc;

use api::Table;
use apiserver_admission::Chain;
use apiserver_auth::{Authenticator, Authorizer, Transformer};

use rustls::server::danger::ClientCertVerifier;

use crate::cache::feed::Observer;

/// The TLS certificate that the server shows, and its key, in PEM.
#[derive(Clone)]
pub struct ServingCertificate {
    pub chain: Vec<u8>,
    pub key: Vec<u8>,
}

/// Everything that a server is made of besides the store.
#[derive(Clone)]
pub struct Config {
    /// The resource table; CRDs append to it at run time.
    pub table: Table,
    pub authenticator: Arc<Authenticator>,
    /// How TLS asks for client certificates (`ClientCertificates::tls_verifier`).
    pub client_verifier: Arc<dyn ClientCertVerifier>,
    pub authorizer: Arc<dyn Authorizer>,
    pub admission: Arc<Chain>,
    /// Told of changes when the caches have taken them in (the Node authorizer's graph).
    pub observers: Vec<Arc<dyn Observer>>,
    /// Encrypts Secrets at rest.
    pub transformer: Option<Arc<dyn Transformer>>,
    pub serving: ServingCertificate,
    /// Shown to kubelets when requests are forwarded to them.
    pub kubelet_client: Option<ServingCertificate>,
    /// CA that kubelets' serving certificates are checked against, in PEM.
    pub kubelet_ca: Vec<u8>,
    /// Where clients reach this server, `https://IP:PORT`.
    pub advertise: (IpAddr, u16),
    /// First address and prefix length of the Service network.
    pub service_network: (IpAddr, u8),
    /// First and last node port.
    pub node_ports: (u16, u16),
    /// Open connections at most; more wait.
    pub max_connections: usize,
    /// Objects to create when they are not there, in order: namespaces, the default policy, priority classes.
    pub bootstrap: Vec<api::Object>,
}
