//! The cluster's own public-key infrastructure: authorities, certificates, keys, and the files that hold them.

pub mod certificate;
pub mod csr;
pub(crate) mod der;
pub mod files;
pub mod kubeconfig;

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::seal::AesGcm;
use crate::token::Keys;
pub use certificate::{Authority, Pair, PkiError, Profile, public_key_hash};
pub use kubeconfig::{Credentials, kubeconfig};

const AUTHORITY_LIFETIME: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// Life of the certificates that we issue ourselves.
pub const LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);

/// Common name of the cluster's CA and of that for aggregated API servers.
const CA_NAME: &str = "kubernetes-ca";
const FRONT_PROXY_CA_NAME: &str = "front-proxy-ca";

/// DNS names under which Pods reach the API server, and the first address of the Service network.
const API_NAMES: [&str; 8] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    "127.0.0.1",
    "::1",
    "10.96.0.1",
];

/// Everything that pki/ of a server's data directory holds, loaded.
pub struct Pki {
    /// Signs serving certificates and clients' ones; clients' certificates are verified against it.
    pub ca: Authority,
    /// Signs the API server's certificate towards aggregated API servers.
    pub front_proxy_ca: Authority,
    /// The API server's certificate.
    pub serving: Pair,
    /// What the API server shows kubelets.
    pub kubelet_client: Pair,
    /// What the API server shows aggregated API servers.
    pub front_proxy_client: Pair,
    /// Signs and verifies service-account tokens.
    pub keys: Keys,
    /// Seals Secrets at rest.
    pub seal: AesGcm,
    /// Why certificates that are due, but good, are still the former ones: the disk may be full.
    pub put_off: Vec<PkiError>,
}

impl Pki {
    /// As [`Self::ensure_for`], with certificates that live for [`LIFETIME`].
    pub fn ensure(directory: &Path, names: &[String], now: Timestamp) -> Result<Self, PkiError> {
        Self::ensure_for(directory, names, LIFETIME, now)
    }

    /// Loads `directory`, making what is missing and renewing what ends soon or lacks a name. `names` are further DNS
    /// names and IP addresses of the API server; new certificates live for `lifetime`. Repeated after any interruption
    /// it completes what is there. What is due and cannot be written stays as it is while it is good ([`Self::put_off`]).
    pub fn ensure_for(
        directory: &Path,
        names: &[String],
        lifetime: SignedDuration,
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        let mut put_off = Vec::new();
        files::make_dir(directory)?;
        let (ca, late) = ensure_authority(directory, "ca", CA_NAME, now)?;
        put_off.extend(late);
        let (front_proxy_ca, late) = ensure_authority(directory, "front-proxy-ca", FRONT_PROXY_CA_NAME, now)?;
        put_off.extend(late);
        let mut ensure_pair = |file, profile: &Profile, authority: &Authority| {
            let (pair, late) = ensure_pair_for(directory, file, profile, authority, lifetime, now)?;
            put_off.extend(late);
            Ok::<_, PkiError>(pair)
        };
        let mut all: Vec<String> = API_NAMES.iter().map(|n| (*n).to_owned()).collect();
        all.extend(names.iter().filter(|n| !API_NAMES.contains(&n.as_str())).cloned());
        let serving = Profile::server("kube-apiserver", &all);
        let kubelet_client = Profile::client("kube-apiserver-kubelet-client", &[]);
        let front_proxy_client = Profile::client("front-proxy-client", &[]);
        Ok(Self {
            serving: ensure_pair("apiserver", &serving, &ca)?,
            kubelet_client: ensure_pair("apiserver-kubelet-client", &kubelet_client, &ca)?,
            front_proxy_client: ensure_pair("front-proxy-client", &front_proxy_client, &front_proxy_ca)?,
            keys: ensure_keys(directory)?,
            seal: ensure_seal(directory)?,
            ca,
            front_proxy_ca,
            put_off,
        })
    }

    /// A kubeconfig for a user with a new client certificate.
    pub fn kubeconfig(&self, server: &str, profile: &Profile, now: Timestamp) -> Result<String, PkiError> {
        self.kubeconfig_for(server, profile, LIFETIME, now)
    }

    /// As [`Self::kubeconfig`], with a certificate that lives for `lifetime`.
    pub fn kubeconfig_for(
        &self,
        server: &str,
        profile: &Profile,
        lifetime: SignedDuration,
        now: Timestamp,
    ) -> Result<String, PkiError> {
        let pair = self.ca.issue(profile, lifetime, now)?;
        Ok(kubeconfig(server, &self.ca.pem(), &profile.common_name, Credentials::Certificate(&pair)))
    }

