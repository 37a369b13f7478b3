//! Making certificates: an authority signs a subject, a key and what the key may be used for.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

use super::der;

/// A certificate or key that cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("read certificate: {0}")]
    Certificate(String),
    #[error("read private key: {0}")]
    Key(String),
    #[error("sign certificate of {subject:?}: {why}")]
    Sign { subject: String, why: String },
    #[error("certificate and private key do not belong together")]
    Mismatch,
    #[error("{operation} {path}: {source}")]
    File {
        operation: &'static str,
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{0}")]
    ServiceAccountKey(#[from] crate::token::KeyError),
    #[error("{0}")]
    EncryptionKey(#[from] crate::seal::SealError),
    #[error("{0}")]
    ClientCa(#[from] crate::authn::x509::CertificateError),
}

/// Key usages (RFC 5280, 4.2.1.3), by bit number.
pub mod key_usage {
    pub const DIGITAL_SIGNATURE: u16 = 1;
    pub const CONTENT_COMMITMENT: u16 = 1 << 1;
    pub const KEY_ENCIPHERMENT: u16 = 1 << 2;
    pub const DATA_ENCIPHERMENT: u16 = 1 << 3;
    pub const KEY_AGREEMENT: u16 = 1 << 4;
    pub const CERT_SIGN: u16 = 1 << 5;
    pub const CRL_SIGN: u16 = 1 << 6;
    pub const ENCIPHER_ONLY: u16 = 1 << 7;
    pub const DECIPHER_ONLY: u16 = 1 << 8;
}

/// Extended key usages, by object identifier.
pub mod extended_key_usage {
    pub const SERVER_AUTH: &[u32] = &[1, 3, 6, 1, 5, 5, 7, 3, 1];
    pub const CLIENT_AUTH: &[u32] = &[1, 3, 6, 1, 5, 5, 7, 3, 2];
}

/// What goes into a certificate. The parts in DER are taken over as they are.
#[derive(Clone, Debug)]
pub struct Template {
    /// DER of the subject.
    pub subject: Vec<u8>,
    /// DER of the SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    /// DER of the GeneralNames of the subject's alternative names.
    pub alternative_names: Option<Vec<u8>>,
    /// Bits of [`key_usage`].
    pub key_usage: u16,
    /// Object identifiers.
    pub extended: Vec<&'static [u32]>,
    pub authority: bool,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// A certificate with its key, both in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Whom a certificate is for and what it may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    pub common_name: String,
    pub organizations: Vec<String>,
    /// DNS names and IP addresses.
    pub names: Vec<String>,
    pub server: bool,
    pub client: bool,
}

impl Profile {
    /// A client certificate: user and groups.
    pub fn client(user: &str, groups: &[&str]) -> Self {
        let organizations = groups.iter().map(|g| (*g).to_owned()).collect();
        Self { common_name: user.to_owned(), organizations, client: true, ..Self::default() }
    }

    /// A server certificate for DNS names and IP addresses.
    pub fn server(common_name: &str, names: &[String]) -> Self {
        Self { common_name: common_name.to_owned(), names: names.to_vec(), server: true, ..Self::default() }
    }
}

/// A certificate authority.
pub struct Authority {
    certificate: CertificateDer<'static>,
    key: KeyPair,
    subject: Vec<u8>,
    key_id: Vec<u8>,
    pub not_after: Timestamp,
}

/// Clocks may differ: certificates are valid from this long before they were made, but for such that live so shortly
/// that
/// a third of their life would be over.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

impl Authority {
    /// A new authority with a new key, as PEM.
    pub fn generate(common_name: &str, lifetime: SignedDuration, now: Timestamp) -> Result<Pair, PkiError> {
        let key = new_key()?;
        Ok(Pair { certificate: Self::certify(&key, common_name, lifetime, now)?, key: key.serialize_pem() })
    }

    /// The same authority with its key and name, valid anew: what it has signed stays good.
    pub fn renew(&self, common_name: &str, lifetime: SignedDuration, now: Timestamp) -> Result<String, PkiError> {
        Self::certify(&self.key, common_name, lifetime, now)
    }

    fn certify(key: &KeyPair, common_name: &str, lifetime: SignedDuration, now: Timestamp) -> Result<String, PkiError> {
        let template = Template {
            subject: name(common_name, &[]),
            public_key: key.subject_public_key_info(),
            alternative_names: Some(der::sequence(&[&der::implicit(2, common_name.as_bytes())])),
            key_usage: key_usage::DIGITAL_SIGNATURE | key_usage::KEY_ENCIPHERMENT | key_usage::CERT_SIGN,
            extended: Vec::new(),
            authority: true,
            not_before: now - BACKDATE,
            not_after: now + lifetime,
        };
        let key_id = key_id(&template.public_key);
        let signed = sign(&template, &template.subject, &key_id, key)
            .map_err(|why| PkiError::Sign { subject: common_name.to_owned(), why })?;
        Ok(pem("CERTIFICATE", &signed))
    }

    /// From PEM; the key must be the certificate's.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, PkiError> {
        let unreadable = |e: String| PkiError::Certificate(e);
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|e| unreadable(e.to_string()))?;
        let key = KeyPair::from_pem(key).map_err(|e| PkiError::Key(e.to_string()))?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|e| unreadable(e.to_string()))?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(PkiError::Mismatch);
        }
        let key_id = parsed.iter_extensions().find_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        let not_after =
            Timestamp::from_second(parsed.validity().not_after.timestamp()).map_err(|e| unreadable(e.to_string()))?;
        let subject = parsed.subject().as_raw().to_vec();
        let key_id = key_id.unwrap_or_else(|| self::key_id(parsed.public_key().raw));
        Ok(Self { certificate: der.into_owned(), key, subject, key_id, not_after })
    }

    pub fn der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// What pins this authority in a join token: `sha256:` and the hex SHA-256 of its SubjectPublicKeyInfo, as kubeadm.
    pub fn public_key_hash(&self) -> String {
        hash(&self.key.subject_public_key_info())
    }

    /// A new key with a certificate that ends no later than the authority's.
    pub fn issue(&self, profile: &Profile, lifetime: SignedDuration, now: Timestamp) -> Result<Pair, PkiError> {
        let key = new_key()?;
        let extended =
            [(profile.server, extended_key_usage::SERVER_AUTH), (profile.client, extended_key_usage::CLIENT_AUTH)];
        let template = Template {
            subject: name(&profile.common_name, &profile.organizations),
            public_key: key.subject_public_key_info(),
            alternative_names: (!profile.names.is_empty()).then(|| alternative_names(&profile.names)),
            key_usage: key_usage::DIGITAL_SIGNATURE | key_usage::KEY_ENCIPHERMENT,
            extended: extended.iter().filter(|(wanted, _)| *wanted).map(|(_, oid)| *oid).collect(),
            authority: false,
            not_before: now - BACKDATE.min(lifetime / 10),
            not_after: (now + lifetime).min(self.not_after),
        };
        let certificate =
            self.sign(&template).map_err(|why| PkiError::Sign { subject: profile.common_name.clone(), why })?;
        Ok(Pair { certificate: pem("CERTIFICATE", &certificate), key: key.serialize_pem() })
    }

    /// Signs a certificate; DER.
    pub(super) fn sign(&self, template: &Template) -> Result<Vec<u8>, String> {
        sign(template, &self.subject, &self.key_id, &self.key)
    }
}

