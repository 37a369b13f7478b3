//! What upstream's strategies do to an object before it is validated, in the forms that many kinds share.

use serde_json::Value;

use super::json::{get, int, keep};
use crate::{Object, object};

/// A kind with a status that only the `status` subresource changes: the main resource keeps the stored status
/// (`initial`
/// on create), `status` keeps the stored spec.
pub fn with_status(new: &mut Object, old: Option<&Object>, subresource: &str, initial: impl FnOnce() -> Value) {
    match (old, subresource) {
        (None, _) => {
            new.insert("status".to_owned(), initial());
        }
        (Some(old), "status") => keep(new, old, "spec"),
        (Some(old), _) => keep(new, old, "status"),
    }
}

/// `metadata.generation`: 1 on create, and one more on every update for which `changed` holds.
pub fn generation(new: &mut Object, old: Option<&Object>, changed: impl FnOnce(&Object, &Object) -> bool) {
    let next = match old {
        None => 1,
        Some(old) if changed(new, old) => object::metadata(old).and_then(|m| int(m, "generation")).unwrap_or(0) + 1,
        Some(_) => return,
    };
    object::metadata_mut(new).insert("generation".to_owned(), next.into());
}

/// Whether the spec differs.
pub fn spec_changed(new: &Object, old: &Object) -> bool {
    get(new, "spec") != get(old, "spec")
}

/// Both together, for kinds whose generation counts changes of the spec.
pub fn counted(new: &mut Object, old: Option<&Object>, subresource: &str, initial: impl FnOnce() -> Value) {
    with_status(new, old, subresource, initial);
    if subresource != "status" {
        generation(new, old, spec_changed);
    }
}

/// A kind without anything to prepare; its generation is not counted.
pub fn nothing(_new: &mut Object, _old: Option<&Object>, _subresource: &str) {}

/// A kind without status whose generation counts changes of the spec.
pub fn counted_spec(new: &mut Object, old: Option<&Object>, _subresource: &str) {
    generation(new, old, spec_changed);
}
