//! ServiceAccount: a Pod runs as an account that exists, with the account's token mounted and its pull secrets.

mod mountable;
mod token_volume;

use std::sync::Arc;

use api::{Gvr, Object, Status, object};
use apiserver_auth::Objects;
use apiserver_auth::node::references;
use apiserver_auth::objects::SERVICE_ACCOUNTS;
use serde_json::{Value, json};

use crate::read::{list, spec_list, text};
use crate::{Operation, Plugin, Request};

const DEFAULT: &str = "default";

pub struct ServiceAccount;

impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, operation: Operation, gvr: &Gvr, subresource: &str) -> bool {
        let is_pods = gvr.group.is_empty() && gvr.resource == "pods";
        is_pods
            && matches!((operation, subresource), (Operation::Create, "") | (Operation::Update, "ephemeralcontainers"))
    }

    fn admit(&self, request: &mut Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
        let Some(pod) = request.object.as_mut().filter(|_| request.operation == Operation::Create) else {
            return Ok(());
        };
        if references::is_mirror(pod) {
            return Ok(());
        }
        let spec = object::child_mut(pod, "spec");
        if spec.get("serviceAccountName").and_then(Value::as_str).unwrap_or("").is_empty() {
            spec.insert("serviceAccountName".to_owned(), DEFAULT.into());
        }
        // The old name of the field follows the new one, as upstream's conversion has it.
        if let Some(name) = spec.get("serviceAccountName").cloned() {
            spec.insert("serviceAccount".to_owned(), name);
        }
        let Some(account) = account(request, objects)? else { return Ok(()) };
        let Some(pod) = &mut request.object else { return Ok(()) };
        if mounts_token(&account, pod) {
            token_volume::mount(pod);
        }
        let pull: Vec<Value> = list_of(&account, "imagePullSecrets").map(|name| json!({"name": name})).collect();
        if spec_list(pod, "imagePullSecrets").is_empty() && !pull.is_empty() {
            object::child_mut(pod, "spec").insert("imagePullSecrets".to_owned(), pull.into());
        }
        Ok(())
    }

    fn validate(&self, request: &Request<'_>, objects: &dyn Objects) -> Result<(), Status> {
        let Some(pod) = &request.object else { return Ok(()) };
        if references::is_mirror(pod) && request.operation == Operation::Create {
            return match mirror_fault(pod) {
                Some(why) => Err(request.forbidden(why)),
                None => Ok(()),
            };
        }
        let Some(account) = account(request, objects)? else {
            let name = object::name(pod);
            return Err(
                request.forbidden(&format!("no service account specified for pod {}/{name}", request.namespace))
            );
        };
        match mountable::fault(&account, pod, request.subresource) {
            Some(why) => Err(request.forbidden(&why)),
            None => Ok(()),
        }
    }
}

/// The Pod's account; `None` when it names none.
fn account(request: &Request<'_>, objects: &dyn Objects) -> Result<Option<Arc<Object>>, Status> {
    let Some(pod) = &request.object else { return Ok(None) };
    let name = object::str_at(pod, &["spec", "serviceAccountName"]);
    if name.is_empty() {
        return Ok(None);
    }
    let namespace = request.namespace;
    let found = objects.get(&SERVICE_ACCOUNTS, namespace, name);
    found.map(Some).ok_or_else(|| {
        request.forbidden(&format!(
            "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        ))
    })
}

/// Names in a list of references of an account.
fn list_of<'a>(account: &'a Object, key: &str) -> impl Iterator<Item = &'a str> {
    let items = account.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().map(|reference| text(reference, "/name"))
}

/// The Pod's word counts, then the account's; else yes.
fn mounts_token(account: &Object, pod: &Object) -> bool {
    let of_pod = object::at(pod, &["spec", "automountServiceAccountToken"]);
    let of_account = account.get("automountServiceAccountToken");
    of_pod.and_then(Value::as_bool).or(of_account.and_then(Value::as_bool)).unwrap_or(true)
}

/// A mirror Pod comes from a file on its node and may reach nothing of the API.
fn mirror_fault(pod: &Object) -> Option<&'static str> {
    if !object::str_at(pod, &["spec", "serviceAccountName"]).is_empty() {
        return Some("a mirror pod may not reference service accounts");
    }
    if references::any_secret(pod, |_| true) {
        return Some("a mirror pod may not reference secrets");
    }
    let token = |volume: &Value| {
        list(volume.get("projected"), "sources")
            .iter()
            .any(|s| s.get("serviceAccountToken").is_some_and(|t| !t.is_null()))
    };
    let projects = spec_list(pod, "volumes").iter().any(token);
    projects.then_some("a mirror pod may not use ServiceAccountToken volume projections")
}

#[cfg(test)]
mod tests;
