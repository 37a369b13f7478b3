//! Manifests and indexes as registries and archives hold them: OCI's image-spec (manifest.md, image-index.md) and
//! Docker's schema 2, which says the same.

use std::collections::BTreeMap;
use std::io;

use serde::Deserialize;

use super::config::LAYERS_LIMIT;
use super::reference::is_digest;
use super::transfer;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What a registry is asked for.
pub const ACCEPTED: [&str; 4] = [OCI_INDEX, OCI_IMAGE, DOCKER_INDEX, DOCKER_IMAGE];

/// Names a piece of content.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    /// Bytes.
    pub size: Option<u64>,
    pub annotations: Option<BTreeMap<String, String>>,
    pub platform: Option<Platform>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Platform {
    os: String,
    architecture: String,
}

impl Platform {
    /// Whether it is Linux on this machine's architecture.
    pub fn is_ours(&self) -> bool {
        self.os == "linux" && self.architecture == transfer::architecture()
    }
}

/// The manifest of one image.
#[derive(Clone, Debug)]
pub struct Image {
    pub config: Descriptor,
    /// The lowest first.
    pub layers: Vec<Descriptor>,
}

/// A document that a reference leads to.
#[derive(Clone, Debug)]
pub enum Manifest {
    Image(Image),
    Index(Vec<Descriptor>),
    /// Something else's: an attestation's, an artifact's.
    Other,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

impl Manifest {
    /// # Errors
    /// It is no manifest, is of a kind that is not supported, or is two kinds at once.
    pub fn parse(bytes: &[u8]) -> io::Result<Manifest> {
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| bad(format!("read a manifest: {error}")))?;
        let (kind, types) = match (document.manifests, document.config, document.layers) {
            (Some(manifests), None, None) => (Manifest::Index(manifests), [OCI_INDEX, DOCKER_INDEX]),
            // Which of the two is meant would depend on who reads it.
            (Some(_), _, _) => return Err(bad("a manifest that is an index and an image".into())),
            (None, Some(config), Some(layers)) => {
                if layers.len() > LAYERS_LIMIT {
                    return Err(bad(format!("a manifest with {} layers, more than {LAYERS_LIMIT}", layers.len())));
                }
                if let Some(other) = layers.iter().chain([&config]).find(|part| !is_digest(&part.digest)) {
                    return Err(bad(format!("{:?} is no sha256 digest", other.digest)));
                }
                (Manifest::Image(Image { config, layers }), [OCI_IMAGE, DOCKER_IMAGE])
            }
            (None, _, _) => return Ok(Manifest::Other),
        };
        match document.media_type.filter(|said| !said.is_empty() && !types.contains(&said.as_str())) {
            Some(other) => Err(bad(format!("unsupported manifest media type: {other}"))),
            None => Ok(kind),
        }
    }
}

fn bad(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn what_is_no_manifest_or_two_is_refused() {
        let digest = super::super::digest_of(b"x");
        let part = format!(r#"{{"mediaType":"t","digest":"{digest}","size":1}}"#);
        let image = format!(r#""config":{part},"layers":[{part}]"#);
        let parse = |text: String| Manifest::parse(text.as_bytes());
        assert!(matches!(parse(format!("{{{image}}}")), Ok(Manifest::Image(image)) if image.layers.len() == 1));
        assert!(matches!(parse(format!(r#"{{"manifests":[{part}]}}"#)), Ok(Manifest::Index(list)) if list.len() == 1));
        assert!(matches!(parse(format!(r#"{{"config":{part}}}"#)), Ok(Manifest::Other)));
        assert!(matches!(parse("{}".into()), Ok(Manifest::Other)));
        let many = vec![part.clone(); LAYERS_LIMIT + 1].join(",");
        for (text, said) in [
            ("[]".to_owned(), "read a manifest"),
            (format!(r#"{{"manifests":[],{image}}}"#), "an index and an image"),
            (format!(r#"{{"mediaType":"{OCI_INDEX}",{image}}}"#), "unsupported manifest media type"),
            (format!(r#"{{"mediaType":"{OCI_IMAGE}","manifests":[]}}"#), "unsupported manifest media type"),
            (format!(r#"{{"config":{part},"layers":[{{"digest":"sha256:../x"}}]}}"#), "no sha256 digest"),
            (format!(r#"{{"config":{part},"layers":[{{"digest":"{digest}","size":-1}}]}}"#), "read a manifest"),
            (format!(r#"{{"config":{part},"layers":[{many}]}}"#), "501 layers"),
        ] {
            let error = parse(text.clone()).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
