//! TLS towards kubelets and proxied Pods.

use std::sync::Arc;

use apiserver_auth::pki::Pair;
use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

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
    pub fn new(client: &Pair, authority: &str) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let anyone = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_no_client_auth();
        Ok(Self { kubelet: ArcSwap::from_pointee(to_kubelets(client, authority)?), anyone: Arc::new(anyone) })
    }

    /// Shows another client certificate from the next connection on.
    pub fn renew(&self, client: &Pair, authority: &str) -> Result<(), TlsError> {
        self.kubelet.store(Arc::new(to_kubelets(client, authority)?));
        Ok(())
    }

    pub fn kubelet(&self) -> Arc<ClientConfig> {
        self.kubelet.load_full()
    }
}

fn to_kubelets(client: &Pair, authority: &str) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate?)?;
    }
    let (chain, key) = parse(client)?;
    Ok(ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?)
}

/// Takes any certificate.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
