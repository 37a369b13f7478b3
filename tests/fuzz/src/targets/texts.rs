//! Small texts: selectors, quantities, times, tokens, references, paths and queries.

use std::sync::LazyLock;

use api::fields::FieldSelector;
use api::labels::Selector;
use api::quantity::Quantity;
use apiserver_auth::authn::bootstrap;
use apiserver_auth::pki::csr;
use apiserver_auth::pki::{Authority, Profile};
use apiserver_auth::token::claims;
use kubelet_runtime::images::Mirror;

use super::{Target, seen, text};
use crate::corpus::texts;
use crate::mutate::Shape;

pub const TARGETS: &[Target] = &[
    Target {
        name: "label-selector",
        shape: Shape::Text(SELECTOR),
        inputs: 5000,
        corpus: selectors,
        run: label_selector,
    },
    Target {
        name: "field-selector",
        shape: Shape::Text(SELECTOR),
        inputs: 5000,
        corpus: selectors,
        run: field_selector,
    },
    Target { name: "quantity", shape: Shape::Text(NUMBER), inputs: 8000, corpus: quantities, run: quantity },
    Target { name: "time", shape: Shape::Text(NUMBER), inputs: 8000, corpus: times, run: time },
    Target { name: "query", shape: Shape::Text(QUERY), inputs: 5000, corpus: queries, run: query },
    Target { name: "path", shape: Shape::Text(QUERY), inputs: 5000, corpus: paths, run: path },
    Target { name: "token", shape: Shape::Text(TOKEN), inputs: 4000, corpus: tokens, run: token },
    Target { name: "pem", shape: Shape::Text(PEM), inputs: 2500, corpus: pems, run: pem },
    Target { name: "reference", shape: Shape::Text(REFERENCE), inputs: 5000, corpus: references, run: reference },
];

const SELECTOR: &[&str] =
    &["=", "==", "!=", "!", ",", "(", ")", " in ", " notin ", ">", "<", "a", "x/y", "\\", "\\,", "metadata.name"];
const NUMBER: &[&str] = &[
    "0",
    "9",
    ".",
    "-",
    "+",
    "e",
    "E",
    "Ki",
    "m",
    "n",
    "Ei",
    "1e",
    "e308",
    "Z",
    "T",
    ":",
    "99999999999999999999",
    "+14:00",
    "-00:00",
];
const QUERY: &[&str] = &[
    "&",
    "=",
    "%",
    "%2F",
    "%00",
    "%zz",
    "+",
    "/",
    "//",
    "..",
    "limit",
    "continue",
    "timeoutSeconds",
    "9223372036854775807",
    "dryRun",
    "watch/",
    "namespaces/",
    "apis/",
    ";",
    "resourceVersion",
];
const TOKEN: &[&str] = &[".", "=", "-", "_", "eyJ", "e30", "W10", "bnVsbA", "abcdef.0123456789abcdef"];
const PEM: &[&str] =
    &["-----BEGIN CERTIFICATE REQUEST-----\n", "-----END CERTIFICATE-----\n", "\n", "=", "MIIB", "AAAA", "//8="];
const REFERENCE: &[&str] =
    &["/", ":", "@", "sha256:", "localhost", ":5000", ".", "_", "__", "-", "A", "docker.io/", "latest"];

fn selectors() -> Vec<Vec<u8>> {
    texts(&["a=b,c!=d", "x/y in (a,b),!z", "a notin (), b>1", "metadata.name=a,status.phase!=Running", "a\\,b=c\\=d"])
}

fn label_selector(input: &[u8]) {
    if let Ok(selector) = Selector::parse(&text(input)) {
        let shown = selector.to_string();
        let again = Selector::parse(&shown);
        assert!(again.is_ok_and(|again| again.to_string() == shown), "{shown:?} is not read again");
    }
}

fn field_selector(input: &[u8]) {
    if let Ok(selector) = FieldSelector::parse(&text(input)) {
        seen(selector.matches(|_| ""));
        seen(selector.check_supported(&["status.phase"]));
    }
}

fn quantities() -> Vec<Vec<u8>> {
    texts(&["1", "100m", "1.5Gi", "-3e6", "12E", "0.000000001", "9223372036854775807", "1e-9", "5n", "+1Ki"])
}

