//! Pure: which certificate requests are approved by whom, and when they are cleaned away.

use std::collections::HashSet;
use std::net::IpAddr;

use apiserver_auth::pki::csr::{self, Request};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Upstream's cleaner: how long what became of a request is kept, and how long one may wait.
const SETTLED: SignedDuration = SignedDuration::from_hours(1);
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// One way to be approved: the requester must be allowed to create this subresource of certificatesigningrequests.
#[derive(Debug, PartialEq, Eq)]
pub struct Approval {
    pub subresource: &'static str,
    pub message: &'static str,
}

const SELF_NODE: Approval = Approval {
    subresource: "selfnodeclient",
    message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
};
const NODE: Approval = Approval {
    subresource: "nodeclient",
    message: "Auto approving kubelet client certificate after SubjectAccessReview.",
};
/// Ours: upstream leaves serving certificates to an administrator.
pub const SERVING: &str = "Auto approving kubelet serving certificate: its names and addresses are the Node's own.";

pub fn has_condition(request: &CertificateSigningRequest, kind: &str) -> bool {
    let conditions = request.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == kind)
}

pub fn is_issued(request: &CertificateSigningRequest) -> bool {
    let certificate = request.status.as_ref().and_then(|status| status.certificate.as_ref());
    certificate.is_some_and(|certificate| !certificate.0.is_empty())
}

/// Neither approved, denied nor issued.
pub fn is_open(request: &CertificateSigningRequest) -> bool {
    !is_issued(request) && !has_condition(request, "Approved") && !has_condition(request, "Denied")
}

/// How a request for a node's client certificate may be approved: the first that is permitted counts.
pub fn client_approvals(object: &CertificateSigningRequest, request: &Request) -> Vec<Approval> {
    let usages = object.spec.usages.as_deref().unwrap_or_default();
    if object.spec.signer_name != csr::SIGNER_KUBELET_CLIENT || csr::validate_kubelet_client(request, usages).is_err() {
        return Vec::new();
    }
    if object.spec.username.as_deref() == Some(&*request.common_name) {
        return vec![SELF_NODE, NODE];
    }
    vec![NODE]
}

/// The name of the node that asks for its own serving certificate.
pub fn serving_node<'a>(object: &CertificateSigningRequest, request: &'a Request) -> Option<&'a str> {
    let usages = object.spec.usages.as_deref().unwrap_or_default();
    let valid = object.spec.signer_name == csr::SIGNER_KUBELET_SERVING
        && csr::validate_kubelet_serving(request, usages).is_ok();
    let itself = object.spec.username.as_deref() == Some(&*request.common_name);
    let of_nodes = object.spec.groups.iter().flatten().any(|group| group == "system:nodes");
    if valid && itself && of_nodes { request.common_name.strip_prefix("system:node:") } else { None }
}

/// Whether all names and addresses that a node asks for are its Node's. `taken` holds the other Nodes' addresses and
/// those of Services: a node says itself which addresses it has, and must not get one that is another's.
pub fn may_serve(request: &Request, node: &Node, taken: &HashSet<IpAddr>) -> bool {
    let (ips, names) = (node_ips(node), node_names(node));
    let may_have = |ip: &IpAddr| ips.contains(ip) && !taken.contains(ip) && !ip.is_loopback();
    request.ip_addresses.iter().all(may_have) && request.dns_names.iter().all(|asked| names.contains(asked))
}

fn addresses<'a>(node: &'a Node, kinds: &'static [&'static str]) -> impl Iterator<Item = &'a str> {
    let all = node.status.as_ref().and_then(|status| status.addresses.as_ref());
    let of_kind = all.into_iter().flatten().filter(|address| kinds.contains(&address.type_.as_str()));
    of_kind.map(|address| address.address.as_str())
}

/// The addresses of a Node.
pub fn node_ips(node: &Node) -> Vec<IpAddr> {
    addresses(node, &["InternalIP", "ExternalIP"]).filter_map(|ip| ip.parse().ok()).collect()
}

fn node_names(node: &Node) -> Vec<String> {
    let names = addresses(node, &["Hostname", "InternalDNS", "ExternalDNS"]);
    names.map(str::to_owned).chain(node.metadata.name.clone()).collect()
}

