//! What a path and a method ask for (upstream's `RequestInfo`). Nothing here knows a kind: names are looked up later.

use http::Method;

/// A path under `/api/v1` or `/apis/GROUP/VERSION`, taken apart. All parts borrow from the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target<'a> {
    pub group: &'a str,
    pub version: &'a str,
    /// The plural name.
    pub resource: &'a str,
    pub namespace: &'a str,
    /// Percent-encoded as it came; empty for collections.
    pub name: &'a str,
    pub subresource: &'a str,
    /// What follows the subresource, for proxies; without the slash.
    pub rest: &'a str,
    /// Whether the path began with the old `watch/` prefix.
    pub watch_prefix: bool,
}

/// Where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    Resource(Target<'a>),
    /// Anything else: discovery, health, metrics, OpenAPI.
    Path,
}

/// Subresources of `namespaces` that stand where a resource in a namespace would.
const OF_NAMESPACE: [&str; 2] = ["status", "finalize"];

/// Takes a path apart.
pub fn route(path: &str) -> Route<'_> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let (first, rest) = cut(path);
    let (group, version, rest) = match first {
        "api" => {
            let (version, rest) = cut(rest);
            ("", version, rest)
        }
        "apis" => {
            let (group, rest) = cut(rest);
            let (version, rest) = cut(rest);
            (group, version, rest)
        }
        _ => return Route::Path,
    };
    if version.is_empty() || rest.is_empty() {
        return Route::Path;
    }
    let mut target = Target { group, version, ..Target::default() };
    let mut rest = rest;
    if let Some(after) = rest.strip_prefix("watch/") {
        target.watch_prefix = true;
        rest = after;
    }
    let (resource, after) = cut(rest);
    if resource == "namespaces" {
        let (namespace, deeper) = cut(after);
        let (next, _) = cut(deeper);
        if !namespace.is_empty() && !next.is_empty() && !OF_NAMESPACE.contains(&next) {
            target.namespace = namespace;
            rest = deeper;
        }
    }
    let (resource, after) = cut(rest);
    let (name, after) = cut(after);
    let (subresource, after) = cut(after);
    target.resource = resource;
    target.name = name;
    target.subresource = subresource;
    target.rest = after;
    if group.is_empty() && version == "v1" && resource == "namespaces" && !name.is_empty() {
        // Requests for a namespace are made in it, as far as authorization is concerned.
        target.namespace = name;
    }
    Route::Resource(target)
}

/// The first segment, and what follows its slash.
fn cut(path: &str) -> (&str, &str) {
    path.split_once('/').unwrap_or((path, ""))
}

/// The API verb of a request for a resource, as authorization and metrics name it.
pub fn verb(method: &Method, target: &Target<'_>, watch: bool) -> Option<&'static str> {
    let collection = target.name.is_empty();
    Some(match *method {
        Method::GET | Method::HEAD if target.watch_prefix => "watch",
        Method::GET | Method::HEAD if collection => {
            if watch {
                "watch"
            } else {
                "list"
            }
        }
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if collection => "deletecollection",
        Method::DELETE => "delete",
        _ => return None,
    })
}

/// Decodes percent escapes of one path segment; `None` when they are malformed or no UTF-8.
pub fn unescape(segment: &str) -> Option<std::borrow::Cow<'_, str>> {
    if !segment.contains('%') {
        return Some(segment.into());
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    fn target(path: &str) -> Target<'_> {
        match route(path) {
            Route::Resource(target) => target,
            Route::Path => panic!("{path} is no resource"),
        }
    }

    #[test]
    fn takes_paths_apart() {
        for (path, parts) in [
            ("/api/v1/pods", ["", "v1", "pods", "", "", "", ""]),
            ("/api/v1/namespaces", ["", "v1", "namespaces", "", "", "", ""]),
            ("/api/v1/namespaces/a", ["", "v1", "namespaces", "a", "a", "", ""]),
            ("/api/v1/namespaces/a/status", ["", "v1", "namespaces", "a", "a", "status", ""]),
            ("/api/v1/namespaces/a/pods", ["", "v1", "pods", "a", "", "", ""]),
            ("/api/v1/namespaces/a/pods/p", ["", "v1", "pods", "a", "p", "", ""]),
            ("/api/v1/namespaces/a/pods/p/proxy/x/y", ["", "v1", "pods", "a", "p", "proxy", "x/y"]),
            ("/apis/apps/v1/namespaces/a/deployments/d/scale", ["apps", "v1", "deployments", "a", "d", "scale", ""]),
            (
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/x",
                ["rbac.authorization.k8s.io", "v1", "clusterroles", "", "x", "", ""],
            ),
        ] {
            let t = target(path);
            assert_eq!([t.group, t.version, t.resource, t.namespace, t.name, t.subresource, t.rest], parts, "{path}");
        }
        assert!(target("/api/v1/watch/namespaces/a/pods").watch_prefix);
        for path in ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/version"] {
            assert_eq!(route(path), Route::Path, "{path}");
        }
    }

    #[test]
    fn unescapes_names() {
        assert_eq!(unescape("system%3Anode").as_deref(), Some("system:node"));
        assert_eq!(unescape("plain").as_deref(), Some("plain"));
        assert_eq!(unescape("%zz"), None);
        assert_eq!(unescape("%2"), None);
    }
}
