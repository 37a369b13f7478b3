//! The resource table as the server uses it: rows by path, each with its cache. Replaced as a whole when a CRD comes.

use std::collections::HashMap;
use std::sync::Arc;

use api::{Gvk, Gvr, Resource, Table};

use crate::cache::{Caches, ResourceCache};

/// One served version of a resource.
pub struct Row {
    pub resource: Arc<Resource>,
    pub gvr: Gvr,
    pub gvk: Gvk,
    pub cache: Arc<ResourceCache>,
    /// The version in whose form its objects are stored.
    pub storage: Arc<Resource>,
}

impl Row {
    fn new(resource: Arc<Resource>, storage: Arc<Resource>, cache: Arc<ResourceCache>) -> Self {
        Self { gvr: resource.gvr(), gvk: resource.gvk(), cache, storage, resource }
    }

    /// Whether objects are stored as this row serves them.
    pub fn is_storage(&self) -> bool {
        self.resource.version == self.storage.version && self.resource.group == self.storage.group
    }

    /// Key of an object within the cache.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if self.resource.namespaced { format!("{namespace}/{name}") } else { name.to_owned() }
    }

    pub fn storage_key(&self, namespace: &str, name: &str) -> String {
        self.resource.storage_key(namespace, name)
    }
}

type ByVersion = HashMap<String, HashMap<String, Arc<Row>>>;

/// All rows.
#[derive(Default)]
pub struct Rows {
    pub table: Arc<Table>,
    /// Documents about the rows.
    pub discovery: crate::nonresource::Documents,
    by_group: HashMap<String, ByVersion>,
}

impl Rows {
    /// Rows of the enabled part of a table. Resources without a cache are left out.
    pub fn new(table: Arc<Table>, caches: &Caches) -> Self {
        let mut by_group: HashMap<String, ByVersion> = HashMap::new();
        for resource in table.rows().filter(|r| r.enabled) {
            let Some(cache) = caches.get(&resource.storage_prefix) else { continue };
            let row = Row::new(resource.clone(), cache.resource(), cache);
            let versions = by_group.entry(resource.group.clone()).or_default();
            versions.entry(resource.version.clone()).or_default().insert(resource.plural.clone(), Arc::new(row));
        }
        Self { table, discovery: crate::nonresource::Documents::default(), by_group }
    }

    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Row>> {
        self.by_group.get(group)?.get(version)?.get(plural)
    }

    pub fn by_gvr(&self, gvr: &Gvr) -> Option<&Arc<Row>> {
        self.find(&gvr.group, &gvr.version, &gvr.resource)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.by_group.values().flat_map(|v| v.values()).flat_map(|r| r.values())
    }
}

/// The rows in whose form objects are stored, one for each storage prefix.
pub fn storage_rows(table: &Table) -> Vec<Arc<Resource>> {
    let mut chosen: HashMap<&str, &Arc<Resource>> = HashMap::new();
    for resource in table.rows().filter(|r| r.enabled) {
        let better = |held: &&Arc<Resource>| rank(resource) > rank(held);
        match chosen.get(resource.storage_prefix.as_str()) {
            Some(held) if !better(held) => {}
            _ => {
                chosen.insert(&resource.storage_prefix, resource);
            }
        }
    }
    chosen.into_values().cloned().collect()
}

/// Prefers the row of the storage version; of groups that share a prefix, the core group.
fn rank(resource: &Resource) -> (bool, bool) {
    (
        resource.version == resource.storage_version && resource.group == resource.storage_group,
        resource.group.is_empty(),
    )
}
