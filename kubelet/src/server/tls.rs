//! TLS of the kubelet's server: its certificate, and the CA whose client certificates name users.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use crate::config::{Config, ServingCertificate};

/// The server's configuration. Client certificates are optional; a wrong one ends the handshake.
///
/// # Errors
/// A file is missing or is no PEM, or key and certificate do not belong together.
pub(super) fn server_config(config: &Config) -> anyhow::Result<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .context("choosing TLS versions")?;
    let builder = match &config.client_ca {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).with_context(|| format!("a certificate in {}", path.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .with_context(|| format!("trusting the clients of {}", path.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut server = match &config.serving_certificate {
        Some(files) => builder.with_cert_resolver(Arc::new(Renewed::new(files.clone()))),
        None => {
            let (chain, key) = self_signed(config)?;
            builder.with_single_cert(chain, key).context("using the serving certificate")?
        }
    };
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(server)
}

/// The serving certificate as it lies in its files: a joined node has none before it is registered, and renewals
/// replace it. A new one is taken from the next connection on; without any, handshakes fail.
#[derive(Debug)]
struct Renewed {
    files: ServingCertificate,
    read: Mutex<Option<(Stamp, Arc<CertifiedKey>)>>,
}

/// Tells one version of a file from the next: inode and time of change.
type Stamp = (u64, i64, i64);

impl Renewed {
    fn new(files: ServingCertificate) -> Self {
        Self { files, read: Mutex::default() }
    }

    fn current(&self) -> anyhow::Result<Arc<CertifiedKey>> {
        // The key is written before its certificate.
        let path = &self.files.certificate;
        let meta = fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?;
        let stamp = (meta.ino(), meta.mtime(), meta.mtime_nsec());
        if let Some((of, key)) = &*self.read.lock()
            && *of == stamp
        {
            return Ok(key.clone());
        }
        let key = PrivateKeyDer::from_pem_file(&self.files.key)
            .with_context(|| format!("reading the key {}", self.files.key.display()))?;
        let provider = rustls::crypto::ring::default_provider();
        let key =
            CertifiedKey::from_der(certificates(path)?, key, &provider).context("using the serving certificate")?;
        let key = Arc::new(key);
        *self.read.lock() = Some((stamp, key.clone()));
        Ok(key)
    }
}

impl ResolvesServerCert for Renewed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current()
            .inspect_err(|error| tracing::warn!(error = format!("{error:#}"), "there is no serving certificate"))
            .ok()
    }
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let pem = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.with_context(|| format!("parsing {}", path.display()))?;
    anyhow::ensure!(!chain.is_empty(), "{} has no certificate", path.display());
    Ok(chain)
}

fn self_signed(config: &Config) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let names = vec![config.node_name.clone(), config.node_ip.to_string()];
    let made = rcgen::generate_simple_self_signed(names).context("making a self-signed certificate")?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|e| anyhow::anyhow!("using the key of a self-signed certificate: {e}"))?;
    Ok((vec![made.cert.der().clone()], key))
}
