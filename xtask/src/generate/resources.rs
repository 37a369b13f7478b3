//! The resource table as lines of text. A resource's line starts at the margin, its subresources' with one space:
//!
//! ```text
//! apps/v1 deployments deployment Deployment schema=io.k8s.api.apps.v1.Deployment namespaced short=deploy verbs=…
//!  scale get,patch,update autoscaling/v1/Scale
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::Context as _;
use serde_json::Value;

use super::{Documents, facts};

/// One resource, joined from discovery, paths, definitions and facts.
#[derive(Default)]
struct Row {
    group: String,
    version: String,
    plural: String,
    singular: String,
    kind: String,
    namespaced: bool,
    /// Whether a delete answers with the object.
    returns_deleted: bool,
    short: Vec<String>,
    categories: Vec<String>,
    verbs: BTreeSet<String>,
    /// Verbs and kind (when not the row's own) by name.
    subresources: BTreeMap<String, (BTreeSet<String>, String)>,
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn texts<C: FromIterator<String>>(value: &Value, key: &str) -> C {
    list(value, key).filter_map(Value::as_str).map(str::to_owned).collect()
}

fn slashed(group: &str, version: &str, kind: &str) -> String {
    if group.is_empty() { format!("{version}/{kind}") } else { format!("{group}/{version}/{kind}") }
}

fn from_discovery(group: &str, version: &str, resource: &Value) -> Row {
    let subresource = |sub: &Value| {
        let kind = sub.get("responseKind").cloned().unwrap_or_default();
        let foreign = match text_of(&kind, "version") {
            "" => String::new(),
            version => slashed(text_of(&kind, "group"), version, text_of(&kind, "kind")),
        };
        (text_of(sub, "subresource").to_owned(), (texts(sub, "verbs"), foreign))
    };
    Row {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: text_of(resource, "resource").to_owned(),
        singular: text_of(resource, "singularResource").to_owned(),
        kind: resource.pointer("/responseKind/kind").and_then(Value::as_str).unwrap_or_default().to_owned(),
        namespaced: text_of(resource, "scope") == "Namespaced",
        returns_deleted: false,
        short: texts(resource, "shortNames"),
        categories: texts(resource, "categories"),
        verbs: texts(resource, "verbs"),
        subresources: list(resource, "subresources").map(subresource).collect(),
    }
}

/// API verb of an operation, from its action and, for connections, its HTTP method.
fn verb(method: &str, action: &str) -> Option<&'static str> {
    match (action, method) {
        ("list", _) => Some("list"),
        ("deletecollection", _) => Some("deletecollection"),
        ("watch" | "watchlist", _) => Some("watch"),
        (_, "get") => Some("get"),
        (_, "post") => Some("create"),
        (_, "put") => Some("update"),
        (_, "patch") => Some("patch"),
        (_, "delete") => Some("delete"),
        _ => None,
    }
}

/// Resource, subresource and scope of a path below `/api/v1/`; the second and later namespaces are variables.
fn split_path(path: &str) -> Option<(String, String, bool)> {
    let rest = path.strip_prefix("/api/v1/")?;
    let rest = rest.strip_prefix("watch/").unwrap_or(rest);
    let below = rest.strip_prefix("namespaces/{namespace}/");
    let mut parts = below.unwrap_or(rest).split('/');
    let plural = parts.next().filter(|part| !part.is_empty())?;
    let subresource = parts.nth(1).unwrap_or_default();
    Some((plural.to_owned(), subresource.to_owned(), below.is_some()))
}

fn own_kind(kind: &Value, group: &str, version: &str) -> bool {
    text_of(kind, "group") == group && text_of(kind, "version") == version
}

/// The core group's rows: discovery does not list them, paths do.
fn core_rows(swagger: &Value) -> anyhow::Result<Vec<Row>> {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let paths = swagger.get("paths").and_then(Value::as_object).context("the document has no paths")?;
    for (path, operations) in paths {
        let Some((plural, subresource, namespaced)) = split_path(path) else { continue };
        let row = rows.entry(plural).or_default();
        row.namespaced |= namespaced;
        for (method, operation) in operations.as_object().into_iter().flatten() {
            let kind = operation.get("x-kubernetes-group-version-kind").cloned().unwrap_or_default();
            let Some(verb) = verb(method, text_of(operation, "x-kubernetes-action")) else { continue };
            if kind.is_null() {
                continue;
            }
            if subresource.is_empty() {
                row.verbs.insert(verb.to_owned());
                row.kind = text_of(&kind, "kind").to_owned();
            } else {
                let entry = row.subresources.entry(subresource.clone()).or_default();
                entry.0.insert(verb.to_owned());
                entry.1 = slashed(text_of(&kind, "group"), text_of(&kind, "version"), text_of(&kind, "kind"));
                debug_assert!(own_kind(&kind, "", "v1") || !text_of(&kind, "group").is_empty());
            }
        }
    }
    let fact = |plural: &str| facts::CORE.iter().find(|core| core.plural == plural);
    let mut named = Vec::new();
    for (plural, mut row) in rows {
        let core = fact(&plural).with_context(|| format!("no facts about core resource {plural}"))?;
        let own = slashed("", "v1", &row.kind);
        row.subresources.values_mut().filter(|(_, kind)| *kind == own).for_each(|(_, kind)| kind.clear());
        row.version = "v1".to_owned();
        row.singular = core.singular.to_owned();
        row.short = if core.short.is_empty() { Vec::new() } else { vec![core.short.to_owned()] };
        row.categories = if core.in_all { vec!["all".to_owned()] } else { Vec::new() };
        named.push(Row { plural, ..row });
    }
    Ok(named)
}

