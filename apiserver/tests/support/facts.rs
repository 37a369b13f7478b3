//! Files of facts: requests, and what a reference kube-apiserver answered to each.
//!
//! ```text
//! # a comment
//! let cm = /api/v1/namespaces/default/configmaps
//!
//! == what is wrong with this one
//! POST $cm?dryRun=All
//! + content-type: text/plain
//! a body, of any number of lines
//! << 415 UnsupportedMediaType
//! the message
//! {"the":"details"}
//! << warning: 299 - "text"
//! ```
//!
//! Of an answer that is no failure only code and warnings are facts. `examples/record.rs` writes what follows `<<`.
//! In requests `{{hex:…}}`, `{{fill:N}}`, `{{lists:N}}`, `{{objects:N}}` and `{{times:N:TEXT}}` stand for bytes that
//! are hard to write, and `+ json` or the like for a content type.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::Full;
use serde_json::Value;

/// What an answer says, as far as it is a fact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Code and reason.
    pub code: String,
    /// A Status's message, or a body that is no Status; a line, escaped.
    pub message: String,
    /// A Status's details, as JSON.
    pub details: String,
    pub warnings: Vec<String>,
}

/// One request and the facts about its answer.
#[derive(Clone, Debug)]
pub struct Case {
    pub title: String,
    /// The lines between the title and the answer, as they stand in the file.
    pub lines: Vec<String>,
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub expected: Option<Facts>,
}

/// A file: what stands before its first case, and its cases.
pub struct File {
    pub head: String,
    pub cases: Vec<Case>,
}

impl File {
    pub fn parse(text: &str) -> Self {
        let (head, rest) = text.split_once("\n== ").unwrap_or((text, ""));
        let names: Vec<(&str, &str)> =
            head.lines().filter_map(|line| line.strip_prefix("let ")?.split_once(" = ")).collect();
        let cases = rest.split("\n== ").filter(|case| !case.is_empty()).map(|case| Case::parse(case, &names)).collect();
        Self { head: head.trim_end().to_owned(), cases }
    }

    /// The file's text.
    pub fn write(&self) -> String {
        let mut out = self.head.clone();
        for case in &self.cases {
            write!(out, "\n\n== {}\n{}", case.title, case.lines.join("\n")).unwrap();
            if let Some(facts) = &case.expected {
                write!(out, "\n{}", facts.write()).unwrap();
            }
        }
        out.push('\n');
        out
    }
}

impl Case {
    fn parse(text: &str, names: &[(&str, &str)]) -> Self {
        let mut lines = text.trim_end().lines().map(str::to_owned);
        let title = lines.next().expect("a title");
        let all: Vec<String> = lines.collect();
        let answer = all.iter().position(|line| line.starts_with("<< ")).unwrap_or(all.len());
        let (asked, answered) = all.split_at(answer);
        let (method, path) = asked.first().and_then(|l| l.split_once(' ')).unwrap_or_else(|| panic!("{title}: no path"));
        let mut path = path.to_owned();
        for (name, value) in names {
            path = path.replace(&format!("${name}"), value);
        }
        let mut headers = Vec::new();
        let mut body = Vec::new();
        for line in &asked[1..] {
            match line.strip_prefix("+ ") {
                Some(header) => headers.push(read_header(header)),
                None => body.push(line.as_str()),
            }
        }
        let text = body.join("\n");
        Self {
            title,
            lines: asked.to_vec(),
            method: method.to_owned(),
            path: String::from_utf8(expand(&path)).unwrap(),
            headers,
            body: expand(text.trim_end_matches('\n')),
            expected: Facts::parse(answered),
        }
    }

    /// The request, by default of JSON.
    pub fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(self.method.as_str()).uri(&self.path);
        if !self.headers.iter().any(|(name, _)| name == "content-type") && !self.body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in self.headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(name, value);
        }
        request.body(Full::from(self.body.clone())).unwrap()
    }
}

fn read_header(text: &str) -> (String, String) {
    let kind = |value: &str| ("content-type".to_owned(), value.to_owned());
    match text {
        "json" => kind("application/json"),
        "yaml" => kind("application/yaml"),
        "proto" => kind("application/vnd.kubernetes.protobuf"),
        "jsonpatch" => kind("application/json-patch+json"),
        "merge" => kind("application/merge-patch+json"),
        "strategic" => kind("application/strategic-merge-patch+json"),
        "apply" => kind("application/apply-patch+yaml"),
        other => {
            let (name, value) = other.split_once(':').unwrap_or_else(|| panic!("no header: {other}"));
            (name.to_owned(), value.trim().to_owned())
        }
    }
}

