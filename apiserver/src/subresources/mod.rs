//! Subresources that are not the object itself, and resources that are never stored.

use api::Status;
use bytes::Bytes;
use http::request::Parts;

use crate::http::Response;
use crate::http::body::ReqBody;
use crate::pipeline::Call;
use crate::rows::Row;

/// Whether a subresource takes or gives another kind than its object's, or is a connection.
pub fn is_own(row: &Row, name: &str) -> bool {
    row.resource.subresource(name).is_some_and(|s| s.kind.is_some()) || name == "log"
}

/// Whether a resource answers a create instead of storing it (reviews).
pub fn is_virtual(row: &Row) -> bool {
    row.resource.verbs.len() == 1 && row.resource.has_verb("create")
}

/// Answers a request for such a subresource.
pub async fn handle(call: &Call<'_>, _parts: &Parts, _body: ReqBody, _rest: &str) -> Result<Response, Status> {
    Err(Status::method_not_allowed(&call.row.gvr.group, &call.row.gvr.resource, call.verb))
}

/// Answers a review.
pub async fn review(call: &Call<'_>, _body: &Bytes) -> Result<Response, Status> {
    Err(Status::method_not_allowed(&call.row.gvr.group, &call.row.gvr.resource, call.verb))
}
