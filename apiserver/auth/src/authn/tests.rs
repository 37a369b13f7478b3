//! Credentials of each kind, good and bad, and impersonation as far as it is granted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use api::Status;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::impersonation::{Wanted, impersonate};
use super::*;
use crate::authorize::{Attributes, Authorizer, Decision};
use crate::objects::SECRETS;
use crate::pki::{Authority, LIFETIME, Profile};
use crate::testing::Cluster;
use crate::token::Keys;

fn now() -> Timestamp {
    "2026-11-24T06:00:00Z".parse().unwrap()
}

fn authenticator(ca: &Authority) -> Authenticator {
    let keys = Keys::from_pem(rcgen::KeyPair::generate().unwrap().serialize_pem().as_bytes(), &[]).unwrap();
    let certificates = ClientCertificates::new(&[ca.der().clone()]).unwrap();
    Authenticator::new(certificates, Arc::new(Tokens::with_defaults(keys)))
}

fn authority() -> Authority {
    let pair = Authority::generate("ca", LIFETIME, now()).unwrap();
    Authority::from_pem(&pair.certificate, &pair.key).unwrap()
}

fn certificate(ca: &Authority, user: &str) -> CertificateDer<'static> {
    let pair = ca.issue(&Profile::client(user, &[]), LIFETIME, now()).unwrap();
    CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()
}

fn bootstrap_secret(changes: &[(&str, &str)]) -> Value {
    use base64::Engine as _;
    let mut data = serde_json::Map::new();
    let defaults = [
        ("token-id", "abcdef"),
        ("token-secret", "0123456789abcdef"),
        ("usage-bootstrap-authentication", "true"),
        ("auth-extra-groups", "system:bootstrappers:kubeadm:default-node-token"),
        ("expiration", "2026-11-24T06:00:01Z"),
    ];
    for (key, value) in defaults.iter().chain(changes) {
        data.insert((*key).to_owned(), base64::engine::general_purpose::STANDARD.encode(value).into());
    }
    json!({"metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token", "data": data})
}

#[test]
fn credentials_or_nobody() {
    let (ca, other) = (authority(), authority());
    let authenticator = authenticator(&ca);
    let cluster = Cluster::default().with(&SECRETS, bootstrap_secret(&[]));
    let (good, bad) = (certificate(&ca, "jane"), certificate(&other, "jane"));
    let token = "abcdef.0123456789abcdef";
    let ask = |certs: &[CertificateDer<'_>], bearer: Option<&str>| {
        let user = authenticator.authenticate(certs, bearer, now(), &cluster);
        user.map(|u| u.map(|u| u.name.clone())).map_err(|e| e.code)
    };
    assert_eq!(ask(&[], None), Ok(None));
    assert_eq!(ask(&[], Some("")), Ok(None));
    assert_eq!(ask(std::slice::from_ref(&good), None), Ok(Some("jane".to_owned())));
    assert_eq!(ask(&[good], Some("nonsense")), Ok(Some("jane".to_owned())));
    assert_eq!(ask(std::slice::from_ref(&bad), None), Err(401));
    assert_eq!(ask(&[bad], Some(token)), Ok(Some("system:bootstrap:abcdef".to_owned())));
    assert_eq!(ask(&[CertificateDer::from(vec![0; 10])], None), Err(401));
    assert_eq!(ask(&[], Some("nonsense")), Err(401));
    assert_eq!(ask(&[], Some("abcdef.0123456789abcdee")), Err(401));
}

#[test]
fn bootstrap_tokens_are_checked_whole() {
    let token = "abcdef.0123456789abcdef";
    let verify = |secret: Value| bootstrap::verify(token, now(), &Cluster::default().with(&SECRETS, secret));
    let user = verify(bootstrap_secret(&[])).unwrap();
    let groups = ["system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token", "system:authenticated"];
    assert_eq!(user.groups, groups);
    assert!(verify(bootstrap_secret(&[("expiration", "")])).is_some(), "never ends");
    let bad = [
        ("expiration", "2026-11-24T06:00:00Z"),
        ("expiration", "soon"),
        ("usage-bootstrap-authentication", "yes"),
        ("token-id", "abcdeg"),
        ("token-secret", "0123456789abcdeg"),
        ("auth-extra-groups", "system:masters"),
        ("auth-extra-groups", "system:bootstrappers:a,system:nodes"),
        ("auth-extra-groups", "system:bootstrappers:"),
    ];
    for change in bad {
        assert!(verify(bootstrap_secret(&[change])).is_none(), "{change:?}");
    }
    let mut other = bootstrap_secret(&[]);
    other["type"] = json!("Opaque");
    assert!(verify(other).is_none());
    for bad in ["abcdef", "abcdef.", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcde", "abcdef.0123456789abcdef."] {
        assert!(bootstrap::parse(bad).is_none(), "{bad}");
    }
}

/// Lets through what it lists: `[VERB ]resource[/subresource] [namespace/]name`, of the verb `impersonate` if none is
/// said.
struct May<'a>(&'a [&'a str]);

impl Authorizer for May<'_> {
    fn authorize(&self, a: &Attributes<'_>, _: &dyn Objects) -> Decision {
        let of =
            if a.subresource.is_empty() { a.resource.to_owned() } else { format!("{}/{}", a.resource, a.subresource) };
        let name = if a.namespace.is_empty() { a.name.to_owned() } else { format!("{}/{}", a.namespace, a.name) };
        let wanted = format!("{of} {name}");
        let wanted = if a.verb == "impersonate" { wanted } else { format!("{} {wanted}", a.verb) };
        if self.0.contains(&wanted.as_str()) {
            Decision::Allow(Arc::from("test"))
        } else {
            Decision::NoOpinion(String::new())
        }
    }
}

