//! Validation of `metadata` on create and update (apimachinery `api/validation/objectmeta.go`).

use serde_json::Value;

use super::labels;
use crate::field::{ErrorList, FieldError, Path, go_quote};
use crate::names::{self, NameRule};
use crate::{Object, object};

const IMMUTABLE: &str = "field is immutable";
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Longest `fieldManager`, in bytes.
const MANAGER_MAX: usize = 128;
/// Longest subresource in `managedFields`, in bytes.
const SUBRESOURCE_MAX: usize = 256;

/// What an update cannot change, taken from the stored object where the caller left it out or tried to (upstream's
/// `rest.BeforeUpdate`). Call it before the kind's `prepare` hook, which counts the generation.
pub fn before_update(new: &mut Object, old: &Object) {
    let Some(old) = object::metadata(old) else { return };
    let new = object::metadata_mut(new);
    for key in ["generation", "creationTimestamp", "deletionTimestamp"] {
        match old.get(key).filter(|v| !v.is_null()) {
            Some(value) => {
                new.insert(key.to_owned(), value.clone());
            }
            // A deletionTimestamp out of nothing is an error that the validation reports.
            None if key == "generation" => {
                new.remove(key);
            }
            None => {}
        }
    }
    for key in ["uid", "deletionGracePeriodSeconds"] {
        let missing = new.get(key).is_none_or(|v| v.is_null() || v == "");
        if let Some(value) = old.get(key).filter(|_| missing) {
            new.insert(key.to_owned(), value.clone());
        }
    }
}

/// `metadata` of an object that is created. Its name was generated before.
pub fn create(object: &Object, namespaced: bool, rule: NameRule, errors: &mut ErrorList) {
    let path = Path::new("metadata");
    let prefix = object::meta_str(object, "generateName");
    if !prefix.is_empty() {
        let wrong = rule.check_prefix(prefix).into_iter();
        errors.extend(wrong.map(|m| FieldError::invalid(&path.child("generateName"), prefix, m)));
    }
    let name = object::name(object);
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), "name or generateName is required"));
    } else {
        // Upstream asks whether a name is a path segment only where the kind's own rule has nothing against it.
        let wrong = match rule.check(name) {
            found if found.is_empty() && rule != NameRule::PathSegment => names::path_segment(name),
            found => found,
        };
        errors.extend(wrong.into_iter().map(|m| FieldError::invalid(&path.child("name"), name, m)));
    }
    namespace(object, namespaced, &path.child("namespace"), errors);
    let generation = number(object, "generation");
    if generation < 0 {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(&path.child("generation"), generation, detail));
    }
    common(object, &path, errors);
    finalizers(object, &path.child("finalizers"), errors);
}

/// `metadata` of an object that replaces a stored one. Call [`before_update`] first.
pub fn update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let path = Path::new("metadata");
    if object::is_terminating(old) {
        no_new_finalizers(new, old, &path.child("finalizers"), errors);
    }
    if object::resource_version(new).is_empty() {
        let detail = "must be specified for an update";
        errors.push(FieldError::invalid(&path.child("resourceVersion"), "", detail));
    }
    if number(new, "generation") < number(old, "generation") {
        let generation = number(new, "generation");
        errors.push(FieldError::invalid(&path.child("generation"), generation, "must not be decremented"));
    }
    for key in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let of = |object| object::metadata(object).and_then(|m| m.get(key)).filter(|v| !v.is_null() && *v != "");
        let (new, old) = (of(new), of(old));
        if new != old {
            let empty = if matches!(key, "name" | "namespace" | "uid") { Value::from("") } else { Value::Null };
            errors.push(FieldError::invalid(&path.child(key), new.cloned().unwrap_or(empty), IMMUTABLE));
        }
    }
    common(new, &path, errors);
}

fn number(object: &Object, key: &str) -> i64 {
    object::metadata(object).and_then(|m| m.get(key)).and_then(Value::as_i64).unwrap_or(0)
}

fn texts<'a>(object: &'a Object, key: &str) -> Vec<&'a str> {
    let list = object::metadata(object).and_then(|m| m.get(key)).and_then(Value::as_array);
    list.into_iter().flatten().map(|v| v.as_str().unwrap_or_default()).collect()
}

fn namespace(object: &Object, namespaced: bool, path: &Path, errors: &mut ErrorList) {
    let namespace = object::namespace(object);
    match (namespaced, namespace.is_empty()) {
        (true, true) => errors.push(FieldError::required(path, "")),
        (true, false) => {
            let wrong = names::dns1123_label(namespace).into_iter();
            errors.extend(wrong.map(|m| FieldError::invalid(path, namespace, m)));
        }
        (false, false) => errors.push(FieldError::forbidden(path, "not allowed on this type")),
        (false, true) => {}
    }
}

fn common(object: &Object, path: &Path, errors: &mut ErrorList) {
    let Some(metadata) = object::metadata(object) else { return };
    let map = |key: &str| metadata.get(key).and_then(Value::as_object);
    let list = |key: &str| metadata.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    labels::labels(map("labels"), &path.child("labels"), errors);
    labels::annotations(map("annotations"), &path.child("annotations"), errors);
    owners(list("ownerReferences"), &path.child("ownerReferences"), errors);
    managed_fields(list("managedFields"), &path.child("managedFields"), errors);
    if is_builtin(object) {
        qualified_finalizers(object, &path.child("finalizers"), errors);
    }
}

