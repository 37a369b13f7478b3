//! `scale`: the number of replicas of whatever has one, as `autoscaling/v1 Scale`.

use api::labels::Selector;
use api::{Gvk, Object, Status, object};
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use crate::http::{Response, negotiate};
use crate::pipeline::patch::{self, Patch};
use crate::pipeline::{Call, decode, get, managed, update};

/// Answers a request for a scale.
pub async fn handle(call: &Call<'_>, body: &Bytes) -> Result<Response, Status> {
    if call.verb == "get" {
        let cached = get::find(call).await?;
        let object = update::decoded(call, &cached)?;
        return Ok(call.answer_object(StatusCode::OK, &scale_of(&object)));
    }
    let stored = match call.verb {
        "update" => {
            let scale = super::decode_body(call, body)?;
            update::check_name(call, &scale)?;
            let asked = object::resource_version(&scale).to_owned();
            let change = |old: &Object| noted(call, old, scaled(old, &scale)?);
            update::apply_change(call, &asked, &change, "UpdateOptions").await?
        }
        _ => {
            let patch = Patch::parse(negotiate::content_type(call.headers), body)?;
            let asked = patch.named_version();
            let change = |old: &Object| noted(call, old, patched(call, &patch, old)?);
            update::apply_change(call, &asked, &change, "PatchOptions").await?
        }
    };
    let object = update::decoded(call, &stored)?;
    Ok(call.answer_object(StatusCode::OK, &scale_of(&object)))
}

fn noted(call: &Call<'_>, old: &Object, mut new: Object) -> Result<Object, Status> {
    managed::note(call, &mut new, Some(old));
    Ok(new)
}

fn gvk() -> Gvk {
    Gvk::new("autoscaling", "v1", "Scale")
}

/// The parent with a patch of its scale applied.
fn patched(call: &Call<'_>, patch: &Patch, old: &Object) -> Result<Object, Status> {
    let schema = api::builtin::schema_of_kind(&gvk()).unwrap_or_default();
    let (scale, warnings) = patch::apply(patch, &scale_of(old), &gvk(), &schema, decode::field_validation(call)?)?;
    call.warn(warnings);
    scaled(old, &scale)
}

/// The parent with the number of replicas of a scale.
fn scaled(parent: &Object, scale: &Object) -> Result<Object, Status> {
    let replicas = object::at(scale, &["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(0);
    if replicas < 0 {
        let path = api::Path::new("spec").child("replicas");
        let error = api::FieldError::invalid(&path, replicas, "must be greater than or equal to 0");
        return Err(Status::invalid(&gvk(), object::name(parent), &[error]));
    }
    let mut new = parent.clone();
    object::child_mut(&mut new, "spec").insert("replicas".to_owned(), json!(replicas));
    for key in ["resourceVersion", "uid"] {
        let given = object::meta_str(scale, key);
        if !given.is_empty() {
            let given = json!(given);
            object::metadata_mut(&mut new).insert(key.to_owned(), given);
        }
    }
    Ok(new)
}

/// The scale of an object.
fn scale_of(parent: &Object) -> Object {
    let mut metadata = Object::new();
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        metadata.insert(key.to_owned(), json!(object::meta_str(parent, key)));
    }
    let number = |path: &[&str]| object::at(parent, path).and_then(Value::as_i64).unwrap_or(0);
    let mut spec = Object::new();
    if number(&["spec", "replicas"]) != 0 {
        spec.insert("replicas".to_owned(), json!(number(&["spec", "replicas"])));
    }
    let mut status = Object::new();
    status.insert("replicas".to_owned(), json!(number(&["status", "replicas"])));
    let selector = selector(parent);
    if !selector.is_empty() {
        status.insert("selector".to_owned(), json!(selector));
    }
    let scale =
        json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status});
    match scale {
        Value::Object(scale) => scale,
        _ => unreachable!("written as an object"),
    }
}

/// `spec.selector`, a label selector or (of ReplicationControllers) a plain map, as text.
fn selector(parent: &Object) -> String {
    let Some(Value::Object(selector)) = object::at(parent, &["spec", "selector"]) else { return String::new() };
    if selector.values().all(Value::is_string) {
        return Selector::from_map(selector).to_string();
    }
    let value = Value::Object(selector.clone());
    Selector::from_label_selector(Some(&value)).map(|s| s.to_string()).unwrap_or_default()
}
