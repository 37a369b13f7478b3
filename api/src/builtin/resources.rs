//! Rows from `data/resources.txt` (its form is explained in `xtask/src/generate/resources.rs`).

use super::definitions::definition;
use crate::meta::{Gvk, split_api_version};
use crate::table::{Hooks, Resource, Subresource};
use crate::{kinds, printer};

static PUBLISHED: &str = include_str!("../../data/resources.txt");
/// What metrics-server adds to a cluster, and ours has built in: off until its APIService says that we serve it.
static METRICS: &str = include_str!("../../data/metrics-resources.txt");

fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn version_of(api_version: &str) -> (&str, &str) {
    split_api_version(api_version).unwrap_or_else(|| unreachable!("the generator writes no apiVersion {api_version}"))
}

/// The rules of a kind beyond its structure.
fn hooks(group: &str, version: &str, kind: &str) -> Hooks {
    Hooks { cells: printer::printer(group, kind), ..kinds::hooks(group, version, kind) }
}

fn resource(line: &str) -> Resource {
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap_or_else(|| unreachable!("a row has four words at least"));
    let (group, version) = version_of(word());
    let (plural, singular, kind) = (word(), word(), word());
    let mut schema = None;
    let mut row = Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: plural.to_owned(),
        singular: singular.to_owned(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        namespaced: false,
        short_names: Vec::new(),
        categories: Vec::new(),
        verbs: Vec::new(),
        subresources: Vec::new(),
        columns: printer::columns_of_kind(group, kind).unwrap_or_else(printer::default_columns),
        selectable: Vec::new(),
        schema: Default::default(),
        storage_group: group.to_owned(),
        storage_version: version.to_owned(),
        storage_prefix: String::new(),
        enabled: true,
        returns_deleted: false,
        measured: false,
        hooks: hooks(group, version, kind),
    };
    for attribute in words {
        let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        match key {
            "schema" => schema = definition(value),
            "namespaced" => row.namespaced = true,
            "off" => row.enabled = false,
            "measured" => row.measured = true,
            "returns-deleted" => row.returns_deleted = true,
            "short" => row.short_names = list(value),
            "categories" => row.categories = list(value),
            "verbs" => row.verbs = list(value),
            "prefix" => row.storage_prefix = value.to_owned(),
            "stored" => {
                let (group, version) = version_of(value);
                (row.storage_group, row.storage_version) = (group.to_owned(), version.to_owned());
            }
            "select" => row.selectable = list(value),
            other => unreachable!("the generator writes no attribute {other}"),
        }
    }
    if let Some(definition) = schema {
        row.schema = definition.schema().clone();
    }
    row
}

/// `apps/v1/Kind` or `v1/Kind`.
fn kind(text: &str) -> Option<Gvk> {
    let (api_version, kind) = text.rsplit_once('/')?;
    let (group, version) = split_api_version(api_version)?;
    Some(Gvk::new(group, version, kind))
}

fn subresource(line: &str) -> Subresource {
    let mut words = line.trim_start().split(' ');
    let name = words.next().unwrap_or_default().to_owned();
    let verbs = list(words.next().unwrap_or_default());
    Subresource { name, verbs, kind: words.next().and_then(kind) }
}

/// All rows: the published ones, then those of metrics.
pub(super) fn rows() -> Vec<Resource> {
    let mut rows: Vec<Resource> = Vec::with_capacity(128);
    for line in PUBLISHED.lines().chain(METRICS.lines()) {
        match rows.last_mut() {
            Some(row) if line.starts_with(' ') => row.subresources.push(subresource(line)),
            _ => rows.push(resource(line)),
        }
    }
    rows
}
