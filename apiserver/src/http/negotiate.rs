//! Content negotiation: in which form an answer goes out, and in which form a body came in.

use api::{Reason, Status};
use http::{HeaderMap, header};

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Json,
    Yaml,
    /// Of built-in kinds only.
    Protobuf,
}

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => api::protobuf::CONTENT_TYPE,
        }
    }
}

/// Into what the object is turned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    #[default]
    Whole,
    /// `meta.k8s.io` Table, of version `v1` or `v1beta1`.
    Table { beta: bool },
    /// PartialObjectMetadata, or its list for collections.
    Metadata { beta: bool },
}

/// The outcome of negotiation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    pub format: Format,
    pub shape: Shape,
    pub pretty: bool,
}

/// What an endpoint can turn its objects into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Objects only.
    Whole,
    /// Objects of the table: Table and metadata too.
    Shapes,
}

/// Picks the first acceptable form of the `Accept` header; 406 when there is none. `protobuf` says whether the kind
/// has a message.
pub fn accept(headers: &HeaderMap, offer: Offer, protobuf: bool) -> Result<Accept, Status> {
    let (mut any, mut known) = (false, false);
    for value in headers.get_all(header::ACCEPT) {
        let Ok(value) = value.to_str() else { continue };
        for range in value.split(',') {
            any = true;
            known |= is_known(range, protobuf);
            if let Some(accept) = media_range(range.trim(), offer, protobuf) {
                return Ok(accept);
            }
        }
    }
    match (any, known) {
        (false, _) => Ok(Accept::default()),
        (true, false) => Err(none_available(protobuf)),
        (true, true) => Err(not_acceptable(protobuf)),
    }
}

/// Whether a media range is of a type that we write, whatever its parameters ask for.
fn is_known(range: &str, protobuf: bool) -> bool {
    let kind = range.split(';').next().unwrap_or("").trim();
    matches!(kind, "application/json" | "*/*" | "application/*" | "" | "application/yaml")
        || matches!(kind, "application/x-yaml" | "text/yaml")
        || (protobuf && kind == api::protobuf::CONTENT_TYPE)
}

/// The 406 when no range of the `Accept` header names a type that we write; `None` when one does, or there is none.
pub fn refused(headers: &HeaderMap) -> Option<Status> {
    let ranges = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut ranges = ranges.flat_map(|value| value.split(',')).peekable();
    ranges.peek()?;
    ranges.all(|range| !is_known(range, true)).then(|| none_available(true))
}

fn none_available(protobuf: bool) -> Status {
    let text = format!("406: Not Acceptable\n\nAvailable representations: {}", types(protobuf));
    let mut status = Status::failure(Reason::NotAcceptable, text);
    status.details = Some(Box::default());
    status
}

fn types(protobuf: bool) -> &'static str {
    match protobuf {
        true => "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        false => "application/json, application/yaml",
    }
}

fn media_range(range: &str, offer: Offer, protobuf: bool) -> Option<Accept> {
    let mut parts = range.split(';').map(str::trim);
    let format = match parts.next()? {
        "application/json" | "*/*" | "application/*" | "" => Format::Json,
        "application/yaml" | "application/x-yaml" | "text/yaml" => Format::Yaml,
        api::protobuf::CONTENT_TYPE if protobuf => Format::Protobuf,
        _ => return None,
    };
    let (mut kind, mut version, mut group, mut pretty) = ("", "", "", false);
    for part in parts {
        match part.split_once('=') {
            Some(("as", v)) => kind = v,
            Some(("v", v)) => version = v,
            Some(("g", v)) => group = v,
            Some(("pretty", v)) => pretty = v == "1" || v == "true",
            // Streams are always framed by newlines; other parameters (q, charset) change nothing.
            _ => {}
        }
    }
    let shape = match kind {
        "" => Shape::Whole,
        _ if group != "meta.k8s.io" || !matches!(version, "v1" | "v1beta1") || offer == Offer::Whole => return None,
        "Table" if format == Format::Protobuf => return None,
        "Table" => Shape::Table { beta: version == "v1beta1" },
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Shape::Metadata { beta: version == "v1beta1" },
        _ => return None,
    };
    Some(Accept { format, shape, pretty })
}

fn not_acceptable(protobuf: bool) -> Status {
    let text = format!("only the following media types are accepted: {}", types(protobuf));
    Status::failure(Reason::NotAcceptable, text)
}

/// The media type of a request's body without parameters; empty when none is named.
pub fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim()
}

/// The format of a create's or update's body.
pub fn body_format(headers: &HeaderMap) -> Result<Format, Status> {
    match content_type(headers) {
        "" if headers.get(header::CONTENT_TYPE).is_some_and(|value| !value.is_empty()) => Err(unreadable()),
        "" | "application/json" => Ok(Format::Json),
        "application/yaml" | "application/x-yaml" | "text/yaml" => Ok(Format::Yaml),
        api::protobuf::CONTENT_TYPE => Ok(Format::Protobuf),
        _ => Err(unreadable()),
    }
}

fn unreadable() -> Status {
    unsupported(&["application/json", "application/yaml", api::protobuf::CONTENT_TYPE])
}

/// The 415 of an endpoint that takes no body of the named type at all.
pub fn not_taken() -> Status {
    let mut status = Status::failure(Reason::UnsupportedMediaType, "415: Unsupported Media Type");
    status.details = Some(Box::default());
    status
}

/// The 415 that names what would be taken.
pub fn unsupported(types: &[&str]) -> Status {
    let types = types.join(", ");
    let message = format!("the body of the request was in an unknown format - accepted media types include: {types}");
    Status::failure(Reason::UnsupportedMediaType, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(value: &str) -> Result<Accept, Status> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, value.parse().unwrap());
        accept(&headers, Offer::Shapes, false)
    }

    #[test]
    fn picks_the_first_form_that_is_known() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io";
        assert_eq!(of(table).unwrap().shape, Shape::Table { beta: false });
        assert_eq!(of("application/vnd.kubernetes.protobuf, */*").unwrap(), Accept::default());
        assert_eq!(of("application/yaml").unwrap().format, Format::Yaml);
        assert_eq!(of("application/json;as=Other;v=v1;g=meta.k8s.io, application/json").unwrap(), Accept::default());
        let mut headers = HeaderMap::new();
        headers.insert(
            header::ACCEPT,
            "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io, \
            application/vnd.kubernetes.protobuf,application/json"
                .parse()
                .unwrap(),
        );
        let protobuf = accept(&headers, Offer::Shapes, true).unwrap();
        assert_eq!((protobuf.format, protobuf.shape), (Format::Protobuf, Shape::Whole));
        assert_eq!(of("text/plain").unwrap_err().code, 406);
        assert_eq!(accept(&HeaderMap::new(), Offer::Whole, true).unwrap(), Accept::default());
    }
}
