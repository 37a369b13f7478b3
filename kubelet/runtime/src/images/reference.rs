//! Names of images as people write them, made whole: `nginx` is `docker.io/library/nginx:latest`.

use std::fmt;

/// A whole reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `docker.io`, `localhost:5000`.
    pub registry: String,
    /// `library/nginx`.
    pub repository: String,
    pub tag: Option<String>,
    /// `sha256:…`
    pub digest: Option<String>,
}

/// Longest `registry/repository` (distribution's reference grammar).
const NAME_LIMIT: usize = 255;

impl Reference {
    /// Reads a reference by distribution's grammar. The error's text is upstream's.
    pub fn parse(text: &str) -> Result<Reference, String> {
        let bad = |reason: &str| format!("couldn't parse image name {text:?}: {reason}");
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
            Some(_) => return Err(bad("invalid reference format")),
            None => (text, None),
        };
        let after_slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest.get(after_slash..).and_then(|last| last.split_once(':')) {
            Some((last, tag)) if is_tag(tag) => {
                (rest.get(..after_slash + last.len()).unwrap_or(rest), Some(tag.to_owned()))
            }
            Some(_) => return Err(bad("invalid reference format")),
            None => (rest, None),
        };
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if is_registry(first) => (first.to_owned(), path.to_owned()),
            _ => ("docker.io".to_owned(), name.to_owned()),
        };
        let registry = if registry == "index.docker.io" { "docker.io".to_owned() } else { registry };
        let official = registry == "docker.io" && !path.contains('/');
        let repository = if official { format!("library/{path}") } else { path };
        if repository.chars().any(char::is_uppercase) {
            return Err(bad("invalid reference format: repository name must be lowercase"));
        }
        if !repository.split('/').all(is_path_component) || registry.len() + repository.len() >= NAME_LIMIT {
            return Err(bad("invalid reference format"));
        }
        let tag = if tag.is_none() && digest.is_none() { Some("latest".into()) } else { tag };
        Ok(Reference { registry, repository, tag, digest })
    }

    /// `docker.io/library/nginx`
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// `docker.io/library/nginx:latest`, as `RepoTags` have it.
    pub fn tagged(&self) -> Option<String> {
        self.tag.as_ref().map(|tag| format!("{}:{tag}", self.name()))
    }

    /// `docker.io/library/nginx@sha256:…`, as `RepoDigests` have it.
    pub fn digested(&self) -> Option<String> {
        self.digest.as_ref().map(|digest| format!("{}@{digest}", self.name()))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// `sha256:` and 64 hexadecimal digits.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

/// The part before the first slash is a host when it cannot be a path.
fn is_registry(text: &str) -> bool {
    let host = text.split_once(':').map_or(text, |(host, _)| host);
    (text.contains('.') || text.contains(':') || text == "localhost")
        && host.split('.').all(is_host_label)
        && text.split_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_ok())
}

fn is_host_label(label: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    edge(label.bytes().next())
        && edge(label.bytes().last())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Letters and digits, with single separators `.`, `_`, `__` or dashes between.
fn is_path_component(part: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edges = part.bytes().next().is_some_and(word) && part.bytes().last().is_some_and(word);
    edges
        && part.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'_' | b'-'))
        && !["..", "___", "._", "_.", ".-", "-.", "_-", "-_"].iter().any(|bad| part.contains(bad))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn references_are_made_whole() {
        let hex = "a".repeat(64);
        for (text, whole) in [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.25", "docker.io/library/nginx:1.25".into()),
            ("user/app", "docker.io/user/app:latest".into()),
            ("index.docker.io/user/app", "docker.io/user/app:latest".into()),
            ("localhost/app", "localhost/app:latest".into()),
            ("localhost:5000/a/b:t", "localhost:5000/a/b:t".into()),
            ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9".into()),
            (&format!("a/b@sha256:{hex}"), format!("docker.io/a/b@sha256:{hex}")),
            (&format!("q.io/b:t@sha256:{hex}"), format!("q.io/b:t@sha256:{hex}")),
        ] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), whole);
        }
    }

    #[test]
    fn bad_references_are_refused() {
        for text in [
            "",
            ":",
            "a:",
            "UPPER",
            "a//b",
            "a@sha256:12",
            "a b",
            "-a",
            "a..b",
            "http://a/b",
            "a:t:u",
            "../x",
            "a/../b",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
        let error = Reference::parse("Nginx").unwrap_err();
        assert!(error.ends_with("repository name must be lowercase"), "{error}");
    }
}
