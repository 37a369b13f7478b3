//! TLS towards servers that nobody vouches for: probed and proxied Pods, as upstream; and a server that is about to be
//! joined, whose chain is looked at afterwards.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Takes any certificate, whose key the server must have.
#[derive(Debug)]
struct Anyone {
    provider: Arc<CryptoProvider>,
    /// Where the last server's chain is kept, when somebody wants it.
    seen: Option<Chain>,
}

/// The chain that a server showed, its own certificate first.
pub type Chain = Arc<Mutex<Vec<CertificateDer<'static>>>>;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(seen) = &self.seen {
            let all = std::iter::once(end_entity).chain(intermediates);
            *seen.lock() = all.map(|certificate| certificate.clone().into_owned()).collect();
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn config(seen: Option<Chain>) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap_or_else(|_| unreachable!("ring speaks the default versions"));
    let verifier = Arc::new(Anyone { provider, seen });
    Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Lets any server pass, for clients that show a certificate of their own.
pub fn any_server() -> Arc<dyn ServerCertVerifier> {
    Arc::new(Anyone { provider: Arc::new(rustls::crypto::ring::default_provider()), seen: None })
}

/// Takes any server.
pub fn to_anyone() -> Arc<ClientConfig> {
    config(None)
}

/// Takes any server, and leaves its chain where it is told to.
pub fn witness(chain: &Chain) -> Arc<ClientConfig> {
    config(Some(Arc::clone(chain)))
}
