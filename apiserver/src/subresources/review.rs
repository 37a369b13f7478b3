//! Reviews: questions about identity and rights, answered and not stored.

use api::Status;
use apiserver_auth::review;
use bytes::Bytes;
use http::StatusCode;

use crate::http::Response;
use crate::pipeline::{Call, decode};

/// Answers a review.
pub fn handle(call: &Call<'_>, body: &Bytes) -> Result<Response, Status> {
    let asked = decode::object(call, body)?;
    let (access, objects) = (&call.server.access, &**call.server);
    let now = jiff::Timestamp::now();
    let authorizer = &*access.authorizer;
    let answered = match call.row.gvr.resource.as_str() {
        "tokenreviews" => review::token_review(asked, &access.authenticator, now, objects)?,
        "selfsubjectreviews" => review::self_subject_review(asked, call.user, now),
        "subjectaccessreviews" => review::subject_access_review(asked, authorizer, objects)?,
        "localsubjectaccessreviews" => review::local_subject_access_review(asked, call.namespace, authorizer, objects)?,
        "selfsubjectaccessreviews" => review::self_subject_access_review(asked, call.user, authorizer, objects)?,
        "selfsubjectrulesreviews" => review::self_subject_rules_review(asked, call.user, &access.rbac)?,
        _ => return Err(Status::method_not_allowed(&call.row.gvr.group, &call.row.gvr.resource, call.verb)),
    };
    Ok(call.answer_object(StatusCode::CREATED, &answered))
}
