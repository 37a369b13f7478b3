//! Descriptions of definitions and their fields, in the order of `schemas.txt`, each ended by a NUL, deflated.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::Value;

fn push(text: &mut String, schema: &Value) {
    text.push_str(schema.get("description").and_then(Value::as_str).unwrap_or_default());
    text.push('\0');
}

/// The compressed descriptions.
pub fn deflated(definitions: &BTreeMap<String, Value>) -> anyhow::Result<Vec<u8>> {
    let mut text = String::new();
    for definition in definitions.values() {
        push(&mut text, definition);
        for field in definition.get("properties").and_then(Value::as_object).into_iter().flatten() {
            push(&mut text, field.1);
        }
    }
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes()).context("compressing the descriptions")?;
    encoder.finish().context("compressing the descriptions")
}
