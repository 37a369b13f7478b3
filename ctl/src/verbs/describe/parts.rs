//! Parts that descriptions of many kinds have: labels, annotations, tolerations, events.

use serde_json::Value;

use super::text::{Text, or_none, time};
use crate::apply::LAST_APPLIED;
use crate::output::tabs;
use crate::session::{Query, Session};
use crate::verbs::events::age;
use crate::verbs::pods::{items, text};

/// Annotations longer than this begin on a line of their own.
const LONG: usize = 140;

/// Name, namespace where there is one.
pub(super) fn head(out: &mut Text, object: &Value) {
    out.field(0, "Name", text(object, "/metadata/name"));
    if object.pointer("/metadata/namespace").is_some() {
        out.field(0, "Namespace", text(object, "/metadata/namespace"));
    }
}

pub(super) fn labels(out: &mut Text, title: &str, map: Option<&Value>) {
    let pairs = map.and_then(Value::as_object).into_iter().flatten();
    out.values(title, pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())));
}

/// `a=b,c=d`
pub(super) fn inline_labels(map: Option<&Value>) -> String {
    let pairs = map.and_then(Value::as_object).into_iter().flatten();
    let pairs: Vec<_> = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    or_none(&pairs.join(",")).to_owned()
}

pub(super) fn annotations(out: &mut Text, title: &str, map: Option<&Value>) {
    let pairs = map.and_then(Value::as_object).into_iter().flatten().filter(|(key, _)| *key != LAST_APPLIED);
    let mut lines = Vec::new();
    for (key, value) in pairs {
        let value = value.as_str().unwrap_or_default().trim_end_matches('\n');
        if value.contains('\n') || key.len() + value.len() + 2 > LONG {
            lines.push(format!("{key}:"));
            lines.extend(value.split('\n').map(|line| {
                let short: String = line.chars().take(LONG - 2).collect();
                format!("  {short}{}", if short.len() < line.len() { "..." } else { "" })
            }));
        } else {
            lines.push(format!("{key}: {value}"));
        }
    }
    out.values(title, lines);
}

pub(super) fn labels_and_annotations(out: &mut Text, object: &Value) {
    labels(out, "Labels", object.pointer("/metadata/labels"));
    annotations(out, "Annotations", object.pointer("/metadata/annotations"));
}

/// The controller of an object, `ReplicaSet/web`.
pub(super) fn controller(out: &mut Text, object: &Value) {
    let mut owners = items(object, "/metadata/ownerReferences");
    if let Some(owner) = owners.find(|owner| owner["controller"] == Value::Bool(true)) {
        out.field(0, "Controlled By", format!("{}/{}", text(owner, "/kind"), text(owner, "/name")));
    }
}

pub(super) fn tolerations(out: &mut Text, title: &str, spec: &Value) {
    let mut tolerations: Vec<&Value> = items(spec, "/tolerations").collect();
    tolerations.sort_by_key(|toleration| text(toleration, "/key"));
    out.values(
        title,
        tolerations.into_iter().map(|toleration| {
            let (key, value) = (text(toleration, "/key"), text(toleration, "/value"));
            let (effect, operator) = (text(toleration, "/effect"), text(toleration, "/operator"));
            let mut line = key.to_owned();
            if !value.is_empty() {
                line.push_str(&format!("={value}"));
            }
            if !effect.is_empty() {
                line.push_str(&format!(":{effect}"));
            }
            if operator == "Exists" && value.is_empty() {
                line.push_str(if line.is_empty() { "op=Exists" } else { " op=Exists" });
            }
            if let Some(seconds) = toleration["tolerationSeconds"].as_i64() {
                line.push_str(&format!(" for {seconds}s"));
            }
            line
        }),
    );
}

/// The conditions of a workload.
pub(super) fn conditions(out: &mut Text, object: &Value) {
    let mut conditions = items(object, "/status/conditions").peekable();
    if conditions.peek().is_none() {
        return;
    }
    out.line(0, "Conditions:\n  Type\tStatus\tReason\n  ----\t------\t------");
    for condition in conditions {
        let part = |pointer| text(condition, pointer);
        out.line(1, format!("{} \t{}\t{}", part("/type"), part("/status"), part("/reason")));
    }
}

/// Conditions with their times and messages.
pub(super) fn long_conditions(out: &mut Text, object: &Value, seen: (&str, &str)) {
    let mut conditions = items(object, "/status/conditions").peekable();
    if conditions.peek().is_none() {
        return;
    }
    let (title, pointer) = seen;
    out.line(0, format!("Conditions:\n  Type\tStatus\t{title}\tLastTransitionTime\tReason\tMessage"));
    out.line(1, "----\t------\t-----------------\t------------------\t------\t-------");
    for condition in conditions {
        let part = |pointer| text(condition, pointer);
        let (seen, changed) = (time(condition, pointer), time(condition, "/lastTransitionTime"));
        out.line(
            1,
            format!(
                "{} \t{} \t{seen} \t{changed} \t{} \t{}",
                part("/type"),
                part("/status"),
                part("/reason"),
                part("/message")
            ),
        );
    }
}

/// The events of an object, as a text with columns of its own; that there are none is one more field of `out`.
pub(super) async fn events(session: &Session, object: &Value, out: &mut Text) -> String {
    let (namespace, kind) = (text(object, "/metadata/namespace"), text(object, "/kind"));
    let mut fields = vec![format!("involvedObject.name={}", text(object, "/metadata/name"))];
    if !namespace.is_empty() {
        fields.push(format!("involvedObject.namespace={namespace}"));
    }
    fields.push(format!("involvedObject.kind={kind}"));
    // The kubelet writes a node's events with the node's name as uid.
    if kind != "Node" {
        fields.push(format!("involvedObject.uid={}", text(object, "/metadata/uid")));
    }
    let place = if namespace.is_empty() { "default" } else { namespace };
    let query = Query::new().with("fieldSelector", fields.join(","));
    let list = session.list(&format!("/api/v1/namespaces/{place}/events"), &query).await;
    let list = match list {
        Ok(list) => list,
        Err(error) => {
            out.field(0, "Events", format!("<{error}>"));
            return String::new();
        }
    };
    let now = jiff::Timestamp::now().as_second();
    let mut events: Vec<&Value> = items(&list, "/items").collect();
    events.sort_by_key(|event| last_seen(event).to_owned());
    if events.is_empty() {
        out.field(0, "Events", "<none>");
        return String::new();
    }
    let mut out = Text::default();
    out.line(0, "Events:\n  Type\tReason\tAge\tFrom\tMessage\n  ----\t------\t----\t----\t-------");
    for event in events {
        out.line(1, event_line(event, now));
    }
    tabs::DESCRIPTION.align(&out.0)
}

fn last_seen(event: &Value) -> &str {
    let times = ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"];
    times.into_iter().map(|pointer| text(event, pointer)).find(|time| !time.is_empty()).unwrap_or_default()
}

fn event_line(event: &Value, now: i64) -> String {
    let age = age(event, now);
    let source = [text(event, "/source/component"), text(event, "/reportingComponent")];
    let source = source.into_iter().find(|s| !s.is_empty()).unwrap_or_default();
    let message = text(event, "/message").trim();
    let message = match text(event, "/involvedObject/fieldPath") {
        "" => message.to_owned(),
        path => format!("{path}: {message}"),
    };
    format!("{}\t{}\t{age}\t{source}\t{message}", text(event, "/type"), text(event, "/reason"))
}
