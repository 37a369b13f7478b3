//! Tests of strategic merge patch against recorded answers of the reference.

#![allow(clippy::unwrap_used)]

use serde_json::Value;

use super::apply;
use crate::kinds;
use crate::meta::Gvk;
use crate::{builtin, codec, object};

/// A Deployment, and what a reference API server makes of patches of it: the object, or code, reason and message.
const CASES: &str = include_str!("cases.json");

#[test]
fn patches_do_what_upstreams_do() {
    let data: Value = serde_json::from_str(CASES).unwrap();
    let schema = builtin::schema("io.k8s.api.apps.v1.Deployment").unwrap();
    let gvk = Gvk::new("apps", "v1", "Deployment");
    let hooks = kinds::hooks("apps", "v1", "Deployment");
    let mut wrong = Vec::new();
    for case in data["cases"].as_array().unwrap() {
        let patch = &case["patch"];
        match (apply(data["base"].clone(), patch, &schema), case.get("error")) {
            (Ok(patched), None) => {
                let decoded = codec::decode_value(patched, &gvk, &schema, codec::FieldValidation::Ignore).unwrap();
                let mut patched = decoded.object;
                hooks.default.unwrap()(&mut patched);
                object::metadata_mut(&mut patched).remove("generation");
                let patched = Value::Object(patched);
                if patched != case["result"] {
                    wrong.push(format!("{patch}\nours     {patched}\nupstream {}", case["result"]));
                }
            }
            (Err(status), Some(error)) => {
                if (u64::from(status.code), Some(status.message.as_str()))
                    != (error[0].as_u64().unwrap(), error[2].as_str())
                {
                    wrong.push(format!("{patch}\nours     {} {}\nupstream {error}", status.code, status.message));
                }
            }
            (result, error) => {
                wrong.push(format!("{patch}\nours     {result:?}\nupstream {error:?} {}", case["result"]))
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
