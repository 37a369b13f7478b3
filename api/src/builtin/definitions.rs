//! Definitions from `data/schemas.txt` (its form is explained in `xtask/src/generate/schemas.rs`). The text is indexed
//! once; a definition's fields are parsed when they are first looked at, and most kinds of a cluster never are.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock};

use serde_json::Value;

use crate::meta::Gvk;
use crate::schema::{Fields, ListType, PatchStrategy, Schema, Text, Type};

/// The published definitions, and those of the built-in metrics API, whose names come last.
static TEXT: &str = concat!(include_str!("../../data/schemas.txt"), include_str!("../../data/metrics-schemas.txt"));

/// All definitions, sorted by name.
static DEFINITIONS: LazyLock<Vec<Definition>> = LazyLock::new(index);

/// One named definition.
pub struct Definition {
    name: &'static str,
    /// Its line without the name: type and attributes.
    line: &'static str,
    /// The lines of its fields.
    body: &'static str,
    schema: OnceLock<Arc<Schema>>,
    fields: OnceLock<Vec<(Text, Arc<Schema>)>>,
    /// Those fields that have a default.
    defaulted: OnceLock<Vec<(&'static str, Arc<Schema>)>>,
}

/// Attributes of a line, as they stand there. What OpenAPI documents show comes from here.
#[derive(Default)]
pub(crate) struct Attributes {
    pub ty: &'static str,
    pub required: &'static str,
    pub kinds: &'static str,
    pub list: &'static str,
    pub keys: &'static str,
    pub map: &'static str,
    pub patch: &'static str,
    pub merge: &'static str,
    pub unions: &'static str,
    /// `omit`, `keep`, `zero` or nothing: how a zero value is written.
    pub zero: &'static str,
    pub default: &'static str,
}

impl Attributes {
    fn parse(line: &'static str) -> Self {
        let (ty, mut rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut found = Self { ty, ..Self::default() };
        while !rest.is_empty() {
            if let Some(default) = rest.strip_prefix('=') {
                found.default = default;
                break;
            }
            let (attribute, after) = rest.split_once(' ').unwrap_or((rest, ""));
            rest = after;
            let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let slot = match key {
                "omit" | "keep" | "zero" => {
                    found.zero = key;
                    continue;
                }
                "required" => &mut found.required,
                "gvk" => &mut found.kinds,
                "list" => &mut found.list,
                "keys" => &mut found.keys,
                "map" => &mut found.map,
                "patch" => &mut found.patch,
                "merge" => &mut found.merge,
                "unions" => &mut found.unions,
                other => unreachable!("the generator writes no attribute {other}"),
            };
            *slot = value;
        }
        found
    }

    /// Whether nothing but the type is said.
    fn is_plain(&self) -> bool {
        [self.required, self.list, self.keys, self.map, self.patch, self.merge, self.zero, self.default]
            .iter()
            .all(|a| a.is_empty())
    }
}

impl Definition {
    /// `io.k8s.api.core.v1.Pod`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn schema(&'static self) -> &'static Arc<Schema> {
        self.schema.get_or_init(|| {
            let mut schema = parse(&self.attributes());
            schema.definition = Text::Borrowed(self.name);
            if !self.body.is_empty() {
                schema.properties = Fields::of_definition(self);
            }
            Arc::new(schema)
        })
    }

    pub(crate) fn attributes(&self) -> Attributes {
        Attributes::parse(self.line)
    }

    /// Name and attributes of each field, in order.
    pub(crate) fn field_lines(&self) -> impl Iterator<Item = (&'static str, Attributes)> {
        self.body.lines().map(|line| {
            let (name, rest) = line.trim_start().split_once(' ').unwrap_or((line, "any"));
            (name, Attributes::parse(rest))
        })
    }

    pub(crate) fn fields(&'static self) -> &'static [(Text, Arc<Schema>)] {
        self.fields.get_or_init(|| {
            self.field_lines().map(|(name, attributes)| (Text::Borrowed(name), shared(&attributes))).collect()
        })
    }
}

impl Definition {
    pub(crate) fn defaulted(&'static self) -> &'static [(&'static str, Arc<Schema>)] {
        self.defaulted.get_or_init(|| {
            let fields = self.fields().iter().filter(|(_, schema)| schema.default.is_some());
            fields.map(|(name, schema)| (name.as_ref(), schema.clone())).collect()
        })
    }
}

/// Where each definition is in the text: its line is at the margin, its fields' lines are not.
fn index() -> Vec<Definition> {
    let mut definitions = Vec::with_capacity(800);
    let mut rest = TEXT;
    while let Some((first, after)) = rest.split_once('\n') {
        let mut end = 0;
        while after[end..].starts_with(' ') {
            end += after[end..].find('\n').map_or(after.len() - end, |length| length + 1);
        }
        let (name, line) = first.split_once(' ').unwrap_or((first, "any"));
        let body = after[..end].trim_end_matches('\n');
        let (schema, fields, defaulted) = Default::default();
        definitions.push(Definition { name, line, body, schema, fields, defaulted });
        rest = &after[end..];
    }
    definitions
}

/// All definitions, sorted by name.
pub fn definitions() -> &'static [Definition] {
    &DEFINITIONS
}

/// A definition by its full name.
pub fn definition(name: &str) -> Option<&'static Definition> {
    let at = DEFINITIONS.binary_search_by(|known| known.name.cmp(name)).ok()?;
    DEFINITIONS.get(at)
}

/// The definition of a kind.
pub(super) fn of_kind(gvk: &Gvk) -> Option<&'static Definition> {
    static BY_KIND: LazyLock<HashMap<&'static str, &'static Definition>> = LazyLock::new(|| {
        let kinds = |d: &'static Definition| d.attributes().kinds.split(',').filter(|k| !k.is_empty());
        DEFINITIONS.iter().flat_map(|d| kinds(d).map(move |kind| (kind, d))).collect()
    });
    BY_KIND.get(format!("{}/{}/{}", gvk.group, gvk.version, gvk.kind).as_str()).copied()
}

/// The definition that a `@reference` names; references leave `io.k8s.` out.
fn referred(name: &str) -> &'static Definition {
    let short = |known: &Definition| known.name.strip_prefix("io.k8s.").unwrap_or(known.name);
    match DEFINITIONS.binary_search_by(|known| short(known).cmp(name)) {
        Ok(at) => &DEFINITIONS[at],
        Err(_) => unreachable!("the generator writes references to definitions only"),
    }
}

