//! Service-account tokens: issuing, verifying, and publishing the keys they are verified with.

pub mod claims;
pub mod issue;
pub mod keys;
pub mod legacy;
pub mod oidc;
pub mod verify;

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::cache::Cache;
use crate::objects::{NODES, Objects, PODS, SECRETS, SERVICE_ACCOUNTS};
use crate::user::UserInfo;
use claims::Claims;
pub use keys::{KeyError, Keys};
pub use verify::TokenError;

/// The cluster's token issuer, which is also the API server's audience.
pub const DEFAULT_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// At most this many verified tokens are remembered.
const CACHED_TOKENS: usize = 8192;
/// A remembered token's objects are looked at again after this many seconds even when nothing changed.
const RECHECK_SECONDS: i64 = 10;

/// A good token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub user: Arc<UserInfo>,
    /// Those of the wanted audiences that the token is for.
    pub audiences: Vec<String>,
}

/// Issues and verifies service-account tokens.
pub struct Tokens {
    keys: Keys,
    /// The first signs; tokens of the others are still good.
    issuers: Vec<String>,
    /// The API server's own audiences.
    audiences: Vec<String>,
    cache: Cache<[u8; 32], Arc<Known>>,
}

/// A token whose signature was verified.
struct Known {
    claims: Claims,
    user: Arc<UserInfo>,
    seen: Mutex<Seen>,
}

/// When the objects of a token were last found good.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    accounts: u64,
    bound: u64,
    at: i64,
}

impl Tokens {
    /// `issuers` and `audiences` must not be empty; see [`DEFAULT_ISSUER`].
    pub fn new(keys: Keys, issuers: Vec<String>, audiences: Vec<String>) -> Self {
        Self { keys, issuers, audiences, cache: Cache::new(CACHED_TOKENS) }
    }

    /// Tokens of the default issuer and audience.
    pub fn with_defaults(keys: Keys) -> Self {
        Self::new(keys, vec![DEFAULT_ISSUER.to_owned()], vec![DEFAULT_ISSUER.to_owned()])
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    pub fn issuer(&self) -> &str {
        self.issuers.first().map_or(DEFAULT_ISSUER, String::as_str)
    }

    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// Verifies a token for the wanted audiences (the API's own when empty). `Ok(None)` when it is no token of ours.
    ///
    /// A token stops being good with the change that deletes what it is bound to, not after some time.
    pub fn verify(
        &self,
        token: &str,
        wanted: &[String],
        now: Timestamp,
        objects: &dyn Objects,
    ) -> Result<Option<Verified>, TokenError> {
        let digest = digest(token);
        let known = match self.cache.get(&digest) {
            Some(known) => known,
            None => {
                let Some(claims) = verify::signature(token, &self.keys, &self.issuers)? else {
                    return legacy::verify(token, &self.keys, &self.audiences, wanted, objects);
                };
                let seen = Mutex::new(Seen { accounts: 0, bound: 0, at: i64::MIN });
                let known = Arc::new(Known { user: Arc::new(verify::user(&claims)), claims, seen });
                self.cache.insert(digest, known.clone());
                known
            }
        };
        let audiences = verify::audiences(&known.claims, &self.audiences, wanted)?;
        verify::times(&known.claims, now)?;
        known.check(now, objects)?;
        Ok(Some(Verified { user: known.user.clone(), audiences }))
    }
}

impl Known {
    /// Looks at the token's objects unless nothing of their kinds changed since they were last found good.
    fn check(&self, now: Timestamp, objects: &dyn Objects) -> Result<(), TokenError> {
        let bound = &self.claims.kubernetes;
        let kind = match (&bound.pod, &bound.secret, &bound.node) {
            (Some(_), _, _) => Some(&PODS),
            (_, Some(_), _) => Some(&SECRETS),
            (_, _, Some(_)) => Some(&NODES),
            _ => None,
        };
        let at = now.as_second();
        let accounts = objects.generation(&SERVICE_ACCOUNTS);
        let bound = kind.map_or(0, |gvr| objects.generation(gvr));
        let seen = *self.seen.lock();
        let fresh = at >= seen.at && at.saturating_sub(seen.at) < RECHECK_SECONDS;
        if fresh && (seen.accounts, seen.bound) == (accounts, bound) {
            return Ok(());
        }
        verify::bindings(&self.claims, objects, now)?;
        *self.seen.lock() = Seen { accounts, bound, at };
        Ok(())
    }
}

fn digest(token: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref());
    out
}

#[cfg(test)]
mod tests;
