//! The resource table: a kind exists as one row. Routes, discovery, OpenAPI, storage keys, RBAC attributes, watch,
//! Table output and garbage collection derive from it; a CRD appends a row at run time.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::field::ErrorList;
use crate::meta::{Gvk, Gvr};
use crate::printer::Printer;
use crate::schema::{Schema, Text};
use crate::{Object, Status};

/// One printer column (`additionalPrinterColumns`; upstream's internal printers for built-in kinds).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: Text,
    /// OpenAPI type: `string`, `integer`, `date`, …
    pub ty: Text,
    pub format: Text,
    pub description: Text,
    /// 0 is shown always, 1 only with `-o wide`.
    pub priority: i32,
    /// How the cell is computed.
    pub cell: Cell,
}

/// How a cell is computed from an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    Name,
    CreatedAt,
    /// A CRD's `jsonPath`.
    Path(Text),
    /// All cells come from the kind's printer, [`Hooks::cells`].
    Computed,
}

/// One subresource of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// `status`, `scale`, `binding`, `log`, …
    pub name: String,
    /// What it takes and gives, when that is not the row's own kind (`autoscaling/v1 Scale`).
    pub kind: Option<Gvk>,
    /// API verbs: get, update, patch, create.
    pub verbs: Vec<String>,
}

/// Validation of a kind: the new object, the stored one, the subresource, and where errors go.
pub type Validate = fn(&Object, old: Option<&Object>, subresource: &str, errors: &mut ErrorList);

/// What a graceful delete does, or why it is refused.
pub type Graceful = Result<Grace, Status>;

/// Rules beyond structure. Each is a pure function; a row without one has none. All are called by the pipeline only.
///
/// `old` is the stored object on update and `None` on create. `subresource` is empty for the main resource.
#[derive(Clone, Copy, Default)]
pub struct Hooks {
    /// Defaults that the schema's static ones don't express (computed from other fields). Called on every decoded
    /// object of this version, also on a Pod template's owner.
    pub default: Option<fn(&mut Object)>,
    /// Upstream's strategy `PrepareForCreate`/`PrepareForUpdate`: resets what the caller may not set (status on the
    /// main resource, all but status on `status`) and counts `metadata.generation`. `None` means the generic rule: with
    /// a `status` subresource, status is reset on create and kept from `old` on update; generation counts spec changes.
    pub prepare: Option<fn(&mut Object, old: Option<&Object>, subresource: &str)>,
    /// Writes who creates the object into it, over whatever the caller put there. Called after `prepare`, on create.
    pub requested_by: Option<fn(&mut Object, &Requester<'_>)>,
    /// Validation beyond the schema, with upstream's paths, reasons and messages. Generic metadata checks are not its
    /// job.
    pub validate: Option<Validate>,
    /// Values of selectable fields besides `metadata.name` and `metadata.namespace`, in the row's order.
    pub fields: Option<fn(&Object) -> Vec<String>>,
    /// Cells of computed columns, in the columns' order.
    pub cells: Option<Printer>,
    /// Warnings for the response's `Warning` headers.
    pub warnings: Option<fn(&Object) -> Vec<String>>,
    /// Default grace period of a delete, in seconds, and whether the object may go at once (Pods).
    pub grace: Option<fn(&mut Object, requested: Option<i64>) -> Graceful>,
    /// How this version differs from the stored one in more than names of fields; `None` in the stored version.
    pub convert: Option<Conversion>,
}

/// Between a version's form of objects and the stored form; `apiVersion` and `kind` are set by the caller.
#[derive(Clone, Copy)]
pub struct Conversion {
    pub from_stored: fn(&mut Object),
    pub to_stored: fn(&mut Object),
}

/// Who makes a request, as authentication found.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    pub name: &'a str,
    /// Empty when none is known.
    pub uid: &'a str,
    pub groups: &'a [String],
    pub extra: &'a std::collections::BTreeMap<String, Vec<String>>,
}

