//! What a service-account token says (upstream's `pkg/serviceaccount` claims), and JWS compact form (RFC 7515).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize};

use super::keys::Keys;

/// An object by name and UID.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ref {
    #[serde(default)]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// The claim `kubernetes.io`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kubernetes {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Ref>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Ref>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Ref>,
    #[serde(default)]
    pub serviceaccount: Ref,
    /// Unix seconds after which the use of the token is noted: it lives longer than was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// All claims. Times are Unix seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub aud: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    #[serde(default)]
    pub iss: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    #[serde(rename = "kubernetes.io", default)]
    pub kubernetes: Kubernetes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    #[serde(default)]
    pub sub: String,
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

/// A token taken apart; nothing of it is verified.
#[derive(Debug)]
pub struct Parsed<'a> {
    pub algorithm: String,
    pub key_id: String,
    /// The decoded payload.
    pub payload: Vec<u8>,
    /// What the signature covers.
    pub signed: &'a str,
    pub signature: Vec<u8>,
}

/// Takes a JWS in compact form apart; `None` when it is none.
pub fn parse(token: &str) -> Option<Parsed<'_>> {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
        #[serde(default)]
        kid: String,
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    if payload.contains('.') {
        return None;
    }
    let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    Some(Parsed {
        algorithm: header.alg,
        key_id: header.kid,
        payload: URL_SAFE_NO_PAD.decode(payload).ok()?,
        signed,
        signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
    })
}

/// Whether the token was signed by one of the keys.
pub fn verified(parsed: &Parsed<'_>, keys: &Keys) -> bool {
    keys.candidates(&parsed.key_id)
        .filter(|key| key.algorithm.name() == parsed.algorithm)
        .any(|key| key.verify(parsed.signed.as_bytes(), &parsed.signature))
}

/// Signs claims into a token.
pub fn sign<T: Serialize>(claims: &T, keys: &Keys) -> Result<String, SignError> {
    let key = keys.signing_key();
    let header = format!(r#"{{"alg":"{}","kid":"{}"}}"#, key.algorithm.name(), key.id);
    let payload = serde_json::to_vec(claims)?;
    let mut token = URL_SAFE_NO_PAD.encode(header);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut token);
    let signature = keys.sign(token.as_bytes()).map_err(|_| SignError::Key)?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}

#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("sign token: claims do not encode: {0}")]
    Claims(#[from] serde_json::Error),
    #[error("sign token: the signing key failed")]
    Key,
}
