//! A small Kubernetes API in memory: list, watch, get, create, update, apply (as replace) and delete of any kind.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

#[derive(Default)]
struct State {
    /// By collection ("services") and "namespace/name".
    objects: BTreeMap<(String, String), Value>,
    log: Vec<(String, Value)>,
}

/// The API; clones share one state.
#[derive(Clone)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
    revision: watch::Sender<usize>,
}

/// A request path taken apart.
#[derive(Clone)]
struct Target {
    collection: String,
    namespace: Option<String>,
    name: Option<String>,
}

impl Target {
    fn has(&self, object: &Value) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| object["metadata"]["namespace"] == namespace.as_str())
    }
}

fn parse(path: &str) -> Target {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let rest = if parts[0] == "api" { &parts[2..] } else { &parts[3..] };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
        rest => (None, rest),
    };
    let name = rest.get(1).map(|name| (*name).to_owned());
    Target { collection: rest[0].to_owned(), namespace, name }
}

fn kind(collection: &str) -> (&'static str, &'static str) {
    match collection {
        "services" => ("v1", "Service"),
        "endpointslices" => ("discovery.k8s.io/v1", "EndpointSlice"),
        "nodes" => ("v1", "Node"),
        "pods" => ("v1", "Pod"),
        "namespaces" => ("v1", "Namespace"),
        other => panic!("unexpected collection {other}"),
    }
}

fn answer(status: StatusCode, body: &Value) -> Answer {
    let body = http_body_util::Full::new(Bytes::from(body.to_string())).boxed_unsync();
    Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
}

fn failure(code: StatusCode, reason: &str) -> Answer {
    answer(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason,
        "message": reason, "code": code.as_u16()}),
    )
}

impl FakeApi {
    pub fn new() -> Self {
        Self { state: Arc::default(), revision: watch::channel(0).0 }
    }

    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.handle(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Creates or replaces an object.
    pub fn put(&self, collection: &str, mut object: Value) -> Value {
        let (version, kind) = kind(collection);
        object["apiVersion"] = version.into();
        object["kind"] = kind.into();
        let key = (collection.to_owned(), key(&object));
        let revision;
        {
            let mut state = self.state.lock().unwrap();
            revision = state.log.len() + 1;
            object["metadata"]["resourceVersion"] = revision.to_string().into();
            object["metadata"]["uid"] = format!("uid-{}", key.1).into();
            let event = if state.objects.contains_key(&key) { "MODIFIED" } else { "ADDED" };
            state.objects.insert(key, object.clone());
            state.log.push((collection.to_owned(), json!({"type": event, "object": object.clone()})));
        }
        self.revision.send_replace(revision);
        object
    }

    pub fn get(&self, collection: &str, name: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(&(collection.to_owned(), name.to_owned())).cloned()
    }

    pub fn delete(&self, collection: &str, name: &str) -> bool {
        let revision;
        {
            let mut state = self.state.lock().unwrap();
            let Some(mut object) = state.objects.remove(&(collection.to_owned(), name.to_owned())) else {
                return false;
            };
            revision = state.log.len() + 1;
            object["metadata"]["resourceVersion"] = revision.to_string().into();
            state.log.push((collection.to_owned(), json!({"type": "DELETED", "object": object})));
        }
        self.revision.send_replace(revision);
        true
    }

    async fn handle(&self, request: Request<Body>) -> Answer {
        let target = parse(request.uri().path());
        let query: BTreeMap<String, String> = request
            .uri()
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.replace("%2F", "/").replace("%3D", "=").replace("%21", "!")))
            .collect();
        match (request.method().clone(), &target.name) {
            (Method::GET, None) if query.get("watch").is_some_and(|value| value == "true" || value == "1") => {
                self.watch(&target, &query)
            }
            (Method::GET, None) => self.list(&target, &query),
            (Method::GET, Some(name)) => match self.get(&target.collection, &full(&target, name)) {
                Some(object) => answer(StatusCode::OK, &object),
                None => failure(StatusCode::NOT_FOUND, "NotFound"),
            },
            (Method::POST, None) => {
                let object = body(request, &target).await;
                if self.get(&target.collection, &key(&object)).is_some() {
                    return failure(StatusCode::CONFLICT, "AlreadyExists");
                }
                answer(StatusCode::CREATED, &self.put(&target.collection, object))
            }
            (Method::PUT | Method::PATCH, Some(_)) => {
                let object = body(request, &target).await;
                answer(StatusCode::OK, &self.put(&target.collection, object))
            }
            (Method::DELETE, Some(name)) => match self.delete(&target.collection, &full(&target, name)) {
                true => answer(StatusCode::OK, &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})),
                false => failure(StatusCode::NOT_FOUND, "NotFound"),
            },
            _ => failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }

    fn list(&self, target: &Target, query: &BTreeMap<String, String>) -> Answer {
        let state = self.state.lock().unwrap();
        let (version, kind) = kind(&target.collection);
        let items: Vec<&Value> = state
            .objects
            .iter()
            .filter(|((collection, _), object)| {
                *collection == target.collection && target.has(object) && selected(object, query)
            })
            .map(|(_, object)| object)
            .collect();
        let list = json!({"kind": format!("{kind}List"), "apiVersion": version,
            "metadata": {"resourceVersion": state.log.len().to_string()}, "items": items});
        answer(StatusCode::OK, &list)
    }

    fn watch(&self, target: &Target, query: &BTreeMap<String, String>) -> Answer {
        let from: usize = query.get("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
        let (state, collection, query) = (self.state.clone(), target.clone(), query.clone());
        let stream = futures::stream::unfold((from, self.revision.subscribe()), move |(mut at, mut revision)| {
            let (state, collection, query) = (state.clone(), collection.clone(), query.clone());
            async move {
                loop {
                    let event = state.lock().unwrap().log.get(at).cloned();
                    if let Some((found, event)) = event {
                        at += 1;
                        if found == collection.collection
                            && collection.has(&event["object"])
                            && selected(&event["object"], &query)
                        {
                            let frame = http_body::Frame::data(Bytes::from(format!("{event}\n")));
                            return Some((Ok::<_, Infallible>(frame), (at, revision)));
                        }
                    } else if revision.changed().await.is_err() {
                        return None;
                    }
                }
            }
        });
        let body = StreamBody::new(stream).boxed_unsync();
        Response::builder().header("content-type", "application/json").body(body).unwrap()
    }
}

fn selected(object: &Value, query: &BTreeMap<String, String>) -> bool {
    let name = query.get("fieldSelector").and_then(|selector| selector.strip_prefix("metadata.name="));
    // Of label selectors only KEY=VALUE: the others that are used let everything here through.
    let label = query.get("labelSelector").and_then(|selector| selector.split_once('='));
    name.is_none_or(|name| object["metadata"]["name"] == name)
        && label.is_none_or(|(key, value)| object["metadata"]["labels"][key] == value)
}

fn key(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("namespace"), text("name"))
}

fn full(target: &Target, name: &str) -> String {
    format!("{}/{name}", target.namespace.as_deref().unwrap_or_default())
}

async fn body(request: Request<Body>, target: &Target) -> Value {
    let bytes = request.into_body().collect().await.unwrap().to_bytes();
    let mut object: Value = serde_json::from_slice(&bytes).unwrap();
    if let Some(namespace) = &target.namespace {
        object["metadata"]["namespace"] = namespace.clone().into();
    }
    object
}