    /// When [`Pki::ensure`] is to be called again to renew what ends first. `None` when that cannot be told.
    pub fn renew_at(&self) -> Option<Timestamp> {
        let issued = [&self.serving, &self.kubelet_client, &self.front_proxy_client];
        let authorities = [&self.ca, &self.front_proxy_ca].map(|ca| Some(ca.not_after - AUTHORITY_LIFETIME / 5));
        issued.iter().map(|pair| renew_at(pair)).chain(authorities).min()?
    }

    /// The first administrator: `kubernetes-admin` of `cox:cluster-admins`.
    pub fn admin() -> Profile {
        Profile::client("kubernetes-admin", &["cox:cluster-admins"])
    }
}

/// The authority, and why it was not renewed although it is time.
fn ensure_authority(
    directory: &Path,
    file: &str,
    name: &str,
    now: Timestamp,
) -> Result<(Authority, Option<PkiError>), PkiError> {
    let certificate_path = directory.join(format!("{file}.crt"));
    let key_path = directory.join(format!("{file}.key"));
    let key = files::read(&key_path)?;
    let certificate = files::read(&certificate_path)?;
    let (certificate, key) = match (certificate, key) {
        (Some(certificate), Some(key)) => (certificate, key),
        // An authority whose key is kept elsewhere is not ours to replace.
        (Some(_), None) => return Err(PkiError::Key(format!("{} is missing", key_path.display()))),
        (None, _) => {
            let pair = Authority::generate(name, AUTHORITY_LIFETIME, now)?;
            files::write_together(&[(&key_path, &pair.key), (&certificate_path, &pair.certificate)])?;
            (pair.certificate, pair.key)
        }
    };
    let authority = Authority::from_pem(&certificate, &key)?;
    if authority.not_after - AUTHORITY_LIFETIME / 5 > now {
        return Ok((authority, None));
    }
    let renewed = authority.renew(name, AUTHORITY_LIFETIME, now)?;
    match files::write(&certificate_path, &renewed) {
        Ok(()) => Ok((Authority::from_pem(&renewed, &key)?, None)),
        Err(error) if authority.not_after > now => Ok((authority, Some(error))),
        Err(error) => Err(error),
    }
}

/// Loads `NAME.crt` and `NAME.key`, or issues them anew, for `lifetime`, when [`is_good`] says no. When that cannot be
/// written, the former pair goes on as long as it certifies its owner; the second of what is returned is then why.
pub fn ensure_pair_for(
    directory: &Path,
    file: &str,
    profile: &Profile,
    authority: &Authority,
    lifetime: SignedDuration,
    now: Timestamp,
) -> Result<(Pair, Option<PkiError>), PkiError> {
    let certificate_path = directory.join(format!("{file}.crt"));
    let key_path = directory.join(format!("{file}.key"));
    let former = match (files::read(&certificate_path)?, files::read(&key_path)?) {
        (Some(certificate), Some(key)) => Some(Pair { certificate, key }),
        _ => None,
    };
    if let Some(pair) = former.as_ref().filter(|pair| is_good(pair, profile, authority, now)) {
        return Ok((pair.clone(), None));
    }
    let pair = authority.issue(profile, lifetime, now)?;
    let written = files::write_together(&[(&key_path, &pair.key), (&certificate_path, &pair.certificate)]);
    match (written, former.filter(|former| certifies(former, profile, authority, now))) {
        (Ok(()), _) => Ok((pair, None)),
        (Err(error), Some(former)) => Ok((former, Some(error))),
        (Err(error), None) => Err(error),
    }
}

/// Whether a pair [certifies](certifies) its owner, has all the profile's names, and more than a third of its life ahead.
pub fn is_good(pair: &Pair, profile: &Profile, authority: &Authority, now: Timestamp) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(pair.certificate.as_bytes()) else { return false };
    let Ok((_, ours)) = X509Certificate::from_der(&der) else { return false };
    certifies(pair, profile, authority, now)
        && renew_at(pair).is_some_and(|at| now < at)
        && profile.names.iter().all(|name| has_name(&ours, name))
}

