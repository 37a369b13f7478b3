//! ConfigMaps and Secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::json::{default_text, ensure, object, text};
use super::prepare;
use crate::Object;
use crate::table::Hooks;

pub fn config_map_hooks() -> Hooks {
    Hooks { prepare: Some(prepare::nothing), ..Hooks::default() }
}

pub fn secret_hooks() -> Hooks {
    Hooks {
        default: Some(default_secret),
        prepare: Some(prepare_secret),
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
