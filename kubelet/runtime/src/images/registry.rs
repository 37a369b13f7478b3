//! Reads from one registry (OCI distribution-spec). The registry is not trusted: what it sends is bounded and checked.

use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use thiserror::Error;

use super::digest_of;
use super::manifest::{ACCEPTED, Descriptor};
use super::reference::is_digest;
use crate::cri;

mod challenge;

use challenge::Challenge;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A registry that sends nothing for so long has stalled.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// A manifest, config or token must be there by then: one that comes a byte at a time would never be.
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest manifest or index: what registries accept at most (distribution), and containerd.
const MANIFEST_LIMIT: usize = 4 << 20;
/// The longest config; containerd and docker have no smaller one.
const CONFIG_LIMIT: usize = 8 << 20;
const TOKEN_LIMIT: usize = 1 << 20;
/// How much of a refusal is read for its words.
const REFUSAL_LIMIT: usize = 64 << 10;
const REDIRECTS: usize = 10;

/// Why a registry did not give what it was asked for.
#[derive(Debug, Error)]
pub enum Failure {
    #[error("not found")]
    NotFound,
    #[error("authorization failed: {0}")]
    Denied(String),
    #[error("failed to do request: {}", chain(.0))]
    Request(#[from] reqwest::Error),
    #[error("unexpected status from GET request to {url}: {status}{words}")]
    Status { url: String, status: StatusCode, words: String },
    /// It sent what cannot be right.
    #[error("{0}")]
    Wrong(String),
}

/// An error with its causes, as one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A registry, or a mirror of one.
pub struct Registry {
    http: Client,
    /// `https://HOST[:PORT]`
    base: String,
    auth: Option<cri::Auth>,
    /// What the registry took last; the other requests of a pull begin with it.
    authorization: Mutex<Option<HeaderValue>>,
}

impl Registry {
    /// `host` is a registry as references name it; `plain` is HTTP without TLS.
    ///
    /// # Errors
    /// The machine's certificates cannot be read, or `auth` cannot be sent.
    pub fn new(host: &str, plain: bool, auth: Option<cri::Auth>) -> Result<Registry, Failure> {
        let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let base = format!("{}://{host}", if plain { "http" } else { "https" });
        let http = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .user_agent(concat!("cox/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::custom(follow))
            .build()?;
        let token = auth.as_ref().map(|auth| auth.registry_token.as_str()).filter(|token| !token.is_empty());
        let first = token.map(|token| header("Bearer", token)).transpose()?;
        Ok(Registry { http, base, auth, authorization: Mutex::new(first) })
    }

    /// A manifest or index by tag or digest, and its digest.
    ///
    /// # Errors
    /// It is not there or not allowed, is too large, or does not have the digest that it was asked for by.
    pub async fn manifest(&self, repository: &str, name: &str) -> Result<(Bytes, String), Failure> {
        let path = format!("/v2/{repository}/manifests/{name}");
        in_time(async {
            let answer = self.get(&path, repository, true).await?;
            let said = answer.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
            let said = said.filter(|said| is_digest(said)).map(str::to_owned);
            let bytes = read(answer, MANIFEST_LIMIT, "the manifest").await?;
            let digest = digest_of(&bytes);
            let wanted = if is_digest(name) { Some(name.to_owned()) } else { said };
            match wanted.filter(|wanted| *wanted != digest) {
                Some(wanted) => Err(Failure::Wrong(format!("the manifest {wanted} has digest {digest}"))),
                None => Ok((Bytes::from(bytes), digest)),
            }
        })
        .await
    }

    /// An image's config.
    ///
    /// # Errors
    /// As for a manifest.
    pub async fn config(&self, repository: &str, config: &Descriptor) -> Result<Vec<u8>, Failure> {
        in_time(async {
            let (answer, size) = self.blob(repository, config).await?;
            if size > CONFIG_LIMIT as u64 {
                return Err(too_large("the config", CONFIG_LIMIT));
            }
            let bytes = read(answer, CONFIG_LIMIT, "the config").await?;
            let digest = digest_of(&bytes);
            if digest != config.digest {
                return Err(Failure::Wrong(format!("unexpected digest {digest}")));
            }
            if bytes.len() as u64 != size {
                return Err(Failure::Wrong(format!("it has {} bytes, not {size} as the manifest says", bytes.len())));
            }
            Ok(bytes)
        })
        .await
    }

    /// A blob that is yet to be read, and how long it must be.
    ///
    /// # Errors
    /// It is not there or not allowed, or the registry has another of this name.
    pub async fn blob(&self, repository: &str, blob: &Descriptor) -> Result<(Response, u64), Failure> {
        let size = blob.size.ok_or_else(|| Failure::Wrong("the manifest does not say its size".into()))?;
        let answer = self.get(&format!("/v2/{repository}/blobs/{}", blob.digest), repository, false).await?;
        match answer.content_length().filter(|said| *said != size) {
            Some(said) => Err(Failure::Wrong(format!("the registry has {said} bytes of it, the manifest says {size}"))),
            None => Ok((answer, size)),
        }
    }

    async fn get(&self, path: &str, repository: &str, manifest: bool) -> Result<Response, Failure> {
        let url = format!("{}{path}", self.base);
        let ask = |authorization: Option<HeaderValue>| {
            let request = self.http.get(&url);
            let request = if manifest { request.header(ACCEPT, ACCEPTED.join(", ")) } else { request };
            match authorization {
                Some(value) => request.header(AUTHORIZATION, value),
                None => request,
            }
        };
        let known = self.authorization.lock().clone();
        let answer = ask(known).send().await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return expect_ok(answer).await;
        }
        let challenges: Vec<_> = answer.headers().get_all(WWW_AUTHENTICATE).iter().cloned().collect();
        let refused = expect_ok(answer).await;
        let Some(value) = self.authorize(&challenges, repository).await? else { return refused };
        *self.authorization.lock() = Some(value.clone());
        expect_ok(ask(Some(value)).send().await?).await
    }

    /// What answers the challenge; `None` when we have nothing to say.
    async fn authorize(&self, challenges: &[HeaderValue], repository: &str) -> Result<Option<HeaderValue>, Failure> {
        let user = self.auth.as_ref().filter(|auth| !auth.username.is_empty());
        let basic = |auth: &cri::Auth| {
            use base64::Engine as _;
            let pair = format!("{}:{}", auth.username, auth.password);
            header("Basic", &base64::engine::general_purpose::STANDARD.encode(pair))
        };
        let all = challenges.iter().filter_map(|value| Challenge::parse(value.to_str().ok()?));
        let mut chosen = None;
        for challenge in all {
            match challenge {
                Challenge::Bearer { .. } => chosen = Some(challenge),
                Challenge::Basic if chosen.is_none() => chosen = Some(challenge),
                Challenge::Basic => {}
            }
        }
        match chosen {
            Some(Challenge::Bearer { realm, service }) => {
                let url = Url::parse(&realm).map_err(|error| Failure::Denied(format!("realm {realm:?}: {error}")))?;
                if user.is_some() && url.scheme() != "https" && self.base.starts_with("https:") {
                    return Err(Failure::Denied(format!("credentials are not sent to {realm} in the clear")));
                }
                let scope = format!("repository:{repository}:pull");
                let mut request = self.http.get(url).query(&[("scope", scope)]);
                if let Some(service) = service {
                    request = request.query(&[("service", service)]);
                }
                if let Some(auth) = user {
                    request = request.header(AUTHORIZATION, basic(auth)?);
                }
                let token = in_time(token(request)).await?;
                header("Bearer", &token).map(Some)
            }
            Some(Challenge::Basic) => user.map(basic).transpose(),
            None => Ok(None),
        }
    }
}

/// Redirects, as blobs are answered with: a few, and never from TLS to none. Credentials go to the same host only.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    if attempt.previous().len() > REDIRECTS {
        return attempt.error(format!("stopped after {REDIRECTS} redirects"));
    }
    let tls = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if tls && attempt.url().scheme() != "https" {
        return attempt.error("a redirect from https to http is not followed");
    }
    attempt.follow()
}

