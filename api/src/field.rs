//! Field paths and validation errors in upstream's words (apimachinery `util/validation/field`).

use std::fmt;

use serde_json::Value;
use smallvec::SmallVec;

/// A path to a field, `spec.containers[0].image`. Validation makes many and shows few: those of usual length live on
/// the stack.
#[derive(Debug, PartialEq, Eq)]
pub struct Path(SmallVec<[u8; INLINE]>);

/// Bytes of a path that need no allocation.
const INLINE: usize = 80;

impl Clone for Path {
    /// As one piece: a `SmallVec` itself is cloned byte after byte.
    fn clone(&self) -> Self {
        Self(SmallVec::from_slice(&self.0))
    }
}

impl Path {
    pub fn new(name: &str) -> Self {
        Self(SmallVec::from_slice(name.as_bytes()))
    }

    /// The empty path; its children begin without a dot.
    pub fn root() -> Self {
        Self(SmallVec::new())
    }

    /// The path of one field without a name, which upstream has where it means the whole object.
    pub fn empty_name() -> Self {
        Self::new(" ")
    }

    pub fn child(&self, name: &str) -> Self {
        self.with(&[if self.0.is_empty() { "" } else { "." }, name])
    }

    pub fn index(&self, index: usize) -> Self {
        self.with(&["[", itoa::Buffer::new().format(index), "]"])
    }

    /// The path of a map's entry or of an item of a list of type map, `metadata.labels[app]`.
    pub fn key(&self, key: &str) -> Self {
        self.with(&["[", key, "]"])
    }

    fn with(&self, parts: &[&str]) -> Self {
        let Self(mut path) = self.clone();
        for part in parts {
            path.extend_from_slice(part.as_bytes());
        }
        Self(path)
    }

    pub fn as_str(&self) -> &str {
        match std::str::from_utf8(&self.0) {
            Ok("") => "<nil>",
            Ok(" ") => "[]",
            Ok(path) => path,
            Err(_) => unreachable!("a path is made of texts"),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is wrong with a field. The names are those of upstream's `StatusCause.reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorType {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    TooFew,
    Internal,
    TypeInvalid,
}

impl FieldErrorType {
    /// `reason` of the cause that this error becomes.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::Internal => "Internal error",
        }
    }
}

/// One validation error of one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub kind: FieldErrorType,
    pub path: String,
    /// The value at fault; shown for the types that show one.
    pub bad_value: Option<Value>,
    pub detail: String,
    /// How the value is shown, if not in its published form.
    shown: Option<Box<str>>,
}

impl FieldError {
    fn new(kind: FieldErrorType, path: &Path, bad_value: Option<Value>, detail: String) -> Self {
        Self { kind, path: path.as_str().to_owned(), bad_value, detail, shown: None }
    }

    pub fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorType::Required, path, None, detail.into())
    }

    pub fn invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorType::Invalid, path, Some(value.into()), detail.into())
    }

    /// As [`FieldError::invalid`] where upstream does not show the value.
    pub fn invalid_without_value(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorType::Invalid, path, None, detail.into())
    }

    pub fn type_invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorType::TypeInvalid, path, Some(value.into()), detail.into())
    }

    pub fn duplicate(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(FieldErrorType::Duplicate, path, Some(value.into()), String::new())
    }

    pub fn not_found(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(FieldErrorType::NotFound, path, Some(value.into()), String::new())
    }

    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorType::Forbidden, path, None, detail.into())
    }

    pub fn internal(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorType::Internal, path, None, detail.into())
    }

    /// The value is longer than `max` bytes or characters; upstream does not show the value.
    pub fn too_long(path: &Path, max: usize) -> Self {
        Self::new(FieldErrorType::TooLong, path, None, format!("may not be more than {max} bytes"))
    }

    /// The value is longer than `max` characters; upstream does not show the value.
    pub fn too_long_characters(path: &Path, max: usize) -> Self {
        Self::new(FieldErrorType::TooLong, path, None, format!("may not be more than {max} characters"))
    }

    /// A list has more than `max` items.
    pub fn too_many(path: &Path, actual: usize, max: usize) -> Self {
        let items = if max == 1 { "item" } else { "items" };
        let detail = format!("must have at most {max} {items}");
        Self::new(FieldErrorType::TooMany, path, Some(actual.into()), detail)
    }

    /// The value is none of the supported ones, which are listed quoted in the order given.
    pub fn not_supported(path: &Path, value: impl Into<Value>, supported: &[&str]) -> Self {
        let quoted: Vec<_> = supported.iter().map(|s| go_quote(s)).collect();
        let detail = format!("supported values: {}", quoted.join(", "));
        Self::new(FieldErrorType::NotSupported, path, Some(value.into()), detail)
    }

    /// Says more than the constructor did.
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Shows the value in this text, where upstream shows it in another form than the published one.
    pub fn shown_as(mut self, text: impl Into<Box<str>>) -> Self {
        self.shown = Some(text.into());
        self
    }

    /// The error without its path: `Invalid value: "x": must be y`.
    pub fn body(&self) -> String {
        let mut text = self.kind.words().to_owned();
        if let Some(value) = &self.bad_value {
            text.push_str(": ");
            match &self.shown {
                Some(shown) => text.push_str(shown),
                None => text.push_str(&shown(value)),
            }
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

/// A value as upstream shows it: text quoted, numbers bare, compound values as compact JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => go_quote(text),
        Value::Array(_) | Value::Object(_) => go_json(value),
        other => other.to_string(),
    }
}

/// Text in double quotes as Go's `%q` writes it.
pub fn go_quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0b' => quoted.push_str("\\v"),
            '\x0c' => quoted.push_str("\\f"),
            ' '..='~' => quoted.push(c),
            '\0'..='\x7f' => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            // Rust's own escape tells which characters cannot be printed.
            _ if c.escape_debug().len() == 1 => quoted.push(c),
            '\u{80}'..='\u{ffff}' => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// Compact JSON as Go writes it: with `<`, `>` and `&` escaped.
fn go_json(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// The errors of one object, in the order found.
pub type ErrorList = Vec<FieldError>;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_shown_as_go_shows_them() {
        for (value, text) in [
            (json!("a'\"\\\n\u{1}é\u{200b}"), r#""a'\"\\\n\x01é\u200b""#),
            (json!(5), "5"),
            (json!(true), "true"),
            (json!({"a": ["<b>"]}), r#"{"a":["\u003cb\u003e"]}"#),
        ] {
            assert_eq!(shown(&value), text);
        }
    }

    #[test]
    fn errors_read_as_upstreams() {
        let path = Path::new("spec").child("ports").index(0).child("protocol");
        assert_eq!(
            FieldError::not_supported(&path, "X", &["SCTP", "TCP", "UDP"]).to_string(),
            r#"spec.ports[0].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP""#
        );
        assert_eq!(FieldError::required(&Path::new("a"), "").to_string(), "a: Required value");
        assert_eq!(FieldError::too_many(&Path::new("a"), 3, 1).to_string(), "a: Too many: 3: must have at most 1 item");
    }
}
