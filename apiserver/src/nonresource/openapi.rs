//! OpenAPI documents. They are large and seldom asked for, so they are written anew each time and not kept; their tags
//! are cheap, and a client that has a document is told so without writing it.

use std::sync::Arc;

use api::{Status, openapi};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};

use crate::http::params::pairs;
use crate::http::{Response, compress, response};
use crate::nonresource::discovery::Document;
use crate::server::Shared;

/// What kubectl asks for beside JSON; answered with JSON, which it takes too.
const PROTO_V3: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";

/// What begins the media types of OpenAPI v2 in protobuf; clients write the version behind it as `@v1.0` or `.v1.0`.
const PROTO_V2: &str = "application/com.github.proto-openapi.spec.v2";
const PROTO_V2_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Whether a client prefers OpenAPI v2 in protobuf.
fn wants_protobuf(parts: &Parts) -> bool {
    let accept = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').next().is_some_and(|first| first.trim().starts_with(PROTO_V2))
}

/// Answers an OpenAPI path, or `None` when it is none.
pub async fn handle(server: &Arc<Shared>, parts: &Parts) -> Option<Result<Response, Status>> {
    let path = parts.uri.path().trim_end_matches('/');
    let rest = path.strip_prefix("/openapi/")?;
    let table = server.rows.load().table.clone();
    let only_proto = parts.headers.get(header::ACCEPT).is_some_and(|v| v.as_bytes() == PROTO_V3.as_bytes());
    if only_proto {
        return Some(Err(Status::failure(api::Reason::NotAcceptable, "only application/json is served")));
    }
    if rest == "v3" {
        let index = Document::new(openapi::v3_index(&table));
        return Some(Ok(index.answer(&parts.headers, "application/json")));
    }
    let is_protobuf = rest == "v2" && wants_protobuf(parts);
    let tag = match rest.strip_prefix("v3/") {
        Some(document) => format!("\"{}\"", openapi::v3_hash(&table, document)),
        None if is_protobuf => format!("\"{}-protobuf\"", openapi::v3_hash(&table, "v2")),
        None if rest == "v2" => format!("\"{}\"", openapi::v3_hash(&table, "v2")),
        None => return Some(Err(Status::no_such_path())),
    };
    if parts.headers.get_all(header::IF_NONE_MATCH).iter().any(|v| v.as_bytes() == tag.as_bytes()) {
        let mut response = response::full(StatusCode::NOT_MODIFIED, "application/json", Vec::new());
        tagged(&mut response, &tag, None);
        return Some(Ok(response));
    }
    let document = rest.strip_prefix("v3/").map(str::to_owned);
    let written = tokio::task::spawn_blocking(move || match document {
        Some(document) => openapi::v3(&table, &document),
        None if is_protobuf => Some(openapi::v2_protobuf(&table)),
        None => Some(openapi::v2(&table)),
    });
    let body = match written.await {
        Ok(Some(body)) => body,
        Ok(None) => return Some(Err(Status::no_such_path())),
        Err(error) => return Some(Err(Status::internal(error))),
    };
    let gzip = compress::accepts_gzip(&parts.headers);
    let mut response = response::json_pieces(Default::default(), gzip, vec![body.into()]);
    if is_protobuf {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROTO_V2_TYPE));
    }
    let hash = pairs(parts.uri.query().unwrap_or("")).find(|(k, _)| k == "hash").map(|(_, v)| v.into_owned());
    tagged(&mut response, &tag, hash.as_deref());
    Some(Ok(response))
}

/// Sets the tag; a document asked for by the hash that it has may be kept for ever.
fn tagged(response: &mut Response, tag: &str, hash: Option<&str>) {
    if let Ok(value) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    if hash.is_some_and(|hash| tag.trim_matches('"') == hash) {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
}
