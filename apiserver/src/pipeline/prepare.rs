//! The stages between a decoded object and the commit: admission, what the server sets itself, validation.

use api::{ErrorList, Gvk, Object, Status, object, validate};
use apiserver_admission::{Operation, Request};
use apiserver_auth::UserInfo;
use serde_json::{Value, json};

use super::Call;

/// A refusal, and the object as far as admission had come with it.
pub struct Refused {
    pub status: Status,
    pub object: Object,
}

/// Runs an object through mutating admission.
pub fn admit(
    call: &Call<'_>,
    operation: Operation,
    new: Object,
    old: Option<&Object>,
    options: &Object,
) -> Result<Object, Box<Refused>> {
    let admission = &call.server.access.admission;
    if !admission.handles(operation, &call.row.gvr, call.subresource) {
        return Ok(new);
    }
    let mut request = request(call, operation, Some(new), old, options);
    let admitted = admission.admit(&mut request, &**call.server);
    call.warn(std::mem::take(&mut request.warnings));
    let object = request.object.unwrap_or_default();
    match admitted {
        Ok(()) => Ok(object),
        Err(status) => Err(Box::new(Refused { status, object })),
    }
}

/// Runs an object through validating admission, and hands it back.
pub fn admit_final(
    call: &Call<'_>,
    operation: Operation,
    new: Object,
    old: Option<&Object>,
    options: &Object,
) -> Result<Object, Status> {
    let admission = &call.server.access.admission;
    if !admission.handles(operation, &call.row.gvr, call.subresource) {
        return Ok(new);
    }
    let mut request = request(call, operation, Some(new), old, options);
    admission.validate(&request, &**call.server)?;
    call.warn(std::mem::take(&mut request.warnings));
    request.object.ok_or_else(|| Status::internal("admission took the object away"))
}

/// Asks admission about a delete or connect, which have no new object.
pub fn admit_without_object(
    call: &Call<'_>,
    operation: Operation,
    old: Option<&Object>,
    options: &Object,
) -> Result<(), Status> {
    let admission = &call.server.access.admission;
    if !admission.handles(operation, &call.row.gvr, call.subresource) {
        return Ok(());
    }
    let mut request = request(call, operation, None, old, options);
    admission.admit(&mut request, &**call.server)?;
    admission.validate(&request, &**call.server)?;
    call.warn(std::mem::take(&mut request.warnings));
    Ok(())
}

/// The kind of what a subresource takes; `scale` is admitted as the object that it changes.
fn kind_of<'c>(call: &'c Call<'_>) -> &'c Gvk {
    let taken = call.row.resource.subresource(call.subresource).and_then(|s| s.kind.as_ref());
    taken.filter(|_| call.subresource != "scale").unwrap_or(&call.row.gvk)
}

fn request<'r>(
    call: &'r Call<'_>,
    operation: Operation,
    object: Option<Object>,
    old: Option<&'r Object>,
    options: &'r Object,
) -> Request<'r> {
    Request {
        operation,
        gvr: &call.row.gvr,
        gvk: kind_of(call),
        subresource: call.subresource,
        namespace: call.namespace,
        name: call.name,
        object,
        old,
        user: call.user,
        dry_run: call.params.dry_run,
        options,
        warnings: Vec::new(),
    }
}

/// What the server alone sets on a new object, then the kind's own preparation.
pub fn before_create(call: &Call<'_>, new: &mut Object) {
    let metadata = object::metadata_mut(new);
    for key in ["selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion"] {
        metadata.remove(key);
    }
    metadata.insert("creationTimestamp".to_owned(), json!(api::time::rfc3339(now())));
    metadata.insert("uid".to_owned(), json!(uuid::Uuid::new_v4().to_string()));
    metadata.remove("generation");
    if !call.row.resource.namespaced {
        metadata.remove("namespace");
    }
    prepare(call, new, None);
    if let Some(requested_by) = call.row.resource.hooks.requested_by {
        let UserInfo { name, uid, groups, extra } = &**call.user;
        requested_by(new, &api::table::Requester { name, uid, groups, extra });
    }
}

/// Unix seconds.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// The kind's own preparation, or the generic one.
pub fn prepare(call: &Call<'_>, new: &mut Object, old: Option<&Object>) {
    match call.row.resource.hooks.prepare {
        Some(prepare) => prepare(new, old, call.subresource),
        None => generic(new, old, call.subresource, call.row.resource.subresource("status").is_some()),
    }
}

/// With a `status` subresource, only it changes the status, and it changes nothing else; the generation counts changes
/// of everything but metadata and status.
fn generic(new: &mut Object, old: Option<&Object>, subresource: &str, has_status: bool) {
    let Some(old) = old else {
        if has_status {
            new.remove("status");
        }
        object::metadata_mut(new).insert("generation".to_owned(), json!(1));
        return;
    };
    if subresource == "status" {
        let status = new.remove("status");
        let managed = object::metadata(new).and_then(|m| m.get("managedFields")).cloned();
        let version = object::metadata(new).and_then(|m| m.get("resourceVersion")).cloned();
        *new = old.clone();
        set_or_remove(new, "status", status);
        set_or_remove(object::metadata_mut(new), "managedFields", managed);
        set_or_remove(object::metadata_mut(new), "resourceVersion", version);
        return;
    }
    if has_status {
        set_or_remove(new, "status", old.get("status").cloned());
    }
    if !same_spec(new, old) {
        let before = object::metadata(old).and_then(|m| m.get("generation")).and_then(Value::as_i64).unwrap_or(0);
        object::metadata_mut(new).insert("generation".to_owned(), json!(before + 1));
    }
}

fn set_or_remove(object: &mut Object, key: &str, value: Option<Value>) {
    match value {
        Some(value) => {
            object.insert(key.to_owned(), value);
        }
        None => {
            object.remove(key);
        }
    }
}

fn same_spec(a: &Object, b: &Object) -> bool {
    let ignored = |k: &str| matches!(k, "metadata" | "status" | "apiVersion" | "kind");
    let count = |o: &Object| o.keys().filter(|k| !ignored(k)).count();
    count(a) == count(b) && a.iter().filter(|(k, _)| !ignored(k)).all(|(k, v)| b.get(k) == Some(v))
}

/// Validates an object as it will be stored; 422 with all that is wrong.
pub fn validate(call: &Call<'_>, new: &Object, old: Option<&Object>) -> Result<(), Status> {
    let resource = &call.row.resource;
    let mut errors = ErrorList::new();
    match old {
        None => {
            let rule = api::kinds::name_rule(&resource.group, &resource.kind);
            validate::meta::create(new, resource.namespaced, rule, &mut errors);
        }
        Some(old) => validate::meta::update(new, old, &mut errors),
    }
    if let Some(validate) = resource.hooks.validate {
        validate(new, old, call.subresource, &mut errors);
    }
    if errors.is_empty() {
        if let Some(warnings) = resource.hooks.warnings {
            call.warn(warnings(new));
        }
        return Ok(());
    }
    let name = match object::name(new) {
        "" => object::meta_str(new, "generateName"),
        name => name,
    };
    Err(Status::invalid(&call.row.gvk, name, &errors))
}
