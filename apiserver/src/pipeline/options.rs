//! Options objects (CreateOptions, DeleteOptions, …) as admission sees them, and delete options as they are read.

use api::{Object, Status};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::Call;

/// The options object of a write.
pub fn of(call: &Call<'_>, kind: &str) -> Object {
    let mut options = Object::new();
    options.insert("apiVersion".to_owned(), json!("meta.k8s.io/v1"));
    options.insert("kind".to_owned(), json!(kind));
    if call.params.dry_run {
        options.insert("dryRun".to_owned(), json!(["All"]));
    }
    if !call.params.field_manager.is_empty() {
        options.insert("fieldManager".to_owned(), json!(call.params.field_manager));
    }
    if !call.params.field_validation.is_empty() {
        options.insert("fieldValidation".to_owned(), json!(call.params.field_validation));
    }
    options
}

/// The 422 about an options object, `why` being `field: Type: detail`.
pub fn invalid(kind: &str, why: &str) -> Status {
    let mut status = super::list::invalid_options(why);
    status.message = format!("{kind}.meta.k8s.io \"\" is invalid: {why}");
    if let Some(details) = &mut status.details {
        details.kind = kind.to_owned();
    }
    status
}

/// The options object of a connection: its kind, and the query's parameters as they came.
pub fn connect(call: &Call<'_>, query: &str) -> Object {
    let mut options = Object::new();
    options.insert("apiVersion".to_owned(), json!("v1"));
    if let Some(gvk) = call.row.resource.subresource(call.subresource).and_then(|s| s.kind.as_ref()) {
        options.insert("kind".to_owned(), json!(gvk.kind));
    }
    for (key, value) in crate::http::params::pairs(query) {
        let value = match &*value {
            "true" => json!(true),
            "false" => json!(false),
            text => json!(text),
        };
        if key == "command" {
            let list = options.entry("command").or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                list.push(value);
            }
        } else {
            options.insert(key.into_owned(), value);
        }
    }
    options
}

/// What happens to an object's dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Preconditions {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

/// `DeleteOptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub preconditions: Option<Preconditions>,
    pub orphan_dependents: Option<bool>,
    pub propagation_policy: Option<String>,
    pub dry_run: Vec<String>,
}

impl DeleteOptions {
    /// From the body, or when there is none from the query.
    pub fn read(call: &Call<'_>, body: &Bytes) -> Result<Self, Status> {
        let options = if body.is_empty() {
            Self {
                grace_period_seconds: call.params.grace_period_seconds,
                preconditions: None,
                orphan_dependents: call.params.orphan_dependents,
                propagation_policy: call.params.propagation_policy.as_ref().map(ToString::to_string),
                dry_run: Vec::new(),
            }
        } else {
            Self::from_body(call, body)?
        };
        options.check()?;
        Ok(options)
    }

    fn from_body(call: &Call<'_>, body: &Bytes) -> Result<Self, Status> {
        use crate::http::negotiate::{Format, body_format};
        let value = match body_format(call.headers)? {
            Format::Json => serde_json::from_slice(body).map_err(|e| unreadable(&e)),
            Format::Protobuf => match api::protobuf::decode(body) {
                Ok(object) => Ok(serde_json::Value::Object(object)),
                Err(error) => Err(Status::bad_request(format!("the body of the request is no DeleteOptions: {error}"))),
            },
            Format::Yaml => match api::yaml::parse(body) {
                Ok(document) => Ok(document.value),
                Err(error) => Err(Status::bad_request(format!("the body of the request is no DeleteOptions: {error}"))),
            },
        }?;
        serde_json::from_value(value).map_err(|e| unreadable(&e))
    }

    fn check(&self) -> Result<(), Status> {
        let invalid = |why: &str| invalid("DeleteOptions", why);
        if self.orphan_dependents.is_some() && self.propagation_policy.is_some() {
            return Err(invalid(
                "propagationPolicy: Invalid value: orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        match self.propagation_policy.as_deref() {
            None | Some("Orphan" | "Background" | "Foreground") => {}
            Some(other) => {
                return Err(invalid(&format!(
                    "propagationPolicy: Unsupported value: {other:?}: \
                     supported values: \"Background\", \"Foreground\", \"Orphan\""
                )));
            }
        }
        if let Some(other) = self.dry_run.iter().find(|d| *d != "All") {
            return Err(invalid(&format!("dryRun: Unsupported value: {other:?}: supported values: \"All\"")));
        }
        Ok(())
    }

    /// What the caller asked about dependents, if anything.
    pub fn propagation(&self) -> Option<Propagation> {
        match (self.orphan_dependents, self.propagation_policy.as_deref()) {
            (Some(true), _) | (_, Some("Orphan")) => Some(Propagation::Orphan),
            (_, Some("Foreground")) => Some(Propagation::Foreground),
            (Some(false), _) | (_, Some(_)) => Some(Propagation::Background),
            (None, None) => None,
        }
    }

    pub fn is_dry_run(&self) -> bool {
        !self.dry_run.is_empty()
    }
}

fn unreadable(error: &serde_json::Error) -> Status {
    Status::bad_request(format!("the body of the request is no DeleteOptions: {error}"))
}
