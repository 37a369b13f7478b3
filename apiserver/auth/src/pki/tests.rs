//! Certificates that we make are those that we accept, and only those; the data directory renews itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt as _;

use super::csr::{self, Request};
use super::*;
use crate::authn::x509::{CertificateError, ClientCertificates};

fn now() -> Timestamp {
    "2026-11-24T06:00:00Z".parse().unwrap()
}

fn authority(name: &str) -> Authority {
    let pair = Authority::generate(name, AUTHORITY_LIFETIME, now()).unwrap();
    Authority::from_pem(&pair.certificate, &pair.key).unwrap()
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

#[test]
fn client_certificates_name_users() {
    let (ours, theirs) = (authority("kubernetes-ca"), authority("kubernetes-ca"));
    let verifier = ClientCertificates::new(&[ours.der().clone()]).unwrap();
    let profile = Profile::client("jane", &["dev", "ops"]);
    let pair = ours.issue(&profile, LIFETIME, now()).unwrap();
    let user = verifier.verify(&der(&pair.certificate), &[], now()).unwrap();
    assert_eq!((user.name.as_str(), user.groups.join(",").as_str()), ("jane", "dev,ops,system:authenticated"));
    assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("X509SHA256="));
    let again = verifier.verify(&der(&pair.certificate), &[], now() + LIFETIME + SignedDuration::from_secs(1));
    assert!(matches!(again, Err(CertificateError::Expired)), "remembered, and yet it ends");

    let later = now() + LIFETIME + SignedDuration::from_secs(1);
    let refused = [
        (theirs.issue(&profile, LIFETIME, now()).unwrap(), now(), "another authority"),
        (ours.issue(&profile, LIFETIME, now()).unwrap(), later, "expired"),
        (ours.issue(&profile, LIFETIME, later).unwrap(), now(), "not valid yet"),
        (ours.issue(&Profile::server("x", &["x".to_owned()]), LIFETIME, now()).unwrap(), now(), "a server's"),
        (ours.issue(&Profile::client("", &["ops"]), LIFETIME, now()).unwrap(), now(), "nameless"),
    ];
    for (pair, at, what) in refused {
        assert!(verifier.verify(&der(&pair.certificate), &[], at).is_err(), "{what}");
    }
}

#[test]
fn directory_is_made_kept_and_renewed() {
    let directory = std::env::temp_dir().join(format!("cox-pki-{}", uuid::Uuid::new_v4()));
    let names = vec!["10.0.0.5".to_owned(), "node-1".to_owned()];
    let first = Pki::ensure(&directory, &names, now()).unwrap();
    for entry in std::fs::read_dir(&directory).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
    let second = Pki::ensure(&directory, &names, now()).unwrap();
    assert_eq!(first.serving, second.serving, "kept");
    assert_eq!(first.keys.signing_key().id, second.keys.signing_key().id);
    assert_eq!(first.ca.public_key_hash(), public_key_hash(second.ca.der()).unwrap());

    let more = [names, vec!["10.0.0.6".to_owned()]].concat();
    let third = Pki::ensure(&directory, &more, now()).unwrap();
    assert_ne!(third.serving, second.serving, "a name was missing");
    assert_eq!(third.kubelet_client, second.kubelet_client);
    let later = now() + LIFETIME * 3 / 4;
    let fourth = Pki::ensure(&directory, &more, later).unwrap();
    assert_ne!(fourth.kubelet_client, third.kubelet_client, "near its end");
    assert_eq!(fourth.ca.der(), third.ca.der());
    let due = third.renew_at().unwrap();
    assert!(due > now() + LIFETIME / 2 && due < later, "{due}");
    let much_later = now() + AUTHORITY_LIFETIME * 9 / 10;
    let fifth = Pki::ensure(&directory, &more, much_later).unwrap();
    assert_ne!(fifth.ca.der(), third.ca.der());
    assert_eq!(fifth.ca.public_key_hash(), third.ca.public_key_hash(), "tokens that pin it stay good");

    std::fs::remove_file(directory.join("ca.key")).unwrap();
    assert!(Pki::ensure(&directory, &more, now()).is_err(), "an authority is not replaced behind its users' backs");
    std::fs::remove_dir_all(&directory).unwrap();
}

/// As on a full disk: nothing new can be written where this process writes first.
fn without_room(directory: &std::path::Path, full: bool) {
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let obstacle = directory.join(format!("{}.{}.tmp", entry.file_name().to_string_lossy(), std::process::id()));
        match (full, entry.path().is_file()) {
            (true, true) => std::fs::create_dir(obstacle).unwrap(),
            (false, false) => std::fs::remove_dir(entry.path()).unwrap(),
            _ => {}
        }
    }
}

#[test]
fn what_is_due_and_cannot_be_written_goes_on_while_it_is_good() {
    let directory = std::env::temp_dir().join(format!("cox-pki-{}", uuid::Uuid::new_v4()));
    let ensure = |now| Pki::ensure(&directory, &[], now);
    let first = ensure(now()).unwrap();
    without_room(&directory, true);
    let due = now() + LIFETIME * 3 / 4;
    let late = ensure(due).unwrap();
    assert_eq!((&late.serving, &late.front_proxy_client), (&first.serving, &first.front_proxy_client));
    let why = late.put_off.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(why.lines().count() == 3 && why.contains("write ") && why.contains("apiserver.key: "), "{why}");
    assert!(ensure(now() + LIFETIME * 2).is_err(), "one that has ended is no use");

    without_room(&directory, false);
    let renewed = ensure(due).unwrap();
    assert!(renewed.put_off.is_empty() && renewed.serving != first.serving);
    without_room(&directory, true);
    let old = ensure(due + AUTHORITY_LIFETIME * 9 / 10);
    assert!(old.is_err(), "certificates that have ended");
    std::fs::remove_dir_all(&directory).unwrap();
}

