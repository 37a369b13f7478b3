//! Validation of Pods and of every Pod template (upstream's `ValidatePodSpec` and what it calls).

use std::collections::BTreeMap;

use serde_json::Value;

use super::{env, limits, probes, scheduling, security, update, volumes};
use crate::field::{ErrorList, FieldError, Path};
use crate::kinds::check::{in_range, messages, one_of, optional, required};
use crate::kinds::json::{get, int, is_true, list, object, objects, text, texts};
use crate::validate::labels;
use crate::{Object, names, object as meta};

/// What the checks of single containers need to know of the Pod.
pub struct PodScope<'a> {
    pub spec: &'a Object,
    /// Volumes without errors, by name.
    pub volumes: BTreeMap<&'a str, &'a Object>,
    pub claims: Vec<&'a str>,
    pub grace: Option<i64>,
    pub restart_policy: &'a str,
    pub host_users: bool,
    pub os: Option<&'a str>,
    /// A Pod, not a template.
    pub is_pod: bool,
}

/// The `validate` hook of Pods.
pub fn pod(pod: &Object, old: Option<&Object>, subresource: &str, errors: &mut ErrorList) {
    match (old, subresource) {
        (None, _) => {
            metadata_and_spec(pod, errors);
            create_only(pod, errors);
        }
        (Some(old), "status") => update::status(pod, old, errors),
        (Some(old), "ephemeralcontainers") => {
            metadata_and_spec(pod, errors);
            update::ephemeral_containers(pod, old, errors);
        }
        (Some(old), "resize") => {
            metadata_and_spec(pod, errors);
            update::resize(pod, old, errors);
        }
        (Some(old), _) => {
            metadata_and_spec(pod, errors);
            update::main(pod, old, errors);
        }
    }
}

fn metadata_and_spec(pod: &Object, errors: &mut ErrorList) {
    let empty = Object::new();
    let pod_spec = object(pod, "spec").unwrap_or(&empty);
    let path = Path::new("spec");
    let notes = meta::metadata(pod).and_then(|m| object(m, "annotations"));
    annotations(notes, pod_spec, &Path::new("metadata").child("annotations"), errors);
    spec(pod_spec, meta::name(pod), true, &path, errors);
    if text(pod_spec, "serviceAccountName").is_empty() {
        for (i, volume) in objects(pod_spec, "volumes") {
            for (j, source) in object(volume, "projected").into_iter().flat_map(|p| objects(p, "sources")) {
                if object(source, "serviceAccountToken").is_some() {
                    let path = path.child("volumes").index(i).child("projected").child("sources").index(j);
                    let detail = "must not be specified when serviceAccountName is not set";
                    errors.push(FieldError::forbidden(&path.child("serviceAccountToken"), detail));
                }
            }
        }
    }
    for key in ["containers", "initContainers"] {
        for (i, container) in objects(pod_spec, key) {
            trimmed_image(container, &path.child(key).index(i), errors);
        }
    }
}

pub fn trimmed_image(container: &Object, path: &Path, errors: &mut ErrorList) {
    let image = text(container, "image");
    if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(&path.child("image"), image, detail));
    }
}

fn create_only(pod: &Object, errors: &mut ErrorList) {
    let Some(spec) = object(pod, "spec") else { return };
    let path = Path::new("spec");
    if !list(spec, "ephemeralContainers").is_empty() {
        errors.push(FieldError::forbidden(&path.child("ephemeralContainers"), "cannot be set on create"));
    }
    if !text(spec, "nodeName").is_empty() && !list(spec, "schedulingGates").is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden(&path.child("nodeName"), detail));
    }
}

/// Annotations that mean something for Pods.
pub fn annotations(annotations: Option<&Object>, spec: &Object, path: &Path, errors: &mut ErrorList) {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    let Some(annotations) = annotations else { return };
    if let Some(value) = annotations.get(MIRROR).filter(|_| text(spec, "nodeName").is_empty()) {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(&path.key(MIRROR), value.clone(), detail));
    }
    if let Some(cost) = annotations.get(DELETION_COST).and_then(Value::as_str) {
        let digits = cost.strip_prefix('-').unwrap_or(cost);
        let canonical = !digits.starts_with('+') && (digits == "0" || !digits.starts_with('0'));
        if cost.parse::<i32>().is_err() || !canonical {
            errors.push(FieldError::invalid(&path.key(DELETION_COST), cost, "must be a 32bit integer"));
        }
    }
}

