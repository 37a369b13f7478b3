//! Server-side apply: a configuration is merged into the stored object, or becomes it.

use api::codec::{self, FieldValidation};
use api::{Object, Reason, Status, object};
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::{Call, create, decode, managed, options, update};
use crate::http::Response;

/// Answers an apply patch.
pub async fn apply(call: &Call<'_>, body: &Bytes) -> Result<Response, Status> {
    if call.params.field_manager.is_empty() {
        return Err(options::invalid("PatchOptions", "fieldManager: Required value: is required for apply patch"));
    }
    let config = read(call, body)?;
    let force = call.params.force == Some(true);
    let change = |old: &Object| merged(call, Some(old), &config, force);
    if update::current(call).await?.is_some() {
        match update::apply_change(call, "", &change, "PatchOptions").await {
            // It went between; then it is created.
            Err(status) if status.is(Reason::NotFound) && call.subresource.is_empty() => {}
            done => return done.map(|stored| call.answer(StatusCode::OK, &stored)),
        }
    }
    if !call.subresource.is_empty() {
        return Err(call.not_found());
    }
    let new = merged(call, None, &config, force)?;
    let created = create::store(call, new).await?;
    Ok(call.answer(StatusCode::CREATED, &created))
}

/// The configuration, which must be for the path's object.
fn read(call: &Call<'_>, body: &Bytes) -> Result<Object, Status> {
    let document = api::yaml::parse(body).map_err(|e| Status::bad_request(format!("error decoding YAML: {e}")))?;
    let Value::Object(mut config) = document.value else {
        return Err(Status::bad_request("error decoding YAML: the configuration is no object"));
    };
    let mode = decode::field_validation(call)?;
    if !document.duplicates.is_empty() {
        match mode {
            FieldValidation::Strict => {
                return Err(Status::bad_request(format!("error decoding YAML: {}", document.duplicates.join(", "))));
            }
            FieldValidation::Warn => call.warn(document.duplicates),
            FieldValidation::Ignore => {}
        }
    }
    if object::name(&config).is_empty() {
        object::metadata_mut(&mut config).insert("name".to_owned(), call.name.into());
    }
    update::check_name(call, &config)?;
    decode::settle_namespace(call, &mut config)?;
    Ok(config)
}

/// The stored object with the configuration merged into it, decoded and defaulted, with its owners.
fn merged(call: &Call<'_>, old: Option<&Object>, config: &Object, force: bool) -> Result<Object, Status> {
    let merged = managed::with(call, |write| write.apply(old, config, force))?;
    let schema = &call.row.resource.schema;
    let decoded = codec::decode_value(Value::Object(merged), &call.row.gvk, schema, decode::field_validation(call)?)?;
    call.warn(decoded.warnings);
    let mut new = decoded.object;
    decode::default(call, &mut new);
    Ok(new)
}
