//! Accounts annotated `kubernetes.io/enforce-mountable-secrets`: their Pods use only the Secrets that the account
//! lists.

use std::collections::BTreeSet;

use api::{Object, object};
use serde_json::Value;

use super::list_of;
use crate::read::{annotation, list, spec_list, text};

const ANNOTATION: &str = "kubernetes.io/enforce-mountable-secrets";

/// What the Pod uses that its account does not allow.
pub fn fault(account: &Object, pod: &Object, subresource: &str) -> Option<String> {
    let enforced = annotation(account, ANNOTATION);
    if !enforced.is_some_and(|text| ["1", "t", "T", "true", "TRUE", "True"].contains(&text)) {
        return None;
    }
    let allowed: BTreeSet<&str> = list_of(account, "secrets").collect();
    let name = object::name(account);
    if subresource == "ephemeralcontainers" {
        return in_containers(pod, "ephemeralContainers", "ephemeral container", &allowed, name);
    }
    let volumes = spec_list(pod, "volumes").iter().map(|volume| text(volume, "/secret/secretName"));
    if let Some(secret) = volumes.filter(|secret| !secret.is_empty()).find(|secret| !allowed.contains(secret)) {
        return Some(format!("volume with secret.secretName={secret:?} is {}", refused("secret", name)));
    }
    in_containers(pod, "initContainers", "init container", &allowed, name)
        .or_else(|| in_containers(pod, "containers", "container", &allowed, name))
        .or_else(|| pull_secret(account, pod))
}

fn refused(what: &str, account: &str) -> String {
    format!("not allowed because service account {account} does not reference that {what}")
}

fn in_containers(pod: &Object, key: &str, called: &str, allowed: &BTreeSet<&str>, account: &str) -> Option<String> {
    spec_list(pod, key).iter().find_map(|container| in_container(container, called, allowed, account))
}

fn in_container(container: &Value, called: &str, allowed: &BTreeSet<&str>, account: &str) -> Option<String> {
    let name = text(container, "/name");
    let foreign = |secret: &str| !secret.is_empty() && !allowed.contains(secret);
    let why = refused("secret", account);
    for variable in list(Some(container), "env") {
        let secret = text(variable, "/valueFrom/secretKeyRef/name");
        if foreign(secret) {
            let variable = text(variable, "/name");
            return Some(format!(
                "{called} {name} with envVar {variable} referencing secret.secretName={secret:?} is {why}"
            ));
        }
    }
    let sources = list(Some(container), "envFrom").iter().map(|source| text(source, "/secretRef/name"));
    let secret = sources.into_iter().find(|secret| foreign(secret))?;
    Some(format!("{called} {name} with envFrom referencing secret.secretName={secret:?} is {why}"))
}

fn pull_secret(account: &Object, pod: &Object) -> Option<String> {
    let allowed: BTreeSet<&str> = list_of(account, "imagePullSecrets").collect();
    let named = spec_list(pod, "imagePullSecrets").iter().map(|s| text(s, "/name")).enumerate();
    let (index, secret) = named.into_iter().find(|(_, secret)| !allowed.contains(secret))?;
    let why = refused("imagePullSecret", object::name(account));
    Some(format!("imagePullSecrets[{index}].name={secret:?} is {why}"))
}
