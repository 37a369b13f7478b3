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
    for case in File::read("fixtures.txt").cases {
        let (code, _, body) = admin.send(case.request()).await;
        assert!(code.is_success(), "{}: {}", case.title, String::from_utf8_lossy(&body));
    }
    (server, admin)
}

/// Sends each case of a file; says all differences at once.
async fn check(name: &str) {
    let (server, admin) = fixture().await;
    // A token is looked at only where no certificate says who it is.
    let unknown = Https::new(server.address, None, None);
    let (mut wrong, mut differences) = (0, String::new());
    let file = File::read(name);
    for case in &file.cases {
        let before = server.store.revision();
        let by_token = case.headers.iter().any(|(name, _)| name == "authorization");
        let client = if by_token { &unknown } else { &admin };
        let (code, headers, body) = client.send(case.request()).await;
        let got = Facts::of(code, &headers, &body);
        let changed = server.store.revision() != before;
        let expected = case.expected.as_ref().expect("a recorded answer");
        if got != *expected || changed {
            wrong += 1;
            writeln!(differences, "\n== {}\n{}", case.title, case.lines.join("\n")).unwrap();
            for (part, theirs, ours) in got.differences(expected) {
                writeln!(differences, "{part}\n  reference {theirs}\n  ours      {ours}").unwrap();
            }
            if changed {
                writeln!(differences, "it changed something").unwrap();
            }
        }
    }
    assert!(wrong == 0, "{wrong} of {} answers differ:{differences}", file.cases.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies() {
    check("bodies.txt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_kinds() {
    check("validation.txt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_and_options() {
    check("queries.txt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn patches() {
    check("patches.txt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subresources_and_reviews() {
    check("subresources.txt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_permission() {
    check("access.txt").await;
}
