//! Whole requests through the API server's pipeline, as an administrator: nothing that they say makes it panic.

use std::sync::LazyLock;

use apiserver::{InProcess, Server};
use apiserver_auth::UserInfo;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use tower::Service as _;

use super::{Target, text};
use crate::mutate::Shape;

#[path = "../../../../apiserver/tests/support/memory.rs"]
#[allow(dead_code)]
mod memory;

pub const TARGETS: &[Target] = &[Target { name: "request", shape: Shape::Text(WORDS), inputs: 600, corpus, run }];

const WORDS: &[&str] = &[
    "?",
    "&",
    "=",
    "/",
    "/status",
    "/scale",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "GET",
    "dryRun=All",
    "limit=",
    "watch=1",
    "&timeoutSeconds=9223372036854775807",
    "gracePeriodSeconds=9223372036854775807",
    "fieldValidation=Strict",
    "pods",
    "nodes",
    "\"spec\":",
    "null",
    "{",
    "[",
    "-1",
    "\"\"",
    "{\"a\":",
    "metadata",
    "json",
    "merge",
    "strategic",
    "apply",
    "yaml",
    "1e999",
    "\"2026-01-01T00:00:00Z\"",
];

/// Requests of the tests of bad input: a request line, a content type, a body.
fn corpus() -> Vec<Vec<u8>> {
    let files = [
        include_str!("../../../../apiserver/tests/facts/fixtures.txt"),
        include_str!("../../../../apiserver/tests/facts/validation.txt"),
        include_str!("../../../../apiserver/tests/facts/patches.txt"),
        include_str!("../../../../apiserver/tests/facts/queries.txt"),
        include_str!("../../../../apiserver/tests/facts/subresources.txt"),
    ];
    files.iter().flat_map(|file| requests(file)).collect()
}

fn requests(file: &str) -> Vec<Vec<u8>> {
    let names: Vec<(String, &str)> = file
        .lines()
        .filter_map(|line| line.strip_prefix("let ")?.split_once(" = "))
        .map(|(name, value)| (format!("${name}"), value))
        .collect();
    let cases = file.split("\n== ").skip(1).map(|case| {
        let asked = case.lines().skip(1).take_while(|line| !line.starts_with("<< "));
        names.iter().fold(asked.collect::<Vec<_>>().join("\n"), |text, (name, value)| text.replace(name, value))
    });
    cases.filter(|case| case.len() < 8192).map(String::into_bytes).collect()
}

struct Running {
    runtime: tokio::runtime::Runtime,
    admin: InProcess,
    _dir: tempfile::TempDir,
}

static SERVER: LazyLock<Option<Running>> = LazyLock::new(|| start().ok());

fn start() -> anyhow::Result<Running> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let dir = tempfile::tempdir()?;
    let pki = apiserver_auth::pki::Pki::ensure(dir.path(), &[], jiff::Timestamp::now())?;
    let config = apiserver::Config::new(pki, std::net::SocketAddr::from(([127, 0, 0, 1], 6443)));
    let server = runtime.block_on(Server::start(config, memory::Memory::new()))?;
    let admin = server.in_process(UserInfo::new("admin", &["system:masters"]));
    Ok(Running { runtime, admin, _dir: dir })
}

fn run(input: &[u8]) {
    let Some(running) = &*SERVER else { unreachable!("the server starts") };
    let text = text(input);
    let Some(request) = parse(&text) else { return };
    let mut admin = running.admin.clone();
    running.runtime.block_on(async move {
        let Ok(response) = admin.call(request).await;
        let code = response.status();
        // Watches are endless: their first bytes must do.
        let mut body = response.into_body();
        let mut said = Vec::new();
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(std::time::Duration::from_millis(20), body.frame()).await {
            said.extend_from_slice(&frame.into_data().unwrap_or_default());
            if said.len() > 4096 {
                break;
            }
        }
        let said = String::from_utf8_lossy(&said);
        assert!(!said.contains("caused apiserver to panic"), "{code}: {said}");
    });
}

fn parse(text: &str) -> Option<Request<Full<Bytes>>> {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (method, path) = line.split_once(' ')?;
    let (header, body) = match rest.strip_prefix("+ ") {
        Some(rest) => rest.split_once('\n').unwrap_or((rest, "")),
        None => ("json", rest),
    };
    let kind = match header {
        "yaml" => "application/yaml",
        "proto" => "application/vnd.kubernetes.protobuf",
        "jsonpatch" => "application/json-patch+json",
        "merge" => "application/merge-patch+json",
        "strategic" => "application/strategic-merge-patch+json",
        "apply" => "application/apply-patch+yaml",
        other => other.split_once(": ").map_or("application/json", |(_, value)| value),
    };
    let request = Request::builder().method(method).uri(path).header("content-type", kind);
    request.body(Full::from(body.to_owned())).ok()
}