/// A Pod template, with its path.
pub fn template(template: &Object, path: &Path, errors: &mut ErrorList) {
    let empty = Object::new();
    let metadata = meta::metadata(template).unwrap_or(&empty);
    let pod_spec = object(template, "spec").unwrap_or(&empty);
    labels::labels(object(metadata, "labels"), &path.child("labels"), errors);
    let notes = object(metadata, "annotations");
    labels::annotations(notes, &path.child("annotations"), errors);
    annotations(notes, pod_spec, &path.child("annotations"), errors);
    let path = path.child("spec");
    spec(pod_spec, "", false, &path, errors);
    if !list(pod_spec, "ephemeralContainers").is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(&path.child("ephemeralContainers"), detail));
    }
}

/// A Pod's spec. `pod_name` is empty for templates.
fn spec(spec: &Object, pod_name: &str, is_pod: bool, path: &Path, errors: &mut ErrorList) {
    if get(spec, "terminationGracePeriodSeconds").is_none() {
        errors.push(FieldError::required(&path.child("terminationGracePeriodSeconds"), ""));
    }
    let scope = PodScope {
        spec,
        volumes: volumes::volumes(spec, pod_name, is_pod, path, errors),
        claims: objects(spec, "resourceClaims").map(|(_, claim)| text(claim, "name")).collect(),
        grace: int(spec, "terminationGracePeriodSeconds"),
        restart_policy: text(spec, "restartPolicy"),
        host_users: spec.get("hostUsers") != Some(&Value::Bool(false)),
        os: object(spec, "os").map(|os| text(os, "name")),
        is_pod,
    };
    containers(&scope, path, errors);
    limits::pod(spec, scope.os, path, errors);
    host_network_ports(&scope, path, errors);
    one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, errors);
    one_of(spec, "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], path, errors);
    labels::labels(object(spec, "nodeSelector"), &path.child("nodeSelector"), errors);
    security::pod(&scope, path, errors);
    scheduling::affinity(spec, path, errors);
    dns_config(spec, &path.child("dnsConfig"), errors);
    scheduling::gates(&scope, path, errors);
    scheduling::topology_spread(spec, path, errors);
    host_users(&scope, path, errors);
    host_name(spec, path, errors);
    names_and_rest(spec, path, errors);
    scheduling::tolerations(spec, path, errors);
    operating_system(spec, path, errors);
    for key in super::defaults::CONTAINER_LISTS {
        for (i, container) in objects(spec, key) {
            env::file_volumes(container, &scope, &path.child(key).index(i), errors);
        }
    }
}

fn names_and_rest(spec: &Object, path: &Path, errors: &mut ErrorList) {
    for (key, rule) in [
        ("serviceAccountName", names::dns1123_subdomain as fn(&str) -> Vec<String>),
        ("nodeName", names::dns1123_subdomain),
        ("hostname", names::dns1123_label),
        ("subdomain", names::dns1123_label),
        ("priorityClassName", names::dns1123_subdomain),
        ("runtimeClassName", names::dns1123_subdomain),
    ] {
        optional(spec, key, path, rule, errors);
    }
    in_range(spec, "activeDeadlineSeconds", 1, i64::from(i32::MAX), path, errors);
    for (i, alias) in objects(spec, "hostAliases") {
        let path = path.child("hostAliases").index(i);
        let address = text(alias, "ip");
        messages(address, &path.child("ip"), names::ip_legacy(address), errors);
        for (j, host) in texts(alias, "hostnames") {
            messages(host, &path.child("hostnames").index(j), names::dns1123_subdomain(host), errors);
        }
    }
    if get(spec, "preemptionPolicy").is_some() {
        one_of(spec, "preemptionPolicy", &["PreemptLowerPriority", "Never"], path, errors);
    }
    if let Some(overhead) = object(spec, "overhead") {
        limits::overhead(overhead, &path.child("overhead"), errors);
    }
}

