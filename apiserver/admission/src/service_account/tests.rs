//! Accounts, their tokens and secrets, as Pods get them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use apiserver_auth::testing::Cluster;

use super::*;
use crate::testing::{Ask, refusal, run};

fn account(name: &str, more: Value) -> Value {
    let mut account = json!({"metadata": {"name": name, "namespace": "ns"}});
    if let (Some(account), Value::Object(more)) = (account.as_object_mut(), more) {
        account.extend(more);
    }
    account
}

fn cluster() -> Cluster {
    Cluster::default()
        .with(&SERVICE_ACCOUNTS, account("default", json!({})))
        .with(&SERVICE_ACCOUNTS, account("pulls", json!({"imagePullSecrets": [{"name": "registry"}]})))
        .with(&SERVICE_ACCOUNTS, account("quiet", json!({"automountServiceAccountToken": false})))
}

fn pod(spec: Value) -> Ask {
    Ask::create("pods", json!({"metadata": {"name": "p"}, "spec": spec}))
}

#[test]
fn a_pod_gets_account_and_token() {
    let made = run(
        &ServiceAccount,
        pod(json!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]})),
        &cluster(),
    );
    let made = made.unwrap();
    let spec = &made["spec"];
    assert_eq!((&spec["serviceAccountName"], &spec["serviceAccount"]), (&json!("default"), &json!("default")));
    let name = spec["volumes"][0]["name"].as_str().unwrap();
    let suffix = name.strip_prefix("kube-api-access-").unwrap();
    assert_eq!(suffix.len(), 5);
    let expected = json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}},
        {"downwardAPI": {"items": [
            {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}, "path": "namespace"},
        ]}},
    ]}});
    assert_eq!(spec["volumes"], json!([expected]));
    let mount = json!([{"mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "name": name, "readOnly": true}]);
    assert_eq!(spec["containers"][0]["volumeMounts"], mount);
    assert_eq!(spec["initContainers"][0]["volumeMounts"], mount);
    let again = run(&ServiceAccount, Ask::create("pods", made.clone()), &cluster()).unwrap();
    assert_eq!(again, made, "once");
}

#[test]
fn the_token_stays_out_where_it_is_not_wanted() {
    let volumes = |spec: Value| run(&ServiceAccount, pod(spec), &cluster()).unwrap()["spec"]["volumes"].clone();
    let container = json!([{"name": "c"}]);
    assert!(volumes(json!({"containers": container, "serviceAccountName": "quiet"})).is_null());
    let pods_word =
        json!({"containers": container, "serviceAccountName": "quiet", "automountServiceAccountToken": true});
    assert!(volumes(pods_word).is_array());
    assert!(volumes(json!({"containers": container, "automountServiceAccountToken": false})).is_null());
    let taken =
        json!([{"name": "c", "volumeMounts": [{"mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]}]);
    assert!(volumes(json!({"containers": taken})).is_null());
}

#[test]
fn pull_secrets_are_the_accounts_unless_the_pod_has_its_own() {
    let secrets =
        |spec: Value| run(&ServiceAccount, pod(spec), &cluster()).unwrap()["spec"]["imagePullSecrets"].clone();
    assert_eq!(secrets(json!({"serviceAccountName": "pulls"})), json!([{"name": "registry"}]));
    let own = json!([{"name": "own"}]);
    assert_eq!(secrets(json!({"serviceAccountName": "pulls", "imagePullSecrets": own})), own);
    assert!(secrets(json!({})).is_null());
}

#[test]
fn the_account_must_exist() {
    let message = refusal(&ServiceAccount, pod(json!({"serviceAccountName": "gone"})), &cluster());
    let expected =
        "pods \"p\" is forbidden: error looking up service account ns/gone: serviceaccount \"gone\" not found";
    assert_eq!(message, expected);
    let generated =
        Ask::create("pods", json!({"metadata": {"generateName": "web-"}, "spec": {"serviceAccountName": "gone"}}));
    assert!(refusal(&ServiceAccount, generated, &cluster()).starts_with("pods \"web-\" is forbidden:"));
}

#[test]
fn mirror_pods_reach_nothing() {
    let mirror = |spec: Value| {
        let object =
            json!({"metadata": {"name": "p", "annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": spec});
        run(&ServiceAccount, Ask::create("pods", object), &cluster()).map_err(|s| s.message)
    };
    let plain = json!({"containers": [{"name": "c"}]});
    assert_eq!(mirror(plain.clone()).unwrap()["spec"], plain, "left as it is");
    let table = [
        (json!({"serviceAccountName": "default"}), "a mirror pod may not reference service accounts"),
        (json!({"volumes": [{"secret": {"secretName": "s"}}]}), "a mirror pod may not reference secrets"),
        (
            json!({"volumes": [{"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}),
            "a mirror pod may not use ServiceAccountToken volume projections",
        ),
    ];
    for (spec, why) in table {
        assert_eq!(mirror(spec), Err(format!("pods \"p\" is forbidden: {why}")));
    }
}

#[test]
fn enforced_accounts_limit_secrets() {
    let strict = json!({"metadata": {"name": "strict", "namespace": "ns",
        "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}, "secrets": [{"name": "ok"}]});
    let cluster = cluster().with(&SERVICE_ACCOUNTS, strict);
    let ask = |mut spec: Value| {
        spec["serviceAccountName"] = json!("strict");
        refusal(&ServiceAccount, pod(spec), &cluster)
    };
    let env =
        |secret: &str| json!([{"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": secret}}}]}]);
    let why = "is not allowed because service account strict does not reference that secret";
    let head = "pods \"p\" is forbidden:";
    assert_eq!(ask(json!({"containers": env("ok")})), "");
    let expected = format!("{head} container c with envVar E referencing secret.secretName=\"no\" {why}");
    assert_eq!(ask(json!({"containers": env("no")})), expected);
    let expected = format!("{head} init container c with envVar E referencing secret.secretName=\"no\" {why}");
    assert_eq!(ask(json!({"initContainers": env("no")})), expected);
    let expected = format!("{head} volume with secret.secretName=\"no\" {why}");
    assert_eq!(ask(json!({"volumes": [{"secret": {"secretName": "no"}}]})), expected);
    let from = json!({"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "no"}}]}]});
    assert_eq!(ask(from), format!("{head} container c with envFrom referencing secret.secretName=\"no\" {why}"));
    let pull = ask(json!({"imagePullSecrets": [{"name": "no"}]}));
    assert!(pull.contains("imagePullSecrets[0].name=\"no\" is not allowed"), "{pull}");
}
