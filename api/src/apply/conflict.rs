//! Fields that a configuration sets otherwise than their owners: the answer, and what `kubectl` may take over.

use serde_json::Value;

use super::compare::Comparison;
use super::managed::Manager;
use super::{LAST_APPLIED, merge, set};
use crate::status::Cause;
use crate::{Object, Reason, Schema, Status, object};

/// What a manager owns and the configuration changes.
pub struct Conflict {
    pub manager: Manager,
    pub fields: Object,
}

fn manager_text(manager: &Manager) -> String {
    let mut text = crate::field::go_quote(&manager.name);
    if !manager.subresource.is_empty() {
        text.push_str(&format!(" with subresource {}", crate::field::go_quote(&manager.subresource)));
    }
    if !manager.applies {
        text.push_str(&format!(" using {}", manager.api_version));
    }
    text
}

/// The answer to a configuration that conflicts.
pub fn refused(mut conflicts: Vec<Conflict>) -> Status {
    conflicts.sort_by(|a, b| a.manager.order().cmp(&b.manager.order()));
    let mut causes = Vec::new();
    let mut lines = Vec::new();
    for conflict in &conflicts {
        let manager = manager_text(&conflict.manager);
        lines.push(format!("conflicts with {manager}:"));
        for field in set::paths(&conflict.fields) {
            lines.push(format!("- {field}"));
            let message = format!("conflict with {manager}");
            causes.push(Cause { reason: "FieldManagerConflict".to_owned(), message, field });
        }
    }
    let message = match causes.as_slice() {
        [one] => format!("Apply failed with 1 conflict: {}: {}", one.message, one.field),
        many => format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n")),
    };
    let mut status = Status::failure(Reason::Conflict, message);
    status.details.get_or_insert_default().causes = causes;
    status
}

/// The conflicts left when those are allowed whose fields stand in the live object as `kubectl` last applied them.
pub fn not_last_applied(
    schema: &Schema,
    api_version: &str,
    live: &Object,
    conflicts: Vec<Conflict>,
) -> Result<(), Vec<Conflict>> {
    let Some(allowed) = last_applied(schema, api_version, live) else { return Err(conflicts) };
    let mut left = conflicts;
    for conflict in &mut left {
        set::subtract(&mut conflict.fields, &allowed);
    }
    left.retain(|conflict| !set::is_empty(&conflict.fields));
    if left.is_empty() { Ok(()) } else { Err(left) }
}

fn last_applied(schema: &Schema, api_version: &str, live: &Object) -> Option<Object> {
    let text = object::str_at(live, &["metadata", "annotations", LAST_APPLIED]);
    let Ok(Value::Object(applied)) = serde_json::from_str::<Value>(text) else { return None };
    if object::str_at(&applied, &["apiVersion"]) != api_version {
        return None;
    }
    let mut fields = merge::fields(schema, &applied);
    let comparison = Comparison::of(schema, &applied, live);
    set::subtract(&mut fields, &comparison.modified);
    set::subtract(&mut fields, &comparison.added);
    set::subtract(&mut fields, &comparison.removed);
    Some(fields)
}
