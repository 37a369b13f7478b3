//! Bad input over TLS: to each request the answer is the reference's, and nothing is changed by it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fmt::Write as _;

use support::facts::{Facts, File};
use support::https::Https;
use support::listening::{Listening, listening};

/// A server with the fixtures in it, and an administrator's client.
async fn fixture() -> (Listening, Https) {
    let server = listening().await;
    let admin = server.admin();
    for case in File::parse(include_str!("facts/fixtures.txt")).cases {
        let (code, _, body) = admin.send(case.request()).await;
        assert!(code.is_success(), "{}: {}", case.title, String::from_utf8_lossy(&body));
    }
    (server, admin)
}

/// Sends each case of a file; says all differences at once.
async fn check(text: &str) {
    let (server, admin) = fixture().await;
    let (mut wrong, mut differences) = (0, String::new());
    let file = File::parse(text);
    for case in &file.cases {
        let before = server.store.revision();
        let (code, headers, body) = admin.send(case.request()).await;
        let got = Facts::of(code, &headers, &body);
        let changed = server.store.revision() != before;
        let expected = case.expected.as_ref().expect("a recorded answer");
        if got != *expected || changed {
            wrong += 1;
            writeln!(differences, "\n== {}\n{}", case.title, case.lines.join("\n")).unwrap();
            writeln!(differences, "reference: {expected:#?}\nours: {got:#?}\nchanged: {changed}").unwrap();
        }
    }
    assert!(wrong == 0, "{wrong} of {} answers differ:{differences}", file.cases.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies() {
    check(include_str!("facts/bodies.txt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_kinds() {
    check(include_str!("facts/validation.txt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_and_options() {
    check(include_str!("facts/queries.txt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn patches() {
    check(include_str!("facts/patches.txt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subresources_and_reviews() {
    check(include_str!("facts/subresources.txt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_permission() {
    check(include_str!("facts/access.txt")).await;
}
