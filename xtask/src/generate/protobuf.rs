//! How messages are numbered in Kubernetes' protobuf: one line a message, `api/data/protobuf.txt`.
//!
//! ```text
//! io.k8s.api.core.v1.ConfigMapKeySelector ^api.core.v1.LocalObjectReference=1 key=2 optional=3*
//! ```
//!
//! A word is `name=number`, `name` being the field's name in JSON. The type is the schema's. `*` marks pointers, which
//! are written only when they are set; `e` lists that are messages of their own (`ExtraValue`). `^message` stands for
//! an embedded message, whose fields are the outer object's in JSON.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

/// A field as the message's description has it.
struct Field {
    number: u32,
    ty: String,
}

/// What only the Go struct says of a field.
struct Tag {
    /// Empty for embedded messages.
    name: String,
    pointer: bool,
}

/// Messages by full name.
type Messages = BTreeMap<String, Vec<Field>>;

/// Tags by `message/number`.
type Tags = BTreeMap<(String, u32), Tag>;

/// `io.k8s.api.core.v1` of `k8s.io.api.core.v1`.
fn definition_of(package: &str) -> String {
    let rest = package.strip_prefix("k8s.io.").unwrap_or(package);
    format!("io.k8s.{}", rest.replace('_', "-"))
}

fn descriptions(under: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(under).with_context(|| format!("listing {}", under.display()))? {
        let path = entry.with_context(|| format!("listing {}", under.display()))?.path();
        if path.is_dir() {
            descriptions(&path, found)?;
        } else if path.ends_with("generated.proto") {
            found.push(path);
        }
    }
    Ok(())
}

/// Adds the messages of one description; gives the prefix of their names.
fn read_messages(text: &str, messages: &mut Messages) -> anyhow::Result<String> {
    let mut package = String::new();
    let mut message = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("package ") {
            package = definition_of(name.trim_end_matches(';'));
        } else if let Some(name) = line.strip_prefix("message ") {
            message = format!("{package}.{}", name.trim_end_matches('{').trim());
            messages.insert(message.clone(), Vec::new());
        } else if let Some((left, number)) = line.strip_suffix(';').and_then(|l| l.split_once(" = ")) {
            let Some(fields) = messages.get_mut(&message).filter(|_| !line.starts_with("//")) else { continue };
            let Some((ty, _)) = left.rsplit_once(' ') else { continue };
            let number = number.parse().with_context(|| format!("{message}: {line}"))?;
            fields.push(Field { number, ty: full_type(ty, &package) });
        }
    }
    Ok(package)
}

/// A field's type with its label, packages written out: `repeated io.k8s.api.core.v1.Volume`.
fn full_type(ty: &str, package: &str) -> String {
    let ty = ty.strip_prefix("optional ").unwrap_or(ty);
    let (label, name) = match ty.strip_prefix("repeated ") {
        Some(name) => ("repeated ", name),
        None => ("", ty),
    };
    let wrap = |name: &str| match name.strip_prefix('.') {
        Some(outer) => definition_of(outer),
        None if name.starts_with(|c: char| c.is_ascii_uppercase()) => format!("{package}.{name}"),
        None => name.to_owned(),
    };
    match name.strip_prefix("map<string, ").and_then(|n| n.strip_suffix('>')) {
        Some(values) => format!("map {}", wrap(values)),
        None => format!("{label}{}", wrap(name)),
    }
}

fn between<'a>(text: &'a str, open: &str, close: char) -> Option<&'a str> {
    let (_, rest) = text.split_once(open)?;
    rest.split_once(close).map(|(inner, _)| inner)
}

/// Adds the tags of the structs in a Go file.
fn read_tags(text: &str, package: &str, tags: &mut Tags) {
    let mut message = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("type ").and_then(|l| l.strip_suffix(" struct {")) {
            message = Some(format!("{package}.{name}"));
        } else if line.starts_with('}') {
            message = None;
        }
        let (Some(message), Some((declared, tag))) = (&message, line.split_once('`')) else { continue };
        let number = between(tag, "protobuf:\"", '"').and_then(|t| t.split(',').nth(1)?.parse().ok());
        let (Some(number), Some(json)) = (number, between(tag, "json:\"", '"')) else { continue };
        let pointer = declared.split_whitespace().last().is_some_and(|ty| ty.starts_with('*'));
        let name = json.split(',').next().unwrap_or_default().to_owned();
        tags.insert((message.clone(), number), Tag { name, pointer });
    }
}