/// Whether an object is of a group that upstream serves itself, whose finalizers need a domain.
fn is_builtin(object: &Object) -> bool {
    const DOMAINS: [&str; 16] = [
        "admissionregistration",
        "apiextensions",
        "apiregistration",
        "authentication",
        "authorization",
        "certificates",
        "coordination",
        "discovery",
        "events",
        "flowcontrol.apiserver",
        "networking",
        "node",
        "rbac.authorization",
        "resource",
        "scheduling",
        "storage",
    ];
    let api_version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let (group, _) = crate::meta::split_api_version(api_version).unwrap_or_default();
    match group.strip_suffix(".k8s.io") {
        Some(domain) => DOMAINS.contains(&domain),
        None => !group.contains('.'),
    }
}

fn qualified_finalizers(object: &Object, path: &Path, errors: &mut ErrorList) {
    for (i, finalizer) in texts(object, "finalizers").into_iter().enumerate() {
        if !finalizer.contains('/') && !["kubernetes", ORPHAN, FOREGROUND].contains(&finalizer) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(&path.index(i), finalizer, detail));
        }
    }
}

fn owners(references: &[Value], path: &Path, errors: &mut ErrorList) {
    let mut controller: Option<String> = None;
    for reference in references {
        let text = |key: &str| reference.get(key).and_then(Value::as_str).unwrap_or_default();
        let api_version = text("apiVersion");
        if api_version.is_empty() || api_version.ends_with('/') || api_version.matches('/').count() > 1 {
            errors.push(FieldError::invalid(&path.child("apiVersion"), api_version, "version must not be empty"));
        }
        for key in ["kind", "name", "uid"] {
            if text(key).is_empty() {
                errors.push(FieldError::invalid(&path.child(key), "", "must not be empty"));
            }
        }
        if (api_version, text("kind")) == ("v1", "Event") {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(path, reference.clone(), detail));
        }
        if reference.get("controller") != Some(&Value::Bool(true)) {
            continue;
        }
        let this = format!("{}/{}", text("kind"), text("name"));
        match &controller {
            None => controller = Some(this),
            Some(first) => {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and \
                     {this}"
                );
                errors.push(FieldError::invalid(path, references.to_vec(), detail));
            }
        }
    }
}

fn finalizers(object: &Object, path: &Path, errors: &mut ErrorList) {
    let finalizers = texts(object, "finalizers");
    for finalizer in &finalizers {
        let wrong = names::qualified_name(finalizer).into_iter();
        errors.extend(wrong.map(|m| FieldError::invalid(path, *finalizer, m)));
    }
    if finalizers.contains(&ORPHAN) && finalizers.contains(&FOREGROUND) {
        let detail = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.push(FieldError::invalid(path, finalizers, detail));
    }
}

fn no_new_finalizers(new: &Object, old: &Object, path: &Path, errors: &mut ErrorList) {
    let old = texts(old, "finalizers");
    let mut extra: Vec<_> = texts(new, "finalizers").into_iter().filter(|f| !old.contains(f)).collect();
    extra.sort_unstable();
    extra.dedup();
    if !extra.is_empty() {
        let listed: Vec<_> = extra.iter().map(|f| go_quote(f)).collect();
        let detail = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            listed.join(", ")
        );
        errors.push(FieldError::forbidden(path, detail));
    }
}

/// The `fieldManager` parameter and `managedFields[].manager`.
pub fn field_manager(manager: &str, path: &Path, errors: &mut ErrorList) {
    if manager.len() > MANAGER_MAX {
        errors.push(FieldError::too_long(path, MANAGER_MAX));
    }
    for (i, c) in manager.char_indices() {
        let printable = c == ' ' || (!c.is_whitespace() && matches!(c.escape_debug().len(), 1 | 2) && !c.is_control());
        if !printable {
            let detail = format!("invalid character U+{:04X} (at position {i})", u32::from(c));
            errors.push(FieldError::invalid(path, manager, detail));
        }
    }
}

fn managed_fields(entries: &[Value], path: &Path, errors: &mut ErrorList) {
    for (i, entry) in entries.iter().enumerate() {
        let path = path.index(i);
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        let operation = text("operation");
        if !matches!(operation, "Apply" | "Update") {
            errors.push(FieldError::invalid(&path.child("operation"), operation, "must be `Apply` or `Update`"));
        }
        if !matches!(text("fieldsType"), "" | "FieldsV1") {
            errors.push(FieldError::invalid(&path.child("fieldsType"), text("fieldsType"), "must be `FieldsV1`"));
        }
        field_manager(text("manager"), &path.child("manager"), errors);
        if text("subresource").len() > SUBRESOURCE_MAX {
            errors.push(FieldError::too_long(&path.child("subresource"), SUBRESOURCE_MAX));
        }
    }
}

#[cfg(test)]
mod tests;
