//! Roles and their bindings.

use serde_json::Value;

use super::json::{default_text, each_mut, ensure, get, text};
use super::prepare;
use crate::Object;
use crate::table::Hooks;

const GROUP: &str = "rbac.authorization.k8s.io";

pub fn role_hooks() -> Hooks {
    Hooks { default: Some(default_role), prepare: Some(prepare::nothing), ..Hooks::default() }
}

pub fn binding_hooks() -> Hooks {
    Hooks { default: Some(default_binding), prepare: Some(prepare::nothing), ..Hooks::default() }
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
