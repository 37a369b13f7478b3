//! RuntimeClass: a Pod takes over its class's overhead and scheduling.

use std::sync::Arc;

use api::quantity::Quantity;
use api::{Gvr, Object, Status, object};
use apiserver_auth::Objects;
use apiserver_auth::objects::RUNTIME_CLASSES;
use serde_json::Value;

use crate::read::{has_spec, list, spec_list, text};
use crate::{Operation, Plugin, Request};

pub struct RuntimeClass;

const DIFFERS: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, operation: Operation, gvr: &Gvr, subresource: &str) -> bool {
        operation == Operation::Create && gvr.group.is_empty() && gvr.resource == "pods" && subresource.is_empty()
    }

    fn admit(&self, request: &mut Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
        let Some(class) = class(request, objects)? else { return Ok(()) };
        if let Some(overhead) = overhead(&class) {
            let given = request.object.as_ref().and_then(|pod| object::at(pod, &["spec", "overhead"]));
            if given.and_then(Value::as_object).is_some_and(|given| !given.is_empty() && !same_amounts(given, overhead))
            {
                return Err(request.forbidden(DIFFERS));
            }
            if let Some(pod) = &mut request.object {
                object::child_mut(pod, "spec").insert("overhead".to_owned(), Value::Object(overhead.clone()));
            }
        }
        schedule(request, &class)
    }

    fn validate(&self, request: &Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
        let Some(pod) = &request.object else { return Ok(()) };
        let class = class(request, objects)?;
        let given = object::at(pod, &["spec", "overhead"]).and_then(Value::as_object);
        match (class.as_deref().and_then(overhead), given) {
            (Some(wanted), given) if !given.is_some_and(|given| same_amounts(given, wanted)) => {
                Err(request.forbidden(DIFFERS))
            }
            (None, Some(_)) => {
                Err(request
                    .forbidden("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"))
            }
            _ => Ok(()),
        }
    }
}

fn class(request: &Request<'_>, objects: &dyn Objects) -> Result<Option<Arc<Object>>, Status> {
    let Some(pod) = request.object.as_ref().filter(|pod| has_spec(pod, "runtimeClassName")) else { return Ok(None) };
    let name = object::str_at(pod, &["spec", "runtimeClassName"]);
    let found = objects.get(&RUNTIME_CLASSES, "", name);
    let missing = || request.forbidden(&format!("pod rejected: RuntimeClass {name:?} not found"));
    found.map(Some).ok_or_else(missing)
}

fn overhead(class: &Object) -> Option<&Object> {
    object::at(class, &["overhead", "podFixed"])?.as_object()
}

fn same_amounts(a: &Object, b: &Object) -> bool {
    let amount = |value: &Value| Quantity::from_value(value).ok();
    a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| amount(value) == amount(other)))
}

fn schedule(request: &mut Request<'_>, class: &Object) -> Result<(), Status> {
    let selector = object::at(class, &["scheduling", "nodeSelector"]).and_then(Value::as_object);
    let tolerations = list(class.get("scheduling"), "tolerations");
    let Some(pod) = &request.object else { return Ok(()) };
    let given = object::at(pod, &["spec", "nodeSelector"]).and_then(Value::as_object);
    let mut merged = given.cloned().unwrap_or_default();
    for (key, value) in selector.into_iter().flatten() {
        let ours = value.as_str().unwrap_or("");
        match merged.get(key).and_then(Value::as_str) {
            Some(theirs) if theirs != ours => {
                return Err(request.forbidden(&format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {ours}; pod.spec.nodeSelector[{key}] = \
                     {theirs}"
                )));
            }
            _ => drop(merged.insert(key.clone(), value.clone())),
        }
    }
    let tolerations = (!tolerations.is_empty()).then(|| merge_tolerations(spec_list(pod, "tolerations"), tolerations));
    let Some(pod) = &mut request.object else { return Ok(()) };
    let spec = object::child_mut(pod, "spec");
    if selector.is_some() {
        spec.insert("nodeSelector".to_owned(), merged.into());
    }
    if let Some(tolerations) = tolerations {
        spec.insert("tolerations".to_owned(), tolerations.into());
    }
    Ok(())
}

/// Both lists without those that another one covers.
fn merge_tolerations(first: &[Value], second: &[Value]) -> Vec<Value> {
    let all: Vec<&Value> = first.iter().chain(second).collect();
    let mut merged: Vec<Value> = Vec::new();
    for (index, toleration) in all.iter().enumerate() {
        let earlier = merged.iter().any(|other| covers(other, toleration));
        let later = all[index + 1..].iter().any(|other| other != toleration && covers(other, toleration));
        if !earlier && !later {
            merged.push((*toleration).clone());
        }
    }
    merged
}

/// Whether `wide` tolerates all that `narrow` does.
fn covers(wide: &Value, narrow: &Value) -> bool {
    if wide == narrow {
        return true;
    }
    let (exists, key) = (text(wide, "/operator") == "Exists", text(wide, "/key"));
    if text(narrow, "/key") != key && !(key.is_empty() && exists) {
        return false;
    }
    let effect = text(wide, "/effect");
    if !effect.is_empty() && text(narrow, "/effect") != effect {
        return false;
    }
    let seconds = |value: &Value| value.get("tolerationSeconds").and_then(Value::as_i64);
    if let Some(limit) = seconds(wide).filter(|_| effect == "NoExecute")
        && seconds(narrow).is_none_or(|asked| asked > limit)
    {
        return false;
    }
    exists || (text(narrow, "/operator") == "Equal" && text(narrow, "/value") == text(wide, "/value"))
}
