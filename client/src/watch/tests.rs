//! The loop against a server that answers by a script.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;

use crate::Api;

type Pieces = std::pin::Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send>>;

/// How the server answers one request.
enum Answer {
    /// With this code and text.
    Text(u16, String),
    /// With these pieces, and then the body ends.
    Pieces(Vec<String>),
    /// With these pieces, and then the connection breaks.
    Torn(Vec<String>),
    /// With these pieces, and then no more.
    Open(Vec<String>),
}

impl Answer {
    fn response(self) -> Response<http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>> {
        let frames = |pieces: Vec<String>| stream::iter(pieces.into_iter().map(|piece| Ok(Frame::data(piece.into()))));
        let (code, body): (u16, Pieces) = match self {
            Answer::Text(code, text) => (code, frames(vec![text]).boxed()),
            Answer::Pieces(pieces) => (200, frames(pieces).boxed()),
            Answer::Torn(pieces) => {
                let broken = stream::iter([Err(std::io::ErrorKind::ConnectionReset.into())]);
                (200, frames(pieces).chain(broken).boxed())
            }
            Answer::Open(pieces) => (200, frames(pieces).chain(stream::pending()).boxed()),
        };
        Response::builder().status(code).body(BodyExt::boxed_unsync(StreamBody::new(body))).unwrap()
    }
}

type Asked = Arc<Mutex<Vec<String>>>;

/// A watch of a server with this script, and the queries that it gets. When the script ends, watches stay silent.
fn scripted(script: Vec<Answer>) -> (Watch<ConfigMap>, Asked) {
    let asked = Asked::default();
    let (notes, script) = (Arc::clone(&asked), Mutex::new(VecDeque::from(script)));
    let service = tower::service_fn(move |request: Request<Body>| {
        notes.lock().push(request.uri().query().unwrap_or("").to_owned());
        let answer = script.lock().pop_front().unwrap_or(Answer::Open(Vec::new()));
        async move { Ok::<_, Infallible>(answer.response()) }
    });
    let client = crate::in_process(service, "ns");
    (Watch::new(Api::namespaced(client, "ns"), Config::default().labels("a=b")), asked)
}

fn object(name: &str, version: u64) -> Value {
    json!({"metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": version.to_string()}})
}

/// One that no ConfigMap is like.
fn strange(name: &str, version: u64) -> Value {
    let mut object = object(name, version);
    object["data"] = json!([1]);
    object
}

fn list(version: u64, next: &str, items: &[Value]) -> Answer {
    let meta = json!({"resourceVersion": version.to_string(), "continue": next});
    Answer::Text(200, json!({"metadata": meta, "items": items}).to_string())
}

fn line(what: &str, object: &Value) -> String {
    format!("{{\"type\":\"{what}\",\"object\":{object}}}\n")
}

fn expired() -> Value {
    json!({"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"})
}

/// So many events, briefly.
async fn events(watch: &mut Watch<ConfigMap>, count: usize) -> String {
    let name = |map: ConfigMap| map.metadata.name.unwrap();
    let mut all = Vec::new();
    while all.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(3600), watch.next()).await;
        all.push(match next.expect("an event").expect("it never ends") {
            Event::Init => "[".to_owned(),
            Event::InitApply(map) => name(map),
            Event::InitDone => "]".to_owned(),
            Event::Apply(map) => format!("+{}", name(map)),
            Event::Delete(map) => format!("-{}", name(map)),
            Event::Unread(unread) => format!("?{}{}", if unread.deleted { "-" } else { "" }, unread.key.name),
        });
    }
    all.join(" ")
}

