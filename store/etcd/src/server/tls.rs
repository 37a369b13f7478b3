//! TLS of the client port: our certificate, and the client's when clients must show one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Files, as etcd's flags name them.
#[derive(Clone, Debug)]
pub struct Files {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    /// Clients must show a certificate that this authority signed.
    pub trusted_ca_file: Option<PathBuf>,
}

/// A certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("read {path}: {source}")]
    Pem {
        path: PathBuf,
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    #[error("read {0}: no certificate in it")]
    Empty(PathBuf),
    #[error("trust {path}: {source}")]
    Authority {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("set up TLS: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("set up TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

fn failed(path: &Path) -> impl FnOnce(rustls_pki_types::pem::Error) -> TlsError {
    move |source| TlsError::Pem { path: path.to_owned(), source }
}

/// The certificates of a PEM file; at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path).map_err(failed(path))?.collect::<Result<Vec<_>, _>>();
    let found = found.map_err(failed(path))?;
    if found.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(found) }
}

/// The private key of a PEM file.
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(failed(path))
}

/// Authorities of a PEM file.
pub fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|source| TlsError::Authority { path: path.to_owned(), source })?;
    }
    Ok(roots)
}

/// The port's TLS: HTTP/2 and 1.1.
pub fn server_config(files: &Files) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &files.trusted_ca_file {
        Some(path) => {
            let roots = Arc::new(authorities(path)?);
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder_with_provider(roots, provider).build()?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(certificates(&files.cert_file)?, key(&files.key_file)?)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
