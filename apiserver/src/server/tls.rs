//! TLS of the listener: our certificate, and a look at the client's.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use apiserver_auth::pki::Pair;

/// The serving certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("read the serving certificate: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    #[error("set up TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Certificates and key of PEM texts.
pub fn parse(certificate: &Pair) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = CertificateDer::pem_slice_iter(certificate.certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes())?;
    Ok((chain, key))
}

/// The listener's TLS: HTTP/2 and 1.1, client certificates asked for but judged later, by authentication.
pub fn server_config(serving: &Pair, clients: Arc<dyn ClientCertVerifier>) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = parse(serving)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
