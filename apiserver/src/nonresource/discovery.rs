//! Discovery: `/api`, `/apis` and below, in the old form or the aggregated one (KEP-3352).

use std::sync::OnceLock;

use api::{Status, discovery};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};

use crate::http::{Response, negotiate, response};
use crate::rows::Rows;
use crate::server::Shared;

/// What the aggregated form is negotiated and answered as.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The aggregated documents, made when they are first asked for. They live as long as their table.
#[derive(Default)]
pub struct Documents {
    core: OnceLock<Document>,
    groups: OnceLock<Document>,
}

/// A document with its tag.
pub struct Document {
    pub body: Bytes,
    pub tag: String,
}

impl Document {
    pub fn new(body: Vec<u8>) -> Self {
        let digest = Sha256::digest(&body);
        let hex: String =
            digest.iter().flat_map(|b| [b >> 4, b & 15]).map(|n| char::from(b"0123456789ABCDEF"[n as usize])).collect();
        Self { body: Bytes::from(body), tag: format!("\"{hex}\"") }
    }

    /// The document, or 304 when the client has it.
    pub fn answer(&self, headers: &HeaderMap, content_type: &'static str) -> Response {
        let has = headers.get_all(header::IF_NONE_MATCH).iter().any(|v| v.as_bytes() == self.tag.as_bytes());
        let (code, body) =
            if has { (StatusCode::NOT_MODIFIED, Bytes::new()) } else { (StatusCode::OK, self.body.clone()) };
        let mut response = response::full(code, content_type, body);
        if let Ok(tag) = HeaderValue::from_str(&self.tag) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
        response
    }
}

/// Answers a discovery path, or `None` when it is none.
pub fn handle(server: &Shared, parts: &Parts) -> Option<Result<Response, Status>> {
    let rows = server.rows.load();
    let path = parts.uri.path().trim_matches('/');
    let mut segments = path.split('/');
    let place = (segments.next()?, segments.next(), segments.next(), segments.next());
    let plain = match place {
        ("api" | "apis", None, None, None) if wants_aggregated(&parts.headers) => {
            return Some(Ok(aggregated(&rows, place.0 == "api").answer(&parts.headers, AGGREGATED)));
        }
        ("api", None, None, None) => discovery::api_versions(&rows.table, &server.settings.advertise.to_string()),
        ("api", Some(version), None, None) => discovery::api_resource_list(&rows.table, "", version)?,
        ("apis", None, None, None) => discovery::api_group_list(&rows.table),
        ("apis", Some(group), None, None) => discovery::api_group(&rows.table, group)?,
        ("apis", Some(group), Some(version), None) => discovery::api_resource_list(&rows.table, group, version)?,
        _ => return None,
    };
    if let Some(refused) = negotiate::refused(&parts.headers) {
        return Some(Err(refused));
    }
    Some(Ok(response::full(StatusCode::OK, "application/json", plain)))
}

fn aggregated(rows: &Rows, core: bool) -> &Document {
    let slot = if core { &rows.discovery.core } else { &rows.discovery.groups };
    slot.get_or_init(|| Document::new(discovery::aggregated_v2(&rows.table, core)))
}

fn wants_aggregated(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    for range in accepted {
        let has = |part: &str| range.split(';').any(|p| p.trim() == part);
        if has("g=apidiscovery.k8s.io") && has("as=APIGroupDiscoveryList") && has("v=v2") {
            return true;
        }
        if matches!(range.trim(), "application/json" | "*/*") {
            return false;
        }
    }
    false
}
