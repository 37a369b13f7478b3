//! `binding`: the scheduler's decision, written into the Pod.

use api::{Object, Status, object};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::http::Response;
use crate::pipeline::commit::{self, Prepared};
use crate::pipeline::{Call, decode, prepare, update};

/// Answers `POST …/pods/NAME/binding`, and `POST …/bindings` with an empty `name`.
pub async fn handle(call: &Call<'_>, body: &Bytes, name: &str) -> Result<Response, Status> {
    let mut binding = super::decode_body(call, body)?;
    decode::settle_namespace(call, &mut binding)?;
    let binding = super::admit(call, binding)?;
    let named = object::name(&binding).to_owned();
    if !name.is_empty() && named != name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let name = if name.is_empty() { named.as_str() } else { name };
    let node = object::str_at(&binding, &["target", "name"]).to_owned();
    let kind = object::str_at(&binding, &["target", "kind"]);
    if !matches!(kind, "" | "Node") {
        let path = api::Path::new("target").child("kind");
        let error = api::FieldError::not_supported(&path, kind, &["Node", "<empty>"]);
        return Err(Status::unexpected(error.to_string()));
    }
    if node.is_empty() {
        let error = api::FieldError::required(&api::Path::new("target").child("name"), "");
        return Err(Status::unexpected(error.to_string()));
    }
    bind(call, name, &node, &binding).await?;
    Ok(super::created(call))
}

async fn bind(call: &Call<'_>, name: &str, node: &str, binding: &Object) -> Result<(), Status> {
    let rows = call.server.rows.load();
    let row = rows.find("", "v1", "pods").cloned().ok_or_else(Status::no_such_path)?;
    drop(rows);
    let key = row.key(call.namespace, name);
    for attempt in 0..update::ATTEMPTS {
        if attempt > 0 || row.cache.get(&key).is_none() {
            call.server.fresh().await?;
        }
        let Some(cached) = row.cache.get(&key) else { return Err(Status::not_found("", "pods", name)) };
        let mut pod = cached.decode().map_err(Status::internal)?;
        check(&pod, name, binding)?;
        assign(&mut pod, node, binding);
        if call.params.dry_run {
            return Ok(());
        }
        let prepared = Prepared::new(call.server, &row, pod)?;
        if commit::put(call.server, &row, prepared, cached.revision).await?.is_some() {
            return Ok(());
        }
    }
    Err(Status::modified("", "pods", name))
}

fn check(pod: &Object, name: &str, binding: &Object) -> Result<(), Status> {
    let conflict = |why: &str| Status::conflict("", "pods/binding", name, why);
    for key in ["uid", "resourceVersion"] {
        let (given, stored) = (object::meta_str(binding, key), object::meta_str(pod, key));
        if !given.is_empty() && given != stored {
            let what = if key == "uid" { "UID" } else { "ResourceVersion" };
            return Err(conflict(&format!(
                "Precondition failed: {what} in precondition: {given}, {what} in object meta: {stored}"
            )));
        }
    }
    if object::is_terminating(pod) {
        return Err(conflict(&format!("pod {name} is being deleted, cannot be assigned to a host")));
    }
    let bound = object::str_at(pod, &["spec", "nodeName"]);
    if !bound.is_empty() {
        return Err(conflict(&format!("pod {name} is already assigned to node {bound:?}")));
    }
    let gates = object::at(pod, &["spec", "schedulingGates"]).and_then(Value::as_array);
    if gates.is_some_and(|g| !g.is_empty()) {
        return Err(conflict(&format!("pod {name} has non-empty .spec.schedulingGates")));
    }
    Ok(())
}

/// Writes node, annotations and the PodScheduled condition.
fn assign(pod: &mut Object, node: &str, binding: &Object) {
    object::child_mut(pod, "spec").insert("nodeName".to_owned(), json!(node));
    let annotations = object::metadata(binding).and_then(|m| m.get("annotations")).and_then(Value::as_object);
    if let Some(annotations) = annotations.filter(|a| !a.is_empty()) {
        object::child_mut(object::metadata_mut(pod), "annotations").extend(annotations.clone());
    }
    let generation = object::metadata(pod).and_then(|m| m.get("generation")).cloned();
    let mut condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": api::time::rfc3339(prepare::now())});
    if let Some(generation) = generation {
        condition["observedGeneration"] = generation;
    }
    let status = object::child_mut(pod, "status");
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    let Value::Array(conditions) = conditions else {
        *conditions = json!([condition]);
        return;
    };
    conditions.retain(|c| c.get("type").and_then(Value::as_str) != Some("PodScheduled"));
    conditions.push(condition);
}
