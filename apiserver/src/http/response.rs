//! Answers: objects, Status, and the headers that go with them.

use api::Status;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;

use super::body::{Body, Pieces};
use super::compress;
use super::negotiate::{Accept, Format};

pub type Response = http::Response<Body>;

/// An answer in one piece.
pub fn full(code: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::Full(body.into()));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// JSON bytes as the client asked for them: as they are, indented, as YAML, or as protobuf where there is such a form.
pub fn json(code: StatusCode, accept: Accept, bytes: Bytes) -> Response {
    match accept.format {
        Format::Protobuf => match crate::pipeline::messages::sealed(&bytes) {
            Some(sealed) => full(code, Format::Protobuf.content_type(), sealed),
            None => full(code, Format::Json.content_type(), bytes),
        },
        Format::Json if !accept.pretty => full(code, Format::Json.content_type(), bytes),
        Format::Json => full(code, Format::Json.content_type(), reformat(&bytes, indent)),
        Format::Yaml => full(code, Format::Yaml.content_type(), reformat(&bytes, yaml)),
    }
}

/// JSON made of pieces, compressed when it is large and the client takes gzip.
pub fn json_pieces(accept: Accept, gzip: bool, pieces: Vec<Bytes>) -> Response {
    if accept.format != Format::Json || accept.pretty {
        return json(StatusCode::OK, accept, pieces.concat().into());
    }
    self::pieces(Format::Json.content_type(), gzip, pieces)
}

/// An answer made of pieces, compressed when it is large and the client takes gzip.
pub fn pieces(content_type: &'static str, gzip: bool, pieces: Vec<Bytes>) -> Response {
    let size: usize = pieces.iter().map(Bytes::len).sum();
    if gzip && size > compress::THRESHOLD {
        match compress::gzip(&pieces) {
            Ok(packed) => {
                let mut response = full(StatusCode::OK, content_type, packed);
                response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
                return response;
            }
            Err(error) => tracing::error!(%error, "compressing an answer failed; it goes out plain"),
        }
    }
    let body = match <[Bytes; 1]>::try_from(pieces) {
        Ok([one]) => Body::Full(one),
        Err(pieces) => Body::stream(Pieces::new(pieces)),
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn reformat(bytes: &[u8], with: fn(&Value) -> Vec<u8>) -> Vec<u8> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => with(&value),
        Err(error) => unreachable!("answers are JSON: {error}"),
    }
}

fn indent(value: &Value) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_else(|_| unreachable!("JSON values serialize"));
    text.push(b'\n');
    text
}

fn yaml(value: &Value) -> Vec<u8> {
    crate::yaml::write(value)
}

/// What upstream's mux answers where nothing is served.
pub fn page_not_found() -> Response {
    full(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n")
}

/// What upstream's HTTP server answers to a request line that it cannot read.
pub fn malformed() -> Response {
    full(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", "400 Bad Request")
}

/// Nothing, and that is well.
pub fn no_content() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// A Status as the answer.
pub fn status(status: &Status, accept: Accept) -> Response {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(code, accept, status.to_json().into());
    let retry = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if retry > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry));
    }
    response
}

/// Adds `Warning` headers: `299 - "text"`.
pub fn warn(response: &mut Response, warnings: &[String]) {
    for text in warnings {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"").replace(['\r', '\n'], " ");
        if let Ok(value) = HeaderValue::try_from(format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}