/// Replaces what stands in double braces.
fn expand(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        out.extend_from_slice(before.as_bytes());
        let word = after.split(':').next().unwrap();
        let end = if word == "times" { after.rfind("}}") } else { after.find("}}") };
        let (inner, left) = after.split_at(end.unwrap_or_else(|| panic!("{{{{ is not closed: {after}")));
        let (_, argument) = inner.split_once(':').unwrap();
        put(&mut out, word, argument);
        rest = &left[2..];
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

fn put(out: &mut Vec<u8>, word: &str, argument: &str) {
    let count = || argument.parse::<usize>().unwrap();
    match word {
        "fill" => out.resize(out.len() + count(), b'x'),
        "lists" => {
            out.resize(out.len() + count(), b'[');
            out.resize(out.len() + count(), b']');
        }
        "objects" => {
            out.extend_from_slice("{\"a\":".repeat(count()).as_bytes());
            out.push(b'1');
            out.resize(out.len() + count(), b'}');
        }
        "times" => {
            let (number, what) = argument.split_once(':').unwrap();
            out.extend_from_slice(vec![what; number.parse().unwrap()].join(",").as_bytes());
        }
        "hex" => {
            let digits: Vec<u8> = argument.bytes().filter(|b| *b != b' ').collect();
            for pair in digits.chunks(2) {
                out.push(u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
            }
        }
        other => panic!("unknown word {other}"),
    }
}

impl Facts {
    fn parse(lines: &[String]) -> Option<Self> {
        let mut facts = Self::default();
        let mut lines = lines.iter();
        facts.code = lines.next()?.strip_prefix("<< ")?.to_owned();
        let mut said = Vec::new();
        for line in lines {
            match line.strip_prefix("<< warning: ") {
                Some(warning) => facts.warnings.push(warning.to_owned()),
                None => said.push(line.clone()),
            }
        }
        let mut said = said.into_iter();
        facts.message = said.next().unwrap_or_default();
        facts.details = said.next().unwrap_or_default();
        Some(facts)
    }

    fn write(&self) -> String {
        let mut lines = vec![format!("<< {}", self.code)];
        if !self.message.is_empty() || !self.details.is_empty() {
            lines.push(self.message.clone());
        }
        if !self.details.is_empty() {
            lines.push(self.details.clone());
        }
        lines.extend(self.warnings.iter().map(|w| format!("<< warning: {w}")));
        lines.join("\n")
    }

    /// The facts of an answer.
    pub fn of(code: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let warnings =
            headers.get_all("warning").iter().map(|w| String::from_utf8_lossy(w.as_bytes()).into_owned()).collect();
        let mut facts = Self { code: code.as_u16().to_string(), warnings, ..Self::default() };
        if code.is_success() {
            return facts;
        }
        let status: Value = serde_json::from_slice(body).unwrap_or_default();
        if status["kind"] == "Status" {
            if let Some(reason) = status["reason"].as_str() {
                facts.code.push(' ');
                facts.code.push_str(reason);
            }
            facts.message = line(status["message"].as_str().unwrap_or_default());
            if let Some(details) = status.get("details") {
                facts.details = normal(&details.to_string());
            }
        } else {
            facts.code.push_str(" text");
            facts.message = line(&String::from_utf8_lossy(body));
        }
        facts
    }
}

/// A text in one line, without what differs from run to run; long runs of a letter are counted.
fn line(text: &str) -> String {
    normal(&text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r"))
}

fn normal(text: &str) -> String {
    static UUID: std::sync::LazyLock<regex::Regex> = std::sync::LazyLock::new(|| {
        regex::Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap()
    });
    static LONG: std::sync::LazyLock<regex::Regex> = std::sync::LazyLock::new(|| regex::Regex::new("x{60,}").unwrap());
    let text = UUID.replace_all(text, "UUID");
    LONG.replace_all(&text, |found: &regex::Captures<'_>| format!("{{{{fill:{}}}}}", found[0].len())).into_owned()
}
