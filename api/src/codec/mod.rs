//! Decoding of request bodies: one pass over the bytes, led by the schema, with upstream's messages.
//!
//! Built-in kinds keep nothing that their schema does not know. What upstream would not write is not kept either: null
//! fields, and zero values of fields that it omits then.

mod go_json;
mod go_names;
mod loose;
mod patched;
mod scalars;
mod seed;

pub use go_json::syntax_error;
pub use loose::{decode_options, options_of, parse_json};
pub use patched::{Refusal, decode_patched};

use serde_json::Value;

use crate::builtin;
use crate::meta::{Gvk, api_version, split_api_version};
use crate::schema::Schema;
use crate::status::{Reason, Status};
use crate::{Object, protobuf, yaml};

/// What to do with unknown and duplicate fields (query parameter `fieldValidation`, KEP-2885).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

impl FieldValidation {
    /// The directive of a query parameter; `None` when it is none of the known ones. Empty means the default, Warn.
    pub fn parse(directive: &str) -> Option<Self> {
        match directive {
            "" | "Warn" => Some(Self::Warn),
            "Ignore" => Some(Self::Ignore),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// A decoded object; `apiVersion` and `kind` are set.
#[derive(Debug)]
pub struct Decoded {
    pub object: Object,
    /// Texts for `Warning` headers: unknown and duplicate fields, when asked to warn.
    pub warnings: Vec<String>,
}

/// Decodes JSON as an object of a kind. `apiVersion` and `kind` may be missing in it.
///
/// # Errors
/// `BadRequest` with upstream's message for bytes that are no JSON, another kind, a value of a wrong type, and, when
/// `mode` is strict, unknown and duplicate fields.
pub fn decode(bytes: &[u8], gvk: &Gvk, schema: &Schema, mode: FieldValidation) -> Result<Decoded, Status> {
    let body = Body { bytes, gvk };
    let (mut decoded, mut context) = pass(bytes, schema, mode);
    let repaired = if decoded.is_err() && context.is_unhurt() { go_json::repaired(bytes) } else { None };
    if let Some(repaired) = &repaired {
        (decoded, context) = pass(repaired, schema, mode);
    }
    match decoded {
        Ok(object) => {
            body.check_version(&Claim::of_object(&object))?;
            if context.has_skipped() && go_json::is_too_deep(bytes) {
                return Err(body.unrecognized("couldn't get version/kind; json parse error: exceeded max depth"));
            }
            finish(object, context.into_problems(), gvk, mode)
        }
        Err(error) => {
            if let Some(syntax) = go_json::syntax_error(bytes) {
                return Err(body.unrecognized(&format!("couldn't get version/kind; json parse error: {syntax}")));
            }
            let read = repaired.as_deref().unwrap_or(bytes);
            let literal = go_json::number_before(read, error.line(), error.column());
            Err(body.undecodable(&context.into_failure(literal).unwrap_or_else(|| error.to_string())))
        }
    }
}

fn pass<'s>(
    bytes: &[u8],
    schema: &'s Schema,
    mode: FieldValidation,
) -> (serde_json::Result<Object>, seed::Context<'s>) {
    let mut context = seed::Context::new(mode);
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let decoded = context.object(schema, &mut json).and_then(|object| json.end().map(|()| object));
    (decoded, context)
}

/// Decodes YAML as an object of a kind, like [`decode`].
///
/// # Errors
/// As [`decode`]; a key that stands twice in a mapping is an unknown-field-like problem.
pub fn decode_yaml(bytes: &[u8], gvk: &Gvk, schema: &Schema, mode: FieldValidation) -> Result<Decoded, Status> {
    let body = Body { bytes, gvk };
    let document = yaml::parse(bytes).map_err(|error| body.unrecognized(&error.to_string()))?;
    if !document.value.is_object() && !document.value.is_null() {
        return Err(body.no_object(&document.value));
    }
    let mut problems = Vec::new();
    if mode != FieldValidation::Ignore && !document.duplicates.is_empty() {
        problems.push(format!("yaml: unmarshal errors:\n  {}", document.duplicates.join("\n  ")));
    }
    decode_parsed(document.value, problems, gvk, schema, mode)
}

/// Decodes protobuf as an object of a kind, like [`decode`]. Unknown fields are skipped whatever was asked.
///
/// # Errors
/// As [`decode`].
pub fn decode_protobuf(bytes: &[u8], gvk: &Gvk, schema: &Schema) -> Result<Decoded, Status> {
    let body = Body { bytes, gvk };
    let envelope = protobuf::envelope::open(bytes).map_err(|error| body.unrecognized(&error.to_string()))?;
    if envelope.kind.is_empty() {
        return Err(body.unrecognized("Object 'Kind' is missing in the protobuf envelope"));
    }
    let claimed = Claim { api_version: envelope.api_version.to_owned(), kind: envelope.kind.to_owned() };
    if let Some(status) = claimed.mismatch(gvk) {
        return Err(status);
    }
    let object = match protobuf::message_of(schema) {
        Some(message) => protobuf::decode_message(message, envelope.raw),
        None => protobuf::decode(bytes),
    };
    let object = object.map_err(|error| claimed.cannot_be_handled(gvk, &error.to_string()))?;
    decode_parsed(Value::Object(object), Vec::new(), gvk, schema, FieldValidation::Ignore)
}

/// Decodes a JSON value, such as a patch gave, as an object of a kind, like [`decode`].
///
/// # Errors
/// As [`decode`].
pub fn decode_value(value: Value, gvk: &Gvk, schema: &Schema, mode: FieldValidation) -> Result<Decoded, Status> {
    decode_parsed(value, Vec::new(), gvk, schema, mode)
}

fn decode_parsed(
    value: Value,
    mut problems: Vec<String>,
    gvk: &Gvk,
    schema: &Schema,
    mode: FieldValidation,
) -> Result<Decoded, Status> {
    let mut context = seed::Context::new(mode);
    let claimed = Claim::of_value(&value);
    match context.object(schema, value) {
        Ok(object) => {
            problems.extend(context.into_problems());
            finish(object, problems, gvk, mode)
        }
        Err(error) => {
            let message = context.into_failure(None).unwrap_or_else(|| error.to_string());
            Err(claimed.mismatch(gvk).unwrap_or_else(|| claimed.cannot_be_handled(gvk, &message)))
        }
    }
}

fn finish(mut object: Object, problems: Vec<String>, gvk: &Gvk, mode: FieldValidation) -> Result<Decoded, Status> {
    let claimed = Claim::of_object(&object);
    if let Some(status) = claimed.mismatch(gvk) {
        return Err(status);
    }
    if mode == FieldValidation::Strict && !problems.is_empty() {
        let message = format!("strict decoding error: {}", problems.join(", "));
        return Err(claimed.cannot_be_handled(gvk, &message));
    }
    object.insert("apiVersion".to_owned(), Value::String(gvk.api_version()));
    object.insert("kind".to_owned(), Value::String(gvk.kind.clone()));
    Ok(Decoded { object, warnings: problems })
}

/// What a body says that it is.
#[derive(Default)]
struct Claim {
    api_version: String,
    kind: String,
}

impl Claim {
    fn of_object(object: &Object) -> Self {
        let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { api_version: text("apiVersion"), kind: text("kind") }
    }

    fn of_value(value: &Value) -> Self {
        value.as_object().map(Self::of_object).unwrap_or_default()
    }

    /// Kind and version with what is missing filled in.
    fn with_defaults<'a>(&'a self, gvk: &'a Gvk) -> (&'a str, &'a str, &'a str) {
        let (group, version) = split_api_version(&self.api_version).unwrap_or((&gvk.group, &gvk.version));
        let kind = if self.kind.is_empty() { &gvk.kind } else { &self.kind };
        (group, version, kind)
    }

    fn cannot_be_handled(&self, gvk: &Gvk, why: &str) -> Status {
        let (_, version, kind) = self.with_defaults(gvk);
        Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {}: {why}", gvk.kind))
    }

    /// The error when the body says that it is something else than expected.
    fn mismatch(&self, gvk: &Gvk) -> Option<Status> {
        let (group, version, kind) = self.with_defaults(gvk);
        if group == gvk.group && version == gvk.version && kind == gvk.kind {
            return None;
        }
        let known = builtin::schema_of_kind(&Gvk::new(group, version, kind)).is_some();
        if known && kind == gvk.kind {
            let (given, expected) = (api_version(group, version), gvk.api_version());
            return Some(Status::bad_request(format!(
                "the API version in the data ({given}) does not match the expected API version ({expected})"
            )));
        }
        let why = if known {
            let package = if gvk.group.is_empty() { "core" } else { gvk.group.split('.').next().unwrap_or_default() };
            format!("converting ({version}.{kind}) to ({package}.{}): unknown conversion", gvk.kind)
        } else {
            let version = api_version(group, version);
            format!(
                "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
            )
        };
        Some(self.cannot_be_handled(gvk, &why))
    }
}

/// A body that could not be decoded, for the messages about it.
struct Body<'a> {
    bytes: &'a [u8],
    gvk: &'a Gvk,
}

