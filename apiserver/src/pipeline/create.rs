//! CREATE.

use std::sync::Arc;

use api::{Object, Reason, Status, object};
use apiserver_admission::Operation;
use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

use super::commit::{self, Prepared};
use super::{Call, decode, managed, options, prepare};
use crate::cache::Cached;
use crate::http::Response;

/// How often another name is generated when one is taken.
const NAME_ATTEMPTS: usize = 8;

/// Length of a generated name's random end, and of the longest prefix that is kept.
const SUFFIX: usize = 5;
const MAX_PREFIX: usize = 63 - SUFFIX;

/// Letters of generated names: no vowels, no look-alikes (upstream's `util/rand`).
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Answers a create request.
pub async fn create(call: &Call<'_>, body: &Bytes) -> Result<Response, Status> {
    let mut object = decode::object(call, body)?;
    decode::settle_namespace(call, &mut object)?;
    if !object::resource_version(&object).is_empty() {
        return Err(Status::unexpected("resourceVersion should not be set on objects to be created"));
    }
    decode::default(call, &mut object);
    managed::note(call, &mut object, None);
    let created = store(call, object).await?;
    Ok(call.answer(StatusCode::CREATED, &created))
}

/// Runs an object, decoded, defaulted and with its owners noted, through the pipeline and stores it, under other
/// generated names when one is taken.
pub async fn store(call: &Call<'_>, object: Object) -> Result<Arc<Cached>, Status> {
    if !object::name(&object).is_empty() || object::meta_str(&object, "generateName").is_empty() {
        return attempt(call, object).await;
    }
    let prefix = object::meta_str(&object, "generateName").to_owned();
    for _ in 0..NAME_ATTEMPTS {
        let mut named = object.clone();
        object::metadata_mut(&mut named).insert("name".to_owned(), json!(generate(&prefix)));
        match attempt(call, named).await {
            Err(status) if status.is(Reason::AlreadyExists) => {}
            done => return done,
        }
    }
    let name = generate(&prefix);
    Err(Status::already_exists(&call.row.gvr.group, &call.row.gvr.resource, &name))
}

/// A prefix with a random end.
pub fn generate(prefix: &str) -> String {
    let mut end = prefix.len().min(MAX_PREFIX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = String::with_capacity(end + SUFFIX);
    name.push_str(&prefix[..end]);
    let random = uuid::Uuid::new_v4();
    for byte in &random.as_bytes()[..SUFFIX] {
        name.push(char::from(ALPHABET[*byte as usize % ALPHABET.len()]));
    }
    name
}

async fn attempt(call: &Call<'_>, object: Object) -> Result<Arc<Cached>, Status> {
    let options = options::of(call, "CreateOptions");
    let mut object = admit_fresh(call, object, &options).await?;
    prepare::before_create(call, &mut object);
    let reserved = crate::allocate::on_create(call, &mut object)?;
    prepare::validate(call, &object, None)?;
    let object = prepare::admit_final(call, Operation::Create, object, None, &options)?;
    let name = object::name(&object).to_owned();
    let prepared = Prepared::new(call.server, call.row, object)?;
    let exists = || Status::already_exists(&call.row.gvr.group, &call.row.gvr.resource, &name);
    if call.params.dry_run {
        let key = call.row.key(call.namespace, &name);
        return if call.row.cache.get(&key).is_some() { Err(exists()) } else { prepared.dry(call.server, call.row, 0) };
    }
    let stored = commit::put(call.server, call.row, prepared, 0).await?;
    drop(reserved);
    stored.ok_or_else(exists)
}

/// Mutating admission. What it looks up may have been written through another server a moment ago, so a refusal is
/// repeated once on caches that hold all that was committed.
async fn admit_fresh(call: &Call<'_>, object: Object, options: &Object) -> Result<Object, Status> {
    let before = call.server.caches.progress.applied();
    match prepare::admit(call, Operation::Create, object, None, options) {
        Ok(object) => Ok(object),
        Err(refused) if refused.status.is(Reason::Forbidden) || refused.status.is(Reason::NotFound) => {
            call.server.fresh().await?;
            if call.server.caches.progress.applied() == before {
                return Err(refused.status);
            }
            prepare::admit(call, Operation::Create, refused.object, None, options).map_err(|refused| refused.status)
        }
        Err(refused) => Err(refused.status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_fit_a_label() {
        let name = generate(&"x".repeat(80));
        assert_eq!(name.len(), 63);
        let name = generate("web-");
        assert!(name.starts_with("web-") && name.len() == 9);
        assert!(name.bytes().skip(4).all(|b| ALPHABET.contains(&b)));
    }
}
