//! Server-side apply: a configuration is merged into the stored object, or becomes it.

use api::codec::{self, FieldValidation};
use api::{Object, Reason, Status, object};
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::{Call, create, decode, managed, update};
use crate::http::Response;

/// Answers an apply patch.
pub async fn apply(call: &Call<'_>, body: &Bytes) -> Result<Response, Status> {
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
    let uid = object::uid(&config);
    if !uid.is_empty() {
        let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
        return Err(Status::conflict(&call.row.gvr.group, &call.row.gvr.resource, call.name, &why));
    }
    let created = create::store(call, new).await?;
    Ok(call.answer(StatusCode::CREATED, &created))
}

/// The configuration, which must be for the path's object.
fn read(call: &Call<'_>, body: &Bytes) -> Result<Object, Status> {
    let bad = |why: &str| Status::bad_request(format!("error decoding YAML: {why}"));
    let document = api::yaml::parse(body).map_err(|e| bad(&format!("error converting YAML to JSON: {e}")))?;
    let mut config = match document.value {
        Value::Object(config) => config,
        Value::Null => return Err(Status::bad_request("invalid object type: /, Kind=")),
        other => {
            let what = api::patch::kind_of(&other);
            return Err(bad(&format!(
                "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {what} into Go value of type \
                 map[string]interface {{}}"
            )));
        }
    };
    if !document.duplicates.is_empty() {
        match decode::field_validation(call)? {
            FieldValidation::Strict => {
                return Err(Status::bad_request(format!(
                    "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {}",
                    document.duplicates.join("\n  ")
                )));
            }
            FieldValidation::Warn => call.warn(document.duplicates),
            FieldValidation::Ignore => {}
        }
    }
    if object::name(&config).is_empty() {
        object::metadata_mut(&mut config).insert("name".to_owned(), call.name.into());
    }
    update::check_name(call, &config)?;
    decode::settle_namespace(call, &mut config.clone())?;
    Ok(config)
}

/// The stored object with the configuration merged into it, decoded and defaulted, with its owners.
fn merged(call: &Call<'_>, old: Option<&Object>, config: &Object, force: bool) -> Result<Object, Status> {
    let merged = managed::with(call, |write| write.apply(old, config, force))?;
    let schema = &call.row.resource.schema;
    let decoded = codec::decode_value(Value::Object(merged), &call.row.gvk, schema, decode::field_validation(call)?)?;
    call.warn(decoded.warnings);
    let mut new = decoded.object;
    decode::settle_namespace(call, &mut new)?;
    decode::default(call, &mut new);
    Ok(new)
}