/// Bytes of a body that a message shows.
const SHOWN: usize = 30;

impl Body<'_> {
    fn unrecognized(&self, why: &str) -> Status {
        let message = format!(
            "the object provided is unrecognized (must be of type {}): {why} ({})",
            self.gvk.kind,
            self.summary()
        );
        Status::failure(Reason::BadRequest, message)
    }

    fn check_version(&self, claimed: &Claim) -> Result<(), Status> {
        if claimed.api_version.is_empty() || split_api_version(&claimed.api_version).is_some() {
            return Ok(());
        }
        Err(self.unrecognized(&format!("unexpected GroupVersion string: {}", claimed.api_version)))
    }

    /// The start of the body: as text if it looks like JSON, in hexadecimal otherwise.
    fn summary(&self) -> String {
        let Some(first) = self.bytes.first() else { return "<empty>".to_owned() };
        let start = self.bytes.get(..SHOWN).unwrap_or(self.bytes);
        let shown = match first {
            b'{' => String::from_utf8_lossy(start).into_owned(),
            _ => start.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        if self.bytes.len() > SHOWN { format!("{shown} ...") } else { shown }
    }

    /// The error for a list or a scalar.
    fn no_object(&self, value: &Value) -> Status {
        const META: &str =
            r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
        let what = scalars::json_type(value);
        let why = format!("json: cannot unmarshal {what} into Go value of type {META}");
        self.unrecognized(&format!("couldn't get version/kind; json parse error: {why}"))
    }

    /// The error for valid JSON that is no object of the kind; a wrong kind counts before a wrong field.
    fn undecodable(&self, message: &str) -> Status {
        let value: Value = serde_json::from_slice(self.bytes).unwrap_or_default();
        let Some(object) = value.as_object() else { return self.no_object(&value) };
        for key in ["apiVersion", "kind"] {
            if let Some(wrong) = object.get(key).filter(|value| !value.is_string() && !value.is_null()) {
                let what = scalars::json_type(wrong);
                let why = format!("json: cannot unmarshal {what} into Go struct field .{key} of type string");
                return self.unrecognized(&format!("couldn't get version/kind; json parse error: {why}"));
            }
        }
        let claimed = Claim::of_object(object);
        if let Err(status) = self.check_version(&claimed) {
            return status;
        }
        claimed.mismatch(self.gvk).unwrap_or_else(|| claimed.cannot_be_handled(self.gvk, message))
    }
}

#[cfg(test)]
mod tests;
