//! TLS of the listener: our certificate, which is renewed while the server runs, and a look at the client's.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use apiserver_auth::pki::Pair;

/// A certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("read the certificate: {0}")]
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

/// The serving certificate. A new one is shown from the next handshake on.
#[derive(Debug)]
pub struct Serving(ArcSwap<CertifiedKey>);

impl Serving {
    pub fn new(pair: &Pair) -> Result<Self, TlsError> {
        Ok(Self(ArcSwap::new(certified(pair)?)))
    }

    pub fn renew(&self, pair: &Pair) -> Result<(), TlsError> {
        self.0.store(certified(pair)?);
        Ok(())
    }
}

fn certified(pair: &Pair) -> Result<Arc<CertifiedKey>, TlsError> {
    let (chain, key) = parse(pair)?;
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())?))
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// The listener's TLS: HTTP/2 and 1.1, client certificates asked for but judged later, by authentication.
pub fn server_config(
    serving: Arc<Serving>,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(serving);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
