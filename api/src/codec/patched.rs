//! What a patch made, decoded as its kind; and why it is none, in the words of whoever reads it upstream.

use serde_json::Value;

use super::{Claim, FieldValidation, seed};
use crate::Object;
use crate::meta::Gvk;
use crate::schema::Schema;

/// Why a patched value is no object of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(String);

impl Refusal {
    /// In the words of the JSON decoder, which reads what JSON and merge patches made.
    pub fn of_decoder(&self) -> String {
        self.0.clone()
    }

    /// In the words of the converter, which reads what strategic patches made (apimachinery `runtime/converter.go`).
    pub fn of_converter(&self) -> String {
        let parts = || {
            let (what, rest) = self.0.strip_prefix("json: cannot unmarshal ")?.split_once(" into Go ")?;
            Some((what.split(' ').next()?, rest.rsplit_once(" of type ").map_or(rest, |(_, ty)| ty)))
        };
        let Some((what, ty)) = parts() else { return self.0.clone() };
        let what = match what {
            "object" => "map",
            "array" => "slice",
            "number" => "int64",
            other => other,
        };
        match ty {
            "string" | "bool" | "int32" | "int64" | "float64" => format!("unrecognized type: {ty}"),
            _ if ty.starts_with("[]") => format!("cannot restore slice from {what}"),
            _ if ty.starts_with("map[") => format!("cannot restore map from {what}"),
            _ => format!("cannot restore struct from: {what}"),
        }
    }
}

/// Decodes what a patch made; texts for warnings. `problems` is what is wrong with the patch itself.
///
/// # Errors
/// It is no object of the kind, or strict validation has something against it.
pub fn decode_patched(
    value: Value,
    mut problems: Vec<String>,
    gvk: &Gvk,
    schema: &Schema,
    mode: FieldValidation,
) -> Result<(Object, Vec<String>), Refusal> {
    let mut context = seed::Context::new(mode);
    let claimed = Claim::of_value(&value);
    let mut object = match context.object(schema, value) {
        Ok(object) => object,
        Err(error) => return Err(Refusal(context.into_failure(None).unwrap_or_else(|| error.to_string()))),
    };
    if let Some(status) = claimed.mismatch(gvk) {
        return Err(Refusal(status.message));
    }
    problems.extend(context.into_problems());
    if mode == FieldValidation::Strict && !problems.is_empty() {
        return Err(Refusal(format!("strict decoding error: {}", problems.join(", "))));
    }
    object.insert("apiVersion".to_owned(), Value::String(gvk.api_version()));
    object.insert("kind".to_owned(), Value::String(gvk.kind.clone()));
    Ok((object, problems))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_in_both_words() {
        for (decoder, converter) in [
            (
                "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
                "cannot restore slice from map",
            ),
            (
                "json: cannot unmarshal array into Go struct field DeploymentSpec.spec.template of type v1.PodTemplateSpec",
                "cannot restore struct from: slice",
            ),
            (
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
                "unrecognized type: int32",
            ),
            ("strict decoding error: unknown field \"x\"", "strict decoding error: unknown field \"x\""),
        ] {
            assert_eq!(Refusal(decoder.to_owned()).of_converter(), converter);
        }
    }
}