fn containers(scope: &PodScope<'_>, path: &Path, errors: &mut ErrorList) {
    let mut names: Vec<&str> = Vec::new();
    let regular = path.child("containers");
    if list(scope.spec, "containers").is_empty() {
        errors.push(FieldError::required(&regular, ""));
    }
    for (i, container) in objects(scope.spec, "containers") {
        let path = regular.index(i);
        common(container, scope, &path, errors);
        unique_name(container, &mut names, &path, errors);
        probes::probes(container, scope, &path, errors);
        probes::restart_policy(container, &path, errors);
    }
    host_ports(objects(scope.spec, "containers"), &regular, errors);
    let init = path.child("initContainers");
    for (i, container) in objects(scope.spec, "initContainers") {
        let path = init.index(i);
        common(container, scope, &path, errors);
        probes::restart_policy(container, &path, errors);
        unique_name(container, &mut names, &path, errors);
        host_ports(std::iter::once((0, container)), &init, errors);
        if text(container, "restartPolicy") == "Always" {
            probes::probes(container, scope, &path, errors);
        } else {
            probes::none_allowed(container, &path, errors);
        }
    }
    let others = names.clone();
    for (i, container) in objects(scope.spec, "ephemeralContainers") {
        let path = path.child("ephemeralContainers").index(i);
        ephemeral(container, scope, &others, &mut names, &path, errors);
    }
}

fn unique_name<'a>(container: &'a Object, names: &mut Vec<&'a str>, path: &Path, errors: &mut ErrorList) {
    let name = text(container, "name");
    if !name.is_empty() && names.contains(&name) {
        errors.push(FieldError::duplicate(&path.child("name"), name));
    }
    names.push(name);
}

/// What every kind of container must satisfy.
fn common(container: &Object, scope: &PodScope<'_>, path: &Path, errors: &mut ErrorList) {
    crate::kinds::check::named(container, "name", path, names::dns1123_label, errors);
    required(container, "image", path, errors);
    one_of(container, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], path, errors);
    ports(container, path, errors);
    env::env(container, path, errors);
    env::env_from(container, path, errors);
    volumes::mounts(container, scope, path, errors);
    volumes::devices(container, scope, path, errors);
    one_of(container, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], path, errors);
    limits::container(container, &scope.claims, path, errors);
    limits::resize_policy(container, scope.restart_policy, path, errors);
    security::container(container, scope, path, errors);
}

fn ports(container: &Object, path: &Path, errors: &mut ErrorList) {
    let mut seen = Vec::new();
    for (i, port) in objects(container, "ports") {
        let path = path.child("ports").index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            let found = names::port_name(name);
            if !found.is_empty() {
                messages(name, &path.child("name"), found, errors);
            } else if seen.contains(&name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            } else {
                seen.push(name);
            }
        }
        if int(port, "containerPort").unwrap_or(0) == 0 {
            errors.push(FieldError::required(&path.child("containerPort"), ""));
        } else {
            in_range(port, "containerPort", 1, 65535, &path, errors);
        }
        if int(port, "hostPort") != Some(0) {
            in_range(port, "hostPort", 1, 65535, &path, errors);
        }
        one_of(port, "protocol", &["SCTP", "TCP", "UDP"], &path, errors);
    }
}

/// No two containers want the same port of the node.
fn host_ports<'a>(containers: impl Iterator<Item = (usize, &'a Object)>, path: &Path, errors: &mut ErrorList) {
    let mut seen = Vec::new();
    for (i, container) in containers {
        for (j, port) in objects(container, "ports") {
            let Some(number) = int(port, "hostPort").filter(|p| *p != 0) else { continue };
            let key = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
            if seen.contains(&key) {
                let path = path.index(i).child("ports").index(j).child("hostPort");
                errors.push(FieldError::duplicate(&path, key));
            } else {
                seen.push(key);
            }
        }
    }
}

fn host_network_ports(scope: &PodScope<'_>, path: &Path, errors: &mut ErrorList) {
    if !is_true(scope.spec, "hostNetwork") {
        return;
    }
    for (i, container) in objects(scope.spec, "containers") {
        for (j, port) in objects(container, "ports") {
            let (host, inner) = (int(port, "hostPort").unwrap_or(0), int(port, "containerPort").unwrap_or(0));
            if (scope.is_pod || host != 0) && host != inner {
                let path = path.child("containers").index(i).child("ports").index(j).child("hostPort");
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(&path, host, detail));
            }
        }
    }
}

