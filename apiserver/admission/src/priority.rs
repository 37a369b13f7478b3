//! Priority: a Pod's priority comes from its PriorityClass; there is at most one default class.

use std::sync::Arc;

use api::{Gvr, Object, Status, object};
use apiserver_auth::Objects;
use apiserver_auth::objects::PRIORITY_CLASSES;
use serde_json::Value;

use crate::read::has_spec;
use crate::{Operation, Plugin, Request};

pub struct Priority;

impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, operation: Operation, gvr: &Gvr, subresource: &str) -> bool {
        let ours = (gvr.group.is_empty() && gvr.resource == "pods")
            || (gvr.group == PRIORITY_CLASSES.group && gvr.resource == PRIORITY_CLASSES.resource);
        matches!(operation, Operation::Create | Operation::Update) && subresource.is_empty() && ours
    }

    fn admit(&self, request: &mut Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
        if request.gvr.resource != "pods" {
            return Ok(());
        }
        match request.operation {
            Operation::Create => resolve(request, objects),
            _ => {
                keep(request);
                Ok(())
            }
        }
    }

    fn validate(&self, request: &Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
        let Some(class) = request.object.as_ref().filter(|_| request.gvr.resource == PRIORITY_CLASSES.resource) else {
            return Ok(());
        };
        if !is_default(class) {
            return Ok(());
        }
        match default_class(objects) {
            Some(other) if request.operation == Operation::Create || object::name(&other) != object::name(class) => {
                let name = object::name(&other);
                let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
                Err(request.forbidden(&why))
            }
            _ => Ok(()),
        }
    }
}

/// On update what was resolved on create stays, when the caller leaves it out.
fn keep(request: &mut Request<'_>) {
    let (Some(pod), Some(old)) = (&mut request.object, request.old) else { return };
    for key in ["priority", "preemptionPolicy"] {
        if let Some(value) = object::at(old, &["spec", key]).filter(|v| !v.is_null() && !has_spec(pod, key)) {
            object::child_mut(pod, "spec").insert(key.to_owned(), value.clone());
        }
    }
}

/// What a PriorityClass gives to a Pod.
struct Resolved {
    class: String,
    priority: i64,
    preemption: Option<String>,
}

fn resolve(request: &mut Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
    let Some(pod) = &request.object else { return Ok(()) };
    let resolved = resolved(request, pod, objects)?;
    let Resolved { class, priority, preemption } = resolved;
    if let Some(given) = object::at(pod, &["spec", "priority"]).and_then(Value::as_i64).filter(|p| *p != priority) {
        return Err(request.forbidden(&format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {priority} from the given PriorityClass name"
        )));
    }
    let given = object::str_at(pod, &["spec", "preemptionPolicy"]);
    if let Some(computed) = preemption.as_ref().filter(|p| !given.is_empty() && *p != given) {
        return Err(request.forbidden(&format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {computed} from the given PriorityClass name"
        )));
    }
    let Some(pod) = &mut request.object else { return Ok(()) };
    let spec = object::child_mut(pod, "spec");
    if !class.is_empty() {
        spec.insert("priorityClassName".to_owned(), class.into());
    }
    spec.insert("priority".to_owned(), priority.into());
    if let Some(preemption) = preemption {
        spec.insert("preemptionPolicy".to_owned(), preemption.into());
    }
    Ok(())
}

fn resolved(request: &Request<'_>, pod: &Object, objects: &dyn Objects) -> Result<Resolved, Status> {
    let name = object::str_at(pod, &["spec", "priorityClassName"]);
    let class = if name.is_empty() {
        default_class(objects)
    } else {
        let found = objects.get(&PRIORITY_CLASSES, "", name);
        Some(found.ok_or_else(|| request.forbidden(&format!("no PriorityClass with name {name} was found")))?)
    };
    Ok(match class {
        None => Resolved { class: String::new(), priority: 0, preemption: Some("PreemptLowerPriority".to_owned()) },
        Some(class) => {
            let preemption = object::str_at(&class, &["preemptionPolicy"]);
            Resolved {
                class: object::name(&class).to_owned(),
                priority: value(&class),
                preemption: (!preemption.is_empty()).then(|| preemption.to_owned()),
            }
        }
    })
}

fn value(class: &Object) -> i64 {
    class.get("value").and_then(Value::as_i64).unwrap_or(0)
}

fn is_default(class: &Object) -> bool {
    class.get("globalDefault").and_then(Value::as_bool).unwrap_or(false)
}

/// The default class; the lowest where a race made several.
fn default_class(objects: &dyn Objects) -> Option<Arc<Object>> {
    objects.list(&PRIORITY_CLASSES, "").into_iter().filter(|c| is_default(c)).min_by_key(|c| value(c))
}
