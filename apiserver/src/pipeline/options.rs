//! Options objects (CreateOptions, DeleteOptions, …) as admission sees them, and delete options as they are read.

use api::codec::{self, FieldValidation};
use api::{ErrorList, FieldError, Gvk, Object, Path, Status};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Call;
use crate::http::negotiate;

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

/// The 422 about an options object.
pub fn invalid(kind: &str, errors: &[FieldError]) -> Status {
    Status::invalid(&Gvk::new("meta.k8s.io", "v1", kind), "", errors)
}

/// Longest field manager, in bytes.
const MANAGER_MAX: usize = 128;

/// Checks the options of a write that stand in the query; those of deletes are [`DeleteOptions::read`]'s.
pub fn check(call: &Call<'_>) -> Result<(), Status> {
    let kind = match call.verb {
        "create" => "CreateOptions",
        "update" => "UpdateOptions",
        "patch" => "PatchOptions",
        _ => return Ok(()),
    };
    let params = &call.params;
    let mut errors = ErrorList::new();
    if kind == "PatchOptions" {
        let applies = negotiate::content_type(call.headers) == super::patch::APPLY;
        if applies && params.field_manager.is_empty() {
            errors.push(FieldError::required(&Path::new("fieldManager"), "is required for apply patch"));
        } else if !applies && params.force.is_some() {
            errors.push(FieldError::forbidden(&Path::new("force"), "may not be specified for non-apply patch"));
        }
    }
    field_manager(&params.field_manager, &mut errors);
    dry_run(&params.dry_runs, &mut errors);
    if FieldValidation::parse(&params.field_validation).is_none() {
        let known = ["", "Ignore", "Strict", "Warn"];
        errors.push(FieldError::not_supported(&Path::new("fieldValidation"), &*params.field_validation, &known));
    }
    if errors.is_empty() { Ok(()) } else { Err(invalid(kind, &errors)) }
}

fn field_manager(manager: &str, errors: &mut ErrorList) {
    let path = Path::new("fieldManager");
    if manager.len() > MANAGER_MAX {
        errors.push(FieldError::too_long(&path, MANAGER_MAX));
    }
    for (at, c) in manager.char_indices().filter(|(_, c)| c.is_control()) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        errors.push(FieldError::invalid(&path, manager, why));
    }
}

/// `All` is the only stage there is.
fn dry_run<S: AsRef<str>>(asked: &[S], errors: &mut ErrorList) {
    if asked.iter().any(|stage| stage.as_ref() != "All") {
        let asked: Vec<&str> = asked.iter().map(AsRef::as_ref).collect();
        errors.push(FieldError::not_supported(&Path::new("dryRun"), json!(asked), &["All"]));
    }
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
                dry_run: call.params.dry_runs.iter().map(ToString::to_string).collect(),
            }
        } else {
            Self::from_body(call, body)?
        };
        options.check()?;
        Ok(options)
    }

    fn from_body(call: &Call<'_>, body: &Bytes) -> Result<Self, Status> {
        use crate::http::negotiate::Format;
        match negotiate::body_format(call.headers)? {
            Format::Json => Self::decode(codec::decode_options(body)?),
            Format::Protobuf => match api::protobuf::decode(body) {
                Ok(object) => Self::decode(object),
                Err(error) => Err(Status::bad_request(error.to_string())),
            },
            Format::Yaml => match api::yaml::parse(body) {
                Ok(document) => Self::decode(codec::options_of(document.value)?),
                Err(error) => Err(Status::bad_request(error.to_string())),
            },
        }
    }

    /// From an object whose fields have the types of DeleteOptions.
    fn decode(options: Object) -> Result<Self, Status> {
        serde_json::from_value(Value::Object(options)).map_err(|error| Status::bad_request(error.to_string()))
    }

    /// From the `deleteOptions` of another object.
    pub fn embedded(value: &Value) -> Result<Self, Status> {
        let options = Self::decode(codec::options_of(value.clone())?)?;
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<(), Status> {
        let mut errors = ErrorList::new();
        let path = Path::new("propagationPolicy");
        if let (Some(_), Some(policy)) = (self.orphan_dependents, &self.propagation_policy) {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid(&path, policy.as_str(), why));
        }
        match self.propagation_policy.as_deref() {
            None | Some("Orphan" | "Background" | "Foreground") => {}
            Some(other) => {
                errors.push(FieldError::not_supported(&path, other, &["Foreground", "Background", "Orphan", "nil"]));
            }
        }
        dry_run(&self.dry_run, &mut errors);
        if errors.is_empty() { Ok(()) } else { Err(invalid("DeleteOptions", &errors)) }
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
