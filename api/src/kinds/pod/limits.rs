//! `resources` of containers and Pods.

use std::collections::BTreeSet;

use super::resources::{Amounts, amounts, requests};
use crate::Object;
use crate::field::{ErrorList, FieldError, Path};
use crate::kinds::check::messages;
use crate::kinds::json::{get, object, objects, text};
use crate::names;
use crate::quantity::Quantity;

const HUGE_PAGES: &str = "hugepages-";
const DEFAULT_NAMESPACE: &str = "kubernetes.io/";

/// Resources that are counted: objects of a namespace.
const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

pub fn is_standard(name: &str) -> bool {
    const STANDARD: [&str; 11] = [
        "cpu",
        "memory",
        "ephemeral-storage",
        "storage",
        "requests.cpu",
        "requests.memory",
        "requests.ephemeral-storage",
        "requests.storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
    ];
    STANDARD.contains(&name)
        || COUNTED.contains(&name)
        || name.starts_with(HUGE_PAGES)
        || name.starts_with("requests.hugepages-")
}

/// A name of a resource: standard, or with a domain. Returns whether it is fine so far.
pub fn resource_name(name: &str, path: &Path, errors: &mut ErrorList) -> bool {
    let found = names::qualified_name(name);
    if !found.is_empty() {
        messages(name, path, found, errors);
        return false;
    }
    if !name.contains('/') && !is_standard(name) {
        errors.push(FieldError::invalid(path, name, "must be a standard resource type or fully qualified"));
        return false;
    }
    true
}

pub fn container_resource_name(name: &str, path: &Path, errors: &mut ErrorList) {
    resource_name(name, path, errors);
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !name.starts_with(HUGE_PAGES) {
            errors.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
        }
    } else if !name.contains(DEFAULT_NAMESPACE) && !is_extended(name) {
        errors.push(FieldError::invalid(path, name, "doesn't follow extended resource name standard"));
    }
}