fn quantity(input: &[u8]) {
    let Ok(mut quantity) = Quantity::parse(&text(input)) else { return };
    let shown = quantity.to_string();
    let again = Quantity::parse(&shown);
    assert!(again.is_ok_and(|again| again.to_string() == shown), "{shown:?} is not read again");
    seen((quantity.value(), quantity.milli_value(), quantity.scaled_value(-9), quantity.as_f64()));
    let other = quantity.clone();
    quantity.add(&other);
    quantity.sub(&other);
    quantity.mul(i64::MAX);
    quantity.round_up(-3);
    seen(quantity.to_string());
}

fn times() -> Vec<Vec<u8>> {
    texts(&["2026-11-24T07:21:46Z", "2026-11-24T07:21:46.123456Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59+14:00"])
}

fn time(input: &[u8]) {
    let text = text(input);
    if let Ok(seconds) = api::time::parse_rfc3339(&text) {
        seen(api::time::rfc3339(seconds));
    }
    if let Ok(micros) = api::time::parse_micro(&text) {
        seen(api::time::rfc3339_micro(micros));
    }
    if let Ok(number) = text.parse::<i64>() {
        seen((api::time::rfc3339(number), api::time::rfc3339_micro(number)));
    }
}

fn queries() -> Vec<Vec<u8>> {
    texts(&[
        "labelSelector=app%3Dweb&limit=500&watch=true&fieldManager=kubectl",
        "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhXHUwMDAwIn0&resourceVersion=0",
        "dryRun=All&propagationPolicy=Foreground&gracePeriodSeconds=0&timeout=1m30s",
    ])
}

fn query(input: &[u8]) {
    apiserver::untrusted::query(&text(input));
}

fn paths() -> Vec<Vec<u8>> {
    texts(&[
        "/api/v1/namespaces/default/pods/p/proxy/x/y",
        "/apis/apps/v1/namespaces/a/deployments/d/scale",
        "/api/v1/watch/namespaces/a/pods",
        "/api/v1/namespaces/%61/configmaps/b%2Fc",
    ])
}

fn path(input: &[u8]) {
    apiserver::untrusted::path(&text(input));
}

fn tokens() -> Vec<Vec<u8>> {
    texts(&[
        "eyJhbGciOiJFUzI1NiIsImtpZCI6IngifQ.eyJpc3MiOiJodHRwczovL2t1YmVybmV0ZXMuZGVmYXVsdC5zdmMuY2x1c3Rlci5sb2NhbCIsImV4cCI6MX0.AAAA",
        "eyJhbGciOiJub25lIn0.e30.",
        "abcdef.0123456789abcdef",
    ])
}

fn token(input: &[u8]) {
    let text = text(input);
    if let Some(parsed) = claims::parse(&text) {
        seen(serde_json::from_slice::<claims::Claims>(&parsed.payload));
    }
    seen(bootstrap::parse(&text));
}

fn pems() -> Vec<Vec<u8>> {
    let mut all = texts(&["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]);
    if let Ok((_, request)) = csr::generate(&Profile::client("system:node:a", &["system:nodes"])) {
        all.push(request.into_bytes());
    }
    all.push(AUTHORITY.0.clone().into_bytes());
    all
}

static AUTHORITY: LazyLock<(String, String)> = LazyLock::new(|| {
    let life = jiff::SignedDuration::from_hours(24);
    match Authority::generate("ca", life, jiff::Timestamp::now()) {
        Ok(pair) => (pair.certificate, pair.key),
        Err(_) => (String::new(), String::new()),
    }
});

fn pem(input: &[u8]) {
    if let Ok(request) = csr::Request::from_pem(input) {
        let usages = ["digital signature".to_owned(), "client auth".to_owned()];
        seen(csr::validate(csr::SIGNER_CLIENT, &request, &usages));
        seen(csr::validate_kubelet_client(&request, &usages));
        seen(csr::validate_kubelet_serving(&request, &usages));
    }
    seen(Authority::from_pem(&text(input), &AUTHORITY.1));
}

fn references() -> Vec<Vec<u8>> {
    texts(&[
        "nginx",
        "docker.io/library/nginx:1.27",
        "localhost:5000/a/b@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "docker.io=http://127.0.0.1:5000",
    ])
}

fn reference(input: &[u8]) {
    let text = text(input);
    seen(kubelet_runtime::images::untrusted_reference(&text));
    seen(Mirror::parse(&text));
}
