//! `/healthz`, `/livez`, `/readyz`, whole and check by check.

use http::StatusCode;

use crate::http::params::pairs;
use crate::http::{Response, response};
use crate::server::Shared;

/// The checks, by upstream's names; `true` for those that only readiness asks.
const CHECKS: &[(&str, bool)] =
    &[("ping", false), ("log", false), ("etcd", false), ("informer-sync", true), ("shutdown", true)];

/// Answers a health path, or `None` when it is none.
pub fn handle(server: &Shared, path: &str, query: &str) -> Option<Response> {
    let path = path.strip_prefix('/')?;
    let (endpoint, check) = path.split_once('/').unwrap_or((path, ""));
    let ready = match endpoint {
        "healthz" | "livez" => false,
        "readyz" => true,
        _ => return None,
    };
    let checks = CHECKS.iter().filter(|(_, only_ready)| ready || !only_ready);
    if !check.is_empty() {
        let (name, _) = checks.into_iter().find(|(name, _)| *name == check)?;
        let answer =
            if holds(server, name) { (StatusCode::OK, "ok") } else { (StatusCode::INTERNAL_SERVER_ERROR, "failed") };
        return Some(text(answer.0, answer.1.to_owned()));
    }
    let excluded: Vec<_> = pairs(query).filter(|(k, _)| k == "exclude").map(|(_, v)| v.into_owned()).collect();
    let verbose = pairs(query).any(|(k, _)| k == "verbose");
    let mut lines = String::new();
    let mut failed = false;
    for (name, _) in checks.filter(|(name, _)| !excluded.iter().any(|e| e == name)) {
        let good = holds(server, name);
        failed |= !good;
        let (sign, word) = if good { ('+', "ok") } else { ('-', "failed: reason withheld") };
        lines.push_str(&format!("[{sign}]{name} {word}\n"));
    }
    Some(match (failed, verbose) {
        (true, _) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{endpoint} check failed\n")),
        (false, true) => text(StatusCode::OK, format!("{lines}{endpoint} check passed\n")),
        (false, false) => text(StatusCode::OK, "ok".to_owned()),
    })
}

fn holds(server: &Shared, check: &str) -> bool {
    match check {
        "shutdown" => !server.stopping.is_cancelled(),
        "etcd" | "informer-sync" => server.caches.progress.applied() > 0,
        _ => true,
    }
}

fn text(code: StatusCode, body: String) -> Response {
    response::full(code, "text/plain; charset=utf-8", body)
}
