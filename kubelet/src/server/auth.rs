//! May they: the API server's own client may; everybody else is asked for by a SubjectAccessReview, whose answers are
//! kept for a while.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::Api;
use http::{HeaderMap, Method, StatusCode};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::agent::Agent;

use super::identity::{self, User};

const ALLOWED: Duration = Duration::from_secs(300);
const DENIED: Duration = Duration::from_secs(30);
/// Kept answers; more than that, and all are forgotten.
const KEPT: usize = 1024;
/// TokenReviews that are asked for at a time; more wait.
const REVIEWS: usize = 16;

/// SHA-256 of a token.
type Digest = [u8; 32];

type Question = (User, &'static str, &'static str);

/// Decides on requests.
pub(super) struct Authorizer {
    agent: Arc<Agent>,
    answers: Mutex<HashMap<Question, (bool, Instant)>>,
    /// By the tokens' digests: whoever sends long ones takes no more memory for it.
    tokens: Mutex<HashMap<Digest, (Option<User>, Instant)>>,
    /// TokenReviews at a time: a crowd with made-up tokens is not led on to the API server all at once.
    turns: Semaphore,
}

/// The subresources of `nodes` that stand for a path; the second is what was asked for before there was the first.
pub(super) fn subresources(path: &str) -> &'static [&'static str] {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or("");
    match first {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

impl Authorizer {
    pub fn new(agent: Arc<Agent>) -> Self {
        Self { agent, answers: Mutex::default(), tokens: Mutex::default(), turns: Semaphore::new(REVIEWS) }
    }

    /// Who asks: the user of the connection's certificate, or else of the request's token.
    ///
    /// # Errors
    /// The status and text of the refusal: nobody, or it could not be found out.
    pub async fn identify(&self, user: Option<User>, headers: &HeaderMap) -> Result<User, (StatusCode, String)> {
        let unauthorized = || (StatusCode::UNAUTHORIZED, "Unauthorized".to_owned());
        match (user, bearer(headers)) {
            (Some(user), _) => Ok(user),
            (None, Some(token)) => self.token(token).await?.ok_or_else(unauthorized),
            (None, None) => Err(unauthorized()),
        }
    }

    /// Lets a user's request pass, or says why not.
    ///
    /// # Errors
    /// The status and text of the refusal.
    pub async fn check(&self, user: User, method: &Method, path: &str) -> Result<(), (StatusCode, String)> {
        if self.agent.config.trusted_users.contains(&user.name) || user.groups.iter().any(|g| g == "system:masters") {
            return Ok(());
        }
        let verb = verb(method);
        for &subresource in subresources(path) {
            if self.allowed(&user, verb, subresource).await? {
                return Ok(());
            }
        }
        let name = &self.agent.config.node_name;
        let asked = subresources(path).first().copied().unwrap_or("proxy");
        Err((
            StatusCode::FORBIDDEN,
            format!(
                "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{asked}], name={name})",
                user.name
            ),
        ))
    }

    async fn token(&self, token: &str) -> Result<Option<User>, (StatusCode, String)> {
        let now = Instant::now();
        let digest: Digest = Sha256::digest(token).into();
        let kept = self.tokens.lock().get(&digest).filter(|(_, until)| *until > now).map(|(user, _)| user.clone());
        if let Some(user) = kept {
            return Ok(user);
        }
        let _turn = self.turns.acquire().await.map_err(|e| unavailable(e.to_string()))?;
        let user = identity::of_token(&self.agent.client, token).await.map_err(unavailable)?;
        let mut tokens = self.tokens.lock();
        if tokens.len() >= KEPT {
            tokens.clear();
        }
        tokens.insert(digest, (user.clone(), now + DENIED));
        Ok(user)
    }

    async fn allowed(
        &self,
        user: &User,
        verb: &'static str,
        subresource: &'static str,
    ) -> Result<bool, (StatusCode, String)> {
        let question = (user.clone(), verb, subresource);
        let now = Instant::now();
        let kept = self.answers.lock().get(&question).filter(|(_, until)| *until > now).map(|(answer, _)| *answer);
        if let Some(answer) = kept {
            return Ok(answer);
        }
        let review = review(&self.agent.config.node_name, user, verb, subresource);
        let api: Api<SubjectAccessReview> = Api::all(self.agent.client.clone());
        let answer = api.create(&PostParams::default(), &review).await.map_err(|e| unavailable(crate::text(&e)))?;
        let allowed = answer.status.is_some_and(|s| s.allowed);
        let mut answers = self.answers.lock();
        if answers.len() >= KEPT {
            answers.clear();
        }
        answers.insert(question, (allowed, now + if allowed { ALLOWED } else { DENIED }));
        Ok(allowed)
    }
}

fn unavailable(error: String) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("Authorization error: {error}"))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::trim).filter(|t| !t.is_empty())
}

fn review(node: &str, user: &User, verb: &str, subresource: &str) -> SubjectAccessReview {
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: Some(user.uid.clone()).filter(|u| !u.is_empty()),
            groups: Some(user.groups.clone()),
            resource_attributes: Some(ResourceAttributes {
                version: Some("v1".to_owned()),
                resource: Some("nodes".to_owned()),
                subresource: Some(subresource.to_owned()),
                name: Some(node.to_owned()),
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_map_to_subresources() {
        for (path, want) in [
            ("/stats/summary", &["stats"][..]),
            ("/metrics/resource", &["metrics"]),
            ("/pods", &["pods", "proxy"]),
            ("/exec/ns/p/c", &["proxy"]),
            ("/containerLogs/ns/p/c", &["proxy"]),
        ] {
            assert_eq!(subresources(path), want, "{path}");
        }
    }
}
