//! CertificateSigningRequests.

use serde_json::json;

use super::json::{ensure, keep, object, object_mut, text};
use crate::Object;
use crate::table::Hooks;

pub fn hooks() -> Hooks {
    Hooks { prepare: Some(prepare), fields: Some(fields), ..Hooks::default() }
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
