//! Brings an image from its registry: mirrors first, layers in parallel, each unpacked as it arrives.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
    OciDescriptor, OciImageManifest, OciManifest,
};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference as Remote};
use tokio::sync::mpsc;

use super::config::ImageConfig;
use super::reference::Reference;
use super::{Store, digest_of, transfer};
use crate::cri;

/// Layers fetched at the same time.
const PARALLEL: usize = 4;
/// Chunks of a layer that wait to be unpacked.
const QUEUE: usize = 32;
const CONFIG_LIMIT: usize = 8 << 20;
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// A registry that sends nothing for so long has stalled.
const READ_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);
const MEDIA_TYPES: [&str; 4] =
    [OCI_IMAGE_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE];

/// Where one try goes.
struct Source {
    client: Client,
    registry: String,
    /// The user's credentials are for the registry itself, not for others.
    auth: RegistryAuth,
}

pub(super) async fn pull(store: &Arc<Store>, reference: &Reference, auth: Option<cri::Auth>) -> cri::Result<String> {
    let failed = |stage: String| cri::Error::Pull(format!("failed to pull and unpack image \"{reference}\": {stage}"));
    let mut reason = String::from("no registry to ask");
    for source in sources(store, reference, auth) {
        let remote = source.remote(reference).map_err(failed)?;
        match resolve(&source, &remote).await {
            Ok((manifest, digest)) => {
                return fetch(store, &source, reference, &remote, manifest, digest).await.map_err(failed);
            }
            Err(error) => reason = text(reference, &error),
        }
    }
    Err(failed(format!("failed to resolve reference \"{reference}\": {reason}")))
}

/// The mirrors in their order, then the registry.
fn sources(store: &Store, reference: &Reference, auth: Option<cri::Auth>) -> Vec<Source> {
    // A second installation changes nothing, and the first provider stays.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut sources = Vec::new();
    for mirror in store.mirrors.iter().filter(|mirror| mirror.registry == reference.registry) {
        let (scheme, host) = mirror.url.split_once("://").unwrap_or(("https", &mirror.url));
        sources.push(Source::new(host, scheme == "http", RegistryAuth::Anonymous));
    }
    let auth = auth.map_or(RegistryAuth::Anonymous, |auth| {
        if auth.registry_token.is_empty() {
            RegistryAuth::Basic(auth.username, auth.password)
        } else {
            RegistryAuth::Bearer(auth.registry_token)
        }
    });
    sources.push(Source::new(&reference.registry, is_loopback(&reference.registry), auth));
    sources
}

/// Registries on this machine may speak without TLS.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Source {
    fn new(registry: &str, plain: bool, auth: RegistryAuth) -> Source {
        let config = ClientConfig {
            protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            user_agent: concat!("cox/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        Source { client: Client::new(config), registry: registry.to_owned(), auth }
    }

    fn remote(&self, reference: &Reference) -> Result<Remote, String> {
        let repository = reference.repository.clone();
        Ok(match (&reference.tag, &reference.digest) {
            (_, Some(digest)) => Remote::with_digest(self.registry.clone(), repository, digest.clone()),
            (Some(tag), None) => Remote::with_tag(self.registry.clone(), repository, tag.clone()),
            (None, None) => return Err("the reference has neither tag nor digest".into()),
        })
    }
}

/// The manifest for this machine, and the digest that the reference stands for (an index's, where there is one).
async fn resolve(source: &Source, remote: &Remote) -> Result<(OciImageManifest, String), OciDistributionError> {
    let (bytes, digest) = source.client.pull_manifest_raw(remote, &source.auth, &MEDIA_TYPES).await?;
    let manifest = match serde_json::from_slice(&bytes)? {
        OciManifest::Image(manifest) => return Ok((of_an_image(manifest)?, digest)),
        OciManifest::ImageIndex(index) => index,
    };
    let ours = manifest.manifests.iter().find(|entry| {
        entry.platform.as_ref().is_some_and(|platform| {
            platform.os.to_string() == "linux" && platform.architecture.to_string() == transfer::architecture()
        })
    });
    let ours = ours.ok_or_else(|| {
        let text = format!("no match for platform in manifest: linux/{} not found", transfer::architecture());
        OciDistributionError::ImageManifestNotFoundError(text)
    })?;
    let remote = remote.clone_with_digest(ours.digest.clone());
    let (bytes, _) = source.client.pull_manifest_raw(&remote, &source.auth, &MEDIA_TYPES).await?;
    Ok((of_an_image(serde_json::from_slice(&bytes)?)?, digest))
}

/// The manifest, unless it says that it is something else's.
fn of_an_image(manifest: OciImageManifest) -> Result<OciImageManifest, OciDistributionError> {
    match &manifest.media_type {
        Some(other) if ![OCI_IMAGE_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE].contains(&other.as_str()) => {
            Err(OciDistributionError::UnsupportedMediaTypeError(other.clone()))
        }
        _ => Ok(manifest),
    }
}

async fn fetch(
    store: &Arc<Store>,
    source: &Source,
    reference: &Reference,
    remote: &Remote,
    manifest: OciImageManifest,
    digest: String,
) -> Result<String, String> {
    let bytes = fetch_config(source, remote, &manifest.config).await?;
    let config = ImageConfig::parse(&bytes).map_err(|error| error.to_string())?;
    if config.diff_ids.len() != manifest.layers.len() {
        return Err("the manifest has another number of layers than the config".into());
    }
    let jobs: Vec<_> = config.chain_ids().into_iter().zip(config.diff_ids.clone()).zip(&manifest.layers).collect();
    let missing = jobs.into_iter().filter(|((chain_id, _), _)| !store.has_layer(chain_id));
    futures::stream::iter(missing.map(Ok))
        .try_for_each_concurrent(PARALLEL, |((chain_id, diff_id), layer)| {
            fetch_layer(store, source, remote, layer, chain_id, diff_id)
        })
        .await?;
    let store = Arc::clone(store);
    let name = format!("{}@{digest}", reference.name());
    let tags = reference.tagged().into_iter().collect();
    blocking(move || store.commit(&bytes, config.chain_ids(), tags, vec![name])).await
}

async fn fetch_config(source: &Source, remote: &Remote, descriptor: &OciDescriptor) -> Result<Vec<u8>, String> {
    let named = |error: String| format!("failed to fetch config {}: {error}", descriptor.digest);
    let mut stream =
        source.client.pull_blob_stream(remote, descriptor).await.map_err(|error| named(error.to_string()))?.stream;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.map_err(|error| named(error.to_string()))?);
        if bytes.len() > CONFIG_LIMIT.min(usize::try_from(descriptor.size).unwrap_or(0)) {
            return Err(named("it is too large".into()));
        }
    }
    let actual = digest_of(&bytes);
    if actual != descriptor.digest {
        return Err(named(format!("unexpected digest {actual}")));
    }
    Ok(bytes)
}

