//! Definitions as lines of text. A definition's line starts at the margin, its fields' lines with one space:
//!
//! ```text
//! io.k8s.api.core.v1.Container object required=name
//!  args [string] list=atomic
//!  name string =""
//!  resources @api.core.v1.ResourceRequirements ={}
//! ```
//!
//! A type is `string`, `string:date-time`, `[T]` (array), `{T}` (map), `@name` (another definition, without its
//! `io.k8s.`), `any`, `raw` (anything, published as an object), `quantity` or `intorstring`. The default is last.
//! `omit` marks scalars whose zero value is not written, `keep` lists and maps that are written empty, `zero`
//! quantities that are written as "0" when not set: what Go's types do (`zeros.txt`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// Keys that a line holds; any other key must fail the generation rather than get lost.
const KNOWN: [&str; 18] = [
    "additionalProperties",
    "allOf",
    "default",
    "description",
    "format",
    "items",
    "oneOf",
    "properties",
    "$ref",
    "required",
    "type",
    "x-kubernetes-group-version-kind",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-patch-merge-key",
    "x-kubernetes-patch-strategy",
    "x-kubernetes-unions",
];

/// Definitions that hold any JSON value though they are published as objects.
const RAW: [&str; 3] = [
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
    "io.k8s.apimachinery.pkg.runtime.RawExtension",
];

/// By definition, which of its fields are written how when they are zero. The documents do not say it.
static ZEROS: &str = include_str!("zeros.txt");

/// Marks of fields by definition: `omit`, `keep` or `zero`.
fn marks(definition: &str) -> BTreeMap<&'static str, &'static str> {
    let of = |line: &&'static str| line.split_once(' ').is_some_and(|(name, _)| name == definition);
    let words = ZEROS.lines().find(of).into_iter().flat_map(|line| line.split(' ').skip(1));
    let marked = words.filter_map(|word| word.split_once('='));
    marked.flat_map(|(mark, fields)| fields.split(',').map(move |field| (field, mark))).collect()
}

fn reference(schema: &Value) -> Option<&str> {
    let holder = schema.pointer("/allOf/0").unwrap_or(schema);
    holder.get("$ref")?.as_str()?.strip_prefix("#/components/schemas/io.k8s.")
}

fn type_of(schema: &Value) -> anyhow::Result<String> {
    if let Some(name) = reference(schema) {
        return Ok(format!("@{name}"));
    }
    if schema.get("oneOf").is_some() {
        let named = schema.get("format").is_some();
        return Ok(if named { "intorstring" } else { "quantity" }.to_owned());
    }
    let format = schema.get("format").and_then(Value::as_str).map(|f| format!(":{f}")).unwrap_or_default();
    match (schema.get("type").and_then(Value::as_str), schema.get("items"), schema.get("additionalProperties")) {
        (Some("array"), Some(items), None) => Ok(format!("[{}]", type_of(items)?)),
        (Some("object"), None, Some(values)) => Ok(format!("{{{}}}", type_of(values)?)),
        (Some(ty), None, None) => Ok(format!("{ty}{format}")),
        (None, None, None) => Ok("any".to_owned()),
        _ => bail!("a type of unknown form: {schema}"),
    }
}

fn joined(value: &Value) -> String {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

fn kinds(value: &Value) -> String {
    let part = |kind: &Value, key: &str| kind.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let kinds = value.as_array().into_iter().flatten();
    let listed: Vec<_> =
        kinds.map(|k| format!("{}/{}/{}", part(k, "group"), part(k, "version"), part(k, "kind"))).collect();
    listed.join(",")
}

fn attributes(line: &mut String, schema: &Value, kinds_of: Option<&Value>) -> anyhow::Result<()> {
    let object = schema.as_object().context("a schema is not an object")?;
    if let Some(unknown) = object.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        bail!("unknown key {unknown}");
    }
    if let Some(required) = object.get("required") {
        write!(line, " required={}", joined(required))?;
    }
    if let Some(of) = kinds_of {
        write!(line, " gvk={}", kinds(of))?;
    }
    if let Some(list_type) = object.get("x-kubernetes-list-type").and_then(Value::as_str) {
        write!(line, " list={list_type}")?;
    }
    if let Some(keys) = object.get("x-kubernetes-list-map-keys") {
        write!(line, " keys={}", joined(keys))?;
    }
    let texts = [
        ("map", "x-kubernetes-map-type"),
        ("patch", "x-kubernetes-patch-strategy"),
        ("merge", "x-kubernetes-patch-merge-key"),
    ];
    for (short, key) in texts {
        if let Some(value) = object.get(key).and_then(Value::as_str) {
            write!(line, " {short}={value}")?;
        }
    }
    if let Some(unions) = object.get("x-kubernetes-unions") {
        write!(line, " unions={unions}")?;
    }
    if let Some(default) = object.get("default") {
        write!(line, " ={default}")?;
    }
    Ok(())
}

/// The text of all definitions. Their kinds come from the v2 document: a v3 one leaves out those of other groups.
pub fn text(definitions: &BTreeMap<String, Value>, swagger: &Value) -> anyhow::Result<String> {
    let kinds_of = |name: &str| swagger.get("definitions")?.get(name)?.get("x-kubernetes-group-version-kind");
    let mut text = String::new();
    for (name, definition) in definitions {
        let ty = if RAW.contains(&name.as_str()) { "raw".to_owned() } else { type_of(definition)? };
        let mut line = format!("{name} {ty}");
        attributes(&mut line, definition, kinds_of(name)).with_context(|| format!("definition {name}"))?;
        writeln!(text, "{line}")?;
        let marks = marks(name);
        for (field, schema) in definition.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let ty = type_of(schema).with_context(|| format!("field {field} of {name}"))?;
            let mut line = format!(" {field} {ty}");
            if let Some(mark) = marks.get(field.as_str()) {
                write!(line, " {mark}")?;
            }
            attributes(&mut line, schema, None).with_context(|| format!("field {field} of {name}"))?;
            writeln!(text, "{line}")?;
        }
    }
    Ok(text)
}
