//! CertificateSigningRequests: what they ask for, what each `kubernetes.io` signer accepts, and signing.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use rcgen::KeyPair;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509CertificationRequest};

use super::certificate::{Authority, PkiError, Profile, Template, extended_key_usage, key_usage, pem};
use crate::user::{GROUP_NODES, NODE_PREFIX};

pub const SIGNER_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub const SIGNER_KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub const SIGNER_KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
pub const SIGNER_LEGACY: &str = "kubernetes.io/legacy-unknown";

/// Longest and shortest life of a signed certificate.
const MAX_LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);
const MIN_LIFETIME: SignedDuration = SignedDuration::from_mins(10);
/// Certificates are valid from this long before they are signed; the end moves too unless life is short.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
const SHORT: SignedDuration = SignedDuration::from_hours(8);

/// A parsed PKCS #10 request whose signature holds.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
    /// As many as there are; their values are not looked at.
    pub emails: usize,
    pub uris: usize,
    subject: Vec<u8>,
    public_key: Vec<u8>,
    alternative_names: Option<Vec<u8>>,
}

impl Request {
    /// From PEM, `CERTIFICATE REQUEST` (`spec.request` decoded from base64).
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let der = CertificateSigningRequestDer::from_pem_slice(pem)
            .map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())?;
        let (_, parsed) = X509CertificationRequest::from_der(&der).map_err(|e| e.to_string())?;
        parsed.verify_signature().map_err(|e| format!("unable to verify certificate request signature: {e}"))?;
        let info = &parsed.certification_request_info;
        let texts = |values: Vec<&x509_parser::x509::AttributeTypeAndValue<'_>>| {
            values
                .iter()
                .map(|v| v.as_str().map(str::to_owned).map_err(|e| e.to_string()))
                .collect::<Result<Vec<_>, _>>()
        };
        let mut request = Self {
            common_name: texts(info.subject.iter_common_name().collect())?.pop().unwrap_or_default(),
            organizations: texts(info.subject.iter_organization().collect())?,
            subject: info.subject.as_raw().to_vec(),
            public_key: info.subject_pki.raw.to_vec(),
            ..Self::default()
        };
        for attribute in info.attributes() {
            let ParsedCriAttribute::ExtensionRequest(asked) = attribute.parsed_attribute() else { continue };
            for extension in &asked.extensions {
                if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
                    request.alternative_names = Some(extension.value.to_vec());
                    names.general_names.iter().try_for_each(|name| request.take_name(name))?;
                }
            }
        }
        Ok(request)
    }

    fn take_name(&mut self, name: &GeneralName<'_>) -> Result<(), String> {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => self.ip_addresses.push(ip_address(bytes)?),
            GeneralName::RFC822Name(_) => self.emails += 1,
            GeneralName::URI(_) => self.uris += 1,
            // Names of other kinds are no part of what signers look at, so they must not be signed unseen.
            other => return Err(format!("subjectAltName of an unsupported kind: {other:?}")),
        }
        Ok(())
    }
}

/// An `iPAddress` name: 4 or 16 octets (RFC 5280, 4.2.1.6).
fn ip_address(bytes: &[u8]) -> Result<IpAddr, String> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Ok(octets.into());
    }
    let octets = <[u8; 16]>::try_from(bytes);
    octets.map(IpAddr::from).map_err(|_| format!("x509: cannot parse IP address of length {}", bytes.len()))
}

/// Makes a key and a request for its certificate, both PEM: what a node sends to be let in.
pub fn generate(profile: &Profile) -> Result<(String, String), PkiError> {
    let failed = |e: rcgen::Error| PkiError::Sign { subject: profile.common_name.clone(), why: e.to_string() };
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = rcgen::CertificateParams::new(profile.names.clone()).map_err(failed)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(organization) = profile.organizations.first() {
        params.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
    }
    params.distinguished_name.push(rcgen::DnType::CommonName, &profile.common_name);
    let request = params.serialize_request(&key).and_then(|r| r.pem()).map_err(failed)?;
    Ok((request, key.serialize_pem()))
}

/// Whether the signer is one of ours and takes the request: `Ok(false)` when it is none, `Err` with upstream's message
/// for the condition `Failed`, reason `SignerValidationFailure`.
pub fn validate(signer: &str, request: &Request, usages: &[String]) -> Result<bool, String> {
    match signer {
        SIGNER_KUBELET_SERVING => validate_kubelet_serving(request, usages)?,
        SIGNER_KUBELET_CLIENT => validate_kubelet_client(request, usages)?,
        SIGNER_CLIENT => {
            let known = ["digital signature", "key encipherment", "client auth"];
            if let Some(other) = usages.iter().find(|u| !known.contains(&u.as_str())) {
                return Err(format!("invalid usage for client certificate: {other}"));
            }
            if !usages.iter().any(|u| u == "client auth") {
                return Err("missing required usage for client certificate: client auth".to_owned());
            }
        }
        SIGNER_LEGACY => {}
        _ => return Ok(false),
    }
    Ok(true)
}

