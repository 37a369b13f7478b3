//! Deletes bootstrap tokens (Secrets of type `bootstrap.kubernetes.io/token`) when they have expired.

use std::sync::Arc;

use anyhow::Context as _;
use client::Api;
use client::informer::key_of;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{DeleteParams, Preconditions};

use crate::context::{Context, is_code};

const NAME: &str = "token-cleaner";
const NAMESPACE: &str = "kube-system";
/// Timers are no longer than this: a clock that is set must not make them wrong for long.
const LONGEST: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

pub fn start(context: &Arc<Context>) {
    let queue = context.queue();
    let changed = queue.clone();
    context.bootstrap_tokens.on_change(move |change| changed.add(key_of(&**change.object())));
    let tokens = context.bootstrap_tokens.clone();
    let ready = async move { tokens.synced().await };
    let (client, context_, again) = (context.client(NAME), Arc::clone(context), queue.clone());
    context.spawn(NAME, queue, 1, ready, move |key| {
        let (client, context, again) = (client.clone(), Arc::clone(&context_), again.clone());
        async move {
            let Some(secret) = context.bootstrap_tokens.get(&key.namespace, &key.name) else { return Ok(()) };
            let now = Timestamp::now();
            match expiration(&secret) {
                None => Ok(()),
                Some(at) if at > now => {
                    again.add_after(key, now.duration_until(at).min(LONGEST).unsigned_abs());
                    Ok(())
                }
                Some(_) => delete(&Api::namespaced(client, NAMESPACE), &secret).await,
            }
        }
    });
}

/// When a token expires, if ever. One whose time cannot be read has expired.
fn expiration(secret: &Secret) -> Option<Timestamp> {
    let text = secret.data.as_ref()?.get("expiration").filter(|text| !text.0.is_empty())?;
    let parsed = std::str::from_utf8(&text.0).ok().and_then(|text| text.trim().parse().ok());
    Some(parsed.unwrap_or(Timestamp::UNIX_EPOCH))
}

async fn delete(api: &Api<Secret>, secret: &Secret) -> anyhow::Result<()> {
    let preconditions = Some(Preconditions { uid: secret.uid(), resource_version: None });
    let name = secret.name_any();
    match api.delete(&name, &DeleteParams { preconditions, ..DeleteParams::default() }).await {
        // It is gone, or another by now.
        Err(error) if is_code(&error, 404) || is_code(&error, 409) => Ok(()),
        result => result.map(drop).with_context(|| format!("delete expired token {name}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn expirations() {
        let secret = |text: Option<&str>| Secret {
            data: text.map(|text| [("expiration".to_owned(), ByteString(text.as_bytes().to_vec()))].into()),
            ..Secret::default()
        };
        assert_eq!(expiration(&secret(None)), None);
        assert_eq!(expiration(&secret(Some(""))), None);
        assert_eq!(expiration(&secret(Some("2026-01-01T00:00:00Z"))).unwrap().to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(expiration(&secret(Some("2026-01-01T02:00:00+02:00"))).unwrap().to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(expiration(&secret(Some("soon"))), Some(Timestamp::UNIX_EPOCH));
    }
}
