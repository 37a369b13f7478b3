//! Brings an image from its registry: mirrors first, layers in parallel, each unpacked as it arrives.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use tokio::sync::mpsc;

use super::config::ImageConfig;
use super::manifest::{Descriptor, Image, Manifest};
use super::reference::{Reference, is_digest};
use super::registry::{Failure, Registry};
use super::{Mirror, Store, transfer};
use crate::cri;

/// Layers fetched at the same time.
const PARALLEL: usize = 4;
/// Chunks of a layer that wait to be unpacked.
const QUEUE: usize = 32;

pub(super) async fn pull(store: &Arc<Store>, reference: &Reference, auth: Option<cri::Auth>) -> cri::Result<String> {
    let failed = |stage: String| cri::Error::Pull(format!("failed to pull and unpack image \"{reference}\": {stage}"));
    let name = reference.digest.as_ref().or(reference.tag.as_ref());
    let name = name.ok_or_else(|| failed("the reference has neither tag nor digest".into()))?;
    let mut reason = String::from("no registry to ask");
    for source in sources(store, reference, auth) {
        let resolved = match &source {
            Ok(source) => resolve(source, &reference.repository, name).await,
            Err(failure) => Err(Failure::Wrong(failure.to_string())),
        };
        match (source, resolved) {
            (Ok(source), Ok((image, digest))) => {
                return fetch(store, &source, reference, image, digest).await.map_err(failed);
            }
            (_, Err(failure)) => reason = text(reference, &failure),
            (Err(_), Ok(_)) => unreachable!("nothing was asked"),
        }
    }
    Err(failed(format!("failed to resolve reference \"{reference}\": {reason}")))
}

fn sources(store: &Store, reference: &Reference, auth: Option<cri::Auth>) -> Vec<Result<Registry, Failure>> {
    // A second installation changes nothing, and the first provider stays.
    drop(rustls::crypto::ring::default_provider().install_default());
    let endpoints = endpoints(&store.mirrors, &reference.registry).into_iter();
    endpoints.map(|at| Registry::new(at.host, at.plain, auth.clone().filter(|_| at.itself))).collect()
}

/// Where a registry's images are asked for.
#[derive(Debug, PartialEq, Eq)]
struct Endpoint<'a> {
    host: &'a str,
    /// HTTP without TLS.
    plain: bool,
    /// It is the registry itself: the user's credentials are for it, not for others.
    itself: bool,
}

/// The mirrors in their order, then the registry, unless a "mirror" says how to reach just that.
fn endpoints<'a>(mirrors: &'a [Mirror], registry: &'a str) -> Vec<Endpoint<'a>> {
    let mirrors = mirrors.iter().filter(|mirror| mirror.registry == registry);
    let mut endpoints: Vec<_> = mirrors
        .map(|mirror| {
            let (scheme, host) = mirror.url.split_once("://").unwrap_or(("https", &mirror.url));
            Endpoint { host, plain: scheme == "http", itself: host == registry }
        })
        .collect();
    if !endpoints.iter().any(|endpoint| endpoint.itself) {
        endpoints.push(Endpoint { host: registry, plain: is_loopback(registry), itself: true });
    }
    endpoints
}

/// Registries on this machine may speak without TLS.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The manifest for this machine, and the digest that the reference stands for (an index's, where there is one).
async fn resolve(source: &Registry, repository: &str, name: &str) -> Result<(Image, String), Failure> {
    let wrong = |error: io::Error| Failure::Wrong(error.to_string());
    let (bytes, digest) = source.manifest(repository, name).await?;
    let list = match Manifest::parse(&bytes).map_err(wrong)? {
        Manifest::Image(image) => return Ok((image, digest)),
        Manifest::Index(list) => list,
        Manifest::Other => return Err(Failure::Wrong("the manifest is no image's".into())),
    };
    let ours = list.into_iter().find(|entry| entry.platform.as_ref().is_some_and(super::manifest::Platform::is_ours));
    let ours = ours.ok_or_else(|| {
        Failure::Wrong(format!("no match for platform in manifest: linux/{} not found", transfer::architecture()))
    })?;
    if !is_digest(&ours.digest) {
        return Err(Failure::Wrong(format!("{:?} is no sha256 digest", ours.digest)));
    }
    let (bytes, _) = source.manifest(repository, &ours.digest).await?;
    if let Some(size) = ours.size.filter(|size| *size != bytes.len() as u64) {
        let text = format!("the manifest {} has {} bytes, not {size} as the index says", ours.digest, bytes.len());
        return Err(Failure::Wrong(text));
    }
    match Manifest::parse(&bytes).map_err(wrong)? {
        Manifest::Image(image) => Ok((image, digest)),
        Manifest::Index(_) | Manifest::Other => Err(Failure::Wrong(format!("{} is no image's manifest", ours.digest))),
    }
}