fn read(from: &Path) -> anyhow::Result<(Messages, Tags)> {
    let (mut messages, mut tags, mut found) = (Messages::new(), Tags::new(), Vec::new());
    for part in ["api", "apimachinery", "apiextensions-apiserver", "kube-aggregator"] {
        descriptions(&from.join(part), &mut found)?;
    }
    for path in found {
        let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
        let package = read_messages(&read(&path)?, &mut messages)?;
        let directory = path.parent().unwrap_or(from);
        for entry in fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))? {
            let path = entry.with_context(|| format!("listing {}", directory.display()))?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if name.ends_with(".go") && !name.starts_with("generated") && !name.ends_with("_test.go") {
                read_tags(&read(&path)?, &package, &mut tags);
            }
        }
    }
    Ok((messages, tags))
}

/// Whether a message is nothing but a list of text, and so a list in JSON.
fn is_wrapped_list(messages: &Messages, name: &str) -> bool {
    matches!(messages.get(name).map(Vec::as_slice), Some([Field { number: 1, ty }]) if ty == "repeated string")
        && (name.ends_with(".ExtraValue") || name.ends_with(".Verbs"))
}

/// The line of a message; embedded messages are put on the list.
fn line(name: &str, messages: &Messages, tags: &Tags, wanted: &mut BTreeSet<String>) -> anyhow::Result<String> {
    let mut line = name.to_owned();
    let fields = messages.get(name).with_context(|| format!("no message {name}"))?;
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_by_key(|f| f.number);
    for field in fields {
        // Some messages of early versions are of a type that the first stable version declares.
        let stable = name.rsplitn(3, '.').collect::<Vec<_>>();
        let stable = match stable.as_slice() {
            [last, _, group] => format!("{group}.v1.{last}"),
            _ => String::new(),
        };
        let tag = tags.get(&(name.to_owned(), field.number)).or_else(|| tags.get(&(stable, field.number)));
        let Some(tag) = tag else {
            bail!("{name}: nothing says how field {} is called", field.number);
        };
        if tag.name == "-" {
            continue;
        }
        let element = field.ty.rsplit(' ').next().unwrap_or_default();
        if tag.name.is_empty() {
            wanted.insert(element.to_owned());
            let short = element.strip_prefix("io.k8s.").unwrap_or(element);
            write!(line, " ^{short}={}", field.number)?;
        } else {
            write!(line, " {}={}", tag.name, field.number)?;
        }
        if tag.pointer {
            line.push('*');
        }
        if is_wrapped_list(messages, element) {
            line.push('e');
        }
    }
    Ok(line)
}

/// Definitions that are no messages of fields: their form is the codec's own.
fn is_special(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    matches!(
        last,
        "Time" | "MicroTime" | "Quantity" | "IntOrString" | "RawExtension" | "FieldsV1" | "Duration" | "JSON"
    ) || last.starts_with("JSONSchemaPropsOr")
}

/// The lines of all definitions that are messages, and of what these embed.
pub fn text(from: &Path, definitions: &BTreeMap<String, Value>) -> anyhow::Result<String> {
    let (messages, tags) = read(from)?;
    let known = definitions.keys().filter(|name| messages.contains_key(*name) && !is_special(name));
    let mut wanted: BTreeSet<String> = known.cloned().collect();
    let mut lines = BTreeMap::new();
    while let Some(name) = wanted.pop_first() {
        if let Entry::Vacant(slot) = lines.entry(name) {
            let line = line(slot.key(), &messages, &tags, &mut wanted)?;
            slot.insert(line);
        }
    }
    Ok(lines.into_values().map(|line| line + "\n").collect())
}
