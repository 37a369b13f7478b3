//! Users by client certificate: common name is the user, organizations are the groups.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::UnixTime;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::authenticated;
use crate::cache::Cache;
use crate::user::UserInfo;

/// At most this many verified certificates are remembered.
const CACHED_CERTIFICATES: usize = 1024;

/// Why a client certificate proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("client CA: {0}")]
    Authority(String),
    #[error("verify client certificate: {0}")]
    Chain(#[from] rustls::Error),
    #[error("read client certificate: {0}")]
    Malformed(String),
    #[error("client certificate has no common name")]
    NoName,
    #[error("client certificate has expired")]
    Expired,
}

/// Verifies client certificates against the client CAs.
pub struct ClientCertificates {
    verifier: Arc<dyn ClientCertVerifier>,
    cache: Cache<Vec<u8>, Known>,
}

#[derive(Clone)]
struct Known {
    user: Arc<UserInfo>,
    /// Unix seconds of the leaf's validity.
    valid: (i64, i64),
}

impl ClientCertificates {
    /// `authorities` are the DER certificates of the client CAs.
    pub fn new(authorities: &[CertificateDer<'_>]) -> Result<Self, CertificateError> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.clone().into_owned()).map_err(|e| CertificateError::Authority(e.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| CertificateError::Authority(e.to_string()))?;
        Ok(Self { verifier, cache: Cache::new(CACHED_CERTIFICATES) })
    }

    /// The user of a chain whose leaf's key the client has.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<Arc<UserInfo>, CertificateError> {
        let seconds = now.as_second();
        if let Some(known) = self.cache.get(leaf.as_ref() as &[u8]) {
            let (from, until) = known.valid;
            return if (from..=until).contains(&seconds) { Ok(known.user) } else { Err(CertificateError::Expired) };
        }
        let since_epoch = std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        self.verifier.verify_client_cert(leaf, intermediates, UnixTime::since_unix_epoch(since_epoch))?;
        let known = read(leaf)?;
        self.cache.insert(leaf.to_vec(), known.clone());
        Ok(known.user)
    }

    /// What a TLS server asks its clients for: a certificate, if they have one, whose key they prove to have. Whether
    /// it is any good is decided by [`ClientCertificates::verify`], so that a bad one is a 401 and not a broken
    /// handshake.
    pub fn tls_verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::new(AskForCertificate(self.verifier.clone()))
    }
}

fn read(leaf: &CertificateDer<'_>) -> Result<Known, CertificateError> {
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|e| CertificateError::Malformed(e.to_string()))?;
    let subject = certificate.subject();
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        value.as_str().map(str::to_owned).map_err(|e| CertificateError::Malformed(e.to_string()))
    };
    // As upstream's library, the last common name counts.
    let name = subject.iter_common_name().last().map(text).transpose()?.unwrap_or_default();
    if name.is_empty() {
        return Err(CertificateError::NoName);
    }
    let groups = subject.iter_organization().map(text).collect::<Result<Vec<_>, _>>()?;
    let digest = ring::digest::digest(&ring::digest::SHA256, leaf);
    let credential = format!("X509SHA256={}", crate::hex(digest.as_ref()));
    let mut user = UserInfo { name, groups, ..UserInfo::default() };
    user.extra.insert("authentication.kubernetes.io/credential-id".to_owned(), vec![credential]);
    let validity = certificate.validity();
    Ok(Known {
        user: Arc::new(authenticated(user)),
        valid: (validity.not_before.timestamp(), validity.not_after.timestamp()),
    })
}

/// Takes any certificate and checks only that the client has its key.
#[derive(Debug)]
struct AskForCertificate(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AskForCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
