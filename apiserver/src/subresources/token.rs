//! `serviceaccounts/NAME/token`: a bound service-account token.

use api::Status;
use apiserver_admission::Operation;
use apiserver_auth::token::issue;
use bytes::Bytes;
use http::StatusCode;

use crate::http::Response;
use crate::pipeline::{Call, options, prepare};

/// Answers a TokenRequest.
pub fn handle(call: &Call<'_>, body: &Bytes) -> Result<Response, Status> {
    let request = super::decode_body(call, body)?;
    let options = options::of(call, "CreateOptions");
    let request = prepare::admit(call, Operation::Create, request, None, &options)?;
    let request = prepare::admit_final(call, Operation::Create, request, None, &options)?;
    let tokens = call.server.access.authenticator.tokens();
    let now = jiff::Timestamp::now();
    let issued = issue::issue(tokens, request, call.namespace, call.name, now, &**call.server)?;
    Ok(call.answer_object(StatusCode::CREATED, &issued))
}