/// Whether a pair belongs together, was signed by the authority for the profile's subject, and has not ended.
fn certifies(pair: &Pair, profile: &Profile, authority: &Authority, now: Timestamp) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(pair.certificate.as_bytes()) else { return false };
    let (Ok((_, ours)), Ok((_, parent))) =
        (X509Certificate::from_der(&der), X509Certificate::from_der(authority.der()))
    else {
        return false;
    };
    let key = rcgen::KeyPair::from_pem(&pair.key);
    let belongs = key.is_ok_and(|k| rcgen::PublicKeyData::subject_public_key_info(&k) == ours.public_key().raw);
    let life = ours.validity().not_before.timestamp()..ours.validity().not_after.timestamp();
    belongs
        && ours.verify_signature(Some(parent.public_key())).is_ok()
        && life.contains(&now.as_second())
        && ours.subject().iter_common_name().any(|n| n.as_str().is_ok_and(|n| n == profile.common_name))
}

/// When two thirds of a certificate's life are over.
pub fn renew_at(pair: &Pair) -> Option<Timestamp> {
    let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let validity = certificate.validity();
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    Timestamp::from_second(until - (until - from) / 3).ok()
}

/// How a certificate stands, whoever signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Good; to be renewed then.
    Until(Timestamp),
    /// Two thirds of its life are over, or it lacks a name. It still identifies its owner.
    Due,
    /// It cannot be used: it has ended, or key and certificate cannot be read or are not each other's.
    Useless,
}

/// Judges a certificate that should bear all of `names` (DNS names and addresses).
pub fn standing(pair: &Pair, names: &[String], now: Timestamp) -> Standing {
    let Ok(der) = CertificateDer::from_pem_slice(pair.certificate.as_bytes()) else { return Standing::Useless };
    let Ok((_, certificate)) = X509Certificate::from_der(&der) else { return Standing::Useless };
    let key = rcgen::KeyPair::from_pem(&pair.key);
    let belongs = key.is_ok_and(|k| rcgen::PublicKeyData::subject_public_key_info(&k) == certificate.public_key().raw);
    if !belongs || certificate.validity().not_after.timestamp() <= now.as_second() {
        return Standing::Useless;
    }
    match renew_at(pair) {
        Some(at) if now < at && names.iter().all(|name| has_name(&certificate, name)) => Standing::Until(at),
        _ => Standing::Due,
    }
}

fn has_name(certificate: &X509Certificate<'_>, name: &str) -> bool {
    let Ok(Some(found)) = certificate.subject_alternative_name() else { return false };
    let ip = name.parse::<std::net::IpAddr>().ok().map(|ip| match ip {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    });
    found.value.general_names.iter().any(|general| match (general, &ip) {
        (x509_parser::prelude::GeneralName::DNSName(dns), None) => *dns == name,
        (x509_parser::prelude::GeneralName::IPAddress(bytes), Some(ip)) => bytes == ip,
        _ => false,
    })
}

/// sa.key signs; further public keys in sa.pub, after the signing key's own, are of keys that signed before.
fn ensure_keys(directory: &Path) -> Result<Keys, PkiError> {
    let (secret_path, public_path) = (directory.join("sa.key"), directory.join("sa.pub"));
    let secret = match files::read(&secret_path)? {
        Some(secret) => secret,
        None => {
            let key = rcgen::KeyPair::generate().map_err(|e| PkiError::Key(e.to_string()))?;
            files::write(&secret_path, &key.serialize_pem())?;
            key.serialize_pem()
        }
    };
    let public = files::read(&public_path)?;
    let older = rustls_pki_types::SubjectPublicKeyInfoDer::pem_slice_iter(public.as_deref().unwrap_or("").as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| PkiError::Key(format!("{}: {e}", public_path.display())))?;
    let older: Vec<Vec<u8>> = older.iter().map(|spki| certificate::pem("PUBLIC KEY", spki).into_bytes()).collect();
    let keys = Keys::from_pem(secret.as_bytes(), &older.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
    if older.is_empty() {
        files::write(&public_path, &certificate::pem("PUBLIC KEY", keys.signing_key().spki()))?;
    }
    Ok(keys)
}

fn ensure_seal(directory: &Path) -> Result<AesGcm, PkiError> {
    let path = directory.join("encryption.key");
    let content = match files::read(&path)? {
        Some(content) => content,
        None => {
            let content = AesGcm::new_file_content()?;
            files::write(&path, &content)?;
            content
        }
    };
    Ok(AesGcm::from_file_content(&content)?)
}

#[cfg(test)]
mod tests;
