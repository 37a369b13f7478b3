//! TLS towards kubelets and proxied Pods.

use std::sync::Arc;

use apiserver_auth::pki::Pair;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::server::tls::{TlsError, parse};

/// How the server connects.
pub struct KubeletClient {
    /// With our client certificate, to servers whose certificate our CA signed.
    pub kubelet: Arc<ClientConfig>,
    /// To Pods that speak HTTPS: upstream does not verify them either.
    pub anyone: Arc<ClientConfig>,
}

impl KubeletClient {
    /// `authority` is the CA in PEM that kubelets' serving certificates are signed by.
    pub fn new(own: &Pair, authority: &str) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(certificate?)?;
        }
        let (chain, key) = parse(own)?;
        let kubelet = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        Ok(Self { kubelet: Arc::new(kubelet), anyone: client::tls::to_anyone() })
    }
}
