//! What extends the API: CustomResourceDefinitions, APIServices, webhook configurations.

use serde_json::{Value, json};

use super::json::{
    default, default_object, default_text, each_mut, ensure, get, list, object, object_mut, objects, text,
};
use super::prepare;
use crate::Object;
use crate::table::Hooks;

pub fn definition_hooks() -> Hooks {
    Hooks { default: Some(default_definition), prepare: Some(prepare_definition), ..Hooks::default() }
}

pub fn api_service_hooks() -> Hooks {
    Hooks { default: Some(default_api_service), prepare: Some(prepare_api_service), ..Hooks::default() }
}

pub fn webhook_hooks(kind: &str) -> Hooks {
    let default: fn(&mut Object) = if kind.starts_with("Mutating") { default_mutating } else { default_validating };
    let prepare: fn(&mut Object, Option<&Object>, &str) =
        |new, old, _| prepare::generation(new, old, |new, old| get(new, "webhooks") != get(old, "webhooks"));
    Hooks { default: Some(default), prepare: Some(prepare), ..Hooks::default() }
}

fn service_port(owner: &mut Object) {
    if let Some(service) = object_mut(owner, "service") {
        default(service, "port", 443);
    }
}

fn default_definition(definition: &mut Object) {
    let spec = ensure(definition, "spec");
    let names = ensure(spec, "names");
    let kind = text(names, "kind").to_owned();
    default_text(names, "singular", &kind.to_lowercase());
    if !kind.is_empty() {
        default_text(names, "listKind", &format!("{kind}List"));
    }
    default(spec, "conversion", json!({"strategy": "None"}));
    if let Some(client) = object_mut(spec, "conversion")
        .and_then(|c| object_mut(c, "webhook"))
        .and_then(|w| object_mut(w, "clientConfig"))
    {
        service_port(client);
    }
    let stored = objects(spec, "versions").find(|(_, v)| v.get("storage") == Some(&Value::Bool(true)));
    let stored = stored.map(|(_, v)| text(v, "name").to_owned());
    let status = ensure(definition, "status");
    if list(status, "storedVersions").is_empty()
        && let Some(version) = stored
    {
        status.insert("storedVersions".to_owned(), json!([version]));
    }
}

/// On create nothing is accepted yet, and what is stored is the storage version.
fn prepare_definition(new: &mut Object, old: Option<&Object>, subresource: &str) {
    let versions = object(new, "status").and_then(|s| get(s, "storedVersions")).cloned().unwrap_or_else(|| json!([]));
    prepare::counted(
        new,
        old,
        subresource,
        || json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": versions}),
    );
    if old.is_some() && subresource != "status" {
        add_storage_version(new);
    }
}

fn add_storage_version(definition: &mut Object) {
    let storage = object(definition, "spec").into_iter().flat_map(|spec| objects(spec, "versions"));
    let storage = storage.filter(|(_, v)| v.get("storage") == Some(&Value::Bool(true))).map(|(_, v)| text(v, "name"));
    let Some(version) = storage.map(str::to_owned).next() else { return };
    let status = ensure(definition, "status");
    match status.get_mut("storedVersions") {
        Some(Value::Array(list)) => {
            if !list.iter().any(|v| *v == version) {
                list.push(version.into());
            }
        }
        _ => {
            status.insert("storedVersions".to_owned(), json!([version]));
        }
    }
}

fn default_api_service(service: &mut Object) {
    service_port(ensure(service, "spec"));
    ensure(service, "status");
}

/// A service that is served in the process itself is available from the start.
fn prepare_api_service(new: &mut Object, old: Option<&Object>, subresource: &str) {
    let local = object(new, "spec").is_some_and(|spec| get(spec, "service").is_none());
    let created = crate::object::meta_str(new, "creationTimestamp").to_owned();
    prepare::with_status(new, old, subresource, || {
        if local {
            json!({"conditions": [{
                "type": "Available",
                "status": "True",
                "reason": "Local",
                "message": "Local APIServices are always available",
                "lastTransitionTime": created,
            }]})
        } else {
            json!({})
        }
    });
}

fn default_validating(configuration: &mut Object) {
    each_mut(configuration, "webhooks", webhook);
}

fn default_mutating(configuration: &mut Object) {
    each_mut(configuration, "webhooks", |hook| {
        webhook(hook);
        default(hook, "reinvocationPolicy", "Never");
    });
}

fn webhook(hook: &mut Object) {
    default(hook, "failurePolicy", "Fail");
    default(hook, "matchPolicy", "Equivalent");
    default_object(hook, "namespaceSelector");
    default_object(hook, "objectSelector");
    default(hook, "timeoutSeconds", 10);
    each_mut(hook, "rules", |rule| default(rule, "scope", "*"));
    service_port(ensure(hook, "clientConfig"));
}
