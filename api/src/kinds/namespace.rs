//! Namespaces.

use serde_json::{Value, json};

use super::json::{default_text, ensure, keep, object, text};
use crate::table::Hooks;
use crate::{Object, object};

/// The label that every namespace has, with its name as value.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Kept until the namespace's content is gone.
const FINALIZER: &str = "kubernetes";

pub fn hooks() -> Hooks {
    Hooks { default: Some(defaults), prepare: Some(prepare), fields: Some(fields), ..Hooks::default() }
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