/// What a graceful delete does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// Remove now.
    Immediate,
    /// Mark with deletionTimestamp and this grace period; the node's agent removes it.
    Seconds(i64),
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooks")
    }
}

/// One row: one served version of one resource.
#[derive(Clone, Debug)]
pub struct Resource {
    pub group: String,
    pub version: String,
    pub plural: String,
    pub singular: String,
    pub kind: String,
    /// Kind of lists; `{kind}List` but for rare CRDs.
    pub list_kind: String,
    pub namespaced: bool,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    /// API verbs: create, delete, deletecollection, get, list, patch, update, watch.
    pub verbs: Vec<String>,
    pub subresources: Vec<Subresource>,
    pub columns: Vec<Column>,
    /// Selectable fields besides `metadata.name` and `metadata.namespace`.
    pub selectable: Vec<String>,
    pub schema: Arc<Schema>,
    /// The group and version whose form is stored; rows that differ from it convert. The group is another one only for
    /// `events.k8s.io` Events, which are stored as core ones.
    pub storage_group: String,
    pub storage_version: String,
    /// The storage key's first part, `/registry/{prefix}/{namespace}/{name}`, as upstream lays it out.
    pub storage_prefix: String,
    /// Whether it is served without `--runtime-config`.
    pub enabled: bool,
    /// Whether a delete answers with the deleted object instead of a Status.
    pub returns_deleted: bool,
    /// Whether its objects are measured when they are asked for, and none is stored.
    pub measured: bool,
    pub hooks: Hooks,
}

impl Resource {
    pub fn gvr(&self) -> Gvr {
        Gvr::new(&self.group, &self.version, &self.plural)
    }

    pub fn gvk(&self) -> Gvk {
        Gvk::new(&self.group, &self.version, &self.kind)
    }

    pub fn api_version(&self) -> String {
        crate::meta::api_version(&self.group, &self.version)
    }

    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether objects of the resource are kept: reviews and bindings are only answered.
    pub fn is_stored(&self) -> bool {
        self.has_verb("watch")
    }

    /// Values of the row's selectable fields, in order: from the kind's hook, or by path for kinds without one (CRDs).
    pub fn selectable_values(&self, object: &Object) -> Vec<String> {
        let by_path = |field: &String| {
            let path: Vec<&str> = field.split('.').collect();
            match crate::object::at(object, &path) {
                Some(Value::String(text)) => text.clone(),
                Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
                _ => String::new(),
            }
        };
        match self.hooks.fields {
            Some(fields) => fields(object),
            None => self.selectable.iter().map(by_path).collect(),
        }
    }

    /// The storage key of an object; cluster-scoped ones have no namespace part.
    pub fn storage_key(&self, namespace: &str, name: &str) -> String {
        if self.namespaced {
            format!("/registry/{}/{namespace}/{name}", self.storage_prefix)
        } else {
            format!("/registry/{}/{name}", self.storage_prefix)
        }
    }
}

/// All rows that are served, immutable: a CRD's arrival makes a new table that shares the other rows.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: BTreeMap<Gvr, Arc<Resource>>,
    kinds: BTreeMap<Gvk, Gvr>,
}

impl Table {
    pub fn with(mut self, row: Resource) -> Self {
        let gvr = row.gvr();
        self.kinds.insert(row.gvk(), gvr.clone());
        self.rows.insert(gvr, Arc::new(row));
        self
    }

    pub fn without(mut self, gvr: &Gvr) -> Self {
        if let Some(row) = self.rows.remove(gvr) {
            self.kinds.remove(&row.gvk());
        }
        self
    }

    pub fn get(&self, gvr: &Gvr) -> Option<&Arc<Resource>> {
        self.rows.get(gvr)
    }

    pub fn by_kind(&self, gvk: &Gvk) -> Option<&Arc<Resource>> {
        self.kinds.get(gvk).and_then(|gvr| self.rows.get(gvr))
    }

    /// The rows that are enabled.
    pub fn served(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.rows().filter(|row| row.enabled)
    }

    pub fn rows(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.rows.values()
    }
}
