//! Bootstrap tokens, `abcdef.0123456789abcdef`: how a machine that has nothing yet asks for its certificate. Each is a
//! Secret in kube-system (cluster-bootstrap `token/api`).

use std::collections::BTreeSet;

use api::{Object, object};
use jiff::Timestamp;

use super::authenticated;
use crate::constant_time_eq;
use crate::objects::{Objects, SECRETS};
use crate::token::legacy::data;
use crate::user::{BOOTSTRAP_PREFIX, GROUP_BOOTSTRAPPERS, UserInfo};

/// Namespace of the Secrets.
pub const NAMESPACE: &str = "kube-system";
/// The Secrets are named by this and the token's id.
pub const SECRET_PREFIX: &str = "bootstrap-token-";
/// `type` of the Secrets.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";

/// Takes a token apart into id and secret; `None` when it does not look like one.
pub fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let all = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && all(id) && all(secret)).then_some((id, secret))
}

/// The user of a bootstrap token; `None` when there is no such token or it may not be used for this (any more).
pub fn verify(token: &str, now: Timestamp, objects: &dyn Objects) -> Option<UserInfo> {
    let (id, secret) = parse(token)?;
    let found = objects.get(&SECRETS, NAMESPACE, &format!("{SECRET_PREFIX}{id}"))?;
    match check(&found, id, secret, now) {
        Ok(groups) => {
            let name = format!("{BOOTSTRAP_PREFIX}{id}");
            Some(authenticated(UserInfo { name, groups: groups.into_iter().collect(), ..UserInfo::default() }))
        }
        Err(why) => {
            tracing::debug!(id, why, "bootstrap token refused");
            None
        }
    }
}

/// The groups of the token, or why it is no good.
fn check(found: &Object, id: &str, secret: &str, now: Timestamp) -> Result<BTreeSet<String>, &'static str> {
    if object::is_terminating(found) {
        return Err("its Secret is deleted and awaiting removal");
    }
    if object::str_at(found, &["type"]) != SECRET_TYPE {
        return Err("its Secret is of another type");
    }
    if !constant_time_eq(&data(found, "token-secret"), secret.as_bytes()) {
        return Err("it has another secret");
    }
    if data(found, "token-id") != id.as_bytes() {
        return Err("its Secret has another id");
    }
    if has_expired(found, now) {
        return Err("it has expired");
    }
    if data(found, "usage-bootstrap-authentication") != b"true" {
        return Err("it is not for authentication");
    }
    groups(found).ok_or("it names a group that is none of bootstrappers")
}

/// Whether the token's time is over; one that cannot be read is.
pub fn has_expired(secret: &Object, now: Timestamp) -> bool {
    let expiration = data(secret, "expiration");
    if expiration.is_empty() {
        return false;
    }
    let at = std::str::from_utf8(&expiration).ok().and_then(|text| text.parse::<Timestamp>().ok());
    at.is_none_or(|at| at <= now)
}

/// `system:bootstrappers` and the token's extra groups.
fn groups(secret: &Object) -> Option<BTreeSet<String>> {
    let mut groups = BTreeSet::from([GROUP_BOOTSTRAPPERS.to_owned()]);
    let extra = String::from_utf8(data(secret, "auth-extra-groups")).ok()?;
    for group in extra.split(',').filter(|_| !extra.is_empty()) {
        let rest = group.strip_prefix("system:bootstrappers:")?;
        let (last, init) = rest.as_bytes().split_last()?;
        let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if init.len() > 255 || !plain(last) || !init.iter().all(|b| plain(b) || matches!(b, b':' | b'-')) {
            return None;
        }
        groups.insert(group.to_owned());
    }
    Some(groups)
}
