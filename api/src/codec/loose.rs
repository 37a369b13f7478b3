//! JSON without a kind's schema at hand: values with a note of what stands twice in them, and DeleteOptions.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{FieldValidation, decode_patched, go_json};
use crate::Object;
use crate::builtin;
use crate::meta::Gvk;
use crate::status::Status;

/// Reads JSON; the last of two equal members wins, and each is noted: `duplicate field "a.b[0].c"`.
///
/// # Errors
/// The bytes are no JSON.
pub fn parse_json(bytes: &[u8]) -> serde_json::Result<(Value, Vec<String>)> {
    let mut duplicates = Vec::new();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = Node { path: String::new(), duplicates: &mut duplicates }.deserialize(&mut json)?;
    json.end()?;
    Ok((value, duplicates))
}

struct Node<'d> {
    path: String,
    duplicates: &'d mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, items.len());
            match from.next_element_seed(Node { path, duplicates: self.duplicates })? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = from.next_key::<String>()? {
            let path = if self.path.is_empty() { name.clone() } else { format!("{}.{name}", self.path) };
            if object.contains_key(&name) {
                self.duplicates.push(format!("duplicate field \"{path}\""));
            }
            let value = from.next_value_seed(Node { path, duplicates: self.duplicates })?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// Reads the JSON body of a delete as DeleteOptions.
///
/// # Errors
/// `BadRequest` with upstream's words for bytes that are no JSON, and as [`options_of`].
pub fn decode_options(bytes: &[u8]) -> Result<Object, Status> {
    let value = serde_json::from_slice(bytes).map_err(|error| {
        let why = go_json::syntax_error(bytes).unwrap_or_else(|| error.to_string());
        Status::bad_request(format!("couldn't get version/kind; json parse error: {why}"))
    })?;
    options_of(value)
}

/// A value as DeleteOptions of any version; unknown fields are passed over.
///
/// # Errors
/// `BadRequest` with upstream's words when it is of another kind, or a field of another type.
pub fn options_of(value: Value) -> Result<Object, Status> {
    const KIND: &str = "DeleteOptions";
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    if !matches!(text("kind"), "" | KIND) {
        return Err(Status::bad_request(format!(
            "no kind {:?} is registered for version {:?} in scheme \
             \"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27\"",
            text("kind"),
            text("apiVersion"),
        )));
    }
    let gvk = Gvk::new("", "v1", KIND);
    let schema = builtin::schema_of_kind(&gvk).unwrap_or_default();
    let mut value = value;
    if let Some(object) = value.as_object_mut() {
        // Groups serve options in their own versions, all alike.
        object.retain(|key, _| !matches!(key.as_str(), "apiVersion" | "kind"));
    }
    let (mut object, _) = decode_patched(value, Vec::new(), &gvk, &schema, FieldValidation::Ignore)
        .map_err(|refusal| Status::bad_request(refusal.of_decoder()))?;
    object.remove("apiVersion");
    object.remove("kind");
    Ok(object)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn what_stands_twice_is_noted() {
        let (value, duplicates) = parse_json(br#"{"a":[{"b":1,"b":2}],"c":{"d":1},"c":{}}"#).unwrap();
        assert_eq!(value, json!({"a": [{"b": 2}], "c": {}}));
        assert_eq!(duplicates, ["duplicate field \"a[0].b\"", "duplicate field \"c\""]);
        assert!(parse_json(b"{} x").is_err());
    }

    #[test]
    fn options_are_those_of_any_version_and_of_no_other_kind() {
        let read = decode_options(br#"{"kind":"DeleteOptions","apiVersion":"policy/v1","dryRun":["All"],"x":1}"#);
        assert_eq!(Value::Object(read.unwrap()), json!({"dryRun": ["All"]}));
        for (body, message) in [
            (&b"{"[..], "couldn't get version/kind; json parse error: unexpected end of JSON input"),
            (
                br#"{"gracePeriodSeconds":"5"}"#,
                "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64",
            ),
            (
                br#"{"kind":"Pod","apiVersion":"v1"}"#,
                "no kind \"Pod\" is registered for version \"v1\" in scheme \
                 \"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27\"",
            ),
        ] {
            assert_eq!(decode_options(body).unwrap_err().message, message);
        }
    }
}