fn ephemeral<'a>(
    container: &'a Object,
    scope: &PodScope<'_>,
    others: &[&str],
    names: &mut Vec<&'a str>,
    path: &Path,
    errors: &mut ErrorList,
) {
    const WORDS: &str = "cannot be set for an Ephemeral Container";
    const NOT_ALLOWED: [&str; 8] = [
        "ports",
        "resources",
        "resizePolicy",
        "restartPolicyRules",
        "lifecycle",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
    ];
    common(container, scope, path, errors);
    trimmed_image(container, path, errors);
    unique_name(container, names, path, errors);
    let target = text(container, "targetContainerName");
    if !target.is_empty() && !others.contains(&target) {
        errors.push(FieldError::not_found(&path.child("targetContainerName"), target));
    }
    for key in NOT_ALLOWED {
        let empty = match get(container, key) {
            None => true,
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            Some(_) => false,
        };
        if !empty {
            errors.push(FieldError::forbidden(&path.child(key), WORDS));
        }
    }
    for (i, mount) in objects(container, "volumeMounts") {
        for key in ["subPath", "subPathExpr"] {
            if !text(mount, key).is_empty() {
                let path = path.child("volumeMounts").index(i).child(key);
                errors.push(FieldError::forbidden(&path, WORDS));
            }
        }
    }
}

fn dns_config(spec: &Object, path: &Path, errors: &mut ErrorList) {
    let config = object(spec, "dnsConfig");
    if text(spec, "dnsPolicy") == "None" {
        let servers = config.map_or(&[][..], |c| list(c, "nameservers"));
        if config.is_none() {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(FieldError::required(path, detail));
            return;
        } else if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(FieldError::required(&path.child("nameservers"), detail));
            return;
        }
    }
    let Some(config) = config else { return };
    for (key, most, what) in [("nameservers", 3, "nameservers"), ("searches", 32, "search paths")] {
        let items = list(config, key);
        if items.len() > most {
            let detail = format!("must not have more than {most} {what}");
            errors.push(FieldError::invalid(&path.child(key), items.to_vec(), detail));
        }
    }
    for (i, server) in texts(config, "nameservers") {
        messages(server, &path.child("nameservers").index(i), names::ip_legacy(server), errors);
    }
    let length = texts(config, "searches").map(|(_, s)| s.len() + 1).sum::<usize>().saturating_sub(1);
    if length > 2048 {
        let detail = "must not have more than 2048 characters (including spaces) in the search list";
        errors.push(FieldError::invalid(&path.child("searches"), list(config, "searches").to_vec(), detail));
    }
    for (i, search) in texts(config, "searches").filter(|(_, search)| *search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        let found = names::dns1123_subdomain_with_underscore(search);
        messages(search, &path.child("searches").index(i), found, errors);
    }
    for (i, option) in objects(config, "options") {
        if text(option, "name").is_empty() {
            errors.push(FieldError::required(&path.child("options").index(i), "must not be empty"));
        }
    }
}

fn host_users(scope: &PodScope<'_>, path: &Path, errors: &mut ErrorList) {
    if scope.host_users {
        return;
    }
    // Two of the names are spelled as upstream spells them.
    for (key, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if is_true(scope.spec, key) {
            errors.push(FieldError::forbidden(&path.child(shown), "when `hostUsers` is false"));
        }
    }
}

fn host_name(spec: &Object, path: &Path, errors: &mut ErrorList) {
    let Some(name) = get(spec, "hostnameOverride").and_then(Value::as_str) else { return };
    let path = path.child("hostnameOverride");
    for key in ["setHostnameAsFQDN", "hostNetwork"] {
        if is_true(spec, key) {
            errors.push(FieldError::forbidden(&path, format!("may not be specified when {key} is true")));
        }
    }
    if name.len() > 64 {
        errors.push(FieldError::too_long(&path, 64));
    }
    messages(name, &path, names::dns1123_subdomain(name), errors);
}

fn operating_system(spec: &Object, path: &Path, errors: &mut ErrorList) {
    let Some(os) = object(spec, "os") else { return };
    match text(os, "name") {
        "" => errors.push(FieldError::required(&path.child("os").child("name"), "")),
        "linux" | "windows" => {}
        other => errors.push(FieldError::not_supported(&path.child("os"), other, &["linux", "windows"])),
    }
}
