//! The table of rights: requests, and the code that the reference answered each with, user by user.
//!
//! ```text
//! user reader people
//! user -
//!
//! GET /api/v1/namespaces/default/configmaps
//! = 200 403
//! POST /api/v1/namespaces?dryRun=All ~user:viewer {"metadata":{"name":"x"}}
//! = 403 403
//! ```
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

pub struct User {
    /// `-` for nobody.
    pub name: String,
    pub groups: Vec<String>,
}

pub struct Row {
    /// The request as it stands in the file.
    pub line: String,
    /// A code for each user.
    pub codes: Vec<String>,
}

pub struct Table {
    pub head: String,
    pub users: Vec<User>,
    pub rows: Vec<Row>,
}

impl Table {
    /// Reads a file; `None` when it is of another kind.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, rest) = text.split_once("\n\n")?;
        let users: Vec<User> = head.lines().filter_map(|line| line.strip_prefix("user ")).map(user).collect();
        if users.is_empty() {
            return None;
        }
        let mut rows: Vec<Row> = Vec::new();
        for line in rest.lines().filter(|line| !line.is_empty()) {
            match line.strip_prefix('=') {
                Some(codes) => {
                    let row = rows.last_mut().expect("a request before its codes");
                    row.codes = codes.split_whitespace().map(str::to_owned).collect();
                }
                None => rows.push(Row { line: line.to_owned(), codes: Vec::new() }),
            }
        }
        Some(Self { head: head.to_owned(), users, rows })
    }

    pub fn write(&self) -> String {
        let rows = self.rows.iter().map(|row| format!("{}\n= {}\n", row.line, row.codes.join(" ")));
        format!("{}\n\n{}", self.head, rows.collect::<String>())
    }
}

fn user(line: &str) -> User {
    let (name, groups) = line.split_once(' ').unwrap_or((line, ""));
    let groups = groups.split(',').filter(|group| !group.is_empty()).map(str::to_owned).collect();
    User { name: name.to_owned(), groups }
}

impl Row {
    pub fn request(&self) -> Request<Full<Bytes>> {
        let mut words = self.line.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().expect("a path"));
        let mut request = Request::builder().method(method).uri(path);
        let mut body: Vec<&str> = Vec::new();
        for word in words {
            match word.strip_prefix('~') {
                Some(header) if body.is_empty() => {
                    let (name, value) = header.split_once(':').expect("a value");
                    request = request.header(format!("impersonate-{name}"), value);
                }
                _ => body.push(word),
            }
        }
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        if !body.is_empty() {
            request = request.header("content-type", kind);
        }
        request.body(Full::from(body.join(" "))).unwrap()
    }
}