fn is_extended(name: &str) -> bool {
    !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

fn pod_resource_name(name: &str, path: &Path, errors: &mut ErrorList) {
    if resource_name(name, path, errors) && !matches!(name, "cpu" | "memory") && !name.starts_with(HUGE_PAGES) {
        errors.push(FieldError::not_supported(path, name, &["cpu", "hugepages-", "memory"]));
    }
}

/// An amount must not be negative, and whole where the resource has no parts.
pub fn amount(name: &str, quantity: &Quantity, path: &Path, errors: &mut ErrorList) {
    if quantity.is_negative() {
        errors.push(FieldError::invalid(path, quantity.to_string(), "must be greater than or equal to 0"));
    }
    if is_integer(name) && quantity.milli_value() % 1000 != 0 {
        errors.push(FieldError::invalid(path, quantity.to_string(), "must be an integer"));
    }
}

/// Counted resources, and those with a domain.
fn is_integer(name: &str) -> bool {
    COUNTED.contains(&name) || (name.contains('/') && !name.contains(DEFAULT_NAMESPACE) && is_extended(name))
}

fn may_overcommit(name: &str) -> bool {
    (!name.contains('/') || name.contains(DEFAULT_NAMESPACE)) && !name.starts_with(HUGE_PAGES)
}

/// `resources` of a container.
pub fn container(container: &Object, claim_names: &[&str], path: &Path, errors: &mut ErrorList) {
    let path = path.child("resources");
    requirements(container, container_resource_name, &path, errors);
    if let Some(resources) = object(container, "resources") {
        claims(resources, claim_names, &path.child("claims"), errors);
    }
}

/// `overhead` of a Pod or RuntimeClass, which upstream checks as a container's limits.
pub fn overhead(overhead: &Object, path: &Path, errors: &mut ErrorList) {
    let limits = Object::from_iter([("limits".to_owned(), overhead.clone().into())]);
    let owner = Object::from_iter([("resources".to_owned(), limits.into())]);
    requirements(&owner, container_resource_name, path, errors);
}

/// `resources` of a Pod (KEP-2837).
pub fn pod(spec: &Object, os: Option<&str>, path: &Path, errors: &mut ErrorList) {
    let Some(resources) = object(spec, "resources") else { return };
    let path = path.child("resources");
    if os == Some("windows") {
        errors.push(FieldError::forbidden(&path, "may not be set for a windows pod"));
        return;
    }
    if get(resources, "claims").is_some() {
        let detail = "claims may not be set for Resources at pod-level";
        errors.push(FieldError::forbidden(&path.child("claims"), detail));
    }
    requirements(spec, pod_resource_name, &path, errors);
    let (pod_requests, pod_limits) = (amounts(spec, "requests"), amounts(spec, "limits"));
    for (name, needed) in requests(spec) {
        if let Some(asked) = pod_requests.get(&name).filter(|asked| needed > **asked) {
            let detail = format!("must be greater than or equal to aggregate container requests of {needed}");
            errors.push(FieldError::invalid(&path.child("requests").key(&name), asked.to_string(), detail));
        }
    }
    for (i, container) in objects(spec, "containers") {
        for (name, limit) in amounts(container, "limits") {
            if let Some(most) = pod_limits.get(&name).filter(|most| limit > **most) {
                let path = path.child("containers").index(i).key(&name).child("limits");
                let detail = format!("must be less than or equal to pod limits of {most}");
                errors.push(FieldError::invalid(&path, limit.to_string(), detail));
            }
        }
    }
}

/// Names, amounts, and requests against limits.
fn requirements(owner: &Object, check_name: fn(&str, &Path, &mut ErrorList), path: &Path, errors: &mut ErrorList) {
    let (limits, requests) = (amounts(owner, "limits"), amounts(owner, "requests"));
    let limits_path = path.child("limits");
    for (name, limit) in &limits {
        let path = limits_path.key(name);
        check_name(name, &path, errors);
        amount(name, limit, &path, errors);
        huge_pages(name, limit, &path, errors);
    }
    let requests_path = path.child("requests");
    for (name, request) in &requests {
        let path = requests_path.key(name);
        check_name(name, &path, errors);
        amount(name, request, &path, errors);
        match limits.get(name) {
            Some(limit) if request != limit && !may_overcommit(name) => {
                let detail = format!("must be equal to {name} limit of {limit}");
                errors.push(FieldError::invalid(&requests_path, request.to_string(), detail));
            }
            Some(limit) if request > limit => {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                errors.push(FieldError::invalid(&requests_path, request.to_string(), detail));
            }
            None if !may_overcommit(name) => {
                let detail = "Limit must be set for non overcommitable resources";
                errors.push(FieldError::required(&limits_path, detail));
            }
            _ => {}
        }
        huge_pages(name, request, &path, errors);
    }
    let any = |found: fn(&str) -> bool| {
        let has = |amounts: &Amounts| amounts.keys().any(|name| found(name));
        has(&limits) || has(&requests)
    };
    if any(|name| name.starts_with(HUGE_PAGES)) && !any(|name| matches!(name, "cpu" | "memory")) {
        errors.push(FieldError::forbidden(path, "HugePages require cpu or memory"));
    }
}

/// Huge pages come in multiples of their size.
fn huge_pages(name: &str, quantity: &Quantity, path: &Path, errors: &mut ErrorList) {
    let Some(size) = name.strip_prefix(HUGE_PAGES) else { return };
    let size = Quantity::parse(size).map_or(0, |q| q.value());
    if size <= 0 || quantity.value() % size != 0 {
        let detail = format!("{quantity} is not positive integer multiple of {name}");
        errors.push(FieldError::invalid(path, quantity.to_string(), detail));
    }
}

fn claims(resources: &Object, known: &[&str], path: &Path, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (i, claim) in objects(resources, "claims") {
        let (path, name, request) = (path.index(i), text(claim, "name"), text(claim, "request"));
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else {
            if !request.is_empty() {
                messages(request, &path.child("request"), names::dns1123_label(request), errors);
            }
            let key = if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
            let whole = request.is_empty() && seen.iter().any(|k: &String| k.starts_with(&format!("{name}/")));
            if whole || seen.contains(name) || !seen.insert(key.clone()) {
                errors.push(FieldError::duplicate(&path, key));
            }
        }
        if !known.contains(&name) {
            let all = "must be one of the names in pod.spec.resourceClaims";
            let listed =
                if known.is_empty() { format!("{all} which is empty") } else { format!("{all}: {}", known.join(", ")) };
            errors.push(FieldError::not_found(&path, name).with_detail(listed));
        }
    }
}

/// `resizePolicy` of a container (KEP-1287).
pub fn resize_policy(container: &Object, pod_restart_policy: &str, path: &Path, errors: &mut ErrorList) {
    let path = path.child("resizePolicy");
    let mut seen = Vec::new();
    for (i, policy) in objects(container, "resizePolicy") {
        let (resource, restart) = (text(policy, "resourceName"), text(policy, "restartPolicy"));
        if seen.contains(&resource) {
            errors.push(FieldError::duplicate(&path.index(i), resource));
        }
        seen.push(resource);
        for (value, allowed) in [(resource, ["cpu", "memory"]), (restart, ["NotRequired", "RestartContainer"])] {
            if value.is_empty() {
                errors.push(FieldError::required(&path, ""));
            } else if !allowed.contains(&value) {
                errors.push(FieldError::not_supported(&path, value, &allowed));
            }
        }
        if pod_restart_policy == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(&path, restart, detail));
        }
    }
}