/// Whether this asks for a node's client certificate (what the approver of node certificates recognizes).
pub fn validate_kubelet_client(request: &Request, usages: &[String]) -> Result<(), String> {
    is_of_nodes(request)?;
    let absent = [
        (request.dns_names.len(), "DNS"),
        (request.emails, "Email"),
        (request.ip_addresses.len(), "IP"),
        (request.uris, "URI"),
    ];
    not_allowed(&absent)?;
    is_named_node(request)?;
    has_usages(usages, "client auth")
}

/// Whether this asks for a node's serving certificate.
pub fn validate_kubelet_serving(request: &Request, usages: &[String]) -> Result<(), String> {
    is_of_nodes(request)?;
    if request.dns_names.is_empty() && request.ip_addresses.is_empty() {
        return Err("DNS or IP subjectAltName is required".to_owned());
    }
    not_allowed(&[(request.emails, "Email"), (request.uris, "URI")])?;
    has_usages(usages, "server auth")?;
    is_named_node(request)
}

fn is_of_nodes(request: &Request) -> Result<(), String> {
    if request.organizations == [GROUP_NODES] {
        return Ok(());
    }
    Err("subject organization is not system:nodes".to_owned())
}

fn is_named_node(request: &Request) -> Result<(), String> {
    if request.common_name.starts_with(NODE_PREFIX) {
        return Ok(());
    }
    Err("subject common name does not begin with system:node:".to_owned())
}

fn not_allowed(counts: &[(usize, &str)]) -> Result<(), String> {
    match counts.iter().find(|(count, _)| *count > 0) {
        Some((_, kind)) => Err(format!("{kind} subjectAltNames are not allowed")),
        None => Ok(()),
    }
}

/// Exactly digital signature and the purpose, with or without key encipherment.
fn has_usages(usages: &[String], purpose: &str) -> Result<(), String> {
    let has = |usage: &str| usages.iter().any(|u| u == usage);
    let known = |usage: &str| [purpose, "digital signature", "key encipherment"].contains(&usage);
    if has(purpose) && has("digital signature") && usages.iter().all(|u| known(u)) {
        return Ok(());
    }
    let mut wanted = [purpose, "digital signature", "key encipherment"];
    wanted.sort_unstable();
    Err(format!("usages did not match [{}]", wanted.join(" ")))
}

/// Signs a request as upstream's signers do: subject and alternative names as asked, usages as given, ended with the
/// authority at the latest. `expiration_seconds` is `spec.expirationSeconds`. PEM.
pub fn sign(
    request: &Request,
    usages: &[String],
    expiration_seconds: Option<i64>,
    authority: &Authority,
    now: Timestamp,
) -> Result<String, PkiError> {
    let failed = |why: String| PkiError::Sign { subject: request.common_name.clone(), why };
    let (key_usage, extended) = usage_bits(usages).map_err(failed)?;
    let lifetime = match expiration_seconds {
        Some(seconds) => SignedDuration::from_secs(seconds).clamp(MIN_LIFETIME, MAX_LIFETIME),
        None => MAX_LIFETIME,
    };
    if now >= authority.not_after {
        let why = format!("refusing to sign a certificate that expired in the past: NotAfter={}", authority.not_after);
        return Err(failed(why));
    }
    let end = if lifetime < SHORT { now + lifetime } else { now + lifetime - BACKDATE };
    let template = Template {
        subject: request.subject.clone(),
        public_key: request.public_key.clone(),
        alternative_names: request.alternative_names.clone(),
        key_usage,
        extended,
        authority: false,
        not_before: now - BACKDATE,
        not_after: end.min(authority.not_after),
    };
    Ok(pem("CERTIFICATE", &authority.sign(&template).map_err(failed)?))
}

/// Key usages of `spec.usages` (`certificates.k8s.io/v1 KeyUsage`).
fn usage_bits(usages: &[String]) -> Result<(u16, Vec<&'static [u32]>), String> {
    let mut bits = 0;
    let mut extended: Vec<&'static [u32]> = Vec::new();
    for usage in usages {
        bits |= match usage.as_str() {
            "signing" | "digital signature" => key_usage::DIGITAL_SIGNATURE,
            "content commitment" => key_usage::CONTENT_COMMITMENT,
            "key encipherment" => key_usage::KEY_ENCIPHERMENT,
            "key agreement" => key_usage::KEY_AGREEMENT,
            "data encipherment" => key_usage::DATA_ENCIPHERMENT,
            "cert sign" => key_usage::CERT_SIGN,
            "crl sign" => key_usage::CRL_SIGN,
            "encipher only" => key_usage::ENCIPHER_ONLY,
            "decipher only" => key_usage::DECIPHER_ONLY,
            other => {
                let (_, oid) = EXTENDED
                    .iter()
                    .find(|(name, _)| *name == other)
                    .ok_or_else(|| format!("unrecognized usage values: [{other:?}]"))?;
                if !extended.contains(oid) {
                    extended.push(oid);
                }
                0
            }
        };
    }
    Ok((bits, extended))
}

const EXTENDED: &[(&str, &[u32])] = &[
    ("any", &[2, 5, 29, 37, 0]),
    ("server auth", extended_key_usage::SERVER_AUTH),
    ("client auth", extended_key_usage::CLIENT_AUTH),
    ("code signing", &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", &[2, 16, 840, 1, 113730, 4, 1]),
];
