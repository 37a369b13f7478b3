//! Namespaces.

use serde_json::{Value, json};

use super::check::messages;
use super::json::{default_text, ensure, keep, object, text, texts};
use crate::field::{ErrorList, FieldError, Path};
use crate::table::Hooks;
use crate::{Object, names, object};

/// The label that every namespace has, with its name as value.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Kept until the namespace's content is gone.
const FINALIZER: &str = "kubernetes";

pub fn hooks() -> Hooks {
    Hooks {
        default: Some(defaults),
        prepare: Some(prepare),
        validate: Some(validate),
        fields: Some(fields),
        ..Hooks::default()
    }
}

fn defaults(namespace: &mut Object) {
    label(namespace);
    ensure(namespace, "spec");
    default_text(ensure(namespace, "status"), "phase", "Active");
}

fn label(namespace: &mut Object) {
    let name = object::name(namespace).to_owned();
    if !name.is_empty() {
        ensure(object::metadata_mut(namespace), "labels").insert(NAME_LABEL.to_owned(), name.into());
    }
}

fn prepare(new: &mut Object, old: Option<&Object>, subresource: &str) {
    label(new);
    match (old, subresource) {
        (None, _) => {
            new.insert("status".to_owned(), json!({"phase": "Active"}));
            let spec = ensure(new, "spec");
            match spec.get_mut("finalizers") {
                Some(Value::Array(list)) if !list.is_empty() => {
                    if !list.iter().any(|f| f == FINALIZER) {
                        list.push(FINALIZER.into());
                    }
                }
                _ => {
                    spec.insert("finalizers".to_owned(), json!([FINALIZER]));
                }
            }
        }
        (Some(old), "status") => keep(new, old, "spec"),
        (Some(old), "finalize") => keep(new, old, "status"),
        (Some(old), _) => {
            keep(new, old, "status");
            let empty = Object::new();
            keep(ensure(new, "spec"), object(old, "spec").unwrap_or(&empty), "finalizers");
        }
    }
}

fn fields(namespace: &Object) -> Vec<String> {
    vec![object(namespace, "status").map_or("", |s| text(s, "phase")).to_owned()]
}

fn validate(new: &Object, old: Option<&Object>, subresource: &str, errors: &mut ErrorList) {
    if subresource == "status" {
        let phase = object(new, "status").map_or("", |status| text(status, "phase"));
        let terminating = object::is_terminating(new);
        let (wanted, state) = if terminating { ("Terminating", "not empty") } else { ("Active", "empty") };
        if phase != wanted {
            let detail = format!("may only be '{wanted}' if `deletionTimestamp` is {state}");
            errors.push(FieldError::invalid(&Path::new("status").child("Phase"), phase, detail));
        }
        return;
    }
    if old.is_some() && subresource != "finalize" {
        return;
    }
    let path = Path::new("spec").child("finalizers");
    for (i, finalizer) in object(new, "spec").into_iter().flat_map(|spec| texts(spec, "finalizers")) {
        let path = if old.is_some() { path.index(i) } else { path.clone() };
        messages(finalizer, &path, names::qualified_name(finalizer), errors);
        if !finalizer.contains('/') && !matches!(finalizer, FINALIZER | "orphan" | "foregroundDeletion") {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(&path, finalizer, detail));
        }
    }
}
