//! A Kubernetes API in memory, as much as a kubelet asks of one: create, get, list, watch, merge patches, delete.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::broadcast;

type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

#[derive(Default)]
struct State {
    revision: u64,
    /// By collection path and name.
    objects: BTreeMap<(String, String), Value>,
}

/// The objects, and a feed of their changes.
#[derive(Clone)]
pub struct Api {
    state: Arc<Mutex<State>>,
    changes: broadcast::Sender<(String, &'static str, Value)>,
}

impl Api {
    pub fn new() -> Self {
        Self { state: Arc::default(), changes: broadcast::channel(1024).0 }
    }

    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, std::convert::Infallible>(api.serve(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Puts an object there, as a user would.
    pub fn put(&self, collection: &str, mut object: Value) -> Value {
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{name}"));
        }
        self.store(collection, &name, object)
    }

    fn store(&self, collection: &str, name: &str, mut object: Value) -> Value {
        let mut state = self.state.lock();
        state.revision += 1;
        object["metadata"]["resourceVersion"] = json!(state.revision.to_string());
        let old = state.objects.insert((collection.to_owned(), name.to_owned()), object.clone());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        // Nobody may watch.
        let _ = self.changes.send((collection.to_owned(), kind, object.clone()));
        object
    }

    pub fn get(&self, collection: &str, name: &str) -> Option<Value> {
        self.state.lock().objects.get(&(collection.to_owned(), name.to_owned())).cloned()
    }

    pub fn list(&self, collection: &str) -> Vec<Value> {
        let state = self.state.lock();
        state.objects.iter().filter(|((c, _), _)| c == collection).map(|(_, o)| o.clone()).collect()
    }

    pub fn remove(&self, collection: &str, name: &str) {
        let gone = self.state.lock().objects.remove(&(collection.to_owned(), name.to_owned()));
        if let Some(object) = gone {
            let _ = self.changes.send((collection.to_owned(), "DELETED", object));
        }
    }

    /// Changes an object by a merge patch.
    pub fn patch(&self, collection: &str, name: &str, patch: &Value) -> Option<Value> {
        let mut object = self.get(collection, name)?;
        merge(&mut object, patch);
        Some(self.store(collection, name, object))
    }

    async fn serve(&self, request: Request<Body>) -> Answer {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let query: HashMap<String, String> = request.uri().query().map(parse_query).unwrap_or_default();
        let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (collection, name, sub) = split(&parts);
        match (method, name) {
            (Method::POST, Some(name)) if sub == Some("token") => token(&name, body),
            (Method::POST, None) => self.create(&collection, body),
            (Method::GET, None) if query.contains_key("watch") => self.watch(&collection, &query),
            (Method::GET, None) => self.list_answer(&collection, &query),
            (Method::GET, Some(name)) => self.get(&collection, &name).map_or_else(|| missing(&name), |o| ok(&o)),
            (Method::PATCH, Some(name)) => {
                self.patch(&collection, &name, &body).map_or_else(|| missing(&name), |o| ok(&o))
            }
            (Method::DELETE, Some(name)) => {
                self.remove(&collection, &name);
                ok(&json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
            }
            _ => missing(&path),
        }
    }

    fn create(&self, collection: &str, object: Value) -> Answer {
        let name = object["metadata"]["name"].as_str().unwrap_or("").to_owned();
        if self.get(collection, &name).is_some() {
            return failure(StatusCode::CONFLICT, "AlreadyExists", &format!("{name} already exists"));
        }
        ok(&self.put(collection, object))
    }

    fn list_answer(&self, collection: &str, query: &HashMap<String, String>) -> Answer {
        let state = self.state.lock();
        let items: Vec<Value> = state
            .objects
            .iter()
            .filter(|((c, _), o)| within(c, collection) && selected(o, query))
            .map(|(_, o)| o.clone())
            .collect();
        ok(&json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": state.revision.to_string()},
            "items": items}))
    }

