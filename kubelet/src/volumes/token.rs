//! Service account tokens of Pods: asked of the API, kept, and renewed at 80 % of their life.

use std::collections::HashMap;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;

use crate::spec;
use crate::time::{self, Nanos, SECOND};

/// A token is at the latest renewed after a day, whatever its life.
const LONGEST: Nanos = 24 * 3600 * SECOND;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    pod: String,
    account: String,
    audience: String,
    seconds: i64,
}

#[derive(Clone, Debug)]
struct Kept {
    token: String,
    refresh_at: Nanos,
    expires_at: Nanos,
}

/// The tokens of this node's Pods.
#[derive(Default)]
pub struct Tokens {
    kept: Mutex<HashMap<Key, Kept>>,
}

impl Tokens {
    /// A token bound to the Pod, and when to come again for the next.
    ///
    /// # Errors
    /// The API refuses one and none that is still valid is kept.
    pub async fn get(
        &self,
        client: &kube::Client,
        pod: &Pod,
        audience: &str,
        seconds: i64,
    ) -> Result<(String, Nanos), String> {
        let account = spec::spec(pod).service_account_name.clone().filter(|s| !s.is_empty());
        let account = account.unwrap_or_else(|| "default".to_owned());
        let key = Key { pod: spec::uid(pod).to_owned(), account, audience: audience.to_owned(), seconds };
        let kept = self.kept.lock().get(&key).cloned();
        let now = time::now();
        if let Some(kept) = kept.as_ref().filter(|k| k.refresh_at > now) {
            return Ok((kept.token.clone(), kept.refresh_at));
        }
        match request(client, pod, &key, now).await {
            Ok(fresh) => {
                let answer = (fresh.token.clone(), fresh.refresh_at);
                self.kept.lock().insert(key, fresh);
                Ok(answer)
            }
            // The old one still works; another try in a while.
            Err(error) => match kept.filter(|k| k.expires_at > now) {
                Some(kept) => {
                    tracing::warn!(pod = %spec::format(pod), %error, "renewing a service account token failed");
                    Ok((kept.token, (now + 30 * SECOND).min(kept.expires_at)))
                }
                None => Err(error),
            },
        }
    }

    /// Forgets the tokens of a Pod that is gone.
    pub fn forget(&self, pod_uid: &str) {
        self.kept.lock().retain(|key, _| key.pod != pod_uid);
    }
}

async fn request(client: &kube::Client, pod: &Pod, key: &Key, now: Nanos) -> Result<Kept, String> {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), spec::namespace(pod));
    let body = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: (!key.audience.is_empty()).then(|| vec![key.audience.clone()]),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
            expiration_seconds: Some(key.seconds),
        }),
        ..TokenRequest::default()
    };
    let answer = api
        .create_token_request(&key.account, &PostParams::default(), &body)
        .await
        .map_err(|e| format!("failed to fetch token: {}", crate::text(&e)))?;
    let status = answer.status.unwrap_or_default();
    let (Some(token), Some(expires)) = (status.token, status.expiration_timestamp) else {
        return Err("failed to fetch token: the answer has none".to_owned());
    };
    let expires_at = time::nanos_of(&expires);
    let life = (expires_at - now).max(0);
    Ok(Kept { token, refresh_at: now + (life / 5 * 4).min(LONGEST), expires_at })
}