async fn in_time<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = |_| Failure::Wrong(format!("the registry took more than {} s", DOCUMENT_TIMEOUT.as_secs()));
    tokio::time::timeout(DOCUMENT_TIMEOUT, work).await.map_err(late)?
}

fn header(scheme: &str, credential: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(&format!("{scheme} {credential}"))
        .map_err(|_| Failure::Denied("the credential cannot stand in a header".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn token(request: RequestBuilder) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Token {
        #[serde(default)]
        token: String,
        #[serde(default)]
        access_token: String,
    }
    let answer = request.send().await?;
    if !answer.status().is_success() {
        return Err(Failure::Denied(format!("failed to fetch a token: {}{}", answer.status(), words(answer).await)));
    }
    let bytes = read(answer, TOKEN_LIMIT, "the token").await?;
    let wrong = || Failure::Denied("the registry's answer has no token".into());
    let token: Token = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
    let found = if token.token.is_empty() { token.access_token } else { token.token };
    if found.is_empty() { Err(wrong()) } else { Ok(found) }
}

async fn expect_ok(answer: Response) -> Result<Response, Failure> {
    match answer.status() {
        StatusCode::OK => Ok(answer),
        StatusCode::NOT_FOUND => Err(Failure::NotFound),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(Failure::Denied(format!("{}{}", answer.status(), words(answer).await)))
        }
        status => {
            let url = answer.url().to_string();
            Err(Failure::Status { url, status, words: words(answer).await })
        }
    }
}

fn too_large(what: &str, limit: usize) -> Failure {
    Failure::Wrong(format!("{what} is larger than {limit} bytes, which is the limit"))
}

/// A whole body of at most `limit` bytes.
async fn read(mut answer: Response, limit: usize, what: &str) -> Result<Vec<u8>, Failure> {
    if answer.content_length().is_some_and(|said| said > limit as u64) {
        return Err(too_large(what, limit));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if bytes.len() + chunk.len() > limit {
            return Err(too_large(what, limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// What a refusal says of its reason, with a colon before it; nothing when it says nothing that is understood.
async fn words(mut answer: Response) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        errors: Vec<Reason>,
    }
    #[derive(Deserialize)]
    struct Reason {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let mut bytes = Vec::new();
    let reading = async {
        while let Ok(Some(chunk)) = answer.chunk().await {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > REFUSAL_LIMIT {
                break;
            }
        }
    };
    if tokio::time::timeout(CONNECT_TIMEOUT, reading).await.is_err() {
        return String::new();
    }
    let refusal: Option<Refusal> = serde_json::from_slice(&bytes).ok();
    let first = refusal.and_then(|refusal| refusal.errors.into_iter().next());
    let text = first.map(|reason| if reason.message.is_empty() { reason.code } else { reason.message });
    text.filter(|text| !text.is_empty()).map(|text| format!(": {text}")).unwrap_or_default()
}
