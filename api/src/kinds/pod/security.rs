//! Security contexts of Pods and containers.

use serde_json::Value;

use super::validate::PodScope;
use crate::Object;
use crate::field::{ErrorList, FieldError, Path};
use crate::kinds::check::{descending_path, optional_one_of};
use crate::kinds::json::{get, int, is_true, list, object, objects, text};
use crate::names;

fn ids(context: &Object, keys: &[&str], path: &Path, errors: &mut ErrorList) {
    for key in keys {
        if let Some(id) = int(context, key) {
            let found = names::unix_id(id).into_iter();
            errors.extend(found.map(|message| FieldError::invalid(&path.child(key), id, message)));
        }
    }
}

/// `securityContext` of a Pod.
pub fn pod(scope: &PodScope<'_>, path: &Path, errors: &mut ErrorList) {
    let Some(context) = object(scope.spec, "securityContext") else { return };
    let path = path.child("securityContext");
    ids(context, &["fsGroup", "runAsUser", "runAsGroup"], &path, errors);
    for (i, id) in list(context, "supplementalGroups").iter().enumerate() {
        let id = id.as_i64().unwrap_or(0);
        let path = path.child("supplementalGroups").index(i);
        let found = names::unix_id(id).into_iter();
        errors.extend(found.map(|message| FieldError::invalid(&path, id, message)));
    }
    if is_true(scope.spec, "shareProcessNamespace") && is_true(scope.spec, "hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(&path.child("shareProcessNamespace"), true, detail));
    }
    sysctls(context, scope, &path.child("sysctls"), errors);
    optional_one_of(context, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], &path, errors);
    profiles(context, &path, errors);
    optional_one_of(context, "supplementalGroupsPolicy", &["Merge", "Strict"], &path, errors);
    optional_one_of(context, "seLinuxChangePolicy", &["MountOption", "Recursive"], &path, errors);
}

fn sysctls(context: &Object, scope: &PodScope<'_>, path: &Path, errors: &mut ErrorList) {
    let mut seen = Vec::new();
    for (i, sysctl) in objects(context, "sysctls") {
        let name = text(sysctl, "name");
        let path = path.index(i).child("name");
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else if !is_sysctl(name) {
            let detail = "must have at most 253 characters and match regex \
                          ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.push(FieldError::invalid(&path, name, detail));
        } else if seen.contains(&name) {
            errors.push(FieldError::duplicate(&path, name));
        }
        seen.push(name);
        let dotted = name.replace('/', ".");
        let in_ipc = ["kernel.sem", "kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|p| dotted.starts_with(p));
        if dotted.starts_with("net.") && is_true(scope.spec, "hostNetwork") {
            errors.push(FieldError::invalid(&path, name, "may not be specified when 'hostNetwork' is true"));
        } else if in_ipc && is_true(scope.spec, "hostIPC") {
            errors.push(FieldError::invalid(&path, name, "may not be specified when 'hostIPC' is true"));
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let segment = |s: &str| {
        let bytes = s.as_bytes();
        matches!((bytes.first(), bytes.last()), (Some(&f), Some(&l)) if edge(f) && edge(l))
            && bytes.iter().all(|&b| edge(b) || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.split(['.', '/']).all(segment)
}

/// `seccompProfile` and `appArmorProfile`.
fn profiles(context: &Object, path: &Path, errors: &mut ErrorList) {
    for (key, name) in [("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")] {
        let Some(profile) = object(context, key) else { continue };
        let path = path.child(key);
        let file_path = path.child("localhostProfile");
        let kind = text(profile, "type");
        let file = get(profile, "localhostProfile").and_then(Value::as_str);
        match (kind, file) {
            ("", _) => {
                let detail = format!("type is required when {key} is set");
                errors.push(FieldError::required(&path.child("type"), detail));
            }
            ("Localhost", None) => {
                let detail = format!("must be set when {name} type is Localhost");
                errors.push(FieldError::required(&file_path, detail));
            }
            ("Localhost", Some(file)) if name == "seccomp" => descending_path(file, &file_path, errors),
            ("Localhost", Some(file)) => app_armor_file(file, &file_path, errors),
            ("RuntimeDefault" | "Unconfined", Some(file)) => {
                let shown = if name == "seccomp" { profile.clone().into() } else { Value::from(file) };
                let detail = format!("can only be set when {name} type is Localhost");
                errors.push(FieldError::invalid(&file_path, shown, detail));
            }
            ("RuntimeDefault" | "Unconfined", None) => {}
            _ => {
                let allowed = ["Localhost", "RuntimeDefault", "Unconfined"];
                errors.push(FieldError::not_supported(&path.child("type"), kind, &allowed));
            }
        }
    }
}

fn app_armor_file(file: &str, path: &Path, errors: &mut ErrorList) {
    if file.trim() != file {
        errors.push(FieldError::invalid(path, file, "must not be padded with whitespace"));
    } else if file.is_empty() {
        errors.push(FieldError::required(path, "must be set when AppArmor type is Localhost"));
    }
    if file.len() > 4095 {
        errors.push(FieldError::too_long(path, 4095));
    }
}

/// `securityContext` of a container.
pub fn container(container: &Object, scope: &PodScope<'_>, path: &Path, errors: &mut ErrorList) {
    let Some(context) = object(container, "securityContext") else { return };
    let path = path.child("securityContext");
    ids(context, &["runAsUser", "runAsGroup"], &path, errors);
    if get(context, "procMount").is_some() {
        optional_one_of(context, "procMount", &["Default", "Unmasked"], &path, errors);
        if scope.host_users && text(context, "procMount") == "Unmasked" {
            let detail = "`hostUsers` must be false to use `Unmasked`";
            errors.push(FieldError::invalid(&path.child("procMount"), "Unmasked", detail));
        }
    }
    profiles(context, &path, errors);
    if context.get("allowPrivilegeEscalation") == Some(&Value::Bool(false)) {
        if is_true(context, "privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid(&path, context.clone(), detail));
        }
        let added = object(context, "capabilities").map_or(&[][..], |c| list(c, "add"));
        if added.iter().any(|c| c == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid(&path, context.clone(), detail));
        }
    }
}