fn usages(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

fn request(profile: &Profile) -> Request {
    Request::from_pem(csr::generate(profile).unwrap().0.as_bytes()).unwrap()
}

#[test]
fn signers_take_what_upstreams_take() {
    let node = Profile::client("system:node:n1", &["system:nodes"]);
    let with_names = |names: &[&str]| Profile { names: usages(names), ..node.clone() };
    let client = ["digital signature", "client auth"];
    let serving = ["digital signature", "key encipherment", "server auth"];
    type Row<'a> = (&'a str, &'a Profile, &'a [&'a str], Result<bool, &'a str>);
    let table: &[Row<'_>] = &[
        (csr::SIGNER_KUBELET_CLIENT, &node, &client, Ok(true)),
        (csr::SIGNER_KUBELET_CLIENT, &node, &["digital signature", "key encipherment", "client auth"], Ok(true)),
        (
            csr::SIGNER_KUBELET_CLIENT,
            &node,
            &serving,
            Err("usages did not match [client auth digital signature key encipherment]"),
        ),
        (csr::SIGNER_KUBELET_CLIENT, &with_names(&["n1"]), &client, Err("DNS subjectAltNames are not allowed")),
        (csr::SIGNER_KUBELET_CLIENT, &with_names(&["10.0.0.1"]), &client, Err("IP subjectAltNames are not allowed")),
        (
            csr::SIGNER_KUBELET_CLIENT,
            &Profile::client("system:node:n1", &["system:masters"]),
            &client,
            Err("subject organization is not system:nodes"),
        ),
        (
            csr::SIGNER_KUBELET_CLIENT,
            &Profile::client("admin", &["system:nodes"]),
            &client,
            Err("subject common name does not begin with system:node:"),
        ),
        (csr::SIGNER_KUBELET_SERVING, &with_names(&["n1", "10.0.0.1"]), &serving, Ok(true)),
        (csr::SIGNER_KUBELET_SERVING, &node, &serving, Err("DNS or IP subjectAltName is required")),
        (csr::SIGNER_CLIENT, &Profile::client("jane", &["dev"]), &["client auth"], Ok(true)),
        (
            csr::SIGNER_CLIENT,
            &Profile::client("jane", &[]),
            &["client auth", "server auth"],
            Err("invalid usage for client certificate: server auth"),
        ),
        (
            csr::SIGNER_CLIENT,
            &Profile::client("jane", &[]),
            &["digital signature"],
            Err("missing required usage for client certificate: client auth"),
        ),
        ("example.com/mine", &node, &client, Ok(false)),
    ];
    for (signer, profile, wanted, expected) in table {
        let found = csr::validate(signer, &request(profile), &usages(wanted));
        assert_eq!(found, expected.map_err(str::to_owned), "{signer} {profile:?} {wanted:?}");
    }
}

#[test]
fn a_signed_request_is_a_users_certificate() {
    let ca = authority("kubernetes-ca");
    let verifier = ClientCertificates::new(&[ca.der().clone()]).unwrap();
    let asked = request(&Profile::client("system:node:n1", &["system:nodes"]));
    let wanted = usages(&["digital signature", "client auth"]);
    let hour = csr::sign(&asked, &wanted, Some(3600), &ca, now()).unwrap();
    let user = verifier.verify(&der(&hour), &[], now()).unwrap();
    assert_eq!(user.node_name(), Some("n1"));
    let after = verifier.verify(&der(&hour), &[], now() + SignedDuration::from_secs(3601));
    assert!(after.is_err(), "ends when asked");
    let serving = csr::sign(&asked, &usages(&["server auth"]), None, &ca, now()).unwrap();
    assert!(verifier.verify(&der(&serving), &[], now()).is_err(), "not for clients");
    assert!(csr::sign(&asked, &wanted, None, &ca, now() + AUTHORITY_LIFETIME).is_err());
    assert!(csr::sign(&asked, &usages(&["world peace"]), None, &ca, now()).is_err());
    let forever = csr::sign(&asked, &wanted, Some(i64::from(i32::MAX)), &ca, now()).unwrap();
    assert!(verifier.verify(&der(&forever), &[], now() + LIFETIME).is_err(), "a year at the most");
}

#[test]
fn a_request_must_be_whole() {
    let (pem, _) = csr::generate(&Profile::client("jane", &["dev"])).unwrap();
    assert!(Request::from_pem(b"").is_err());
    assert!(Request::from_pem(pem.replace("CERTIFICATE REQUEST", "CERTIFICATE").as_bytes()).is_err());
    let mut bytes = CertificateSigningRequest::from(&pem);
    // What is signed: after the outer header, up to the signature's algorithm.
    let signed = 3..5 + usize::from(bytes.0[4]);
    for at in signed {
        bytes.0[at] ^= 1;
        assert!(Request::from_pem(bytes.pem().as_bytes()).is_err(), "byte {at}");
        bytes.0[at] ^= 1;
    }
    assert!(Request::from_pem(bytes.pem().as_bytes()).is_ok());
}

struct CertificateSigningRequest(Vec<u8>);

impl CertificateSigningRequest {
    fn from(pem: &str) -> Self {
        Self(rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec())
    }

    fn pem(&self) -> String {
        certificate::pem("CERTIFICATE REQUEST", &self.0)
    }
}
