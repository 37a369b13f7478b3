//! YAML answers.

use serde_json::Value;

/// A value as YAML.
pub fn write(value: &Value) -> Vec<u8> {
    api::yaml::to_string(value).into_bytes()
}
