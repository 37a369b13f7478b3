//! UPDATE: replaces an object, or the part of it that a subresource stands for.

use std::sync::Arc;

use api::{Object, Status, object, validate};
use apiserver_admission::Operation;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::commit::{self, Prepared};
use super::{Call, decode, managed, options, prepare};
use crate::cache::Cached;
use crate::convert;
use crate::http::Response;
use crate::quirks;

/// How often a write that names no resource version is tried anew when another write came between.
pub const ATTEMPTS: usize = 12;

/// Answers an update request.
pub async fn update(call: &Call<'_>, body: &Bytes) -> Result<Response, Status> {
    let mut object = decode::object(call, body)?;
    decode::settle_namespace(call, &mut object)?;
    check_name(call, &object)?;
    decode::default(call, &mut object);
    let creates = call.subresource.is_empty() && quirks::creates_on_update(&call.row.gvr);
    if creates && current(call).await?.is_none() {
        return create(call, object).await;
    }
    let asked = object::resource_version(&object).to_owned();
    if !asked.is_empty() && asked.parse::<u64>().is_err() {
        return Err(Status::unexpected(format!("strconv.ParseUint: parsing {asked:?}: invalid syntax")));
    }
    let change = |old: &Object| {
        let mut new = object.clone();
        managed::note(call, &mut new, Some(old));
        Ok(new)
    };
    let stored = apply_change(call, &asked, &change, "UpdateOptions").await?;
    Ok(call.answer(StatusCode::OK, &stored))
}

async fn create(call: &Call<'_>, mut object: Object) -> Result<Response, Status> {
    if !object::resource_version(&object).is_empty() && object::resource_version(&object) != "0" {
        let (group, resource) = (&call.row.gvr.group, &call.row.gvr.resource);
        return Err(Status::not_found(group, resource, call.name));
    }
    managed::note(call, &mut object, None);
    let created = super::create::store(call, object).await?;
    Ok(call.answer(StatusCode::CREATED, &created))
}

/// The name in the body must be the path's.
pub fn check_name(call: &Call<'_>, object: &Object) -> Result<(), Status> {
    let name = object::name(object);
    if name.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            call.name
        )));
    }
    if name != call.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name
        )));
    }
    Ok(())
}

/// The cached object; the caches are brought up to date when it is not there.
pub async fn current(call: &Call<'_>) -> Result<Option<Arc<Cached>>, Status> {
    named(call, call.name).await
}

/// As [`current`], by another name than the request's.
pub async fn named(call: &Call<'_>, name: &str) -> Result<Option<Arc<Cached>>, Status> {
    let key = call.row.key(call.namespace, name);
    if let Some(found) = call.row.cache.get(&key) {
        return Ok(Some(found));
    }
    call.server.fresh().await?;
    Ok(call.row.cache.get(&key))
}

/// A cached object in the row's form, decoded.
pub fn decoded(call: &Call<'_>, cached: &Cached) -> Result<Object, Status> {
    let object = cached.decode().map_err(Status::internal)?;
    Ok(if call.row.is_storage() { object } else { convert::object_from_storage(call.row, object) })
}

/// Makes the new object from the stored one.
pub type Change<'c> = dyn Fn(&Object) -> Result<Object, Status> + Send + Sync + 'c;

/// Reads, changes, admits, validates and commits; anew when another write came between and no version was named.
///
/// `asked` is the resource version that the caller names; a change that names another than the stored one is a 409.
pub async fn apply_change(
    call: &Call<'_>,
    asked: &str,
    change: &Change<'_>,
    kind: &str,
) -> Result<Arc<Cached>, Status> {
    let options = options::of(call, kind);
    for _ in 0..ATTEMPTS {
        let Some(cached) = current(call).await? else { return Err(call.not_found()) };
        if !matches!(asked, "" | "0") && asked != cached.revision.to_string() {
            call.server.fresh().await?;
            match current(call).await? {
                None => return Err(call.not_found()),
                Some(newer) if newer.revision.to_string() != asked => return Err(modified(call)),
                Some(_) => continue,
            }
        }
        let old = decoded(call, &cached)?;
        let new = change(&old)?;
        if let Some(stored) = attempt(call, &cached, &old, new, &options).await? {
            return Ok(stored);
        }
        // Another write came between; the next attempt must see it.
        call.server.fresh().await?;
    }
    Err(modified(call))
}

fn modified(call: &Call<'_>) -> Status {
    Status::modified(&call.row.gvr.group, &call.row.gvr.resource, call.name)
}

/// One attempt; `None` when another write came between.
async fn attempt(
    call: &Call<'_>,
    cached: &Arc<Cached>,
    old: &Object,
    mut new: Object,
    options: &Object,
) -> Result<Option<Arc<Cached>>, Status> {
    if call.verb == "update" {
        check_uid(call, &new, old)?;
    }
    let named = object::resource_version(&new);
    if !named.is_empty() && named != "0" && named != cached.revision.to_string() {
        return Err(modified(call));
    }
    object::metadata_mut(&mut new).insert("resourceVersion".to_owned(), json!(cached.revision.to_string()));
    object::metadata_mut(&mut new).remove("selfLink");
    validate::meta::before_update(&mut new, old);
    let mut new = prepare::admit(call, Operation::Update, new, Some(old), options).map_err(|refused| refused.status)?;
    prepare::prepare(call, &mut new, Some(old));
    let reserved = crate::allocate::on_update(call, &mut new, old)?;
    prepare::validate(call, &new, Some(old))?;
    let new = prepare::admit_final(call, Operation::Update, new, Some(old), options)?;
    if new == *old {
        return Ok(Some(cached.clone()));
    }
    let gone = goes_with_update(&new, old);
    let prepared = Prepared::new(call.server, call.row, new)?;
    if call.params.dry_run {
        return prepared.dry(call.server, call.row, cached.revision).map(Some);
    }
    if gone {
        let deleted = commit::delete(call.server, call.row, call.namespace, call.name, cached.revision).await?;
        return deleted.map(|revision| prepared.dry(call.server, call.row, revision)).transpose();
    }
    let stored = commit::put(call.server, call.row, prepared, cached.revision).await?;
    drop(reserved);
    Ok(stored)
}

fn check_uid(call: &Call<'_>, new: &Object, old: &Object) -> Result<(), Status> {
    let (given, stored) = (object::uid(new), object::uid(old));
    if given.is_empty() || given == stored {
        return Ok(());
    }
    let (prefix, key) = (&call.row.storage.storage_prefix, call.row.key(call.namespace, call.name));
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: /registry/{prefix}/{key}, ResourceVersion: 0, \
         AdditionalErrorMsg: Precondition failed: UID in precondition: {given}, UID in object meta: {stored}"
    );
    Err(Status::conflict(&call.row.gvr.group, &call.row.gvr.resource, call.name, &why))
}

/// Whether a terminating object goes with this update: its last finalizer was removed and nobody waits for its grace.
fn goes_with_update(new: &Object, old: &Object) -> bool {
    if !object::is_terminating(old) || has_finalizers(new) {
        return false;
    }
    let grace = object::metadata(new).and_then(|m| m.get("deletionGracePeriodSeconds")).and_then(Value::as_i64);
    grace.unwrap_or(0) == 0
}

/// Whether `metadata.finalizers` or, as namespaces have them, `spec.finalizers` are left.
pub fn has_finalizers(object: &Object) -> bool {
    let any = |path: &[&str]| object::at(object, path).and_then(Value::as_array).is_some_and(|f| !f.is_empty());
    any(&["metadata", "finalizers"]) || any(&["spec", "finalizers"])
}
