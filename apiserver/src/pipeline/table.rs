//! Objects as rows of a `meta.k8s.io` Table, which is what kubectl prints.

use std::sync::Arc;

use serde_json::{Value, json};

use super::render::raw_metadata;
use crate::cache::Cached;
use crate::rows::Row;

/// What each row carries besides its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Include {
    None,
    Metadata,
    Object,
}

/// The form of a Table for one row of the resource table.
pub struct Tabular {
    row: Arc<Row>,
    pub version: &'static str,
    include: Include,
    columns: Vec<u8>,
    now: i64,
}

impl Tabular {
    pub fn new(row: &Arc<Row>, version: &'static str, include: &str) -> Self {
        let include = match include {
            "None" => Include::None,
            "Object" => Include::Object,
            _ => Include::Metadata,
        };
        let definitions: Vec<Value> = api::printer::columns(&row.resource)
            .iter()
            .map(|c| {
                json!({"name": c.name, "type": c.ty, "format": c.format, "description": c.description,
                    "priority": c.priority})
            })
            .collect();
        let columns = serde_json::to_vec(&definitions).unwrap_or_else(|_| unreachable!("columns are text"));
        Self { row: row.clone(), version, include, columns, now: jiff::Timestamp::now().as_second() }
    }

    /// Appends the Table up to its first row; `more` is the rest of the list's metadata. What comes from no store has
    /// revision `0`, which is not said.
    pub fn put_head(&self, out: &mut Vec<u8>, revision: &str, more: &str) {
        out.extend_from_slice(b"{\"kind\":\"Table\",\"apiVersion\":\"");
        out.extend_from_slice(self.version.as_bytes());
        out.extend_from_slice(b"\",\"metadata\":{");
        if revision != "0" {
            out.extend_from_slice(b"\"resourceVersion\":\"");
            out.extend_from_slice(revision.as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(more.as_bytes());
        out.extend_from_slice(b"},\"columnDefinitions\":");
        out.extend_from_slice(&self.columns);
        out.extend_from_slice(b",\"rows\":[");
    }

    /// Appends one row. An object that cannot be read has no cells.
    pub fn put_row(&self, out: &mut Vec<u8>, object: &Cached) {
        let (cells, conditions) = match object.decode() {
            Ok(decoded) => (
                api::printer::cells(&self.row.resource, &decoded, self.now),
                api::printer::row_conditions(&self.row.resource, &decoded),
            ),
            Err(_) => (Vec::new(), Vec::new()),
        };
        out.extend_from_slice(b"{\"cells\":");
        serde_json::to_writer(&mut *out, &cells).unwrap_or_else(|_| unreachable!("cells are JSON values"));
        if !conditions.is_empty() {
            out.extend_from_slice(b",\"conditions\":");
            serde_json::to_writer(&mut *out, &conditions)
                .unwrap_or_else(|_| unreachable!("conditions are JSON values"));
        }
        match self.include {
            Include::None => {}
            Include::Object => {
                out.extend_from_slice(b",\"object\":");
                out.extend_from_slice(&super::render::wire_of(&self.row, object));
            }
            Include::Metadata => {
                out.extend_from_slice(b",\"object\":{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"");
                out.extend_from_slice(self.version.as_bytes());
                out.extend_from_slice(b"\",\"metadata\":");
                out.extend_from_slice(raw_metadata(&object.wire, object.layout.metadata));
                out.push(b'}');
            }
        }
        out.push(b'}');
    }
}
