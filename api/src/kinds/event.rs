//! Events, in the core group and in `events.k8s.io`.

use serde_json::Value;

use super::json::{default_object, object, text};
use super::prepare;
use crate::field::{ErrorList, FieldError, Path};
use crate::table::Hooks;
use crate::{Object, object as meta};

pub fn core_hooks() -> Hooks {
    Hooks {
        default: Some(default_core),
        prepare: Some(prepare::nothing),
        validate: Some(validate),
        fields: Some(core_fields),
        ..Hooks::default()
    }
}

pub fn events_hooks() -> Hooks {
    Hooks {
        default: Some(default_events),
        prepare: Some(prepare::nothing),
        validate: Some(validate),
        fields: Some(events_fields),
        ..Hooks::default()
    }
}

/// Upstream writes these fields always.
fn default_core(event: &mut Object) {
    for key in ["eventTime", "firstTimestamp", "lastTimestamp"] {
        event.entry(key).or_insert(Value::Null);
    }
    for key in ["reportingComponent", "reportingInstance"] {
        event.entry(key).or_insert_with(|| "".into());
    }
    default_object(event, "involvedObject");
    default_object(event, "source");
}

fn default_events(event: &mut Object) {
    for key in ["eventTime", "deprecatedFirstTimestamp", "deprecatedLastTimestamp"] {
        event.entry(key).or_insert(Value::Null);
    }
    default_object(event, "regarding");
    default_object(event, "deprecatedSource");
}

const REFERENCE: [&str; 7] = ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"];

fn reference(event: &Object, key: &str) -> Vec<String> {
    let object = object(event, key);
    REFERENCE.iter().map(|key| object.map_or("", |o| text(o, key)).to_owned()).collect()
}

fn core_fields(event: &Object) -> Vec<String> {
    let mut fields = reference(event, "involvedObject");
    let controller = text(event, "reportingComponent");
    let component = object(event, "source").map_or("", |source| text(source, "component"));
    let source = if component.is_empty() { controller } else { component };
    fields.extend([text(event, "reason"), controller, source, text(event, "type")].map(str::to_owned));
    fields
}

fn events_fields(event: &Object) -> Vec<String> {
    let mut fields = vec![text(event, "reason").to_owned()];
    fields.extend(reference(event, "regarding"));
    fields.extend([text(event, "reportingController"), text(event, "type")].map(str::to_owned));
    fields
}

/// An event lies in the namespace of what it is about; events about cluster-scoped things lie in `default`.
fn validate(event: &Object, old: Option<&Object>, _subresource: &str, errors: &mut ErrorList) {
    let key = if event.contains_key("regarding") { "regarding" } else { "involvedObject" };
    let about = object(event, key).map_or("", |o| text(o, "namespace"));
    let namespace = meta::namespace(event);
    let fits = if about.is_empty() { matches!(namespace, "" | "default") } else { about == namespace };
    if old.is_none() && !fits {
        let path = Path::new("involvedObject").child("namespace");
        errors.push(FieldError::invalid(&path, about, "does not match event.namespace"));
    }
}
