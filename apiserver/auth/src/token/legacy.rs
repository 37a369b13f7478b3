//! Tokens that live in Secrets of type `kubernetes.io/service-account-token`: no expiry, good while the Secret is.

use std::sync::Arc;

use api::{Object, object};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::Verified;
use super::claims::{self, Claims};
use super::keys::Keys;
use super::verify::{self, TokenError};
use crate::constant_time_eq;
use crate::objects::{Objects, SECRETS, SERVICE_ACCOUNTS};
use crate::user::{SERVICE_ACCOUNT_PREFIX, UserInfo};

/// The issuer of such tokens.
pub const ISSUER: &str = "kubernetes/serviceaccount";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Private {
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    account_uid: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
}

/// As [`super::Tokens::verify`], for tokens that live in Secrets.
pub fn verify(
    token: &str,
    keys: &Keys,
    api: &[String],
    wanted: &[String],
    objects: &dyn Objects,
) -> Result<Option<Verified>, TokenError> {
    let Some(public) = verify::signature(token, keys, &[ISSUER.to_owned()])? else { return Ok(None) };
    let parsed = claims::parse(token).ok_or(TokenError::Signature)?;
    let private: Private = serde_json::from_slice(&parsed.payload).map_err(|_| TokenError::Signature)?;
    let audiences = verify::audiences(&public, api, wanted)?;
    complete(&public, &private)?;
    check(token, &private, objects)?;
    let user = UserInfo::service_account(&private.namespace, &private.account, &private.account_uid);
    Ok(Some(Verified { user: Arc::new(user), audiences }))
}

fn complete(public: &Claims, private: &Private) -> Result<(), TokenError> {
    let claims = [
        ("sub", &public.sub),
        ("namespace", &private.namespace),
        ("secretName", &private.secret),
        ("serviceAccountName", &private.account),
        ("serviceAccountUID", &private.account_uid),
    ];
    for (name, value) in claims {
        if value.is_empty() {
            return Err(TokenError::Legacy(format!("{name} claim is missing")));
        }
    }
    if public.sub != format!("{SERVICE_ACCOUNT_PREFIX}{}:{}", private.namespace, private.account) {
        return Err(TokenError::Legacy("sub claim is invalid".to_owned()));
    }
    Ok(())
}

fn check(token: &str, private: &Private, objects: &dyn Objects) -> Result<(), TokenError> {
    let Private { account, account_uid, secret, namespace } = private;
    let invalidated = || TokenError::Legacy("Token has been invalidated".to_owned());
    let found = objects.get(&SECRETS, namespace, secret).ok_or_else(invalidated)?;
    if object::is_terminating(&found) {
        return Err(invalidated());
    }
    if !constant_time_eq(&data(&found, "token"), token.as_bytes()) {
        return Err(TokenError::Legacy("Token does not match server's copy".to_owned()));
    }
    let owner =
        objects.get(&SERVICE_ACCOUNTS, namespace, account).ok_or_else(|| TokenError::NoAccount(account.clone()))?;
    if object::is_terminating(&owner) {
        return Err(TokenError::Legacy(format!("ServiceAccount {namespace}/{account} has been deleted")));
    }
    let uid = object::uid(&owner);
    if uid != account_uid {
        let why = format!("ServiceAccount UID ({uid}) does not match claim ({account_uid})");
        return Err(TokenError::Legacy(why));
    }
    if !object::str_at(&found, &["metadata", "labels", INVALID_SINCE]).is_empty() {
        return Err(TokenError::Legacy(format!(
            "the token in secret {namespace}/{secret} for service account {namespace}/{account} has been marked \
             invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the \
             '{INVALID_SINCE}' label from the secret to temporarily allow use of this token"
        )));
    }
    Ok(())
}

/// A decoded entry of a Secret's `data`; empty when it is missing or no base64.
pub(crate) fn data(secret: &Object, key: &str) -> Vec<u8> {
    STANDARD.decode(object::str_at(secret, &["data", key])).unwrap_or_default()
}
