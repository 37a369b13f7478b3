//! Subresources that are not the object itself, and resources that are answered and never stored.

mod binding;
mod eviction;
mod review;
mod scale;
mod token;

use api::{Object, Status};
use apiserver_admission::Operation;
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use serde_json::json;

use crate::http::body::ReqBody;
use crate::http::{Response, response};
use crate::pipeline::{Call, decode, options, prepare};
use crate::proxy;
use crate::rows::Row;

/// Whether a subresource takes or gives another kind than its object's, or is a connection.
pub fn is_own(row: &Row, name: &str) -> bool {
    row.resource.subresource(name).is_some_and(|s| s.kind.is_some()) || proxy::is_connection(name)
}

/// Whether a resource answers a create instead of storing it (reviews, bindings).
pub fn is_virtual(row: &Row) -> bool {
    row.resource.verbs.len() == 1 && row.resource.has_verb("create")
}

/// Answers a request for such a subresource.
pub async fn handle(call: &Call<'_>, parts: &Parts, body: ReqBody, rest: &str) -> Result<Response, Status> {
    if proxy::is_connection(call.subresource) {
        return proxy::handle(call, parts, body, rest).await;
    }
    let body = body.collect().await?;
    options::check(call)?;
    match call.subresource {
        "scale" => scale::handle(call, &body).await,
        "binding" => binding::handle(call, &body, call.name).await,
        "eviction" => eviction::handle(call, &body).await,
        "token" => token::handle(call, &body),
        other => Err(Status::internal(format!("subresource {other} is not served"))),
    }
}

/// Answers the create of something that is not stored.
pub async fn review(call: &Call<'_>, body: &Bytes) -> Result<Response, Status> {
    if call.row.gvr.resource == "bindings" {
        return binding::handle(call, body, "").await;
    }
    review::handle(call, body)
}

/// The body as the kind that the subresource takes.
fn decode_body(call: &Call<'_>, body: &Bytes) -> Result<Object, Status> {
    let taken = call.row.resource.subresource(call.subresource).and_then(|s| s.kind.clone());
    let gvk = taken.unwrap_or_else(|| call.row.gvk.clone());
    let schema = api::builtin::schema_of_kind(&gvk).unwrap_or_else(|| call.row.resource.schema.clone());
    decode::object_as(call, body, &gvk, &schema)
}

/// Both passes of admission over what a subresource takes.
fn admit(call: &Call<'_>, taken: Object) -> Result<Object, Status> {
    let options = options::of(call, "CreateOptions");
    let taken = prepare::admit(call, Operation::Create, taken, None, &options).map_err(|refused| refused.status)?;
    prepare::admit_final(call, Operation::Create, taken, None, &options)
}

/// The Status of a create that made nothing to show.
fn created(call: &Call<'_>) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    response::json(StatusCode::CREATED, call.accept, Bytes::from(status.to_string()))
}
