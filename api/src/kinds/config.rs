//! ConfigMaps and Secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::check::{immutable, messages};
use super::json::{default_text, ensure, is_true, object, same, text};
use super::prepare;
use crate::field::{ErrorList, FieldError, Path};
use crate::table::Hooks;
use crate::{Object, names, object as meta};

pub fn config_map_hooks() -> Hooks {
    Hooks { prepare: Some(prepare::nothing), validate: Some(config_map), ..Hooks::default() }
}

pub fn secret_hooks() -> Hooks {
    Hooks {
        default: Some(default_secret),
        prepare: Some(prepare_secret),
        validate: Some(secret),
        fields: Some(|secret| vec![text(secret, "type").to_owned()]),
        ..Hooks::default()
    }
}

/// `stringData` is a way to write `data` and is never stored.
fn default_secret(secret: &mut Object) {
    if let Some(Value::Object(texts)) = secret.remove("stringData") {
        let data = ensure(secret, "data");
        for (key, value) in texts {
            data.insert(key, STANDARD.encode(value.as_str().unwrap_or_default()).into());
        }
    }
    if object(secret, "data").is_some_and(Object::is_empty) {
        secret.remove("data");
    }
    default_text(secret, "type", "Opaque");
}

fn prepare_secret(new: &mut Object, old: Option<&Object>, _subresource: &str) {
    if let Some(old) = old {
        let kind = text(old, "type").to_owned();
        default_text(new, "type", &kind);
    }
}

/// Most bytes that the values of a ConfigMap or Secret may have together.
const MAX_SIZE: usize = 1024 * 1024;
const FROZEN: &str = "field is immutable when `immutable` is set";

/// Bytes that a base64 text stands for.
fn decoded_len(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

fn config_map(new: &Object, old: Option<&Object>, _subresource: &str, errors: &mut ErrorList) {
    frozen(new, old, &["data", "binaryData"], errors);
    let mut size = 0;
    for (field, is_binary) in [("data", false), ("binaryData", true)] {
        for (key, value) in object(new, field).into_iter().flatten() {
            let path = || Path::new(field).key(key);
            let found = names::config_map_key(key);
            if !found.is_empty() {
                messages(key, &path(), found, errors);
            }
            if !is_binary && object(new, "binaryData").is_some_and(|data| data.contains_key(key)) {
                let detail = "duplicate of key present in binaryData";
                errors.push(FieldError::invalid(&path(), key.as_str(), detail));
            }
            let value = value.as_str().unwrap_or_default();
            size += if is_binary { decoded_len(value) } else { value.len() };
        }
    }
    if size > MAX_SIZE {
        // Upstream's path is one empty name here.
        errors.push(FieldError::too_long(&Path::empty_name(), MAX_SIZE));
    }
}

fn frozen(new: &Object, old: Option<&Object>, fields: &[&str], errors: &mut ErrorList) {
    let Some(old) = old.filter(|old| is_true(old, "immutable")) else { return };
    if !is_true(new, "immutable") {
        errors.push(FieldError::forbidden(&Path::new("immutable"), FROZEN));
    }
    for field in fields.iter().filter(|field| !same(new, old, field)) {
        errors.push(FieldError::forbidden(&Path::new(field), FROZEN));
    }
}

fn secret(new: &Object, old: Option<&Object>, _subresource: &str, errors: &mut ErrorList) {
    if let Some(old) = old {
        immutable(new, old, "type", &Path::root(), errors);
    }
    frozen(new, old, &["data"], errors);
    let path = Path::new("data");
    let empty = Object::new();
    let data = object(new, "data").unwrap_or(&empty);
    let mut size = 0;
    for (key, value) in data {
        let found = names::config_map_key(key);
        if !found.is_empty() {
            messages(key, &path.key(key), found, errors);
        }
        size += decoded_len(value.as_str().unwrap_or_default());
    }
    if size > MAX_SIZE {
        errors.push(FieldError::too_long(&path, MAX_SIZE));
    }
    secret_type(new, data, &path, errors);
}

/// What a Secret of a known type must have.
fn secret_type(secret: &Object, data: &Object, path: &Path, errors: &mut ErrorList) {
    const ACCOUNT: &str = "kubernetes.io/service-account.name";
    let needs = |errors: &mut ErrorList, key: &str| errors.push(FieldError::required(&path.key(key), ""));
    let missing = |key: &str| !data.contains_key(key);
    match text(secret, "type") {
        "kubernetes.io/service-account-token" => {
            let annotations = meta::metadata(secret).and_then(|m| object(m, "annotations"));
            if annotations.is_none_or(|a| text(a, ACCOUNT).is_empty()) {
                let path = Path::new("metadata").child("annotations").key(ACCOUNT);
                errors.push(FieldError::required(&path, ""));
            }
        }
        "kubernetes.io/dockercfg" => docker_config(data, ".dockercfg", path, errors),
        "kubernetes.io/dockerconfigjson" => docker_config(data, ".dockerconfigjson", path, errors),
        "kubernetes.io/basic-auth" if missing("username") && missing("password") => {
            needs(errors, "username");
            needs(errors, "password");
        }
        "kubernetes.io/ssh-auth" if text(data, "ssh-privatekey").is_empty() => needs(errors, "ssh-privatekey"),
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"].into_iter().filter(|key| missing(key)) {
                needs(errors, key);
            }
        }
        _ => {}
    }
}

fn docker_config(data: &Object, key: &str, path: &Path, errors: &mut ErrorList) {
    let Some(value) = data.get(key).and_then(Value::as_str) else {
        errors.push(FieldError::required(&path.key(key), ""));
        return;
    };
    let detail = match STANDARD.decode(value) {
        Ok(bytes) => match serde_json::from_slice::<Object>(&bytes) {
            Ok(_) => return,
            Err(error) => crate::codec::syntax_error(&bytes).unwrap_or_else(|| error.to_string()),
        },
        Err(_) => "illegal base64 data".to_owned(),
    };
    errors.push(FieldError::invalid(&path.key(key), "<secret contents redacted>", detail));
}