fn act_as(headers: &[(&str, &str)], may: &[&str]) -> Result<Option<UserInfo>, Status> {
    let Some(wanted) = Wanted::from_headers(headers.iter().copied())? else { return Ok(None) };
    let admin = UserInfo::new("admin", &[]);
    let request = Attributes { namespace: "ns", ..Attributes::resource(&admin, "list", "", "pods") };
    impersonate(&request, &wanted, &May(may), &Cluster::default()).map(Some)
}

#[test]
fn impersonation_needs_each_part_granted() {
    assert_eq!(act_as(&[("accept", "*/*")], &[]), Ok(None));
    let user = act_as(&[("impersonate-user", "jane")], &["users jane"]).unwrap().unwrap();
    assert_eq!((user.name.as_str(), user.groups), ("jane", vec!["system:authenticated".to_owned()]));

    let headers = [
        ("impersonate-user", "jane"),
        ("impersonate-group", "dev"),
        ("impersonate-uid", "u1"),
        ("impersonate-extra-acme.com%2fproject", "x"),
    ];
    let all: &[&str] = &["users jane", "groups dev", "uids u1", "userextras/acme.com/project x"];
    let user = act_as(&headers, all).unwrap().unwrap();
    assert_eq!(user.groups, ["dev", "system:authenticated"]);
    assert_eq!((user.uid.as_str(), &user.extra["acme.com/project"]), ("u1", &vec!["x".to_owned()]));
    let less: [&[&str]; 3] = [
        &["groups dev", "uids u1", "userextras/acme.com/project x"],
        &["users jane", "groups dev", "uids u1"],
        &["users jane", "uids u1", "userextras/acme.com/project x"],
    ];
    for may in less {
        assert_eq!(act_as(&headers, may).unwrap_err().code, 403);
    }

    let account = [("impersonate-user", "system:serviceaccount:ns:robot")];
    let user = act_as(&account, &["serviceaccounts ns/robot"]).unwrap().unwrap();
    assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]);
    let user = act_as(&[("impersonate-user", "system:anonymous")], &["users system:anonymous"]).unwrap().unwrap();
    assert_eq!(user.groups, ["system:unauthenticated"]);

    let status = act_as(&[("impersonate-group", "x")], &[]).unwrap_err();
    let message = "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"x\"}, \
                   Extra:map[string][]string(nil)} without impersonating a user name";
    assert_eq!((status.code, status.message.as_str()), (400, message));
    let status = act_as(&[("impersonate-user", "jane")], &[]).unwrap_err();
    // Upstream tells the refusal of the first mode that it tries.
    let refusal = "pods is forbidden: User \"admin\" cannot impersonate-on:user-info:list resource \"pods\" in API \
                   group \"\" in the namespace \"ns\"";
    assert_eq!(status.message, refusal);
}

#[test]
fn constrained_impersonation_is_for_some_requests() {
    let user = |headers: &[(&str, &str)], may: &[&str]| act_as(headers, may).map(|u| u.unwrap());
    let jane = [("impersonate-user", "jane")];
    let both: &[&str] = &["impersonate-on:user-info:list pods ns/", "impersonate:user-info users jane"];
    assert_eq!(user(&jane, both).unwrap().name, "jane");
    assert_eq!(user(&jane, &["impersonate-on:user-info:list pods ns/"]).unwrap_err().code, 403);
    assert_eq!(
        user(&jane, &["impersonate-on:user-info:get pods ns/", "impersonate:user-info users jane"]).unwrap_err().code,
        403
    );

    let node = [("impersonate-user", "system:node:n1")];
    let may: &[&str] = &["impersonate-on:arbitrary-node:list pods ns/", "impersonate:arbitrary-node nodes n1"];
    assert_eq!(user(&node, may).unwrap().groups, ["system:nodes", "system:authenticated"]);
    let account = [("impersonate-user", "system:serviceaccount:ns:robot")];
    let may: &[&str] =
        &["impersonate-on:serviceaccount:list pods ns/", "impersonate:serviceaccount serviceaccounts ns/robot"];
    assert_eq!(user(&account, may).unwrap().groups[1], "system:serviceaccounts:ns");

    let masters = [("impersonate-user", "jane"), ("impersonate-group", "system:masters")];
    let may: &[&str] = &[both[0], both[1], "impersonate:user-info groups system:masters"];
    let status = user(&masters, may).unwrap_err();
    assert!(status.message.ends_with("impersonating the system:masters group is not allowed"), "{}", status.message);
    let many = ["a", "b", "c", "d"].map(|group| ("impersonate-group", group));
    let headers = [&jane[..], &many[..]].concat();
    let may: &[&str] = &[both[0], both[1], "impersonate:user-info groups *"];
    assert_eq!(user(&headers, may).unwrap().groups.len(), 5);
    let extra = [("impersonate-user", "jane"), ("impersonate-extra-plain", "x")];
    let status = user(&extra, both).unwrap_err();
    assert!(status.message.contains("must be a domain-prefixed path"), "{}", status.message);
}

#[test]
fn an_account_acts_as_its_own_node_only() {
    let mut agent = UserInfo::service_account("kube-system", "agent", "");
    agent.extra.insert("authentication.kubernetes.io/node-name".to_owned(), vec!["n1".to_owned()]);
    let request = Attributes::resource(&agent, "list", "", "pods");
    let may: &[&str] = &["impersonate-on:associated-node:list pods ", "impersonate:associated-node nodes *"];
    let act_as = |node: &str| {
        let wanted = Wanted { user: format!("system:node:{node}"), ..Wanted::default() };
        impersonate(&request, &wanted, &May(may), &Cluster::default())
    };
    assert_eq!(act_as("n1").unwrap().node_name(), Some("n1"));
    assert_eq!(act_as("n2").unwrap_err().code, 403);
}
