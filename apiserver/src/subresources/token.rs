//! `serviceaccounts/NAME/token`: a bound service-account token.

use api::Status;
use apiserver_auth::token::issue;
use bytes::Bytes;
use http::StatusCode;

use crate::http::Response;
use crate::pipeline::Call;

/// Answers a TokenRequest.
pub fn handle(call: &Call<'_>, body: &Bytes) -> Result<Response, Status> {
    let request = super::decode_body(call, body)?;
    let request = super::admit(call, request)?;
    let tokens = call.server.access.authenticator.tokens();
    let now = jiff::Timestamp::now();
    let issued = issue::issue(tokens, request, call.namespace, call.name, now, &**call.server)?;
    Ok(call.answer_object(StatusCode::CREATED, &issued))
}
