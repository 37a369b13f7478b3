//! Keys that sign and verify service-account tokens: ECDSA P-256 (our own) and RSA (a cluster made by kubeadm).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, KeyPair as _, RsaKeyPair, UnparsedPublicKey};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey as ParsedKey;

use crate::pki::der;

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("read service account key: no PEM private or public key in it: {0}")]
    Pem(String),
    #[error("read service account key: neither ECDSA P-256 nor RSA of at least 2048 bits: {0}")]
    Unsupported(String),
}

/// JSON Web Algorithms that we sign and verify with (RFC 7518).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Es256,
    Rs256,
}

impl Algorithm {
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }

    fn verification(self) -> &'static dyn signature::VerificationAlgorithm {
        match self {
            Self::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

/// A key that tokens are verified with.
#[derive(Clone, Debug)]
pub struct PublicKey {
    /// Upstream's key id: URL-safe base64 of the SHA-256 of the key's DER form.
    pub id: String,
    pub algorithm: Algorithm,
    /// The key itself, as `ring` takes it: the curve point, or the DER of an RSAPublicKey.
    key: Vec<u8>,
    spki: Vec<u8>,
    jwk: Value,
}

impl PublicKey {
    /// From a DER SubjectPublicKeyInfo.
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        let unsupported = |what: String| KeyError::Unsupported(what);
        let (_, info) = SubjectPublicKeyInfo::from_der(spki).map_err(|e| unsupported(e.to_string()))?;
        let id = URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, spki));
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (algorithm, parameters) = match info.parsed().map_err(|e| unsupported(e.to_string()))? {
            ParsedKey::EC(point) if point.data().len() == 65 => {
                let (x, y) = point.data()[1..].split_at(32);
                (Algorithm::Es256, json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)}))
            }
            ParsedKey::RSA(rsa) if rsa.key_size() >= 2048 => {
                let strip = |bytes: &[u8]| encode(&bytes[bytes.iter().take_while(|b| **b == 0).count()..]);
                (Algorithm::Rs256, json!({"kty": "RSA", "n": strip(rsa.modulus), "e": strip(rsa.exponent)}))
            }
            _ => return Err(unsupported(info.algorithm.algorithm.to_string())),
        };
        let mut jwk = json!({"use": "sig", "kid": id, "alg": algorithm.name()});
        if let (Value::Object(jwk), Value::Object(parameters)) = (&mut jwk, parameters) {
            jwk.extend(parameters);
        }
        Ok(Self { id, algorithm, key: info.subject_public_key.data.to_vec(), spki: spki.to_vec(), jwk })
    }

    /// From PEM, `PUBLIC KEY`.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let spki =
            rustls_pki_types::SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|e| KeyError::Pem(e.to_string()))?;
        Self::from_spki(&spki)
    }

    /// The key as a DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm.verification(), &self.key).verify(message, signature).is_ok()
    }

    /// The key as a JSON Web Key (RFC 7517).
    pub fn jwk(&self) -> &Value {
        &self.jwk
    }
}

enum Secret {
    Ec(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

/// The key that tokens are signed with, and those that they are verified with (the signing key among them).
pub struct Keys {
    secret: Secret,
    /// The first is the signing key's.
    public: Vec<PublicKey>,
    random: SystemRandom,
}

impl Keys {
    /// `signing` is the PEM of a private key; `older` are PEM public keys whose tokens are still good.
    pub fn from_pem(signing: &[u8], older: &[&[u8]]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let der = PrivateKeyDer::from_pem_slice(signing).map_err(|e| KeyError::Pem(e.to_string()))?;
        let (secret, spki) = read_secret(&der, &random)?;
        let mut public = vec![PublicKey::from_spki(&spki)?];
        for pem in older {
            let key = PublicKey::from_pem(pem)?;
            if public.iter().all(|k| k.id != key.id) {
                public.push(key);
            }
        }
        Ok(Self { secret, public, random })
    }

    pub fn signing_key(&self) -> &PublicKey {
        &self.public[0]
    }

    pub fn public(&self) -> &[PublicKey] {
        &self.public
    }

    /// Keys to try for a token: that with the id, or all when the token names none.
    pub fn candidates<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a PublicKey> {
        self.public.iter().filter(move |k| id.is_empty() || k.id == id)
    }

    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ring::error::Unspecified> {
        match &self.secret {
            Secret::Ec(pair) => Ok(pair.sign(&self.random, message)?.as_ref().to_vec()),
            Secret::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &self.random, message, &mut signature)?;
                Ok(signature)
            }
        }
    }
}

fn read_secret(key: &PrivateKeyDer<'_>, random: &SystemRandom) -> Result<(Secret, Vec<u8>), KeyError> {
    let rejected = |e: ring::error::KeyRejected| KeyError::Unsupported(e.to_string());
    if let PrivateKeyDer::Pkcs8(key) = key {
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(algorithm, key.secret_pkcs8_der(), random) {
            let spki = der::public_key_info(&der::EC_P256, pair.public_key().as_ref());
            return Ok((Secret::Ec(Box::new(pair)), spki));
        }
    }
    let pair = match key {
        PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).map_err(rejected)?,
        PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()).map_err(rejected)?,
        _ => return Err(KeyError::Unsupported("not in PKCS#8 form".to_owned())),
    };
    let spki = der::public_key_info(&der::RSA, pair.public().as_ref());
    Ok((Secret::Rsa(Box::new(pair)), spki))
}
