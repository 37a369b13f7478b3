//! One verb's connection to a cluster: who, where, in which namespace; requests and their failures.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::discovery::Discovery;
use crate::error::{ApiError, Result};
use crate::flags::Args;
use crate::kubeconfig;

pub(crate) const JSON: &str = "application/json";

/// A connection.
pub(crate) struct Session {
    pub client: kube::Client,
    /// The namespace of the request: --namespace, else the context's, else `default`.
    pub namespace: String,
    /// Whether --namespace was given: then objects of other namespaces are refused.
    pub is_namespace_given: bool,
    /// The server's address as it is shown.
    pub server: String,
    /// Warnings that were shown: each is shown once.
    warned: Mutex<HashSet<String>>,
    discovery: OnceCell<Discovery>,
}

/// How many warnings of servers were shown.
pub(crate) static WARNINGS: AtomicUsize = AtomicUsize::new(0);

/// A query string, percent-encoded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(String);

impl Query {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with(mut self, key: &str, value: impl AsRef<str>) -> Self {
        self.add(key, value.as_ref());
        self
    }

    /// Without an empty value.
    pub(crate) fn with_some(self, key: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) if !value.as_ref().is_empty() => self.with(key, value),
            _ => self,
        }
    }

    pub(crate) fn add(&mut self, key: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(key);
        self.0.push('=');
        encode(&mut self.0, value);
    }

    pub(crate) fn on(&self, path: &str) -> String {
        format!("{path}{}", self.0)
    }
}

fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

impl Session {
    /// Reads the kubeconfig; nothing is sent yet.
    pub(crate) async fn open(args: &Args) -> Result<Self> {
        let config = kubeconfig::config(args).await?;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let namespace = config.default_namespace.clone();
        let client = kube::Client::try_from(config).context("make a client")?;
        Ok(Self {
            client,
            namespace,
            is_namespace_given: args.has("namespace"),
            server,
            warned: Mutex::default(),
            discovery: OnceCell::new(),
        })
    }

    /// What the server serves; asked once.
    pub(crate) async fn discovery(&self) -> Result<&Discovery> {
        self.discovery.get_or_try_init(|| Discovery::fetch(self)).await
    }

    /// Sends a request; the answer is a success, its body not yet read.
    pub(crate) async fn send(
        &self,
        method: Method,
        uri: &str,
        accept: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Response<Body>> {
        let mut request = Request::builder().method(method).uri(uri).header(header::ACCEPT, accept);
        request = request.header(header::USER_AGENT, concat!("cox/", env!("CARGO_PKG_VERSION")));
        let body = match body {
            Some((content_type, bytes)) => {
                request = request.header(header::CONTENT_TYPE, content_type);
                bytes
            }
            None => Vec::new(),
        };
        let request = request.body(Body::from(body)).with_context(|| format!("request to {uri}"))?;
        let response = self.client.send(request).await.map_err(|error| self.unreachable(error))?;
        self.warn(response.headers());
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.context("read the server's answer")?.to_bytes();
        Err(ApiError::of(code, &body).into())
    }

    /// An error of the connection in kubectl's words.
    fn unreachable(&self, error: kube::Error) -> anyhow::Error {
        let error = anyhow::Error::from(error);
        let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
        let host = self.server.split_once("://").map_or(self.server.as_str(), |(_, host)| host);
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused) {
            return anyhow!(
                "The connection to the server {host} was refused - did you specify the right host or port?"
            );
        }
        let causes: Vec<_> = error.chain().map(ToString::to_string).collect();
        anyhow!("Unable to connect to the server: {}", causes.last().map_or("", String::as_str))
    }

    fn warn(&self, headers: &HeaderMap) {
        for value in headers.get_all(header::WARNING) {
            let text = String::from_utf8_lossy(value.as_bytes());
            let Some(text) = text.strip_prefix("299 ").and_then(|rest| rest.split_once(' ')) else { continue };
            let text = text.1.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text.1);
            let text = text.replace("\\\"", "\"").replace("\\\\", "\\");
            // A thread that panicked while it held the lock leaves nothing half done: the set is as good as before.
            if self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(text.clone()) {
                WARNINGS.fetch_add(1, Ordering::Relaxed);
                eprintln!("Warning: {text}");
            }
        }
    }

    pub(crate) async fn bytes(
        &self,
        method: Method,
        uri: &str,
        accept: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Bytes> {
        let response = self.send(method, uri, accept, body).await?;
        Ok(response.into_body().collect().await.context("read the server's answer")?.to_bytes())
    }

    async fn json(&self, method: Method, uri: &str, accept: &str, body: Option<(&str, Vec<u8>)>) -> Result<Value> {
        let bytes = self.bytes(method, uri, accept, body).await?;
        serde_json::from_slice(&bytes).with_context(|| format!("the answer to {uri} is no JSON"))
    }

    pub(crate) async fn get(&self, uri: &str) -> Result<Value> {
        self.json(Method::GET, uri, JSON, None).await
    }

    pub(crate) async fn get_as(&self, uri: &str, accept: &str) -> Result<Value> {
        self.json(Method::GET, uri, accept, None).await
    }

    pub(crate) async fn post(&self, uri: &str, object: &Value) -> Result<Value> {
        self.json(Method::POST, uri, JSON, Some((JSON, object.to_string().into_bytes()))).await
    }

    pub(crate) async fn put(&self, uri: &str, object: &Value) -> Result<Value> {
        self.json(Method::PUT, uri, JSON, Some((JSON, object.to_string().into_bytes()))).await
    }

    pub(crate) async fn patch(&self, uri: &str, content_type: &str, patch: &Value) -> Result<Value> {
        self.json(Method::PATCH, uri, JSON, Some((content_type, patch.to_string().into_bytes()))).await
    }

    pub(crate) async fn delete(&self, uri: &str, options: &Value) -> Result<Value> {
        self.json(Method::DELETE, uri, JSON, Some((JSON, options.to_string().into_bytes()))).await
    }

    /// All items of a list, read in parts of 500.
    pub(crate) async fn list(&self, path: &str, query: &Query) -> Result<Value> {
        self.list_as(path, query, JSON, "items").await
    }

    /// As [`Session::list`], with the field that holds the items (a Table's are its rows).
    pub(crate) async fn list_as(&self, path: &str, query: &Query, accept: &str, items: &str) -> Result<Value> {
        let mut whole = self.get_as(&query.clone().with("limit", "500").on(path), accept).await?;
        loop {
            let next = whole.pointer("/metadata/continue").and_then(Value::as_str).unwrap_or_default().to_owned();
            if next.is_empty() {
                return Ok(whole);
            }
            let uri = query.clone().with("limit", "500").with("continue", next).on(path);
            let mut part = self.get_as(&uri, accept).await?;
            let more = part.get_mut(items).and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
            if let Some(list) = whole.get_mut(items).and_then(Value::as_array_mut) {
                list.extend(more);
            }
            whole["metadata"] = part["metadata"].take();
        }
    }
}
