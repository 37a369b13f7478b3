//! CertificateSigningRequests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::json::{ensure, int, keep, object, object_mut, text, texts};
use crate::field::{ErrorList, FieldError, Path};
use crate::table::{Hooks, Requester};
use crate::{Object, names};

pub fn hooks() -> Hooks {
    Hooks {
        prepare: Some(prepare),
        validate: Some(validate),
        requested_by: Some(requested_by),
        fields: Some(fields),
        ..Hooks::default()
    }
}

/// The shortest life that may be asked for, in seconds.
const MIN_LIFE: i64 = 600;

/// `spec.usages` that there are (certificates.k8s.io/v1 `KeyUsage`).
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// The spec of a new request; nothing changes it later. That its signature holds is for signers to see.
fn validate(new: &Object, old: Option<&Object>, _subresource: &str, errors: &mut ErrorList) {
    if old.is_some() {
        return;
    }
    let (empty, path) = (Object::new(), Path::new("spec"));
    let spec = object(new, "spec").unwrap_or(&empty);
    let request = text(spec, "request");
    let pem = STANDARD.decode(request).unwrap_or_default();
    if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE REQUEST-----") {
        let why = "PEM block type must be CERTIFICATE REQUEST";
        errors.push(FieldError::invalid(&path.child("request"), request, why));
    }
    usages(spec, &path.child("usages"), errors);
    signer(text(spec, "signerName"), &path.child("signerName"), errors);
    if let Some(seconds) = int(spec, "expirationSeconds").filter(|seconds| *seconds < MIN_LIFE) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(FieldError::invalid(&path.child("expirationSeconds"), seconds, why));
    }
}

fn usages(spec: &Object, path: &Path, errors: &mut ErrorList) {
    let asked: Vec<&str> = texts(spec, "usages").map(|(_, usage)| usage).collect();
    if asked.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    for (i, usage) in asked.iter().enumerate().filter(|(_, usage)| !USAGES.contains(usage)) {
        errors.push(FieldError::not_supported(&path.index(i), *usage, &USAGES));
    }
    for (i, usage) in asked.iter().enumerate().filter(|(i, usage)| asked[..*i].contains(usage)) {
        errors.push(FieldError::duplicate(&path.index(i), *usage));
    }
}

/// `DOMAIN/NAME`, the domain with a dot in it.
fn signer(name: &str, path: &Path, errors: &mut ErrorList) {
    if name.is_empty() {
        return errors.push(FieldError::required(path, ""));
    }
    if name == "kubernetes.io/legacy-unknown" {
        let why = "the legacy signerName is not allowed via this API version";
        return errors.push(FieldError::invalid(path, name, why));
    }
    let Some((domain, rest)) = name.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.push(FieldError::invalid(path, name, why));
    };
    labels(domain, names::dns1123_label, path, errors);
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, domain, why));
    }
    labels(rest, names::dns1123_subdomain, path, errors);
}

/// What is wrong with the first wrong label of a dotted name.
fn labels(name: &str, rule: fn(&str) -> Vec<String>, path: &Path, errors: &mut ErrorList) {
    let found = name.split('.').map(|label| (label, rule(label))).find(|(_, found)| !found.is_empty());
    for (label, why) in found.into_iter().flat_map(|(label, found)| found.into_iter().map(move |why| (label, why))) {
        errors.push(FieldError::invalid(path, name, format!("validating label {label:?}: {why}")));
    }
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
