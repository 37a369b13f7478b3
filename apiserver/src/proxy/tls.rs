//! TLS towards kubelets and proxied Pods.

use std::sync::Arc;

use apiserver_auth::pki::Pair;
use arc_swap::ArcSwap;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::server::tls::{TlsError, parse};

/// How the server connects.
pub struct KubeletClient {
    /// With our client certificate, to servers whose certificate our CA signed.
    kubelet: ArcSwap<ClientConfig>,
    /// To Pods that speak HTTPS: upstream does not verify them either.
    pub anyone: Arc<ClientConfig>,
}

impl KubeletClient {
    /// `authority` is the CA in PEM that kubelets' serving certificates are signed by.
    pub fn new(own: &Pair, authority: &str) -> Result<Self, TlsError> {
        Ok(Self { kubelet: ArcSwap::from_pointee(to_kubelets(own, authority)?), anyone: client::tls::to_anyone() })
    }

    /// Shows another client certificate from the next connection on.
    pub fn renew(&self, own: &Pair, authority: &str) -> Result<(), TlsError> {
        self.kubelet.store(Arc::new(to_kubelets(own, authority)?));
        Ok(())
    }

    pub fn kubelet(&self) -> Arc<ClientConfig> {
        self.kubelet.load_full()
    }
}

fn to_kubelets(own: &Pair, authority: &str) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate?)?;
    }
    let (chain, key) = parse(own)?;
    Ok(ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?)
}
