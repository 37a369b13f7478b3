//! Roles and their bindings.

use serde_json::Value;

use super::check::{messages, required};
use super::json::{default_text, each_mut, ensure, get, list, object, objects, text};
use super::prepare;
use crate::field::{ErrorList, FieldError, Path};
use crate::table::Hooks;
use crate::validate::labels;
use crate::{Object, names, object as meta};

const GROUP: &str = "rbac.authorization.k8s.io";

pub fn role_hooks() -> Hooks {
    Hooks { default: Some(default_role), prepare: Some(prepare::nothing), validate: Some(role), ..Hooks::default() }
}

pub fn binding_hooks() -> Hooks {
    Hooks {
        default: Some(default_binding),
        prepare: Some(prepare::nothing),
        validate: Some(binding),
        ..Hooks::default()
    }
}

/// `rules` is always written, null when there are none.
fn default_role(role: &mut Object) {
    if get(role, "rules").is_none() {
        role.insert("rules".to_owned(), Value::Null);
    }
}

fn default_binding(binding: &mut Object) {
    default_text(ensure(binding, "roleRef"), "apiGroup", GROUP);
    each_mut(binding, "subjects", |subject| {
        if matches!(text(subject, "kind"), "User" | "Group") {
            default_text(subject, "apiGroup", GROUP);
        }
    });
}

/// Whether an object is a Role or RoleBinding, not one of the cluster's.
fn is_namespaced(object: &Object) -> bool {
    !meta::namespace(object).is_empty()
}

fn role(new: &Object, _old: Option<&Object>, _subresource: &str, errors: &mut ErrorList) {
    for (i, rule) in objects(new, "rules") {
        check_rule(rule, is_namespaced(new), &Path::new("rules").index(i), errors);
    }
    let Some(aggregation) = object(new, "aggregationRule") else { return };
    let path = Path::new("aggregationRule").child("clusterRoleSelectors");
    if list(aggregation, "clusterRoleSelectors").is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(FieldError::required(&path, detail));
    }
    for (i, selector) in list(aggregation, "clusterRoleSelectors").iter().enumerate() {
        labels::selector(Some(selector), &path.index(i), errors);
    }
}

fn check_rule(rule: &Object, namespaced: bool, path: &Path, errors: &mut ErrorList) {
    let empty = |key: &str| list(rule, key).is_empty();
    if empty("verbs") {
        errors.push(FieldError::required(&path.child("verbs"), "verbs must contain at least one value"));
    }
    let urls = list(rule, "nonResourceURLs");
    if !urls.is_empty() {
        let path = path.child("nonResourceURLs");
        if namespaced {
            let detail = "namespaced rules cannot apply to non-resource URLs";
            errors.push(FieldError::invalid(&path, urls.to_vec(), detail));
        }
        if !empty("apiGroups") || !empty("resources") || !empty("resourceNames") {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(FieldError::invalid(&path, urls.to_vec(), detail));
        }
        return;
    }
    if empty("apiGroups") {
        let detail = "resource rules must supply at least one api group";
        errors.push(FieldError::required(&path.child("apiGroups"), detail));
    }
    if empty("resources") {
        let detail = "resource rules must supply at least one resource";
        errors.push(FieldError::required(&path.child("resources"), detail));
    }
}

fn binding(new: &Object, old: Option<&Object>, _subresource: &str, errors: &mut ErrorList) {
    let namespaced = is_namespaced(new);
    let path = Path::new("roleRef");
    let empty = Object::new();
    let reference = object(new, "roleRef").unwrap_or(&empty);
    let group = text(reference, "apiGroup");
    if group != GROUP {
        errors.push(FieldError::not_supported(&path.child("apiGroup"), group, &[GROUP]));
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    let kind = text(reference, "kind");
    if !kinds.contains(&kind) {
        errors.push(FieldError::not_supported(&path.child("kind"), kind, kinds));
    }
    let name = required(reference, "name", &path, errors);
    messages(name, &path.child("name"), names::path_segment(name), errors);
    for (i, item) in objects(new, "subjects") {
        subject(item, namespaced, &Path::new("subjects").index(i), errors);
    }
    if let Some(old) = old.and_then(|old| object(old, "roleRef"))
        && old != reference
    {
        let shown = format!("{{\"APIGroup\":{group:?},\"Kind\":{kind:?},\"Name\":{name:?}}}");
        errors.push(FieldError::invalid(&path, reference.clone(), "cannot change roleRef").shown_as(shown));
    }
}

fn subject(subject: &Object, namespaced: bool, path: &Path, errors: &mut ErrorList) {
    let name = required(subject, "name", path, errors);
    let (kind, group) = (text(subject, "kind"), text(subject, "apiGroup"));
    match kind {
        "ServiceAccount" => {
            if !name.is_empty() {
                messages(name, &path.child("name"), names::dns1123_subdomain(name), errors);
            }
            if !group.is_empty() {
                errors.push(FieldError::not_supported(&path.child("apiGroup"), group, &[""]));
            }
            if !namespaced {
                required(subject, "namespace", path, errors);
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.push(FieldError::not_supported(&path.child("apiGroup"), group, &[GROUP]));
            }
        }
        _ => errors.push(FieldError::not_supported(&path.child("kind"), kind, &["ServiceAccount", "User", "Group"])),
    }
}
