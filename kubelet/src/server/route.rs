//! From a path to what answers it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use client::strangers::Standing;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::json;

use crate::agent::Agent;
use crate::pod::registry::Snapshot;

use super::auth::Authorizer;
use super::identity::User;
use super::{exec, logs, metrics, portforward, stats};

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

/// A query with every value of each name.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        let decode = |s: &str| percent_decode(&s.replace('+', " "));
        let pairs = text.split('&').filter(|p| !p.is_empty());
        Self(pairs.map(|p| p.split_once('=').unwrap_or((p, ""))).map(|(k, v)| (decode(k), decode(v))).collect())
    }

    pub fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(k, _)| k == name).map(|(_, v)| v.clone()).collect()
    }

    /// `1` and `true` are yes; upstream's API server and its clients differ in which they write.
    pub fn flag(&self, names: &[&str]) -> bool {
        self.0.iter().any(|(k, v)| names.contains(&k.as_str()) && (v == "1" || v == "true"))
    }

    pub fn map(&self) -> HashMap<String, String> {
        self.0.iter().cloned().collect()
    }
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let coded = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let value = coded.and_then(|c| std::str::from_utf8(c).ok()).and_then(|c| u8::from_str_radix(c, 16).ok());
        match value {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

pub(super) struct Router {
    agent: Arc<Agent>,
    authorizer: Authorizer,
    /// CPU time as it was read for the last summary.
    reading: Mutex<Option<stats::Reading>>,
}

impl Router {
    pub fn new(agent: Arc<Agent>) -> Self {
        Self { authorizer: Authorizer::new(agent.clone()), reading: Mutex::default(), agent }
    }

    pub async fn serve(&self, request: Request<Incoming>, user: Option<User>, standing: &Standing) -> Answer {
        let path = request.uri().path().to_owned();
        let user = match self.authorizer.identify(user, request.headers()).await {
            Ok(user) => user,
            Err((code, message)) => return text(code, message),
        };
        standing.vouch();
        if let Err((code, message)) = self.authorizer.check(user, request.method(), &path).await {
            return text(code, message);
        }
        let query = Query::parse(request.uri().query().unwrap_or(""));
        let parts: Vec<String> = path.trim_matches('/').split('/').map(percent_decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let agent = &self.agent;
        match parts[..] {
            ["healthz"] | ["healthz", "ping" | "log" | "syncloop"] => text(StatusCode::OK, "ok"),
            ["pods"] => json(&pods(agent, |_| true)),
            ["runningpods"] => json(&pods(agent, |s| s.active)),
            ["configz"] => json(&configz(agent)),
            ["metrics"] => metrics::kubelet(agent).await,
            ["metrics", "resource"] => metrics::resource(agent).await,
            ["stats", "summary"] => stats::summary(agent, &self.reading, query.flag(&["only_cpu_and_memory"])).await,
            ["containerLogs", namespace, pod, container] => logs::serve(agent, namespace, pod, container, &query).await,
            ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container] => {
                exec::exec(agent, namespace, pod, container, &query, request)
            }
            ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container] => {
                exec::attach(agent, namespace, pod, container, &query, request)
            }
            ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
                portforward::serve(agent, namespace, pod, request)
            }
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }
}

/// The node's Pods with the status that the kubelet has of them.
fn pods(agent: &Agent, wanted: impl Fn(&Snapshot) -> bool) -> serde_json::Value {
    let all = agent.pods.all();
    let items: Vec<Pod> = all
        .iter()
        .map(|entry| entry.snapshot())
        .filter(|s| wanted(s))
        .map(|s| Pod { status: Some(s.status.clone()), ..(*s.pod).clone() })
        .collect();
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
}

fn configz(agent: &Agent) -> serde_json::Value {
    let config = &agent.config;
    json!({"kubeletconfig": {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "clusterDNS": config.cluster_dns,
        "clusterDomain": config.cluster_domain,
        "maxPods": config.max_pods,
        "nodeLeaseDurationSeconds": config.lease_duration_seconds,
        "containerLogMaxFiles": config.container_log_max_files,
        "containerLogMaxSize": format!("{}Mi", config.container_log_max_size >> 20),
        "staticPodPath": config.static_pod_dir,
        "resolvConf": config.resolv_conf,
    }})
}

pub(super) fn body(bytes: impl Into<Bytes>) -> UnsyncBoxBody<Bytes, std::io::Error> {
    UnsyncBoxBody::new(Full::new(bytes.into()).map_err(|e| match e {}))
}

pub(super) fn text(code: StatusCode, message: impl Into<String>) -> Answer {
    let mut answer = Response::new(body(message.into()));
    *answer.status_mut() = code;
    let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, plain);
    answer
}

pub(super) fn json(value: &serde_json::Value) -> Answer {
    let mut answer = Response::new(body(value.to_string()));
    answer.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let query = Query::parse("command=sh&command=-c&command=a%20b%2Fc+d&input=1&tty=true&error=0");
        assert_eq!(query.all("command"), ["sh", "-c", "a b/c d"]);
        assert!(query.flag(&["input", "stdin"]) && query.flag(&["tty"]) && !query.flag(&["error"]));
    }
}