/// `sha256:` and the hex SHA-256 of a DER SubjectPublicKeyInfo.
fn hash(public_key: &[u8]) -> String {
    format!("sha256:{}", crate::hex(ring::digest::digest(&ring::digest::SHA256, public_key).as_ref()))
}

/// [`Authority::public_key_hash`] of a certificate that someone presents.
pub fn public_key_hash(certificate: &CertificateDer<'_>) -> Result<String, PkiError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|e| PkiError::Certificate(e.to_string()))?;
    Ok(hash(parsed.public_key().raw))
}

fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate().map_err(|e| PkiError::Key(e.to_string()))
}

/// A distinguished name: organizations, then the common name.
fn name(common_name: &str, organizations: &[String]) -> Vec<u8> {
    let part = |arc: u32, text: &str| der::set(&[&der::sequence(&[&der::oid(&[2, 5, 4, arc]), &der::utf8(text)])]);
    let mut parts: Vec<Vec<u8>> = organizations.iter().map(|o| part(10, o)).collect();
    parts.push(part(3, common_name));
    der::sequence(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// GeneralNames of DNS names and IP addresses.
fn alternative_names(names: &[String]) -> Vec<u8> {
    let encoded: Vec<Vec<u8>> = names
        .iter()
        .map(|name| match name.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => der::implicit(7, &ip.octets()),
            Ok(IpAddr::V6(ip)) => der::implicit(7, &ip.octets()),
            Err(_) => der::implicit(2, name.as_bytes()),
        })
        .collect();
    der::sequence(&encoded.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// A key's identifier: the first 20 bytes of the SHA-256 of its SubjectPublicKeyInfo (RFC 7093, method 4).
fn key_id(public_key: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, public_key).as_ref()[..20].to_vec()
}

/// AlgorithmIdentifier of the signatures that a key makes.
fn signature_algorithm(key: &KeyPair) -> Result<Vec<u8>, String> {
    if key.algorithm() == &rcgen::PKCS_ECDSA_P256_SHA256 {
        Ok(der::sequence(&[&der::oid(&[1, 2, 840, 10045, 4, 3, 2])]))
    } else if key.algorithm() == &rcgen::PKCS_ECDSA_P384_SHA384 {
        Ok(der::sequence(&[&der::oid(&[1, 2, 840, 10045, 4, 3, 3])]))
    } else if key.algorithm() == &rcgen::PKCS_RSA_SHA256 {
        Ok(der::sequence(&[&der::oid(&[1, 2, 840, 113549, 1, 1, 11]), &[5, 0]]))
    } else {
        Err("the authority's key is neither ECDSA nor RSA".to_owned())
    }
}

/// Signs a certificate (RFC 5280, 4.1).
fn sign(template: &Template, issuer: &[u8], issuer_key_id: &[u8], key: &KeyPair) -> Result<Vec<u8>, String> {
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| "no random serial number".to_owned())?;
    serial[0] = serial[0] & 0x7f | 0x40;
    let algorithm = signature_algorithm(key)?;
    let tbs = der::sequence(&[
        &der::explicit(0, &der::integer(&[2])),
        &der::integer(&serial),
        &algorithm,
        issuer,
        &der::sequence(&[&der::time(template.not_before), &der::time(template.not_after)]),
        &template.subject,
        &template.public_key,
        &der::explicit(3, &extensions(template, issuer_key_id)),
    ]);
    let signature = key.sign(&tbs).map_err(|e| e.to_string())?;
    Ok(der::sequence(&[&tbs, &algorithm, &der::bits(&signature)]))
}

fn extensions(template: &Template, issuer_key_id: &[u8]) -> Vec<u8> {
    let extension = |arc: u32, critical: bool, content: &[u8]| {
        let critical = if critical { der::boolean(true) } else { Vec::new() };
        der::sequence(&[&der::oid(&[2, 5, 29, arc]), &critical, &der::octets(content)])
    };
    let constraints = if template.authority { der::boolean(true) } else { Vec::new() };
    let mut all = vec![extension(19, true, &der::sequence(&[&constraints]))];
    if template.key_usage != 0 {
        all.push(extension(15, true, &der::named_bits(template.key_usage)));
    }
    if !template.extended.is_empty() {
        let oids: Vec<Vec<u8>> = template.extended.iter().map(|arcs| der::oid(arcs)).collect();
        let oids: Vec<&[u8]> = oids.iter().map(Vec::as_slice).collect();
        all.push(extension(37, false, &der::sequence(&oids)));
    }
    if template.authority {
        all.push(extension(14, false, &der::octets(&key_id(&template.public_key))));
    }
    all.push(extension(35, false, &der::sequence(&[&der::implicit(0, issuer_key_id)])));
    if let Some(names) = &template.alternative_names {
        all.push(extension(17, false, names));
    }
    der::sequence(&all.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// PEM (RFC 7468).
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().map(|b| char::from(*b)));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}
