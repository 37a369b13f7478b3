//! Environment variables and the references that their values come from.

use super::validate::PodScope;
use crate::Object;
use crate::field::{ErrorList, FieldError, Path};
use crate::kinds::check::{messages, named, no_backsteps, required};
use crate::kinds::json::{get, object, objects, text};
use crate::names;
use crate::quantity::Quantity;

/// Fields of a Pod that an environment variable can take.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a Pod that a file in a volume can take.
pub const VOLUME_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const RESOURCE_FIELDS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
/// Fields that upstream's conversion of downward API paths knows.
const KNOWN_FIELDS: [&str; 12] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.podIP",
];

pub fn env(container: &Object, path: &Path, errors: &mut ErrorList) {
    for (i, variable) in objects(container, "env") {
        let path = path.child("env").index(i);
        named(variable, "name", &path, names::env_var_name, errors);
        if let Some(source) = object(variable, "valueFrom") {
            value_from(source, !text(variable, "value").is_empty(), &path.child("valueFrom"), errors);
        }
    }
}

fn value_from(source: &Object, has_value: bool, path: &Path, errors: &mut ErrorList) {
    let mut sources = 0;
    if let Some(reference) = object(source, "fieldRef") {
        sources += 1;
        field_ref(reference, &ENV_FIELDS, &path.child("fieldRef"), errors);
    }
    if let Some(reference) = object(source, "resourceFieldRef") {
        sources += 1;
        resource_field_ref(reference, false, &path.child("resourceFieldRef"), errors);
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(reference) = object(source, key) {
            sources += 1;
            key_ref(reference, &path.child(key), errors);
        }
    }
    if let Some(reference) = object(source, "fileKeyRef") {
        sources += 1;
        file_key_ref(reference, &path.child("fileKeyRef"), errors);
    }
    let detail = match sources {
        0 => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        _ if has_value => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(FieldError::invalid(path, "", detail));
}

/// `fieldRef` of a variable or of a file in a volume.
pub fn field_ref(reference: &Object, allowed: &[&str], path: &Path, errors: &mut ErrorList) {
    if required(reference, "apiVersion", path, errors).is_empty()
        || required(reference, "fieldPath", path, errors).is_empty()
    {
        return;
    }
    let (version, field) = (text(reference, "apiVersion"), text(reference, "fieldPath"));
    let field_path = path.child("fieldPath");
    if version != "v1" {
        let detail = format!("error converting fieldPath: unsupported pod version: {version}");
        errors.push(FieldError::invalid(&field_path, field, detail));
        return;
    }
    if let Some((base, subscript)) = field.strip_suffix("']").and_then(|f| f.split_once("['")) {
        match base {
            "metadata.annotations" => {
                let lower = subscript.to_lowercase();
                messages(&lower, path, names::qualified_name(&lower), errors);
            }
            "metadata.labels" => messages(subscript, path, names::qualified_name(subscript), errors),
            _ => {
                let detail = format!("error converting fieldPath: field label does not support subscript: {field}");
                errors.push(FieldError::invalid(&field_path, field, detail));
            }
        }
    } else if !KNOWN_FIELDS.contains(&field) && !ENV_FIELDS.contains(&field) {
        let detail = format!("error converting fieldPath: field label not supported: {field}");
        errors.push(FieldError::invalid(&field_path, field, detail));
    } else if !allowed.contains(&field) {
        errors.push(FieldError::not_supported(&field_path, field, allowed));
    }
}

/// `resourceFieldRef` of a variable or of a file in a volume; in a volume it must name its container.
pub fn resource_field_ref(reference: &Object, in_volume: bool, path: &Path, errors: &mut ErrorList) {
    let resource = text(reference, "resource");
    let huge_pages = resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-");
    if in_volume && text(reference, "containerName").is_empty() {
        errors.push(FieldError::required(&path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(FieldError::required(&path.child("resource"), ""));
    } else if !huge_pages && !RESOURCE_FIELDS.contains(&resource) {
        errors.push(FieldError::not_supported(&path.child("resource"), resource, &RESOURCE_FIELDS));
    }
    let divisor = get(reference, "divisor").and_then(|d| Quantity::from_value(d).ok()).unwrap_or_default();
    if !divisor.is_zero() {
        check_divisor(resource, &divisor.to_string(), &path.child("divisor"), errors);
    }
}

fn check_divisor(resource: &str, divisor: &str, path: &Path, errors: &mut ErrorList) {
    const BYTES: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let kind = match resource.split_once('.').map_or("", |(_, kind)| kind) {
        "cpu" => {
            if !["1m", "1"].contains(&divisor) {
                let detail = "only divisor's values 1m and 1 are supported with the cpu resource";
                errors.push(FieldError::invalid(path, resource, detail));
            }
            return;
        }
        "memory" => "memory",
        "ephemeral-storage" => "local ephemeral storage",
        other if other.starts_with("hugepages-") => "hugepages",
        _ => return,
    };
    if !BYTES.contains(&divisor) {
        let listed = BYTES.join(", ");
        let detail = format!("only divisor's values {listed} are supported with the {kind} resource");
        errors.push(FieldError::invalid(path, resource, detail));
    }
}

/// A key of a ConfigMap or Secret.
fn key_ref(reference: &Object, path: &Path, errors: &mut ErrorList) {
    let name = text(reference, "name");
    messages(name, &path.child("name"), names::dns1123_subdomain(name), errors);
    named(reference, "key", path, names::config_map_key, errors);
}

fn file_key_ref(reference: &Object, path: &Path, errors: &mut ErrorList) {
    named(reference, "key", path, names::env_var_name, errors);
    named(reference, "volumeName", path, names::dns1123_label, errors);
    let file = required(reference, "path", path, errors);
    no_backsteps(file, &path.child("path"), errors);
}

pub fn env_from(container: &Object, path: &Path, errors: &mut ErrorList) {
    let path = path.child("envFrom");
    for (i, source) in objects(container, "envFrom") {
        let item = path.index(i);
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            messages(prefix, &item.child("prefix"), names::env_var_name(prefix), errors);
        }
        let mut sources = 0;
        for key in ["configMapRef", "secretRef"] {
            if let Some(reference) = object(source, key) {
                sources += 1;
                named(reference, "name", &item.child(key), names::dns1123_subdomain, errors);
            }
        }
        match sources {
            1 => {}
            0 => {
                let detail = "must specify one of: `configMapRef` or `secretRef`";
                errors.push(FieldError::invalid(&path, "", detail));
            }
            _ => {
                let detail = "may not have more than one field specified at a time";
                errors.push(FieldError::invalid(&path, "", detail));
            }
        }
    }
}

/// Variables that come from files must name an `emptyDir`.
pub fn file_volumes(container: &Object, scope: &PodScope<'_>, path: &Path, errors: &mut ErrorList) {
    for (i, variable) in objects(container, "env") {
        let reference = object(variable, "valueFrom").and_then(|source| object(source, "fileKeyRef"));
        let Some(name) = reference.map(|r| text(r, "volumeName")) else { continue };
        let path = || path.child("env").index(i).child("valueFrom").child("fileKeyRef").child("volumeName");
        match objects(scope.spec, "volumes").find(|(_, v)| text(v, "name") == name) {
            None => errors.push(FieldError::not_found(&path(), name)),
            Some((_, volume)) if object(volume, "emptyDir").is_none() => {
                errors.push(FieldError::invalid(&path(), name, "referenced volume must be of type emptyDir"));
            }
            Some(_) => {}
        }
    }
}