/// A schema, shared with all others that say the same where that is easy to see.
fn shared(attributes: &Attributes) -> Arc<Schema> {
    if !attributes.is_plain() {
        return Arc::new(parse(attributes));
    }
    of_type(attributes.ty)
}

/// The schema of a type without attributes.
fn of_type(ty: &'static str) -> Arc<Schema> {
    static SCALARS: [(&str, OnceLock<Arc<Schema>>); 6] = [
        ("string", OnceLock::new()),
        ("boolean", OnceLock::new()),
        ("integer:int32", OnceLock::new()),
        ("integer:int64", OnceLock::new()),
        ("any", OnceLock::new()),
        ("string:byte", OnceLock::new()),
    ];
    if let Some(name) = ty.strip_prefix('@') {
        return referred(name).schema().clone();
    }
    let plain = Attributes { ty, ..Attributes::default() };
    match SCALARS.iter().find(|(scalar, _)| *scalar == ty) {
        Some((_, slot)) => slot.get_or_init(|| Arc::new(parse(&plain))).clone(),
        None => Arc::new(parse(&plain)),
    }
}

fn enclosed(ty: &'static str, open: char, close: char) -> Option<&'static str> {
    ty.strip_prefix(open)?.strip_suffix(close)
}

fn parse_type(ty: &'static str) -> Schema {
    if let Some(name) = ty.strip_prefix('@') {
        return referred(name).schema().as_ref().clone();
    }
    let mut schema = Schema::of(Type::Any);
    if let Some(items) = enclosed(ty, '[', ']') {
        schema.ty = Type::Array;
        schema.items = Some(of_type(items));
        return schema;
    }
    if let Some(values) = enclosed(ty, '{', '}') {
        schema.ty = Type::Object;
        schema.additional = Some(of_type(values));
        return schema;
    }
    let (name, format) = ty.split_once(':').unwrap_or((ty, ""));
    schema.format = Text::Borrowed(format);
    schema.ty = match name {
        "object" => Type::Object,
        "array" => Type::Array,
        "string" => Type::String,
        "integer" => Type::Integer,
        "number" => Type::Number,
        "boolean" => Type::Boolean,
        "quantity" | "intorstring" => Type::IntOrString,
        "any" | "raw" => Type::Any,
        other => unreachable!("the generator writes no type {other}"),
    };
    schema.preserve_unknown = schema.ty == Type::Any;
    if name == "intorstring" {
        schema.format = Text::Borrowed("int-or-string");
    }
    schema
}

fn list(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.split(',').filter(|part| !part.is_empty())
}

/// The schema that a line describes. JSON null means "not set" everywhere in built-in kinds.
fn parse(attributes: &Attributes) -> Schema {
    let mut schema = parse_type(attributes.ty);
    schema.nullable = true;
    if !attributes.required.is_empty() {
        schema.required = list(attributes.required).map(Text::Borrowed).collect();
    }
    match attributes.list {
        "set" => schema.list_type = ListType::Set,
        "map" => schema.list_type = ListType::Map(list(attributes.keys).map(Text::Borrowed).collect()),
        _ => {}
    }
    schema.atomic_map |= attributes.map == "atomic";
    if !attributes.patch.is_empty() {
        schema.patch_strategy = PatchStrategy {
            merge: list(attributes.patch).any(|s| s == "merge"),
            retain_keys: list(attributes.patch).any(|s| s == "retainKeys"),
        };
    }
    schema.patch_merge_key = Text::Borrowed(attributes.merge);
    let is_collection = schema.ty == Type::Array || schema.additional.is_some();
    schema.omit_empty = attributes.zero == "omit" || (is_collection && attributes.zero != "keep");
    // Some defaults are zero values, which are then not written.
    let is_nothing = |value: &Value| *value == 0 || *value == "" || *value == false;
    if schema.omit_empty && schema.default.as_ref().is_some_and(is_nothing) {
        schema.default = None;
    }
    if attributes.zero == "zero" {
        schema.default = Some(Value::from("0"));
    }
    if !attributes.default.is_empty() {
        schema.default = serde_json::from_str::<Value>(attributes.default).ok();
    }
    schema
}