/// Names of definitions by group/version/kind.
fn definitions_by_kind(definitions: &BTreeMap<String, Value>) -> BTreeMap<String, &str> {
    let mut by_kind = BTreeMap::new();
    for (name, definition) in definitions {
        for kind in list(definition, "x-kubernetes-group-version-kind") {
            let key = slashed(text_of(kind, "group"), text_of(kind, "version"), text_of(kind, "kind"));
            by_kind.insert(key, name.as_str());
        }
    }
    by_kind
}

fn line(row: &Row, versions: &[&str], schemas: &BTreeMap<String, &str>) -> anyhow::Result<String> {
    let api_version = if row.group.is_empty() { row.version.clone() } else { format!("{}/{}", row.group, row.version) };
    let gvk = slashed(&row.group, &row.version, &row.kind);
    let schema = schemas.get(&gvk).with_context(|| format!("no definition of {gvk}"))?;
    let mut line = format!("{api_version} {} {} {} schema={schema}", row.plural, row.singular, row.kind);
    if row.namespaced {
        line.push_str(" namespaced");
    }
    if facts::is_off(&row.version) {
        line.push_str(" off");
    }
    if row.returns_deleted {
        line.push_str(" returns-deleted");
    }
    let verbs: Vec<_> = row.verbs.iter().cloned().collect();
    let (stored_group, stored_version) = facts::stored_as(&row.group, &row.plural, versions);
    let stored = if stored_group.is_empty() { stored_version } else { format!("{stored_group}/{stored_version}") };
    for (key, value) in [
        ("short", row.short.join(",")),
        ("categories", row.categories.join(",")),
        ("verbs", verbs.join(",")),
        ("prefix", facts::storage_prefix(&row.group, &row.plural)),
        ("stored", if stored == api_version { String::new() } else { stored }),
        ("select", facts::selectable(&row.group, &row.plural).to_owned()),
    ] {
        if !value.is_empty() {
            write!(line, " {key}={value}")?;
        }
    }
    line.push('\n');
    for (name, (verbs, kind)) in &row.subresources {
        let verbs: Vec<_> = verbs.iter().cloned().collect();
        let space = if kind.is_empty() { "" } else { " " };
        writeln!(line, " {name} {}{space}{kind}", verbs.join(","))?;
    }
    Ok(line)
}

/// Whether the published delete operation of a resource answers with the object instead of a Status.
fn returns_deleted(swagger: &Value, row: &Row) -> bool {
    let root = if row.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", row.group) };
    let scope = if row.namespaced { "namespaces/{namespace}/" } else { "" };
    let path = format!("{root}/{}/{scope}{}/{{name}}", row.version, row.plural);
    let item = swagger.get("paths").and_then(|paths| paths.get(&path));
    let answer = item.and_then(|item| item.pointer("/delete/responses/200/schema/$ref")).and_then(Value::as_str);
    answer.is_some_and(|answer| !answer.ends_with(".meta.v1.Status"))
}

/// The text of all rows, sorted by group, version and plural.
pub(super) fn text(documents: &Documents) -> anyhow::Result<String> {
    let mut rows = core_rows(&documents.swagger)?;
    for group in list(&documents.discovery, "items") {
        let name = group.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        for version in list(group, "versions") {
            let resources = list(version, "resources");
            rows.extend(resources.map(|resource| from_discovery(name, text_of(version, "version"), resource)));
        }
    }
    for row in &mut rows {
        row.returns_deleted = returns_deleted(&documents.swagger, row);
    }
    rows.sort_by(|a, b| (&a.group, &a.version, &a.plural).cmp(&(&b.group, &b.version, &b.plural)));
    let schemas = definitions_by_kind(&documents.definitions);
    let mut text = String::new();
    for row in &rows {
        let same = rows.iter().filter(|other| other.group == row.group && other.plural == row.plural);
        let versions: Vec<_> = same.map(|other| other.version.as_str()).collect();
        text.push_str(&line(row, &versions, &schemas)?);
    }
    Ok(text)
}
