//! What verbs about Pods share: which Pods a word means, which container, and reading answers line by line.

use anyhow::{Context as _, anyhow, bail};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value;

use crate::Resource;
use crate::error::Result;
use crate::session::{Query, Session};
use crate::target::Target;

/// The longest line that is held.
const LONGEST: usize = 64 << 20;

/// The lines of an answer, as they come.
pub(crate) struct Lines {
    body: Body,
    rest: BytesMut,
}

impl Lines {
    pub(crate) fn of(body: Body) -> Self {
        Self { body, rest: BytesMut::new() }
    }

    /// The next line without its end; `None` when the answer is over.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        let line = self.next_with_end().await?;
        Ok(line.map(|mut line| {
            if line.last() == Some(&b'\n') {
                line.truncate(line.len() - 1);
            }
            line
        }))
    }

    /// The next line with its end; the last one may have none.
    pub(crate) async fn next_with_end(&mut self) -> Result<Option<Bytes>> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.rest[searched..].iter().position(|b| *b == b'\n') {
                return Ok(Some(self.rest.split_to(searched + at + 1).freeze()));
            }
            searched = self.rest.len();
            if searched > LONGEST {
                bail!("a line of the server's answer is longer than {LONGEST} bytes");
            }
            match self.body.frame().await {
                Some(frame) => {
                    let frame = frame.context("read the server's answer")?;
                    if let Ok(data) = frame.into_data() {
                        self.rest.extend_from_slice(&data);
                    }
                }
                None if self.rest.is_empty() => return Ok(None),
                None => return Ok(Some(self.rest.split().freeze())),
            }
        }
    }
}

/// The target that `POD` or `TYPE/NAME` names.
pub(crate) async fn pod_or_owner(session: &Session, word: &str) -> Result<Target> {
    let discovery = session.discovery().await?;
    let (ty, name) = word.split_once('/').unwrap_or(("pods", word));
    let resource = discovery.find(ty)?.clone();
    Ok(Target { resource, namespace: session.namespace.clone(), name: name.to_owned(), object: None, source: None })
}

/// The selector of an object's Pods as the text of a query.
pub(crate) fn selector_of(object: &Value) -> Result<String> {
    let selector = object.pointer("/spec/selector").with_context(|| {
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        format!("selector for *v1.{kind} not implemented")
    })?;
    let is_map = selector.as_object().is_some_and(|map| map.values().all(Value::is_string));
    let parsed = match selector.as_object() {
        Some(map) if is_map => api::labels::Selector::from_map(map),
        _ => api::labels::Selector::from_label_selector(Some(selector)).map_err(|error| anyhow!(error))?,
    };
    Ok(parsed.to_string())
}

/// The Pods of a namespace that a selector chooses.
pub(crate) async fn matching(session: &Session, namespace: &str, selector: &str) -> Result<Vec<Value>> {
    let query = Query::new().with_some("labelSelector", Some(selector));
    let mut list = session.list(&pods_path(namespace), &query).await?;
    Ok(list.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default())
}

pub(crate) fn pods_path(namespace: &str) -> String {
    if namespace.is_empty() { "/api/v1/pods".to_owned() } else { format!("/api/v1/namespaces/{namespace}/pods") }
}

/// The Pods behind an object, the most useful one first: ready before not ready, running before waiting, older before
/// newer.
pub(crate) async fn pods_of(session: &Session, target: &Target) -> Result<Vec<Value>> {
    let object = target.get(session).await?;
    if target.resource.is("", "Pod") {
        return Ok(vec![object]);
    }
    let mut pods = if target.resource.is("batch", "CronJob") {
        bail!("cannot attach to {}: selector for *v1.CronJob not implemented", target.shown())
    } else {
        matching(session, &target.namespace, &selector_of(&object)?).await?
    };
    pods.sort_by_key(|pod| (!is_running(pod), !is_ready(pod), text(pod, "/metadata/creationTimestamp").to_owned()));
    if pods.is_empty() {
        bail!("timed out waiting for the condition: {} has no pods", target.shown());
    }
    Ok(pods)
}

pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn is_running(pod: &Value) -> bool {
    text(pod, "/status/phase") == "Running"
}

/// Whether a condition of an object is true.
pub(crate) fn has_condition(object: &Value, ty: &str) -> bool {
    items(object, "/status/conditions").any(|c| text(c, "/type") == ty && text(c, "/status") == "True")
}

fn is_ready(pod: &Value) -> bool {
    has_condition(pod, "Ready")
}

/// Names of a Pod's containers, with the field they stand in.
pub(crate) fn containers(pod: &Value) -> impl Iterator<Item = (&'static str, &str)> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |field| {
        items(
            pod,
            match field {
                "initContainers" => "/spec/initContainers",
                "containers" => "/spec/containers",
                _ => "/spec/ephemeralContainers",
            },
        )
        .map(move |container| (field, text(container, "/name")))
    })
}

/// The container that is meant: the named one, else the annotated one, else the first, saying so when there are others.
pub(crate) fn container(pod: &Value, wanted: Option<&str>, is_quiet: bool) -> Result<String> {
    let name = text(pod, "/metadata/name");
    if let Some(wanted) = wanted.filter(|w| !w.is_empty()) {
        if containers(pod).any(|(_, found)| found == wanted) {
            return Ok(wanted.to_owned());
        }
        bail!("container {wanted} is not valid for pod {name} out of: {}", all_containers(pod).join(", "));
    }
    let annotated = pod.pointer("/metadata/annotations").and_then(|a| a.get("kubectl.kubernetes.io/default-container"));
    if let Some(wanted) = annotated.and_then(Value::as_str)
        && containers(pod).any(|(_, found)| found == wanted)
    {
        return Ok(wanted.to_owned());
    }
    let first = items(pod, "/spec/containers").next().map(|c| text(c, "/name").to_owned());
    let first = first.with_context(|| format!("pod {name} has no containers"))?;
    let all = all_containers(pod);
    if all.len() > 1 && !is_quiet {
        eprintln!("Defaulted container {first:?} out of: {}", all.join(", "));
    }
    Ok(first)
}

/// The containers as they are listed to a person.
fn all_containers(pod: &Value) -> Vec<String> {
    items(pod, "/spec/containers")
        .map(|c| text(c, "/name").to_owned())
        .chain(items(pod, "/spec/ephemeralContainers").map(|c| format!("{} (ephem)", text(c, "/name"))))
        .chain(items(pod, "/spec/initContainers").map(|c| format!("{} (init)", text(c, "/name"))))
        .collect()
}

/// The Pods' resource, for targets that are made without discovery.
pub(crate) fn pod_resource() -> Resource {
    Resource {
        version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        plural: "pods".to_owned(),
        singular: "pod".to_owned(),
        is_namespaced: true,
        ..Resource::default()
    }
}