/// When a request is to be cleaned away, as things are.
pub fn expires(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let issued = is_issued(request);
    let conditions = request.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let mut ends: Vec<Timestamp> = Vec::new();
    for condition in &conditions {
        let since = condition.last_update_time.as_ref().map(|time| time.0);
        let keep = match (condition.type_.as_str(), issued) {
            ("Denied" | "Failed", _) | ("Approved", true) => SETTLED,
            ("Approved", false) => PENDING,
            _ => continue,
        };
        ends.extend(since.map(|since| since + keep));
        if condition.type_ == "Approved" {
            ends.extend(end_of_certificate(request));
        }
    }
    if conditions.is_empty() {
        ends.extend(request.metadata.creation_timestamp.as_ref().map(|made| made.0 + PENDING));
    }
    ends.into_iter().min()
}

fn end_of_certificate(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let pem = &request.status.as_ref()?.certificate.as_ref()?.0;
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use apiserver_auth::pki::Profile;
    use serde_json::json;

    use super::*;

    fn ask(user: &str, signer: &str, purpose: &str, names: &[&str]) -> (CertificateSigningRequest, Request) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let profile = Profile { names, ..Profile::client("system:node:n1", &["system:nodes"]) };
        let (pem, _) = csr::generate(&profile).unwrap();
        let object = serde_json::from_value(json!({
            "metadata": {"name": "c", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"request": "", "signerName": signer, "username": user, "groups": ["system:nodes"],
                "usages": ["digital signature", purpose]},
        }));
        (object.unwrap(), Request::from_pem(pem.as_bytes()).unwrap())
    }

    #[test]
    fn who_approves_client_certificates() {
        let subresources = |user, signer, purpose, names: &[&str]| {
            let (object, request) = ask(user, signer, purpose, names);
            client_approvals(&object, &request).iter().map(|a| a.subresource).collect::<Vec<_>>()
        };
        let signer = csr::SIGNER_KUBELET_CLIENT;
        assert_eq!(subresources("system:node:n1", signer, "client auth", &[]), ["selfnodeclient", "nodeclient"]);
        assert_eq!(subresources("system:bootstrap:abc", signer, "client auth", &[]), ["nodeclient"]);
        assert!(subresources("system:node:n1", signer, "server auth", &[]).is_empty());
        assert!(subresources("system:node:n1", signer, "client auth", &["n1"]).is_empty());
        assert!(subresources("system:node:n1", csr::SIGNER_CLIENT, "client auth", &[]).is_empty());
    }

    #[test]
    fn a_node_gets_a_serving_certificate_for_itself_only() {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n1"},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"},
                {"type": "InternalIP", "address": "192.0.2.9"}, {"type": "Hostname", "address": "host"}]},
        }))
        .unwrap();
        let signer = csr::SIGNER_KUBELET_SERVING;
        let taken = ["192.0.2.9", "10.96.0.1"].iter().map(|ip| ip.parse().unwrap()).collect();
        let cases: &[(&str, &[&str], bool)] = &[
            ("system:node:n1", &["n1", "host", "192.0.2.1"], true),
            ("system:node:n1", &["192.0.2.1"], true),
            ("system:node:n1", &["192.0.2.2"], false),
            ("system:node:n1", &["n1", "192.0.2.9"], false),
            ("system:node:n1", &["n1", "127.0.0.1"], false),
            ("system:node:n1", &["kubernetes.default.svc", "192.0.2.1"], false),
            ("system:node:n2", &["n1"], false),
        ];
        for (user, names, approved) in cases {
            let (object, request) = ask(user, signer, "server auth", names);
            let got = serving_node(&object, &request) == Some("n1") && may_serve(&request, &node, &taken);
            assert_eq!(got, *approved, "{user} {names:?}");
        }
    }

    #[test]
    fn when_requests_are_cleaned_away() {
        let with = |status: serde_json::Value| {
            let (mut object, _) = ask("u", csr::SIGNER_CLIENT, "client auth", &[]);
            object.status = serde_json::from_value(status).unwrap();
            expires(&object).map(|at| at.to_string())
        };
        let condition =
            |kind: &str| json!([{"type": kind, "status": "True", "lastUpdateTime": "2026-01-01T01:00:00Z"}]);
        assert_eq!(with(json!({})).as_deref(), Some("2026-01-02T00:00:00Z"));
        assert_eq!(with(json!({"conditions": condition("Denied")})).as_deref(), Some("2026-01-01T02:00:00Z"));
        assert_eq!(with(json!({"conditions": condition("Approved")})).as_deref(), Some("2026-01-02T01:00:00Z"));
        let issued = json!({"conditions": condition("Approved"), "certificate": "YQ=="});
        assert_eq!(with(issued).as_deref(), Some("2026-01-01T02:00:00Z"));
    }
}
