//! What an image says of itself (OCI image-spec, config.md).

use std::io;

use serde::Deserialize;

use super::digest_of;
use super::reference::is_digest;

/// The part of an image's config that a container is made by.
#[derive(Clone, Debug, Default)]
pub struct ImageConfig {
    pub user: String,
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub working_dir: String,
    pub stop_signal: String,
    /// Digests of the unpacked layers, lowest first.
    pub diff_ids: Vec<String>,
}

#[derive(Deserialize)]
struct File {
    os: Option<String>,
    config: Option<Inner>,
    rootfs: Rootfs,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Inner {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
}

#[derive(Deserialize)]
struct Rootfs {
    diff_ids: Vec<String>,
}

/// Most layers that an image may have, as in overlayfs and docker.
pub(super) const LAYERS_LIMIT: usize = 500;

impl ImageConfig {
    pub fn parse(bytes: &[u8]) -> io::Result<ImageConfig> {
        let bad = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        let file: File = serde_json::from_slice(bytes).map_err(|error| bad(format!("read image config: {error}")))?;
        if let Some(os) = file.os.filter(|os| !os.is_empty() && os != "linux") {
            return Err(bad(format!("the image is for {os}, not linux")));
        }
        let diff_ids = file.rootfs.diff_ids;
        if diff_ids.len() > LAYERS_LIMIT || !diff_ids.iter().all(|digest| is_digest(digest)) {
            return Err(bad("the image config's list of layers is not valid".into()));
        }
        let inner = file.config.unwrap_or_default();
        Ok(ImageConfig {
            user: inner.user.unwrap_or_default(),
            env: inner.env.unwrap_or_default(),
            entrypoint: inner.entrypoint.unwrap_or_default(),
            cmd: inner.cmd.unwrap_or_default(),
            working_dir: inner.working_dir.unwrap_or_default(),
            stop_signal: inner.stop_signal.unwrap_or_default(),
            diff_ids,
        })
    }

    /// A name for each layer together with all below it (OCI image-spec, "ChainID"), lowest first.
    pub fn chain_ids(&self) -> Vec<String> {
        let mut chain: Vec<String> = Vec::with_capacity(self.diff_ids.len());
        for diff_id in &self.diff_ids {
            let next = match chain.last() {
                Some(below) => digest_of(format!("{below} {diff_id}").as_bytes()),
                None => diff_id.clone(),
            };
            chain.push(next);
        }
        chain
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn chain_ids_follow_the_specification() {
        let (a, b) = (digest_of(b"a"), digest_of(b"b"));
        let config = ImageConfig { diff_ids: vec![a.clone(), b.clone()], ..ImageConfig::default() };
        assert_eq!(config.chain_ids(), [a.clone(), digest_of(format!("{a} {b}").as_bytes())]);
    }

    #[test]
    fn configs_with_nulls_and_without_config_are_read() {
        let text = br#"{"config":{"Env":null,"Cmd":["x"],"Entrypoint":null},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        assert_eq!(ImageConfig::parse(text).unwrap().cmd, ["x"]);
        assert!(ImageConfig::parse(br#"{"rootfs":{"diff_ids":[]}}"#).is_ok());
        assert!(ImageConfig::parse(br#"{"os":"windows","rootfs":{"diff_ids":[]}}"#).is_err());
        assert!(ImageConfig::parse(br#"{"rootfs":{"diff_ids":["sha256:../../x"]}}"#).is_err());
        assert!(ImageConfig::parse(b"{}").is_err());
    }
}
