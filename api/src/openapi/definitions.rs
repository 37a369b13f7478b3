//! Definitions as the documents show them: the data's lines with their descriptions.

use std::collections::BTreeSet;
use std::io::Read as _;

use flate2::read::DeflateDecoder;
use serde_json::{Map, Value, json};

use super::Version;
use crate::builtin::{Attributes, Definition, definitions};

static DESCRIPTIONS: &[u8] = include_bytes!("../../data/descriptions.deflate");
/// Those of the definitions of the built-in metrics API, which come last; one a line.
static METRICS: &str = include_str!("../../data/metrics-descriptions.txt");

/// Descriptions of definitions and fields. Inflated while a document is written, and dropped after it.
pub(super) struct Descriptions {
    text: String,
    /// Where the descriptions of each definition start, in the order of definitions.
    starts: Vec<usize>,
}

impl Descriptions {
    pub fn inflate() -> Self {
        let mut text = String::new();
        if DeflateDecoder::new(DESCRIPTIONS).read_to_string(&mut text).is_err() {
            unreachable!("the generator deflated these bytes");
        }
        text.push_str(&METRICS.replace('\n', "\0"));
        let mut starts = Vec::with_capacity(definitions().len());
        let mut at = 0;
        for definition in definitions() {
            starts.push(at);
            for _ in 0..=definition.field_lines().count() {
                at += text[at..].find('\0').map_or(0, |length| length + 1);
            }
        }
        Self { text, starts }
    }

    /// The description of a definition, then those of its fields.
    pub fn of(&self, position: usize) -> impl Iterator<Item = &str> {
        let start = self.starts.get(position).copied().unwrap_or(self.text.len());
        self.text[start..].split('\0')
    }
}

fn list(text: &str) -> Vec<&str> {
    text.split(',').filter(|part| !part.is_empty()).collect()
}

/// A type as the document writes it.
fn type_of(ty: &str, version: Version) -> Map<String, Value> {
    let enclosed = |open: char, close: char| ty.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
    if let Some(name) = ty.strip_prefix('@') {
        put("$ref", Value::from(version.reference(&format!("io.k8s.{name}"))));
    } else if let Some(items) = enclosed('[', ']') {
        put("type", json!("array"));
        put("items", Value::Object(type_of(items, version)));
    } else if let Some(values) = enclosed('{', '}') {
        put("type", json!("object"));
        put("additionalProperties", Value::Object(type_of(values, version)));
    } else {
        match (ty, version) {
            ("any", _) => None,
            ("raw", _) => put("type", json!("object")),
            ("quantity", Version::V2) => put("type", json!("string")),
            ("quantity", Version::V3) => put("oneOf", json!([{"type": "string"}, {"type": "number"}])),
            ("intorstring", _) => {
                put("format", json!("int-or-string"));
                match version {
                    Version::V2 => put("type", json!("string")),
                    Version::V3 => put("oneOf", json!([{"type": "integer"}, {"type": "string"}])),
                }
            }
            _ => {
                let (name, format) = ty.split_once(':').unwrap_or((ty, ""));
                if !format.is_empty() {
                    put("format", json!(format));
                }
                put("type", json!(name))
            }
        };
    }
    map
}

fn attributes(map: &mut Map<String, Value>, attributes: &Attributes, description: &str, version: Version) {
    let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
    let texts = [
        ("description", description),
        ("x-kubernetes-list-type", attributes.list),
        ("x-kubernetes-map-type", attributes.map),
        ("x-kubernetes-patch-strategy", attributes.patch),
        ("x-kubernetes-patch-merge-key", attributes.merge),
    ];
    for (key, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        put(key, json!(text));
    }
    for (key, listed) in [("required", attributes.required), ("x-kubernetes-list-map-keys", attributes.keys)] {
        if !listed.is_empty() {
            put(key, json!(list(listed)));
        }
    }
    for (key, text) in [("x-kubernetes-unions", attributes.unions), ("default", attributes.default)] {
        if !text.is_empty() && (version == Version::V3 || key != "default") {
            put(key, serde_json::from_str(text).unwrap_or_default());
        }
    }
}

/// Kinds that a definition is; v3 documents leave out those of other group versions.
fn kinds(text: &str, only: Option<(&str, &str)>) -> Vec<Value> {
    let parse = |kind: &&str| {
        let mut parts = kind.split('/');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        (part(), part(), part())
    };
    let all: Vec<_> = list(text).iter().map(parse).collect();
    let is_shared = all.len() > MANY;
    let shown = |(group, version, _): &&(String, String, String)| match only {
        Some(only) if is_shared => (group.is_empty() && version == "v1") || (group.as_str(), version.as_str()) == only,
        _ => true,
    };
    let kind =
        |(group, version, kind): &(String, String, String)| json!({"group": group, "version": version, "kind": kind});
    all.iter().filter(shown).map(kind).collect()
}

/// Definitions with more kinds than this are those that every group version has.
const MANY: usize = 10;

/// A definition; `only` is the group version whose v3 document it stands in.
pub(super) fn value(
    definition: &Definition,
    descriptions: &mut dyn Iterator<Item = &str>,
    version: Version,
    only: Option<(&str, &str)>,
) -> Value {
    let own = definition.attributes();
    let mut map = type_of(own.ty, version);
    attributes(&mut map, &own, descriptions.next().unwrap_or_default(), version);
    let mut properties = Map::new();
    for (name, field) in definition.field_lines() {
        let mut property = type_of(field.ty, version);
        let reference = property.get("$ref").cloned();
        attributes(&mut property, &field, descriptions.next().unwrap_or_default(), version);
        // In OpenAPI 3.0 nothing may stand beside a reference.
        if let (Version::V3, Some(reference), true) = (version, reference, property.len() > 1) {
            property.remove("$ref");
            property.insert("allOf".to_owned(), json!([{"$ref": reference}]));
        }
        properties.insert(name.to_owned(), Value::Object(property));
    }
    if !properties.is_empty() {
        map.insert("properties".to_owned(), Value::Object(properties));
    }
    let kinds = kinds(own.kinds, only);
    if !kinds.is_empty() {
        map.insert("x-kubernetes-group-version-kind".to_owned(), Value::Array(kinds));
    }
    Value::Object(map)
}

fn referred(ty: &str) -> Option<String> {
    let inner = ty.trim_matches(['[', ']', '{', '}']);
    inner.strip_prefix('@').map(|name| format!("io.k8s.{name}"))
}

/// The positions of some definitions and of all that they lead to.
pub(super) fn closure(names: impl Iterator<Item = String>) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open: Vec<String> = names.collect();
    while let Some(name) = open.pop() {
        let Ok(position) = definitions().binary_search_by(|known| known.name().cmp(&name)) else { continue };
        if found.insert(position) {
            open.extend(definitions()[position].field_lines().filter_map(|(_, field)| referred(field.ty)));
        }
    }
    found
}