async fn fetch(
    store: &Arc<Store>,
    source: &Registry,
    reference: &Reference,
    image: Image,
    digest: String,
) -> Result<String, String> {
    let bytes = source.config(&reference.repository, &image.config).await;
    let bytes = bytes.map_err(|error| format!("failed to fetch config {}: {error}", image.config.digest))?;
    let config = ImageConfig::parse(&bytes).map_err(|error| error.to_string())?;
    if config.diff_ids.len() != image.layers.len() {
        return Err("the manifest has another number of layers than the config".into());
    }
    let jobs: Vec<_> = config.chain_ids().into_iter().zip(config.diff_ids.clone()).zip(&image.layers).collect();
    let missing = jobs.into_iter().filter(|((chain_id, _), _)| !store.has_layer(chain_id));
    futures::stream::iter(missing.map(Ok))
        .try_for_each_concurrent(PARALLEL, |((chain_id, diff_id), layer)| {
            fetch_layer(store, source, &reference.repository, layer, chain_id, diff_id)
        })
        .await?;
    let store = Arc::clone(store);
    let name = format!("{}@{digest}", reference.name());
    let tags = reference.tagged().into_iter().collect();
    blocking(move || store.commit(&bytes, config.chain_ids(), tags, vec![name])).await
}

/// Unpacks a layer while it arrives.
async fn fetch_layer(
    store: &Arc<Store>,
    source: &Registry,
    repository: &str,
    layer: &Descriptor,
    chain_id: String,
    diff_id: String,
) -> Result<(), String> {
    let named = |error: String| format!("failed to fetch layer {}: {error}", layer.digest);
    let (answer, size) = source.blob(repository, layer).await.map_err(|error| named(error.to_string()))?;
    let (chunks, receiver) = mpsc::channel(QUEUE);
    let unpacking = {
        let (store, digest) = (Arc::clone(store), layer.digest.clone());
        blocking(move || store.unpack(Chunks::new(receiver), &chain_id, Some(&digest), &diff_id))
    };
    let (unpacked, ()) = futures::join!(unpacking, feed(answer, size, chunks));
    unpacked.map_err(named)
}

/// Hands on what the registry sends: as many bytes as the manifest says, or an error.
async fn feed(mut answer: reqwest::Response, size: u64, chunks: mpsc::Sender<io::Result<Bytes>>) {
    let wrong = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let mut left = size;
    loop {
        let chunk = match answer.chunk().await {
            Ok(Some(bytes)) => match left.checked_sub(bytes.len() as u64) {
                Some(rest) => {
                    left = rest;
                    Ok(bytes)
                }
                None => Err(wrong(format!("the registry sends more than the {size} bytes that the manifest says"))),
            },
            Ok(None) if left == 0 => return,
            Ok(None) => {
                Err(wrong(format!("the registry sent {} of the {size} bytes that the manifest says", size - left)))
            }
            Err(error) => Err(io::Error::other(Failure::from(error).to_string())),
        };
        let failed = chunk.is_err();
        // The unpacker's own error is the better reason when it has stopped listening.
        if chunks.send(chunk).await.is_err() || failed {
            return;
        }
    }
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
fn text(reference: &Reference, failure: &Failure) -> String {
    match failure {
        Failure::NotFound => format!("{reference}: not found"),
        Failure::Denied(_) => {
            format!("pull access denied, repository does not exist or may require authorization: {failure}")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_before_the_registry_and_may_be_it() {
        let mirror = |registry: &str, url: &str| Mirror { registry: registry.into(), url: url.into() };
        let mirrors = [
            mirror("docker.io", "http://cache:5000"),
            mirror("inside:5000", "http://inside:5000"),
            mirror("ghcr.io", "https://cache"),
        ];
        let of = |registry| {
            let endpoints = endpoints(&mirrors, registry).into_iter();
            endpoints.map(|at| (at.host.to_owned(), at.plain, at.itself)).collect::<Vec<_>>()
        };
        let at = |host: &str, plain, itself| (host.to_owned(), plain, itself);
        assert_eq!(of("docker.io"), [at("cache:5000", true, false), at("docker.io", false, true)]);
        assert_eq!(of("inside:5000"), [at("inside:5000", true, true)], "with credentials, and nowhere else");
        assert_eq!(of("ghcr.io"), [at("cache", false, false), at("ghcr.io", false, true)]);
        assert_eq!(of("quay.io"), [at("quay.io", false, true)]);
        assert_eq!(of("127.0.0.1:5000"), [at("127.0.0.1:5000", true, true)]);
    }
}
