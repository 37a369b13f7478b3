//! A request's body as an object of the row's kind.

use api::codec::{self, FieldValidation};
use api::protobuf;
use api::{Gvk, Object, Schema, Status};
use bytes::Bytes;

use super::Call;
use crate::http::negotiate::{self, Format};

/// The field validation that the request asks for.
pub fn field_validation(call: &Call<'_>) -> Result<FieldValidation, Status> {
    let asked = &*call.params.field_validation;
    FieldValidation::parse(asked).ok_or_else(|| Status::bad_request(format!("no field validation {asked:?}")))
}

/// Decodes a create's or update's body as the row's kind.
pub fn object(call: &Call<'_>, body: &Bytes) -> Result<Object, Status> {
    object_as(call, body, &call.row.gvk, &call.row.resource.schema)
}

/// Decodes a body as another kind (of a subresource).
pub fn object_as(call: &Call<'_>, body: &Bytes, gvk: &Gvk, schema: &Schema) -> Result<Object, Status> {
    let mode = field_validation(call)?;
    let decoded = match negotiate::body_format(call.headers)? {
        Format::Json => codec::decode(body, gvk, schema, mode)?,
        Format::Yaml => codec::decode_yaml(body, gvk, schema, mode)?,
        Format::Protobuf if protobuf::message_of(schema).is_some() => codec::decode_protobuf(body, gvk, schema)?,
        Format::Protobuf => return Err(negotiate::unsupported(&["application/json", "application/yaml"])),
    };
    call.warn(decoded.warnings);
    let mut object = decoded.object;
    object.insert("apiVersion".to_owned(), gvk.api_version().into());
    object.insert("kind".to_owned(), gvk.kind.as_str().into());
    Ok(object)
}

/// Checks that the body's namespace is the request's, and puts it there when it is missing.
pub fn settle_namespace(call: &Call<'_>, object: &mut Object) -> Result<(), Status> {
    let given = api::object::namespace(object);
    if !call.row.resource.namespaced {
        return Ok(());
    }
    if given.is_empty() {
        api::object::metadata_mut(object).insert("namespace".to_owned(), call.namespace.into());
        return Ok(());
    }
    if given != call.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Static and computed defaults of the row's kind.
pub fn default(call: &Call<'_>, object: &mut Object) {
    api::defaults::apply(object, &call.row.resource.schema);
    if let Some(default) = call.row.resource.hooks.default {
        default(object);
    }
}