/// Whether a query has each of these parts.
fn has(asked: &Asked, at: usize, parts: &[&str]) {
    let asked = asked.lock();
    for part in parts {
        assert!(asked[at].split('&').any(|found| found == *part), "{part} is not in query {at} of {asked:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn pages_are_listed_and_then_watched_with_the_same_selector() {
    let (mut watch, asked) = scripted(vec![
        list(5, "more", &[object("a", 1), object("b", 2)]),
        list(5, "", &[object("c", 3)]),
        Answer::Open(vec![line("ADDED", &object("d", 6)) + &line("DELETED", &object("a", 7))]),
    ]);
    assert_eq!(events(&mut watch, 7).await, "[ a b c ] +d -a");
    has(&asked, 0, &["limit=500", "labelSelector=a%3Db"]);
    has(&asked, 1, &["limit=500", "labelSelector=a%3Db", "continue=more"]);
    let watched = ["watch=true", "timeoutSeconds=290", "allowWatchBookmarks=true", "resourceVersion=5"];
    has(&asked, 2, &watched);
    has(&asked, 2, &["labelSelector=a%3Db"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_resumed_from_what_it_last_saw_however_it_ends() {
    let bookmark = json!({"kind": "ConfigMap", "metadata": {"resourceVersion": "30"}});
    let whole = line("ADDED", &object("c", 31));
    let (head, tail) = whole.split_at(40);
    let (mut watch, asked) = scripted(vec![
        list(5, "", &[]),
        Answer::Torn(vec![line("ADDED", &object("a", 6))]),
        Answer::Pieces(vec![line("MODIFIED", &object("a", 9))]),
        // It is told that others changed, and then of half an event.
        Answer::Pieces(vec![line("BOOKMARK", &bookmark), head.to_owned()]),
        // An event comes in pieces.
        Answer::Open(vec![head.to_owned(), tail.to_owned()]),
    ]);
    assert_eq!(events(&mut watch, 5).await, "[ ] +a +a +c");
    for (at, version) in [(1, 5), (2, 6), (3, 9), (4, 30)] {
        has(&asked, at, &["watch=true", &format!("resourceVersion={version}")]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_too_old_calls_for_a_new_list() {
    for refusal in [
        Answer::Pieces(vec![line("ERROR", &expired())]),
        Answer::Text(410, expired().to_string()),
        Answer::Text(
            504,
            json!({"code": 504, "reason": "Timeout", "details": {"causes": [{"reason": "ResourceVersionTooLarge"}]}})
                .to_string(),
        ),
    ] {
        let (mut watch, asked) = scripted(vec![
            list(5, "", &[object("a", 1), object("b", 2)]),
            refusal,
            list(50, "", &[object("b", 2)]),
            Answer::Open(vec![line("ADDED", &object("c", 51))]),
        ]);
        assert_eq!(events(&mut watch, 8).await, "[ a b ] [ b ] +c");
        has(&asked, 2, &["limit=500"]);
        has(&asked, 3, &["watch=true", "resourceVersion=50"]);
    }
}

#[tokio::test(start_paused = true)]
async fn other_failures_leave_the_version_as_it_is() {
    let busy = json!({"code": 429, "reason": "TooManyRequests", "message": "busy"});
    let (mut watch, asked) = scripted(vec![
        Answer::Text(503, "no JSON".to_owned()),
        list(5, "", &[]),
        Answer::Text(429, busy.to_string()),
        Answer::Pieces(vec![line("ERROR", &busy)]),
        Answer::Pieces(vec!["no JSON\n".to_owned()]),
        // It ends before anything was said: not to be asked again at once.
        Answer::Pieces(Vec::new()),
        Answer::Open(vec![line("ADDED", &object("a", 6))]),
    ]);
    let began = tokio::time::Instant::now();
    assert_eq!(events(&mut watch, 4).await, "[ [ ] +a");
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    for at in 2..=6 {
        has(&asked, at, &["watch=true", "resourceVersion=5"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_whose_pages_have_expired_is_taken_in_one_piece() {
    let (mut watch, asked) = scripted(vec![
        list(5, "more", &[object("a", 1)]),
        Answer::Text(410, expired().to_string()),
        list(9, "", &[object("b", 2)]),
    ]);
    assert_eq!(events(&mut watch, 5).await, "[ a [ b ]");
    assert!(!asked.lock()[2].contains("limit"), "{asked:?}");
    assert!(!asked.lock()[2].contains("continue"), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn an_object_of_another_kind_holds_up_no_other() {
    let (mut watch, asked) = scripted(vec![
        list(5, "", &[object("a", 1), strange("b", 2), object("c", 3)]),
        Answer::Torn(vec![
            line("MODIFIED", &strange("a", 6)),
            line("ADDED", &object("d", 7)),
            line("DELETED", &strange("b", 8)),
        ]),
        Answer::Open(vec![line("ADDED", &object("e", 9))]),
    ]);
    assert_eq!(events(&mut watch, 9).await, "[ a ?b c ] ?a +d ?-b +e");
    has(&asked, 2, &["resourceVersion=8"]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_given_up_after_the_time_that_the_server_was_given() {
    let (mut watch, asked) =
        scripted(vec![list(5, "", &[]), Answer::Open(Vec::new()), Answer::Open(vec![line("ADDED", &object("a", 6))])]);
    let began = tokio::time::Instant::now();
    assert_eq!(events(&mut watch, 3).await, "[ ] +a");
    assert_eq!(began.elapsed().as_secs(), 295);
    has(&asked, 2, &["watch=true", "resourceVersion=5"]);
}
