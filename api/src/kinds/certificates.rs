//! CertificateSigningRequests.

use serde_json::json;

use super::json::{ensure, keep, object, object_mut, text};
use crate::Object;
use crate::table::{Hooks, Requester};

pub fn hooks() -> Hooks {
    Hooks { prepare: Some(prepare), requested_by: Some(requested_by), fields: Some(fields), ..Hooks::default() }
}

/// Approvers and signers trust these fields: they are the server's word, never the caller's.
fn requested_by(new: &mut Object, who: &Requester<'_>) {
    let spec = ensure(new, "spec");
    for key in ["uid", "extra"] {
        spec.remove(key);
    }
    spec.insert("username".to_owned(), json!(who.name));
    spec.insert("groups".to_owned(), json!(who.groups));
    if !who.uid.is_empty() {
        spec.insert("uid".to_owned(), json!(who.uid));
    }
    if !who.extra.is_empty() {
        spec.insert("extra".to_owned(), json!(who.extra));
    }
}

/// Who asks is written into the spec by the server, which knows; only `status` and `approval` change a request later.
fn prepare(new: &mut Object, old: Option<&Object>, subresource: &str) {
    let Some(old) = old else {
        new.insert("status".to_owned(), json!({}));
        return;
    };
    keep(new, old, "spec");
    match subresource {
        "status" => {}
        "approval" => {
            let wanted = object_mut(new, "status").map(std::mem::take).unwrap_or_default();
            keep(new, old, "status");
            keep(ensure(new, "status"), &wanted, "conditions");
        }
        _ => keep(new, old, "status"),
    }
}

fn fields(request: &Object) -> Vec<String> {
    vec![object(request, "spec").map_or("", |spec| text(spec, "signerName")).to_owned()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nobody_asks_in_anothers_name() {
        let mut request: Object = serde_json::from_value(json!({"spec": {
            "signerName": "example.com/s", "username": "system:node:other", "uid": "1", "groups": ["system:masters"],
            "extra": {"a": ["b"]},
        }}))
        .unwrap();
        let groups = ["system:authenticated".to_owned()];
        let nothing = std::collections::BTreeMap::new();
        requested_by(&mut request, &Requester { name: "jane", uid: "", groups: &groups, extra: &nothing });
        let expected = json!({
            "signerName": "example.com/s", "username": "jane", "groups": ["system:authenticated"],
        });
        assert_eq!(request["spec"], expected);
    }
}
