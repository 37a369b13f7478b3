//! `metav1.Status`: the one form in which the API says that something went wrong (apimachinery `api/errors`).

use serde::{Deserialize, Serialize};

use crate::field::{FieldError, go_quote};
use crate::meta::Gvk;

/// `Status.reason`. Each has the HTTP code that upstream answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
    #[serde(other)]
    Unknown,
}

impl Reason {
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError | Self::Unknown | Self::ServerTimeout => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A failure as the API states it. It is the error type of every module that answers a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub status: String,
    #[serde(default)]
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
    pub code: u16,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

/// `resource.group`, or the bare resource in the core group: how upstream's messages name a resource.
fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl Status {
    pub fn failure(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            status: "Failure".to_owned(),
            message: message.into(),
            reason: Some(reason),
            details: None,
            code: reason.code(),
        }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.group = group.to_owned();
        details.kind = kind.to_owned();
        details.name = name.to_owned();
        self
    }

    pub fn is(&self, reason: Reason) -> bool {
        self.reason == Some(reason)
    }

    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::failure(Reason::NotFound, format!("{} {name:?} not found", qualified(group, resource)))
            .about(group, resource, name)
    }

    /// The path is served by nothing.
    pub fn no_such_path() -> Self {
        let mut status = Self::failure(Reason::NotFound, "the server could not find the requested resource");
        status.details = Some(Box::default());
        status
    }

    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Self::failure(Reason::AlreadyExists, format!("{} {name:?} already exists", qualified(group, resource)))
            .about(group, resource, name)
    }

    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let what = qualified(group, resource);
        Self::failure(Reason::Conflict, format!("Operation cannot be fulfilled on {what} {name:?}: {why}"))
            .about(group, resource, name)
    }

    /// A write that named an older resourceVersion than the stored one.
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, resource, name, why)
    }

    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let what = qualified(group, resource);
        let message = match (resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{what} is forbidden: {why}"),
            (false, false) => format!("{what} {name:?} is forbidden: {why}"),
        };
        Self::failure(Reason::Forbidden, message).about(group, resource, name)
    }

    pub fn unauthorized() -> Self {
        Self::failure(Reason::Unauthorized, "Unauthorized")
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(Reason::BadRequest, message)
    }

    pub fn method_not_allowed(group: &str, resource: &str, verb: &str) -> Self {
        Self::failure(
            Reason::MethodNotAllowed,
            format!("{verb} is not supported on resources of kind {:?}", qualified(group, resource)),
        )
        .about(group, resource, "")
    }

    pub fn internal(what: impl std::fmt::Display) -> Self {
        let mut status = Self::failure(Reason::InternalError, format!("Internal error occurred: {what}"));
        status.details.get_or_insert_default().causes.push(Cause { message: what.to_string(), ..Cause::default() });
        status
    }

    /// A failure that upstream did not foresee as an answer: code 500 without a reason.
    pub fn unexpected(message: impl Into<String>) -> Self {
        let mut status = Self::failure(Reason::InternalError, message);
        status.reason = None;
        status
    }

    /// The path is served, but not by this method.
    pub fn no_such_method() -> Self {
        let text = "the server does not allow this method on the requested resource";
        let mut status = Self::failure(Reason::MethodNotAllowed, text);
        status.details = Some(Box::default());
        status
    }

    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(Reason::Expired, message)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut status = Self::failure(Reason::TooManyRequests, message);
        status.details.get_or_insert_default().retry_after_seconds = retry_after_seconds;
        status
    }

    /// Validation failed: `Kind.group "name" is invalid: […]`, one cause an error. The message says each text once.
    pub fn invalid(gvk: &Gvk, name: &str, errors: &[FieldError]) -> Self {
        let mut texts: Vec<String> = Vec::with_capacity(errors.len());
        for error in errors {
            let text = error.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let listed = match texts.as_slice() {
            [] => String::new(),
            [one] => format!(": {one}"),
            many => format!(": [{}]", many.join(", ")),
        };
        let kind = qualified(&gvk.group, &gvk.kind);
        let mut status = Self::failure(Reason::Invalid, format!("{kind} {} is invalid{listed}", go_quote(name)))
            .about(&gvk.group, &gvk.kind, name);
        status.details.get_or_insert_default().causes = errors
            .iter()
            .map(|e| Cause { reason: e.kind.reason().to_owned(), message: e.body(), field: e.path.clone() })
            .collect();
        status
    }

    /// The `v1 Status` object as it goes over the wire.
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            kind: &'a str,
            api_version: &'a str,
            metadata: serde_json::Map<String, serde_json::Value>,
            #[serde(flatten)]
            status: &'a Status,
        }
        let wire = Wire { kind: "Status", api_version: "v1", metadata: serde_json::Map::new(), status: self };
        serde_json::to_vec(&wire).unwrap_or_else(|_| unreachable!("a Status has only text and numbers"))
    }
}
