//! `/healthz`, `/livez`, `/readyz`, whole and check by check.

use http::StatusCode;

use crate::http::params::pairs;
use crate::http::{Response, response};
use crate::server::Shared;

/// The checks, by upstream's names; `true` for those that only readiness asks.
const CHECKS: &[(&str, bool)] = &[
    ("ping", false),
    ("log", false),
    ("etcd", false),
    ("etcd-readiness", true),
    ("informer-sync", true),
    ("shutdown", true),
];

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
        return Some(match check_one(server, name) {
            Ok(()) => text(StatusCode::OK, "ok".to_owned()),
            Err(why) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
        });
    }
    let excluded: Vec<_> = pairs(query).filter(|(k, _)| k == "exclude").map(|(_, v)| v.into_owned()).collect();
    let verbose = pairs(query).any(|(k, _)| k == "verbose");
    let mut lines = String::new();
    let mut failed = false;
    for (name, _) in checks.filter(|(name, _)| !excluded.iter().any(|e| e == name)) {
        let good = check_one(server, name).is_ok();
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

/// Why a check fails.
fn check_one(server: &Shared, check: &str) -> Result<(), String> {
    let why = match check {
        "shutdown" => server.stopping.is_cancelled().then(|| "process is shutting down".to_owned()),
        "etcd" | "informer-sync" => {
            (server.caches.progress.applied() <= 0).then(|| "the caches hold nothing yet".to_owned())
        }
        "etcd-readiness" => server.writes.refused(),
        _ => None,
    };
    why.map_or(Ok(()), Err)
}

fn text(code: StatusCode, body: String) -> Response {
    response::full(code, "text/plain; charset=utf-8", body)
}