    /// Everything after the resource version that is kept, then what comes.
    fn watch(&self, collection: &str, query: &HashMap<String, String>) -> Answer {
        let state = self.state.lock();
        let changes = self.changes.subscribe();
        let since: u64 = query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0);
        let revision = |o: &Value| o["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse::<u64>().ok());
        let missed: Vec<Value> = state
            .objects
            .iter()
            .filter(|((c, _), o)| within(c, collection) && selected(o, query) && revision(o) > Some(since))
            .map(|(_, o)| json!({"type": "ADDED", "object": o}))
            .collect();
        let (collection, query) = (collection.to_owned(), query.clone());
        let live = futures::stream::unfold(changes, |mut changes| async {
            changes.recv().await.ok().map(|change| (change, changes))
        });
        let live = live.filter_map(move |(c, kind, object)| {
            let wanted = within(&c, &collection) && selected(&object, &query);
            async move { wanted.then(|| json!({"type": kind, "object": object})) }
        });
        let lines = futures::stream::iter(missed)
            .chain(live)
            .map(|event| Ok::<_, std::io::Error>(Frame::data(Bytes::from(format!("{event}\n")))));
        Response::new(UnsyncBoxBody::new(StreamBody::new(Box::pin(lines))))
    }
}

/// Collection, name and subresource of a path.
fn split(parts: &[&str]) -> (String, Option<String>, Option<&'static str>) {
    let head = if parts.first() == Some(&"api") { 2 } else { 3 };
    let namespaced = parts.get(head) == Some(&"namespaces") && parts.len() > head + 2;
    let base = if namespaced { head + 2 } else { head };
    let collection = parts[..(base + 1).min(parts.len())].join("/");
    let name = parts.get(base + 1).map(|s| (*s).to_owned());
    let sub = parts.get(base + 2).map(|s| if *s == "token" { "token" } else { "other" });
    (collection, name, sub)
}

/// Whether a collection is asked for by itself, or as part of all namespaces.
fn within(own: &str, asked: &str) -> bool {
    own == asked || {
        let (Some(a), Some(b)) = (own.rsplit('/').next(), asked.rsplit('/').next()) else { return false };
        a == b && own.contains("/namespaces/") && !asked.contains("/namespaces/")
    }
}

fn selected(object: &Value, query: &HashMap<String, String>) -> bool {
    let Some(selector) = query.get("fieldSelector") else { return true };
    selector.split(',').all(|term| {
        let (path, want) = term.split_once('=').unwrap_or((term, ""));
        path.split('.').fold(object, |here, key| &here[key]).as_str() == Some(want)
    })
}

fn parse_query(query: &str) -> HashMap<String, String> {
    let pairs = query.split('&').filter_map(|p| p.split_once('='));
    pairs.map(|(k, v)| (k.to_owned(), v.replace("%3D", "=").replace("%2C", ","))).collect()
}

/// JSON merge patch; lists of conditions merge by type as strategic merge patch does.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            target.as_object_mut().expect("an object").remove(key);
        } else if let (Value::Array(new), "conditions") = (value, key.as_str()) {
            let mut list = target[key].as_array().cloned().unwrap_or_default();
            for condition in new {
                list.retain(|c| c["type"] != condition["type"]);
                list.push(condition.clone());
            }
            target[key] = Value::Array(list);
        } else if let Value::Array(new) = value {
            target[key] = Value::Array(new.iter().filter(|i| i["$patch"].is_null()).cloned().collect());
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn ok(value: &Value) -> Answer {
    let body = http_body_util::Full::new(Bytes::from(value.to_string())).map_err(|e| match e {});
    Response::new(UnsyncBoxBody::new(body))
}

fn failure(code: StatusCode, reason: &str, message: &str) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason,
        "message": message, "code": code.as_u16()});
    let mut answer = ok(&status);
    *answer.status_mut() = code;
    answer
}

fn missing(name: &str) -> Answer {
    failure(StatusCode::NOT_FOUND, "NotFound", &format!("{name} not found"))
}

fn token(account: &str, mut request: Value) -> Answer {
    let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3600);
    request["status"] = json!({"token": format!("token-of-{account}"), "expirationTimestamp": expires.to_string()});
    ok(&request)
}
