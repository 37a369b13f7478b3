//! Is this service-account token good: signature, issuer, audience, time, and the objects that it is bound to.

use api::{Gvr, Object, object};
use jiff::Timestamp;

use super::claims::{self, Claims, Ref};
use super::keys::Keys;
use crate::objects::{NODES, Objects, PODS, SECRETS, SERVICE_ACCOUNTS};
use crate::quoted;
use crate::user::UserInfo;

/// Clocks may differ by this much, in seconds (go-jose's `DefaultLeeway`); objects deleted less long ago still count.
const LEEWAY: i64 = 60;

/// Why a token is no good, in upstream's words (shown in `TokenReview.status.error`).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("invalid signature, no keys found")]
    NoKey,
    #[error("go-jose/go-jose: error in cryptographic primitive")]
    Signature,
    #[error("token audiences {} is invalid for the target audiences {}", quoted(found), quoted(wanted))]
    Audience { found: Vec<String>, wanted: Vec<String> },
    #[error("service account token has expired")]
    Expired,
    #[error("service account token is not valid yet")]
    NotYet,
    #[error("service account token is issued in the future")]
    IssuedInFuture,
    #[error("serviceaccounts {0:?} not found")]
    NoAccount(String),
    #[error("{kind} UID ({actual}) does not match {claim} claim ({claimed})")]
    Uid { kind: &'static str, claim: &'static str, actual: String, claimed: String },
    #[error("service account {0} has been deleted")]
    AccountDeleted(String),
    #[error("service account token has been invalidated")]
    Invalidated,
    /// A token that lives in a Secret is no good.
    #[error("{0}")]
    Legacy(String),
}

/// Checks signature and issuer. `Ok(None)` when it is no token of these issuers: another authenticator may know it.
pub fn signature(token: &str, keys: &Keys, issuers: &[String]) -> Result<Option<Claims>, TokenError> {
    let Some(parsed) = claims::parse(token) else { return Ok(None) };
    let Ok(claims) = serde_json::from_slice::<Claims>(&parsed.payload) else { return Ok(None) };
    if !issuers.contains(&claims.iss) {
        return Ok(None);
    }
    if keys.candidates(&parsed.key_id).next().is_none() {
        return Err(TokenError::NoKey);
    }
    if !claims::verified(&parsed, keys) {
        return Err(TokenError::Signature);
    }
    Ok(Some(claims))
}

/// Checks the token's times.
pub fn times(claims: &Claims, now: Timestamp) -> Result<(), TokenError> {
    let now = now.as_second();
    if claims.exp.is_some_and(|exp| now - LEEWAY > exp) {
        return Err(TokenError::Expired);
    }
    if claims.nbf.is_some_and(|nbf| now + LEEWAY < nbf) {
        return Err(TokenError::NotYet);
    }
    if claims.iat.is_some_and(|iat| now + LEEWAY < iat) {
        return Err(TokenError::IssuedInFuture);
    }
    Ok(())
}

/// The token's audiences that are wanted too; an error when there is none. A token without audiences is for the API.
pub fn audiences(claims: &Claims, api: &[String], wanted: &[String]) -> Result<Vec<String>, TokenError> {
    let found = if claims.aud.is_empty() { api } else { &claims.aud };
    let wanted = if wanted.is_empty() { api } else { wanted };
    let both: Vec<String> = found.iter().filter(|a| wanted.contains(a)).cloned().collect();
    if both.is_empty() {
        return Err(TokenError::Audience { found: found.to_vec(), wanted: wanted.to_vec() });
    }
    Ok(both)
}

/// Checks that the account and the object that the token is bound to still are the ones that it was issued for.
pub fn bindings(claims: &Claims, objects: &dyn Objects, now: Timestamp) -> Result<(), TokenError> {
    let bound = &claims.kubernetes;
    let account = &bound.serviceaccount;
    let found = objects
        .get(&SERVICE_ACCOUNTS, &bound.namespace, &account.name)
        .ok_or_else(|| TokenError::NoAccount(account.name.clone()))?;
    same_uid(&found, account, "service account", "")?;
    if gone(&found, now) {
        return Err(TokenError::AccountDeleted(format!("{}/{}", bound.namespace, account.name)));
    }
    if let Some(secret) = &bound.secret {
        alive(objects, &SECRETS, &bound.namespace, secret, ("secret", "service account secret ref"), now)?;
    }
    if let Some(pod) = &bound.pod {
        alive(objects, &PODS, &bound.namespace, pod, ("pod", "service account pod ref"), now)?;
    } else if let Some(node) = &bound.node {
        alive(objects, &NODES, "", node, ("node", "service account node ref"), now)?;
    }
    Ok(())
}

fn alive(
    objects: &dyn Objects,
    gvr: &Gvr,
    namespace: &str,
    claimed: &Ref,
    (kind, claim): (&'static str, &'static str),
    now: Timestamp,
) -> Result<(), TokenError> {
    let found = objects.get(gvr, namespace, &claimed.name).ok_or(TokenError::Invalidated)?;
    same_uid(&found, claimed, kind, claim)?;
    if gone(&found, now) { Err(TokenError::Invalidated) } else { Ok(()) }
}

fn same_uid(found: &Object, claimed: &Ref, kind: &'static str, claim: &'static str) -> Result<(), TokenError> {
    let actual = object::uid(found);
    if actual == claimed.uid {
        return Ok(());
    }
    Err(TokenError::Uid { kind, claim, actual: actual.to_owned(), claimed: claimed.uid.clone() })
}

/// Whether the object has been on its way out for longer than the leeway.
fn gone(found: &Object, now: Timestamp) -> bool {
    let deleted = object::meta_str(found, "deletionTimestamp");
    deleted.parse::<Timestamp>().is_ok_and(|at| at.as_second() < now.as_second() - LEEWAY)
}

/// The user that a good token stands for.
pub fn user(claims: &Claims) -> UserInfo {
    let bound = &claims.kubernetes;
    let mut user = UserInfo::service_account(&bound.namespace, &bound.serviceaccount.name, &bound.serviceaccount.uid);
    let mut extra = |key: &str, value: &str| {
        user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
    };
    if let Some(pod) = &bound.pod {
        extra("pod-name", &pod.name);
        extra("pod-uid", &pod.uid);
    }
    if let Some(node) = &bound.node {
        extra("node-name", &node.name);
        if !node.uid.is_empty() {
            extra("node-uid", &node.uid);
        }
    }
    if !claims.jti.is_empty() {
        extra("credential-id", &format!("JTI={}", claims.jti));
    }
    user
}
