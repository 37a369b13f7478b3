//! Who makes this request: client certificate, service-account token, bootstrap token.

pub mod bootstrap;
pub mod impersonation;
pub mod x509;

use std::sync::Arc;

use api::Status;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use crate::objects::Objects;
use crate::token::{Tokens, Verified};
use crate::user::{GROUP_AUTHENTICATED, UserInfo};
use x509::ClientCertificates;

/// All ways in which a request can prove who makes it.
pub struct Authenticator {
    certificates: ClientCertificates,
    tokens: Arc<Tokens>,
}

impl Authenticator {
    pub fn new(certificates: ClientCertificates, tokens: Arc<Tokens>) -> Self {
        Self { certificates, tokens }
    }

    /// The user, or `None` when the request carries no credentials: then it is [`UserInfo::anonymous`]'s.
    /// Credentials of which none is good are a 401.
    ///
    /// `peer_certs` is the client's chain, leaf first, of which TLS has proven the possession of the key and nothing
    /// else; `bearer` is the token of an `Authorization: Bearer` header.
    pub fn authenticate(
        &self,
        peer_certs: &[CertificateDer<'_>],
        bearer: Option<&str>,
        now: Timestamp,
        objects: &dyn Objects,
    ) -> Result<Option<Arc<UserInfo>>, Status> {
        let mut tried = false;
        if let Some((leaf, intermediates)) = peer_certs.split_first() {
            tried = true;
            match self.certificates.verify(leaf, intermediates, now) {
                Ok(user) => return Ok(Some(user)),
                Err(why) => tracing::debug!(%why, "client certificate refused"),
            }
        }
        if let Some(token) = bearer.map(str::trim).filter(|t| !t.is_empty()) {
            tried = true;
            match self.token(token, &[], now, objects) {
                Ok(Some(verified)) => return Ok(Some(verified.user)),
                Ok(None) => tracing::debug!("bearer token is of no known kind"),
                Err(why) => tracing::debug!(%why, "bearer token refused"),
            }
        }
        if tried { Err(Status::unauthorized()) } else { Ok(None) }
    }

    /// Verifies a token of any kind for the wanted audiences (the API's own when empty). `Err` has the reason that a
    /// TokenReview shows.
    pub fn token(
        &self,
        token: &str,
        wanted: &[String],
        now: Timestamp,
        objects: &dyn Objects,
    ) -> Result<Option<Verified>, String> {
        if let Some(verified) = self.tokens.verify(token, wanted, now, objects).map_err(|e| e.to_string())? {
            return Ok(Some(verified));
        }
        let api = self.tokens.audiences();
        let audiences: Vec<String> = api.iter().filter(|a| wanted.is_empty() || wanted.contains(a)).cloned().collect();
        let Some(user) = bootstrap::verify(token, now, objects) else { return Ok(None) };
        if audiences.is_empty() {
            return Ok(None);
        }
        Ok(Some(Verified { user: Arc::new(user), audiences }))
    }

    pub fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }
}

/// Adds `system:authenticated`, which every user has that proved who it is.
pub(crate) fn authenticated(mut user: UserInfo) -> UserInfo {
    if !user.in_group(GROUP_AUTHENTICATED) {
        user.groups.push(GROUP_AUTHENTICATED.to_owned());
    }
    user
}

#[cfg(test)]
mod tests;
