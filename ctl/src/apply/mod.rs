//! What `apply` sends: the difference between what was applied last, what is wanted now, and what the server has.

pub(crate) mod merge;
pub(crate) mod strategic;

use serde_json::Value;

/// The annotation that remembers what was applied last.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object as the annotation holds it: without the annotation itself, ended by a line end.
pub(crate) fn remembered(object: &Value) -> String {
    let mut object = object.clone();
    forget(&mut object);
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.entry("annotations").or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    object.to_string() + "\n"
}

/// Takes the annotation out.
pub(crate) fn forget(object: &mut Value) {
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
}

/// The object with the annotation of itself.
pub(crate) fn with_memory(object: &Value) -> Value {
    let text = remembered(object);
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        let annotations = api::object::child_mut(api::object::metadata_mut(map), "annotations");
        annotations.insert(LAST_APPLIED.to_owned(), text.into());
    }
    object
}

/// What the server's object remembers of the last apply.
pub(crate) fn last_applied(object: &Value) -> Option<Value> {
    let annotations = object.pointer("/metadata/annotations")?;
    serde_json::from_str(annotations.get(LAST_APPLIED)?.as_str()?).ok()
}
