//! Slow, half-open and flooding clients over TLS: each is bounded, and others are served meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::PATIENCE;
use support::https::{Https, config};
use support::listening::{Listening, listening_with};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A server with small limits, so that what takes half a minute elsewhere takes a moment here.
async fn small() -> Listening {
    listening_with(|config| {
        let limits = &mut config.settings.limits;
        limits.strangers = 64;
        limits.stranger_idle = Duration::from_millis(500);
        limits.handshake = Duration::from_millis(500);
    })
    .await
}

async fn get(client: &Https, path: &str) -> (StatusCode, Bytes) {
    let answer = client.send(Request::get(path).body(Full::default()).unwrap());
    let (code, _, body) = tokio::time::timeout(PATIENCE, answer).await.expect("an answer in time");
    (code, body)
}

async fn create(client: &Https, name: &str, size: usize) {
    let body = format!(r#"{{"metadata":{{"name":"{name}"}},"data":{{"k":"{}"}}}}"#, "x".repeat(size));
    let request = Request::post(MAPS).header("content-type", "application/json").body(Full::from(body)).unwrap();
    let (code, _, body) = client.send(request).await;
    assert_eq!(code, 201, "{body:?}");
}

async fn metric(client: &Https, name: &str) -> f64 {
    let (_, text) = get(client, "/metrics").await;
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Waits until the server closes the connection, however it says so.
async fn closed(mut stream: impl tokio::io::AsyncRead + Unpin) {
    let mut buffer = [0; 4096];
    let ended = async { while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("the server closes the connection");
}

async fn h2(server: &Listening, user: Option<(&str, &str)>) -> hyper::client::conn::http2::SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let tls = TlsConnector::from(Arc::new(config(user, b"h2")));
    let stream: TlsStream<TcpStream> = tls.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    sender
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_end_and_stop_nobody() {
    let server = small().await;
    let (admin, nobody) = (server.admin(), Https::new(server.address, None, None));
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let mut half = Vec::new();
    for said in ["", "GET / HTTP/1.1\r\nhost: x\r\nx-half:", "PRI * HTTP/2.0\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = nobody.connect().await;
        stream.write_all(said.as_bytes()).await.unwrap();
        half.push(stream);
    }
    // A stranger's body is not waited for: the answer comes before it.
    let mut slow = nobody.connect().await;
    slow.write_all(format!("POST {MAPS} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{{").as_bytes())
        .await
        .unwrap();
    let mut answer = [0; 12];
    tokio::time::timeout(PATIENCE, slow.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 403");
    assert_eq!(get(&admin, "/readyz").await.0, 200);
    for stream in silent {
        closed(stream).await;
    }
    for stream in half {
        closed(stream).await;
    }
    assert_eq!(get(&admin, "/readyz").await.0, 200);
    let handshakes = metric(&admin, "cox_apiserver_connections_cut_total{why=\"handshake\"}").await;
    let crowded = metric(&admin, "cox_apiserver_connections_cut_total{why=\"crowded\"}").await;
    assert!(handshakes + crowded >= 100.0, "{handshakes} and {crowded}");
    assert!(metric(&admin, "cox_apiserver_connections_cut_total{why=\"idle\"}").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_strangers_keep_nobody_out() {
    let server = listening_with(|config| config.settings.limits.strangers = 64).await;
    let admin = server.admin();
    assert_eq!(get(&admin, "/readyz").await.0, 200);
    let mut watch = admin.connect().await;
    let asked = format!("GET {MAPS}?watch=1 HTTP/1.1\r\nhost: x\r\n\r\n");
    watch.write_all(asked.as_bytes()).await.unwrap();
    let mut head = [0; 15];
    tokio::time::timeout(PATIENCE, watch.read_exact(&mut head)).await.unwrap().unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    let nobody = Https::new(server.address, None, None);
    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(nobody.connect().await);
    }
    // The known client's connections live, and new ones of known clients are served.
    assert_eq!(get(&admin, "/readyz").await.0, 200);
    assert_eq!(get(&server.admin(), MAPS).await.0, 200);
    create(&admin, "seen", 1).await;
    let mut seen = String::new();
    while !seen.contains("\"seen\"") {
        let mut buffer = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, watch.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "the watch ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    assert!(metric(&admin, "cox_apiserver_connections_cut_total{why=\"crowded\"}").await >= 200.0);
    assert!(metric(&admin, "cox_apiserver_connections ").await < 150.0);
}

/// Bytes that the process holds.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_do_not_read_cost_little_and_slow_nobody() {
    const WATCHERS: usize = 60;
    const EVENTS: usize = 600;
    const SIZE: usize = 20_000;
    let server = small().await;
    let admin = server.admin();
    let mut slow = Vec::new();
    for _ in 0..WATCHERS {
        let mut stream = admin.connect().await;
        stream.write_all(format!("GET {MAPS}?watch=1 HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let mut fast = h2(&server, None).await;
    let refused = fast.send_request(Request::get(format!("https://x{MAPS}?watch=1")).body(Empty::new()).unwrap());
    assert_eq!(refused.await.unwrap().status(), 403);
    let reader = server.client("reader", &["system:masters"]);
    let mut fast = reader.connect().await;
    fast.write_all(format!("GET {MAPS}?watch=1 HTTP/1.0\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let counted = tokio::spawn(async move {
        let (mut seen, mut buffer, mut carry) = (0, vec![0; 1 << 16], Vec::new());
        while seen < EVENTS {
            let read = tokio::time::timeout(PATIENCE, fast.read(&mut buffer)).await.expect("events in time").unwrap();
            assert!(read > 0, "the watch ended after {seen}");
            carry.extend_from_slice(&buffer[..read]);
            seen += carry.windows(16).filter(|window| window == b"{\"type\":\"ADDED\",").count();
            carry.drain(..carry.len().saturating_sub(15));
        }
    });
    let before = resident();
    for number in 0..EVENTS {
        create(&admin, &format!("e{number}"), SIZE).await;
    }
    tokio::time::timeout(PATIENCE * 2, counted).await.unwrap().unwrap();
    let grown = resident().saturating_sub(before);
    // Copies for each would be 720 MB; the store double, the cache and the ring hold the events about ten times in all.
    assert!(grown < 400 << 20, "{} MB more", grown >> 20);
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_reset_at_once_end_their_connection_only() {
    let server = small().await;
    let admin = server.admin();
    let pair = server.pki();
    let now = jiff::Timestamp::now();
    let profile = apiserver_auth::pki::Profile::client("flooder", &["system:masters"]);
    let pair = pair.ca.issue(&profile, apiserver_auth::pki::LIFETIME, now).unwrap();
    for _ in 0..3 {
        let mut flood = h2(&server, Some((&pair.certificate, &pair.key))).await;
        let mut sent = 0;
        while sent < 5000 && flood.ready().await.is_ok() {
            let request = Request::get(format!("https://x{MAPS}")).body(Empty::new()).unwrap();
            // Dropped before it is answered: a reset.
            let answer = tokio::spawn(flood.send_request(request));
            tokio::task::yield_now().await;
            answer.abort();
            sent += 1;
        }
        assert_eq!(get(&admin, "/readyz").await.0, 200);
    }
    assert_eq!(get(&admin, MAPS).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_without_end_are_refused() {
    let server = small().await;
    let admin = server.admin();
    let nobody = Https::new(server.address, None, None);
    let mut stream = nobody.connect().await;
    let head = format!("GET /readyz HTTP/1.1\r\nhost: x\r\nx-big: {}\r\n\r\n", "x".repeat(1 << 20));
    // The server may close before it has read all.
    drop(stream.write_all(head.as_bytes()).await);
    let mut answer = Vec::new();
    drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end"));
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let mut many = nobody.connect().await;
    drop(many.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n").await);
    for number in 0..5000 {
        if many.write_all(format!("x-{number}: y\r\n").as_bytes()).await.is_err() {
            break;
        }
    }
    closed(many).await;
    let mut sender = h2(&server, None).await;
    let request = Request::get("https://x/readyz").header("x-big", "x".repeat(200 << 10)).body(Empty::new()).unwrap();
    let code = sender.send_request(request).await.map(|answer| answer.status());
    assert!(code.is_err() || code.as_ref().is_ok_and(|code| *code == 431), "{code:?}");
    assert_eq!(get(&admin, "/readyz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_lists_at_once_are_all_answered() {
    let server = listening_with(|config| config.settings.limits.in_flight = 8).await;
    let admin = server.admin();
    for number in 0..100 {
        create(&admin, &format!("m{number}"), 1000).await;
    }
    let pair = server.pki().ca.issue(
        &apiserver_auth::pki::Profile::client("lister", &["system:masters"]),
        apiserver_auth::pki::LIFETIME,
        jiff::Timestamp::now(),
    );
    let pair = pair.unwrap();
    let mut all = Vec::new();
    for connection in 0..6 {
        let sender = h2(&server, Some((&pair.certificate, &pair.key))).await;
        for list in 0..12 {
            let mut sender = sender.clone();
            all.push(tokio::spawn(async move {
                // Each form of an answer, each list from another revision's cache.
                let accept = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"][list % 3];
                let path = format!("https://x{MAPS}?labelSelector=!a{connection}");
                let request = Request::get(path).header("accept", accept).body(Empty::<Bytes>::new()).unwrap();
                let answer = sender.send_request(request).await.unwrap();
                let code = answer.status();
                (code, answer.into_body().collect().await.unwrap().to_bytes().len())
            }));
        }
    }
    assert_eq!(get(&admin, &format!("{MAPS}/m1")).await.0, 200);
    for answer in all {
        let (code, size) = tokio::time::timeout(PATIENCE * 2, answer).await.unwrap().unwrap();
        assert!(code == 429 || (code == 200 && size > 100_000), "{code} {size}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_one_requests_end() {
    let server = small().await;
    let admin = server.admin();
    server.store.explode_at("/registry/configmaps/default/bomb");
    let request = Request::post(MAPS).header("content-type", "application/json");
    let request = request.body(Full::from(r#"{"metadata":{"name":"bomb"}}"#)).unwrap();
    let (code, _, body) = admin.send(request).await;
    let status: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((code.as_u16(), status["reason"].as_str()), (500, Some("InternalError")));
    assert_eq!(status["message"], "This request caused apiserver to panic. Look in the logs for details.");
    create(&admin, "fine", 1).await;
    assert_eq!(get(&admin, &format!("{MAPS}/bomb")).await.0, 404);
    assert!(metric(&admin, "apiserver_request_panics_total").await >= 1.0);
}
