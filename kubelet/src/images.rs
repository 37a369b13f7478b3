//! Having a container's image on the node: pull policies, back-off, events and states with upstream's words.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use kubelet_runtime::cri::{Auth, Error};
use parking_lot::Mutex;
use serde::Deserialize;

use crate::agent::Agent;
use crate::backoff::{self, Entry};
use crate::events::Type;
use crate::security::ImageUser;
use crate::spec;
use crate::time::{self, Nanos, go_duration};

/// The image is there.
#[derive(Clone, Debug)]
pub struct Ready {
    pub id: String,
    pub user: ImageUser,
}

/// It is not: what the container's waiting state says, and when to try again.
#[derive(Clone, Debug)]
pub struct Failure {
    pub reason: &'static str,
    pub message: String,
    pub retry_at: Nanos,
}

struct Failed {
    entry: Entry,
    message: String,
}

/// Pull back-off by Pod and image.
#[derive(Default)]
pub struct Images {
    failed: Mutex<HashMap<(String, String), Failed>>,
}

impl Images {
    /// Forgets the back-off of a Pod that is gone.
    pub fn forget(&self, pod_uid: &str) {
        self.failed.lock().retain(|(uid, _), _| uid != pod_uid);
    }

    /// Whether the image is in back-off: until when, and the last error.
    fn waiting(&self, key: &(String, String), now: Nanos) -> Option<(Nanos, String)> {
        let failed = self.failed.lock();
        let last = failed.get(key)?;
        let until = backoff::RESTART.wait_until(Some(&last.entry), last.entry.updated, now)?;
        Some((until, last.message.clone()))
    }

    fn failed(&self, key: (String, String), message: String, now: Nanos) -> Nanos {
        let mut failed = self.failed.lock();
        let entry = backoff::RESTART.next(failed.get(&key).map(|f| &f.entry), now, now);
        failed.insert(key, Failed { entry, message });
        now + entry.wait
    }
}

/// Adds the tag `latest` to a reference without tag and digest.
///
/// # Errors
/// It is no reference.
pub fn with_tag(image: &str) -> Result<String, String> {
    let invalid = || format!("couldn't parse image name {image:?}: invalid reference format");
    let upper = image.split(['@', ':']).next().unwrap_or("");
    let path = upper.split_once('/').map_or(upper, |(_, path)| path);
    let bad = |c: char| c.is_whitespace() || c.is_control();
    if image.is_empty()
        || image.contains(bad)
        || image.starts_with(['/', ':', '@', '-'])
        || image.ends_with([':', '@', '/'])
    {
        return Err(invalid());
    }
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(format!(
            "couldn't parse image name {image:?}: invalid reference format: repository name must be lowercase"
        ));
    }
    let last = image.rsplit('/').next().unwrap_or("");
    if image.contains('@') || last.contains(':') { Ok(image.to_owned()) } else { Ok(format!("{image}:latest")) }
}

/// Makes sure that the container's image is on the node, as its pull policy says.
pub async fn ensure(agent: &Agent, pod: &Pod, container: &Container) -> Result<Ready, Failure> {
    let name = &container.name;
    let requested = container.image.as_deref().unwrap_or("");
    let say = |kind, reason, message: &str| agent.recorder.container(pod, name, kind, reason, message);
    let never = |reason, message: String| Failure { reason, message, retry_at: time::now() + RETRY };
    let result = async {
        let image = with_tag(requested).map_err(|error| {
            let message = format!("Failed to apply default image tag {requested:?}: {error}");
            say(Type::Warning, "InspectFailed", &message);
            never("InvalidImageName", message)
        })?;
        let policy = spec::pull_policy(container);
        if policy != "Always" {
            let found = agent.runtime.image_status(&image).await.map_err(|error| {
                let message = format!("Failed to inspect image \"\": {error}");
                say(Type::Warning, "InspectFailed", &message);
                never("ImageInspectError", message)
            })?;
            if let Some(found) = found {
                let message =
                    format!("Container image {requested:?} already present on machine and can be accessed by the pod");
                say(Type::Normal, "Pulled", &message);
                return Ok(ready(found));
            }
            if policy == "Never" {
                let message = format!("Container image {requested:?} is not present with pull policy of Never");
                say(Type::Warning, "ErrImageNeverPull", &message);
                return Err(never("ErrImageNeverPull", message));
            }
        }
        pull(agent, pod, name, requested, &image).await
    }
    .await;
    if let Err(failure) = &result {
        say(Type::Warning, "Failed", &format!("Error: {}", failure.reason));
    }
    result
}

/// Between tries of what needs no registry.
const RETRY: Nanos = 10 * time::SECOND;

fn ready(image: kubelet_runtime::cri::Image) -> Ready {
    Ready { id: image.id, user: ImageUser { uid: image.uid, username: image.username } }
}

