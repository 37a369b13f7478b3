//! Paths that are no resources: health, version, metrics, discovery, OpenAPI.

mod discovery;
mod health;
mod openapi;

use std::collections::BTreeSet;
use std::sync::Arc;

use api::Status;
use apiserver_auth::UserInfo;
use apiserver_auth::token::oidc;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};

use crate::http::{Response, response};
use crate::server::Shared;

pub use discovery::Documents;

/// What `/version` says; clients read `major`, `minor` and `gitVersion`.
pub const GIT_VERSION: &str = "v1.36.2+cox1";

/// Answers a request for a path.
pub async fn handle(server: &Arc<Shared>, parts: &Parts, _user: &UserInfo) -> Result<Response, Status> {
    let path = parts.uri.path();
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        let query = parts.uri.query().unwrap_or("");
        return health::handle(server, path, query).map_or_else(|| other_method(path), Ok);
    }
    match path.trim_end_matches('/') {
        "/version" => Ok(response::full(StatusCode::OK, "application/json", version())),
        oidc::CONFIGURATION_PATH => {
            let tokens = server.access.authenticator.tokens();
            let address = server.settings.advertise.to_string();
            let document = oidc::configuration(tokens.issuer(), &address, tokens.keys());
            Ok(public(document.to_string(), "application/json"))
        }
        oidc::KEY_SET_PATH => {
            let keys = oidc::key_set(server.access.authenticator.tokens().keys());
            Ok(public(keys.to_string(), oidc::KEY_SET_MEDIA_TYPE))
        }
        "" => Ok(response::full(StatusCode::OK, "application/json", index(server))),
        "/metrics" => Ok(response::full(StatusCode::OK, "text/plain; version=0.0.4", metrics(server))),
        _ => {
            if let Some(answer) = health::handle(server, path, parts.uri.query().unwrap_or("")) {
                return Ok(answer);
            }
            if let Some(answer) = openapi::handle(server, parts).await {
                return answer;
            }
            discovery::handle(server, parts).unwrap_or_else(|| Ok(response::page_not_found()))
        }
    }
}

/// Documents can only be read; what else there is answers any method.
fn other_method(path: &str) -> Result<Response, Status> {
    match path.trim_start_matches('/').split('/').next() {
        Some("api" | "apis" | "version" | "openapi") => Err(Status::no_such_method()),
        _ => Ok(response::page_not_found()),
    }
}

/// A document that anyone may keep for a while.
fn public(body: String, content_type: &'static str) -> Response {
    let mut response = response::full(StatusCode::OK, content_type, body);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(oidc::CACHE_CONTROL));
    response
}

/// The paths that there are, as upstream's root lists them.
fn index(server: &Shared) -> Vec<u8> {
    let rows = server.rows.load();
    let mut paths: BTreeSet<String> =
        ["/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
            .iter()
            .map(|path| (*path).to_owned())
            .collect();
    paths.extend([oidc::CONFIGURATION_PATH.to_owned(), oidc::KEY_SET_PATH.to_owned()]);
    for row in rows.all() {
        match row.gvr.group.as_str() {
            "" => drop(paths.insert(format!("/api/{}", row.gvr.version))),
            group => paths.extend([format!("/apis/{group}"), format!("/apis/{group}/{}", row.gvr.version)]),
        }
    }
    serde_json::json!({ "paths": paths }).to_string().into_bytes()
}

fn version() -> Vec<u8> {
    let version = serde_json::json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "rustc", "platform": "linux/amd64",
    });
    serde_json::to_vec_pretty(&version).unwrap_or_else(|_| unreachable!("JSON values serialize"))
}

fn metrics(server: &Shared) -> String {
    let rows = server.rows.load();
    let mut objects: Vec<(String, usize)> = rows
        .all()
        .filter(|row| row.is_storage())
        .map(|row| {
            let group = &row.gvr.group;
            let dot = if group.is_empty() { "" } else { "." };
            (format!("{}{dot}{group}", row.gvr.resource), row.cache.len())
        })
        .collect();
    objects.sort();
    let mut store = server.kv.figures();
    store.push(("apiserver_storage_writable", i64::from(server.writes.refused().is_none())));
    server.metrics.render(&objects, &store)
}
