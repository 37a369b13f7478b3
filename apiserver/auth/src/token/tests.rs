//! Tokens are good for whom, what and how long they were issued, and no more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use api::{Object, Reason, object};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::issue::issue;
use super::*;
use crate::testing::{Cluster, object as parsed};

fn now() -> Timestamp {
    "2026-11-24T06:00:00Z".parse().unwrap()
}

pub(crate) fn tokens() -> Tokens {
    Tokens::with_defaults(Keys::from_pem(rcgen::KeyPair::generate().unwrap().serialize_pem().as_bytes(), &[]).unwrap())
}

pub(crate) fn cluster() -> Cluster {
    let named = |name: &str, uid: &str| json!({"metadata": {"name": name, "namespace": "ns", "uid": uid}});
    let mut pod = named("p", "pod-uid");
    pod["spec"] = json!({"serviceAccountName": "robot", "nodeName": "n1"});
    Cluster::default()
        .with(&SERVICE_ACCOUNTS, named("robot", "sa-uid"))
        .with(&PODS, pod)
        .with(&SECRETS, named("s", "secret-uid"))
        .with(&NODES, json!({"metadata": {"name": "n1", "uid": "node-uid"}}))
}

fn request(spec: Value) -> Object {
    parsed(json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}))
}

fn bound_to(kind: &str, name: &str) -> Object {
    request(json!({"expirationSeconds": 3607, "boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name}}))
}

fn token_of(tokens: &Tokens, cluster: &Cluster, request: Object) -> String {
    let answer = issue(tokens, request, "ns", "robot", now(), cluster).unwrap();
    object::str_at(&answer, &["status", "token"]).to_owned()
}

#[test]
fn a_pods_token_names_account_pod_and_node() {
    let (tokens, cluster) = (tokens(), cluster());
    let answer = issue(&tokens, bound_to("Pod", "p"), "ns", "robot", now(), &cluster).unwrap();
    assert_eq!(object::str_at(&answer, &["status", "expirationTimestamp"]), "2026-11-24T07:00:07Z");
    assert_eq!(answer["spec"]["audiences"], json!([DEFAULT_ISSUER]));
    let token = object::str_at(&answer, &["status", "token"]);
    let verified = tokens.verify(token, &[], now(), &cluster).unwrap().unwrap();
    assert_eq!(verified.user.name, "system:serviceaccount:ns:robot");
    assert_eq!(verified.user.uid, "sa-uid");
    assert_eq!(verified.user.groups, ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]);
    let extra = |key: &str| verified.user.extra[&format!("authentication.kubernetes.io/{key}")][0].as_str();
    assert_eq!((extra("pod-name"), extra("pod-uid")), ("p", "pod-uid"));
    assert_eq!((extra("node-name"), extra("node-uid")), ("n1", "node-uid"));
    assert!(extra("credential-id").starts_with("JTI="));

    let claims: Value = serde_json::from_slice(&claims::parse(token).unwrap().payload).unwrap();
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 365 * 24 * 3600, "extended");
    assert_eq!(claims["kubernetes.io"]["warnafter"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3607);
    let expected = json!({"namespace": "ns", "node": {"name": "n1", "uid": "node-uid"},
        "pod": {"name": "p", "uid": "pod-uid"}, "serviceaccount": {"name": "robot", "uid": "sa-uid"},
        "warnafter": claims["kubernetes.io"]["warnafter"]});
    assert_eq!(claims["kubernetes.io"], expected);
}

#[test]
fn ends_when_its_time_is_over() {
    let (tokens, cluster) = (tokens(), cluster());
    let token = token_of(&tokens, &cluster, request(json!({"expirationSeconds": 600})));
    let at = |seconds: i64| {
        tokens.verify(&token, &[], now() + SignedDuration::from_secs(seconds), &cluster).map(|v| v.is_some())
    };
    assert_eq!(at(0), Ok(true));
    assert_eq!(at(659), Ok(true), "clocks may differ by a minute");
    assert_eq!(at(661), Err(TokenError::Expired));
    assert_eq!(at(-61), Err(TokenError::NotYet));
    assert_eq!(at(0), Ok(true));
}

#[test]
fn is_for_its_audiences() {
    let (tokens, cluster) = (tokens(), cluster());
    let token = token_of(&tokens, &cluster, request(json!({"audiences": ["vault", "other"]})));
    let verify = |wanted: &[&str]| {
        let wanted: Vec<String> = wanted.iter().map(|w| (*w).to_owned()).collect();
        tokens.verify(&token, &wanted, now(), &cluster).map(|v| v.unwrap().audiences)
    };
    assert_eq!(verify(&["vault"]), Ok(vec!["vault".to_owned()]));
    let text = format!(r#"token audiences ["vault" "other"] is invalid for the target audiences ["{DEFAULT_ISSUER}"]"#);
    assert_eq!(verify(&[]).unwrap_err().to_string(), text);
    assert!(verify(&["vaul"]).is_err());
}

#[test]
fn is_signed_by_us() {
    let (ours, theirs, cluster) = (tokens(), tokens(), cluster());
    let foreign = token_of(&theirs, &cluster, request(json!({})));
    assert_eq!(ours.verify(&foreign, &[], now(), &cluster), Err(TokenError::NoKey));
    let token = token_of(&ours, &cluster, request(json!({})));
    let parts: Vec<&str> = token.split('.').collect();
    let (header, body) = (foreign.split('.').next().unwrap(), parts[1]);
    let forged = [
        format!("{}.{}.{}", parts[0], foreign.split('.').nth(1).unwrap(), parts[2]),
        format!("{header}.{body}.{}", parts[2]),
        format!("{}.{body}.", parts[0]),
        format!("{}.{body}.{}", base64_url(r#"{"alg":"none"}"#), parts[2]),
        format!("{}.{body}.{}", base64_url(r#"{"alg":"HS256"}"#), parts[2]),
    ];
    for token in forged {
        assert!(ours.verify(&token, &[], now(), &cluster).is_err(), "{token}");
    }
    for nothing in ["", ".", "..", "a.b.c", "abcdef.0123456789abcdef", "e30.e30.e30"] {
        assert_eq!(ours.verify(nothing, &[], now(), &cluster), Ok(None), "{nothing}");
    }
}

fn base64_url(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

#[test]
fn dies_with_what_it_is_bound_to() {
    let old = "2026-11-24T05:58:00Z";
    let fresh = "2026-11-24T05:59:30Z";
    let cases: &[(Object, &api::Gvr, &str, &str)] = &[
        (bound_to("Pod", "p"), &PODS, "ns", "p"),
        (bound_to("Secret", "s"), &SECRETS, "ns", "s"),
        (bound_to("Node", "n1"), &NODES, "", "n1"),
        (request(json!({})), &SERVICE_ACCOUNTS, "ns", "robot"),
        (bound_to("Pod", "p"), &SERVICE_ACCOUNTS, "ns", "robot"),
    ];
    for (request, gvr, namespace, name) in cases {
        let (tokens, mut cluster) = (tokens(), cluster());
        let token = token_of(&tokens, &cluster, request.clone());
        let good = |cluster: &Cluster| tokens.verify(&token, &[], now(), cluster).is_ok();
        assert!(good(&cluster));
        let original = (*cluster.get(gvr, namespace, name).unwrap()).clone();
        let put = |cluster: &mut Cluster, change: &dyn Fn(&mut Object)| {
            let mut object = original.clone();
            change(&mut object);
            cluster.put(gvr, Value::Object(object));
        };
        cluster.remove(gvr, namespace, name);
        assert!(!good(&cluster), "{gvr} gone");
        put(&mut cluster, &|o| o["metadata"]["uid"] = json!("another"));
        assert!(!good(&cluster), "{gvr} made anew");
        put(&mut cluster, &|o| o["metadata"]["deletionTimestamp"] = json!(old));
        assert!(!good(&cluster), "{gvr} deleted long ago");
        put(&mut cluster, &|o| o["metadata"]["deletionTimestamp"] = json!(fresh));
        assert!(good(&cluster), "{gvr} being deleted");
        let later = now() + SignedDuration::from_secs(45);
        assert!(tokens.verify(&token, &[], later, &cluster).is_err(), "{gvr} deleted long ago by now");
    }
}

#[test]
fn requests_are_checked() {
    let (tokens, cluster) = (tokens(), cluster());
    let ask = |value: Value| issue(&tokens, parsed(value), "ns", "robot", now(), &cluster).unwrap_err();
    let table = [
        (
            json!({"spec": {"expirationSeconds": 599}}),
            Reason::Invalid,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 599: may not \
             specify a duration less than 10 minutes",
        ),
        (
            json!({"spec": {"expirationSeconds": 4294967297i64}}),
            Reason::Invalid,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 4294967297: \
             may not specify a duration larger than 2^32 seconds",
        ),
        (
            json!({"metadata": {"name": "other"}, "spec": {}}),
            Reason::Invalid,
            "TokenRequest.authentication.k8s.io \"robot\" is invalid: metadata.name: Invalid value: \"other\": must \
             match the service account name if specified",
        ),
        (
            json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "gone"}}}),
            Reason::NotFound,
            "pods \"gone\" not found",
        ),
        (
            json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "x"}}}),
            Reason::Conflict,
            "Operation cannot be fulfilled on Pod \"p\": the UID in the bound object reference (x) does not match the \
             UID in record. The object might have been deleted and then recreated",
        ),
        (
            json!({"spec": {"boundObjectRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}}),
            Reason::BadRequest,
            "cannot bind token to object of type apps/v1, Kind=Deployment",
        ),
    ];
    for (request, reason, message) in table {
        let status = ask(request);
        assert_eq!((status.reason, status.message.as_str()), (Some(reason), message));
    }
    let status = issue(&tokens, bound_to("Pod", "p"), "ns", "stranger", now(), &cluster).unwrap_err();
    assert_eq!(status.message, "serviceaccounts \"stranger\" not found");
}

#[test]
fn older_and_foreign_keys_verify() {
    let cluster = cluster();
    let old = rcgen::KeyPair::generate().unwrap();
    let before = Tokens::with_defaults(Keys::from_pem(old.serialize_pem().as_bytes(), &[]).unwrap());
    let token = token_of(&before, &cluster, request(json!({})));
    let new = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let keys = Keys::from_pem(new.as_bytes(), &[old.public_key_pem().as_bytes()]).unwrap();
    let after = Tokens::with_defaults(keys);
    assert!(after.verify(&token, &[], now(), &cluster).unwrap().is_some());
    let set = oidc::key_set(after.keys());
    assert_eq!(set["keys"].as_array().unwrap().len(), 2);
    assert_eq!(set["keys"][1]["kid"], json!(before.keys().signing_key().id));
    assert_eq!((&set["keys"][0]["kty"], &set["keys"][0]["alg"]), (&json!("EC"), &json!("ES256")));
    let document = oidc::configuration(after.issuer(), "10.0.0.1:6443", after.keys());
    assert_eq!(document["jwks_uri"], json!("https://10.0.0.1:6443/openid/v1/jwks"));
    assert_eq!(document["id_token_signing_alg_values_supported"], json!(["ES256"]));
}

#[test]
fn tokens_in_secrets_live_as_long_as_the_secret() {
    use base64::Engine as _;
    let (tokens, mut cluster) = (tokens(), cluster());
    let claims = json!({"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:ns:robot",
        "kubernetes.io/serviceaccount/namespace": "ns", "kubernetes.io/serviceaccount/secret.name": "s",
        "kubernetes.io/serviceaccount/service-account.name": "robot",
        "kubernetes.io/serviceaccount/service-account.uid": "sa-uid"});
    let token = claims::sign(&claims, tokens.keys()).unwrap();
    let data = base64::engine::general_purpose::STANDARD.encode(&token);
    let secret = |labels: Value, data: &str| {
        let metadata = json!({"name": "s", "namespace": "ns", "uid": "u", "labels": labels});
        json!({"metadata": metadata, "data": {"token": data}})
    };
    let error = |cluster: &Cluster| tokens.verify(&token, &[], now(), cluster).err().map(|e| e.to_string());
    assert_eq!(error(&cluster).as_deref(), Some("Token does not match server's copy"));
    cluster.put(&SECRETS, secret(json!({}), &data));
    assert_eq!(error(&cluster), None);
    cluster.put(&SECRETS, secret(json!({"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}), &data));
    assert!(error(&cluster).unwrap().contains("has been marked invalid"));
    cluster.remove(&SECRETS, "ns", "s");
    assert_eq!(error(&cluster).as_deref(), Some("Token has been invalidated"));
}
