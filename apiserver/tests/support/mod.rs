//! A server over the store double, and requests to it as clients make them.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod facts;
pub mod https;
pub mod listening;
pub mod memory;
pub mod rights;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use apiserver::{Body, Config, InProcess, Server};
use apiserver_auth::UserInfo;
use apiserver_auth::pki::Pki;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use memory::Memory;
use serde_json::Value;
use tower::Service as _;

/// Longer than anything takes; only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Cluster {
    pub server: Server,
    pub store: Arc<Memory>,
    pub admin: InProcess,
    pub dir: tempfile::TempDir,
}

/// An answer, its body read whole.
#[derive(Debug)]
pub struct Answer {
    pub code: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {:?}", self.bytes))
    }

    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or("").to_owned()
    }

    pub fn expect(self, code: u16) -> Value {
        assert_eq!(self.code.as_u16(), code, "{}", String::from_utf8_lossy(&self.bytes));
        self.json()
    }
}

pub async fn cluster() -> Cluster {
    over(Memory::new()).await
}

/// A server over a store that others may have written before.
pub async fn over(store: Arc<Memory>) -> Cluster {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::ensure(&dir.path().join("pki"), &[], jiff::Timestamp::now()).unwrap();
    let config = Config::new(pki, SocketAddr::from(([127, 0, 0, 1], 6443)));
    let server = Server::start(config, store.clone()).await.unwrap();
    let admin = server.in_process(UserInfo::new("admin", &["system:masters"]));
    Cluster { server, store, admin, dir }
}

impl Cluster {
    /// Answers are whole, as to any client; components get theirs without managedFields.
    pub async fn send(&self, mut request: Request<Full<Bytes>>) -> Answer {
        request.headers_mut().insert("cox-omit", http::HeaderValue::from_static("nothing"));
        send(&self.admin, request).await
    }

    pub async fn call(&self, method: Method, path: &str, body: &str) -> Answer {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        self.send(request.body(Full::from(body.to_owned())).unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, "").await
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.call(Method::POST, path, body).await
    }

    pub async fn put(&self, path: &str, body: &str) -> Answer {
        self.call(Method::PUT, path, body).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, "").await
    }

    pub async fn patch(&self, path: &str, content_type: &str, body: &str) -> Answer {
        let request = Request::builder().method(Method::PATCH).uri(path).header("content-type", content_type);
        self.send(request.body(Full::from(body.to_owned())).unwrap()).await
    }

    pub async fn get_as(&self, path: &str, accept: &str) -> Answer {
        let request = Request::builder().uri(path).header("accept", accept);
        self.send(request.body(Full::default()).unwrap()).await
    }

    /// Creates a ConfigMap in `default` and returns it.
    pub async fn config_map(&self, name: &str, labels: &str) -> Value {
        let body = format!(r#"{{"metadata":{{"name":"{name}","labels":{labels}}},"data":{{"k":"v"}}}}"#);
        self.post("/api/v1/namespaces/default/configmaps", &body).await.expect(201)
    }

    pub async fn watch(&self, path: &str) -> Watch {
        let mut service = self.admin.clone();
        let request = Request::builder().uri(path).body(Full::<Bytes>::default()).unwrap();
        let response = service.call(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        Watch { body: response.into_body(), buffer: Vec::new() }
    }
}

pub async fn send(service: &InProcess, request: Request<Full<Bytes>>) -> Answer {
    let mut service = service.clone();
    let response = tokio::time::timeout(PATIENCE, service.call(request)).await.unwrap().unwrap();
    let (parts, body) = response.into_parts();
    let bytes = tokio::time::timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes();
    Answer { code: parts.status, headers: parts.headers, bytes }
}

/// A watch's events, one by one.
pub struct Watch {
    pub body: Body,
    buffer: Vec<u8>,
}

impl Watch {
    /// The next event; `None` when the watch ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("a watch event in time");
            self.buffer.extend_from_slice(&frame?.unwrap().into_data().unwrap());
        }
    }

    /// The next event as `TYPE name`.
    pub async fn brief(&mut self) -> String {
        match self.next().await {
            None => "END".to_owned(),
            Some(event) => {
                let name = event["object"]["metadata"]["name"].as_str().unwrap_or("");
                format!("{} {name}", event["type"].as_str().unwrap_or(""))
            }
        }
    }
}