/// Unpacks a layer while it arrives.
async fn fetch_layer(
    store: &Arc<Store>,
    source: &Source,
    remote: &Remote,
    layer: &OciDescriptor,
    chain_id: String,
    diff_id: String,
) -> Result<(), String> {
    let named = |error: String| format!("failed to fetch layer {}: {error}", layer.digest);
    let mut stream =
        source.client.pull_blob_stream(remote, layer).await.map_err(|error| named(error.to_string()))?.stream;
    let (chunks, receiver) = mpsc::channel(QUEUE);
    let unpacking = {
        let (store, digest) = (Arc::clone(store), layer.digest.clone());
        blocking(move || store.unpack(Chunks::new(receiver), &chain_id, Some(&digest), &diff_id))
    };
    let feeding = async {
        let mut left = u64::try_from(layer.size).unwrap_or(0);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.and_then(|bytes| match left.checked_sub(bytes.len() as u64) {
                Some(rest) => {
                    left = rest;
                    Ok(bytes)
                }
                None => {
                    Err(io::Error::new(io::ErrorKind::InvalidData, "the registry sends more than the manifest says"))
                }
            });
            let failed = chunk.is_err();
            // The unpacker's own error is the better reason when it has stopped listening.
            if chunks.send(chunk).await.is_err() || failed {
                break;
            }
        }
        drop(chunks);
    };
    let (unpacked, ()) = futures::join!(unpacking, feeding);
    unpacked.map_err(named)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(error) => Err(format!("the work was not finished: {error}")),
    }
}

/// Chunks from the network, as a reader for a thread that may wait.
struct Chunks {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Chunks {
    fn new(receiver: mpsc::Receiver<io::Result<Bytes>>) -> Chunks {
        Chunks { receiver, current: Bytes::new() }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        let taken = self.current.split_to(length);
        buffer.get_mut(..length).unwrap_or(&mut []).copy_from_slice(&taken);
        Ok(length)
    }
}

/// The registry's answer in containerd's words where it has some.
fn text(reference: &Reference, error: &OciDistributionError) -> String {
    match error {
        OciDistributionError::ImageManifestNotFoundError(text) if text.starts_with("no match") => text.clone(),
        OciDistributionError::ImageManifestNotFoundError(_) => format!("{reference}: not found"),
        OciDistributionError::ServerError { code: 404, .. } => format!("{reference}: not found"),
        OciDistributionError::RegistryError { envelope, .. } if is_not_found(envelope) => {
            format!("{reference}: not found")
        }
        OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => format!(
            "pull access denied, repository does not exist or may require authorization: authorization failed: {error}"
        ),
        OciDistributionError::RequestError(error) => format!("failed to do request: {}", chain(error)),
        other => other.to_string(),
    }
}

fn is_not_found(envelope: &oci_client::errors::OciEnvelope) -> bool {
    use oci_client::errors::OciErrorCode::{ManifestUnknown, NameUnknown, NotFound};
    envelope.errors.iter().any(|error| matches!(error.code, ManifestUnknown | NameUnknown | NotFound))
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