async fn pull(agent: &Agent, pod: &Pod, name: &str, requested: &str, image: &str) -> Result<Ready, Failure> {
    let say = |kind, reason, message: &str| agent.recorder.container(pod, name, kind, reason, message);
    let key = (spec::uid(pod).to_owned(), requested.to_owned());
    if let Some((retry_at, last)) = agent.images.waiting(&key, time::now()) {
        let message = format!("Back-off pulling image {requested:?}");
        say(Type::Normal, "BackOff", &message);
        return Err(Failure { reason: "ImagePullBackOff", message: format!("{message}: {last}"), retry_at });
    }
    say(Type::Normal, "Pulling", &format!("Pulling image {requested:?}"));
    let began = time::now();
    match pull_with_secrets(agent, pod, image).await {
        Ok(found) => {
            let took = go_duration((time::now() - began) / 1_000_000 * 1_000_000);
            say(
                Type::Normal,
                "Pulled",
                &format!(
                    "Successfully pulled image {requested:?} in {took} ({took} including waiting). \
                     Image size: {} bytes.",
                    found.size
                ),
            );
            agent.images.failed.lock().remove(&key);
            agent.node_changed.notify_one();
            Ok(ready(found))
        }
        Err(error) => {
            let text = error.to_string();
            say(Type::Warning, "Failed", &format!("Failed to pull image {requested:?}: {text}"));
            let until = agent.images.failed(key, format!("ErrImagePull: {text}"), time::now());
            // Soon it shows as ImagePullBackOff, and stays so until the next pull.
            let retry_at = until.min(time::now() + 2 * time::SECOND);
            Err(Failure { reason: "ErrImagePull", message: text, retry_at })
        }
    }
}

/// Tries the Pod's credentials for the image's registry in turn, or none when there are none.
async fn pull_with_secrets(agent: &Agent, pod: &Pod, image: &str) -> Result<kubelet_runtime::cri::Image, Error> {
    let mut auths: Vec<Option<Auth>> = credentials(agent, pod, image).await.into_iter().map(Some).collect();
    if auths.is_empty() {
        auths.push(None);
    }
    let mut last = Error::Pull("no credentials".to_owned());
    for auth in auths {
        match agent.runtime.pull_image(image, auth).await {
            Ok(id) => {
                let found = agent.runtime.image_status(&id).await?;
                return found.ok_or_else(|| Error::Image(format!("image {image:?} is gone right after it was pulled")));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: HashMap<String, DockerAuth>,
}

#[derive(Default, Deserialize)]
struct DockerAuth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default)]
    registrytoken: String,
}

async fn credentials(agent: &Agent, pod: &Pod, image: &str) -> Vec<Auth> {
    let mut found = Vec::new();
    for reference in spec::spec(pod).image_pull_secrets.iter().flatten() {
        match agent.secrets.get(spec::namespace(pod), &reference.name, spec::uid(pod)).await {
            Ok(Some(secret)) => found.extend(auths(&secret, image)),
            Ok(None) => {
                let message = format!(
                    "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                    reference.name
                );
                agent.recorder.pod(pod, Type::Warning, "FailedToRetrieveImagePullSecret", message);
            }
            Err(error) => tracing::warn!(pod = %spec::format(pod), %error, "reading an image pull secret failed"),
        }
    }
    found
}

/// The secret's credentials for the image's registry.
fn auths(secret: &Arc<Secret>, image: &str) -> Vec<Auth> {
    let data = secret.data.as_ref();
    let new =
        data.and_then(|d| d.get(".dockerconfigjson")).and_then(|b| serde_json::from_slice::<DockerConfig>(&b.0).ok());
    let old = || data.and_then(|d| d.get(".dockercfg")).and_then(|b| serde_json::from_slice(&b.0).ok());
    let entries = new.map(|c| c.auths).or_else(old).unwrap_or_default();
    entries
        .into_iter()
        .filter(|(registry, _)| matches_registry(registry, image))
        .map(|(_, auth)| decode(auth))
        .collect()
}

fn matches_registry(entry: &str, image: &str) -> bool {
    let entry = entry.trim_start_matches("https://").trim_start_matches("http://");
    let entry = entry.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
    let first = image.split('/').next().unwrap_or("");
    let named = image.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    if !named {
        return matches!(entry, "index.docker.io" | "docker.io" | "registry-1.docker.io");
    }
    let (host, path) = entry.split_once('/').unwrap_or((entry, ""));
    let host_ok = host == first
        || host.strip_prefix("*.").is_some_and(|rest| first.split_once('.').is_some_and(|(_, parent)| parent == rest));
    host_ok && (path.is_empty() || image[first.len() + 1..].starts_with(path))
}

fn decode(entry: DockerAuth) -> Auth {
    use base64::Engine as _;
    let DockerAuth { mut username, mut password, auth, registrytoken } = entry;
    let decoded = base64::engine::general_purpose::STANDARD.decode(auth.trim()).ok();
    if let Some((user, secret)) = decoded
        .and_then(|b| String::from_utf8(b).ok())
        .and_then(|t| t.split_once(':').map(|(u, p)| (u.to_owned(), p.trim_end_matches('\0').to_owned())))
    {
        (username, password) = (user, secret);
    }
    Auth { username, password, registry_token: registrytoken }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn tags_are_defaulted_and_names_checked() {
        for (image, want) in [
            ("nginx", Some("nginx:latest")),
            ("localhost:5000/a/b", Some("localhost:5000/a/b:latest")),
            ("a:1", Some("a:1")),
            ("a@sha256:00", Some("a@sha256:00")),
            ("Nginx", None),
            ("a b", None),
            ("", None),
            (":x", None),
        ] {
            assert_eq!(with_tag(image).ok().as_deref(), want, "{image}");
        }
    }

    #[test]
    fn registries_match() {
        for (entry, image, want) in [
            ("https://index.docker.io/v1/", "nginx", true),
            ("https://index.docker.io/v1/", "me/app", true),
            ("reg.example:5000", "reg.example:5000/a", true),
            ("reg.example", "other.example/a", false),
            ("*.example.com", "a.example.com/x", true),
            ("reg.example/team", "reg.example/team/x", true),
            ("reg.example/team", "reg.example/other/x", false),
        ] {
            assert_eq!(matches_registry(entry, image), want, "{entry} {image}");
        }
    }
}
