//! The built-in kinds: the generated data of `api/data/` as [`Table`] and [`Schema`]s. `cargo xtask generate` writes
//! it.

mod definitions;
mod resources;

use std::sync::Arc;

pub(crate) use definitions::Attributes;
pub use definitions::{Definition, definition, definitions};

use crate::meta::Gvk;
use crate::schema::Schema;
use crate::table::Table;

/// All built-in rows, those that are off by default included. Schemas are parsed when they are first used.
pub fn table() -> Table {
    resources::rows().into_iter().fold(Table::default(), Table::with)
}

/// The schema of a built-in definition, `io.k8s.api.core.v1.Pod`.
pub fn schema(name: &str) -> Option<Arc<Schema>> {
    definition(name).map(Definition::schema).cloned()
}

/// The schema of a built-in kind, also of those that are no resource (`Scale`, `Binding`, `DeleteOptions`).
pub fn schema_of_kind(gvk: &Gvk) -> Option<Arc<Schema>> {
    definitions::of_kind(gvk).map(Definition::schema).cloned()
}

#[cfg(test)]
mod tests;
