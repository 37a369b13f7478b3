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
use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::Full;
use regex::Regex;
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

/// The text of a file of facts.
pub fn read(name: &str) -> String {
    let path = format!("{}/tests/facts/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {path}: {e}"))
}

impl File {
    pub fn read(name: &str) -> Self {
        Self::parse(&read(name))
    }

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
        let (method, path) =
            asked.first().and_then(|l| l.split_once(' ')).unwrap_or_else(|| panic!("{title}: no path"));
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

    /// What differs from other facts: the part, theirs, ours.
    pub fn differences(&self, theirs: &Self) -> Vec<(&'static str, String, String)> {
        let parts = |facts: &Self| {
            [&facts.code, &facts.message, &facts.details, &facts.warnings.join(" | ")].map(String::clone)
        };
        let names = ["code", "message", "details", "warnings"];
        let pairs = names.into_iter().zip(parts(theirs)).zip(parts(self));
        pairs.filter(|((_, theirs), ours)| theirs != ours).map(|((name, theirs), ours)| (name, theirs, ours)).collect()
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
            facts.message = line(&listed(status["message"].as_str().unwrap_or_default(), status.get("details")));
            if let Some(details) = status.get("details") {
                facts.details = details_of(details);
            }
        } else {
            facts.code.push_str(" text");
            facts.message = line(&String::from_utf8_lossy(body));
        }
        facts
    }
}

/// A text in one line, without what differs from run to run.
fn line(text: &str) -> String {
    normal(text).replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r")
}

/// What is replaced in every text: names of objects, long runs of a letter, random ends, what only one of two programs
/// can say (the words of a YAML parser, differences of its own types), and values that are objects, which the reference
/// prints as its own types.
fn normal(text: &str) -> String {
    static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        [
            ("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
            ("Bad_[a-z0-9]{5}", "Bad_RANDOM"),
            (r"in record \([0-9]+\)", "in record (N)"),
            (r"yaml: (line \d+: |unmarshal errors:)?[^(\n]*[^(\n ]", "yaml: WHY"),
            (r"json parse error: invalid (character|escape)[^(]*", "json parse error: invalid WHY "),
            (r"(?s)\n@@.*", "\n@@DIFFERENCE"),
        ]
        .into_iter()
        .map(|(pattern, with)| (Regex::new(pattern).unwrap(), with))
        .collect()
    });
    static LONG: LazyLock<Regex> = LazyLock::new(|| Regex::new("x{60,}").unwrap());
    let mut text = without_objects(text);
    for (pattern, with) in RULES.iter() {
        text = pattern.replace_all(&text, *with).into_owned();
    }
    LONG.replace_all(&text, |found: &regex::Captures<'_>| format!("{{{{fill:{}}}}}", found[0].len())).into_owned()
}

/// The text with `OBJECT` in place of each shown value that is an object, a list, or the text of one.
fn without_objects(text: &str) -> String {
    const SHOWN: &str = "Invalid value: ";
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(SHOWN) {
        out.push_str(before);
        out.push_str(SHOWN);
        let quoted = after.starts_with("\"{") || after.starts_with("\"map[");
        let end = if quoted {
            end_of_text(after)
        } else if after.starts_with(['{', '[']) {
            end_of_value(after)
        } else {
            0
        };
        if end > 0 {
            out.push_str("OBJECT");
        }
        rest = &after[end..];
    }
    out + rest
}

/// Where a text in double quotes ends.
fn end_of_text(text: &str) -> usize {
    let mut escaped = true;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    0
}

/// Where a JSON object or list ends.
fn end_of_value(text: &str) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => depth += 1,
            b'}' | b']' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    0
}

/// Details with normal texts, and each cause once, in an order of ours: the reference goes through its maps in any
/// order,
/// and says twice what two passes of its validation found.
fn details_of(details: &Value) -> String {
    let mut details = details.clone();
    each_text(&mut details);
    if let Some(causes) = details.get_mut("causes").and_then(Value::as_array_mut) {
        causes.sort_by_key(ToString::to_string);
        causes.dedup();
    }
    details.to_string()
}

fn each_text(value: &mut Value) {
    match value {
        Value::String(text) => *text = normal(text),
        Value::Array(items) => items.iter_mut().for_each(each_text),
        Value::Object(map) => map.values_mut().for_each(each_text),
        _ => {}
    }
}

/// A message that lists its causes, with the list in the order of the causes' texts.
fn listed(message: &str, details: Option<&Value>) -> String {
    let causes = details.and_then(|d| d["causes"].as_array()).map(Vec::as_slice).unwrap_or_default();
    let text = |cause: &Value| {
        let part = |key: &str| cause[key].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", if part("field") == "[]" { "[]".to_owned() } else { part("field") }, part("message"))
    };
    let mut texts: Vec<String> = Vec::new();
    for cause in causes {
        if !texts.contains(&text(cause)) {
            texts.push(text(cause));
        }
    }
    match message.split_once(" is invalid: [") {
        Some((before, list)) if texts.len() > 1 && list == format!("{}]", texts.join(", ")) => {
            texts.sort();
            format!("{before} is invalid: [{}]", texts.join(", "))
        }
        _ => message.to_owned(),
    }
}
