//! Who may what, over TLS with real certificates: the table of rights, tokens, and what a node reaches.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fmt::Write as _;

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use support::facts::File;
use support::https::Https;
use support::listening::{Listening, listening};
use support::rights::Table;

/// An answer's code and body.
async fn send(client: &Https, method: &str, path: &str, body: &str) -> (u16, Value) {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder().method(method).uri(path).header("content-type", kind);
    let (code, _, body) = client.send(request.body(Full::from(body.to_owned())).unwrap()).await;
    (code.as_u16(), serde_json::from_slice(&body).unwrap_or_default())
}

async fn make(client: &Https, path: &str, body: Value) -> Value {
    let (code, made) = send(client, "POST", path, &body.to_string()).await;
    assert_eq!(code, 201, "{path}: {made}");
    made
}

async fn set_up() -> (Listening, Https) {
    let server = listening().await;
    let admin = server.admin();
    for case in File::read("rights-setup.txt").cases {
        let (code, _, body) = admin.send(case.request()).await;
        assert!(code.is_success(), "{}: {}", case.title, String::from_utf8_lossy(&body));
    }
    (server, admin)
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_may_what_the_reference_lets_them() {
    let (server, _admin) = set_up().await;
    let table = Table::parse(&support::facts::read("rights.txt")).expect("a table");
    let mut clients = Vec::new();
    for user in &table.users {
        clients.push(match user.name.as_str() {
            "-" => Https::new(server.address, None, None),
            name => server.client(name, &user.groups.iter().map(String::as_str).collect::<Vec<_>>()),
        });
    }
    let before = server.store.revision();
    let mut differences = String::new();
    for row in &table.rows {
        let answers = clients.iter().map(|client| client.send(row.request()));
        let answers = futures::future::join_all(answers).await;
        for ((user, expected), (code, _, body)) in table.users.iter().zip(&row.codes).zip(answers) {
            if code.as_str() != expected {
                let body = String::from_utf8_lossy(&body);
                let body: String = body.chars().take(300).collect();
                writeln!(differences, "{} as {}: {expected}, ours {code}: {body}", row.line, user.name).unwrap();
            }
        }
    }
    assert!(differences.is_empty(), "{differences}");
    assert_eq!(server.store.revision(), before, "a request of the table changed something");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_good_as_long_as_what_they_are_bound_to() {
    let (server, admin) = set_up().await;
    let token = |body: Value| {
        let admin = &admin;
        async move {
            let path = "/api/v1/namespaces/default/serviceaccounts/robot/token";
            make(admin, path, body).await["status"]["token"].as_str().unwrap().to_owned()
        }
    };
    let pods = "/api/v1/namespaces/default/pods";
    let good = token(json!({"spec": {}})).await;
    let client = |token: &str| Https::new(server.address, None, Some(token));
    assert_eq!(send(&client(&good), "GET", pods, "").await.0, 200);
    assert_eq!(send(&client(&good), "GET", "/api/v1/namespaces/default/secrets", "").await.0, 403);
    // For another audience it is nobody's.
    let foreign = token(json!({"spec": {"audiences": ["https://elsewhere"]}})).await;
    assert_eq!(send(&client(&foreign), "GET", pods, "").await.0, 401);
    // One letter of each part changed.
    for part in 0..3 {
        let mut parts: Vec<String> = good.split('.').map(str::to_owned).collect();
        let middle = parts[part].len() / 2;
        let other = if &parts[part][middle..=middle] == "A" { "B" } else { "A" };
        parts[part].replace_range(middle..=middle, other);
        assert_eq!(send(&client(&parts.join(".")), "GET", pods, "").await.0, 401, "part {part}");
    }
    // Out of date, by more than the minute that clocks may differ by: signed with the server's own key.
    let now = jiff::Timestamp::now().as_second();
    let uid =
        send(&admin, "GET", "/api/v1/namespaces/default/serviceaccounts/robot", "").await.1["metadata"]["uid"].clone();
    let claims = |from: i64, until: i64| {
        json!({
            "iss": "https://kubernetes.default.svc.cluster.local", "aud": ["https://kubernetes.default.svc.cluster.local"],
            "sub": "system:serviceaccount:default:robot", "iat": from, "nbf": from, "exp": until, "jti": "x",
            "kubernetes.io": {"namespace": "default", "serviceaccount": {"name": "robot", "uid": uid}},
        })
    };
    let sign = |claims: Value| apiserver_auth::token::claims::sign(&claims, &server.pki().keys).unwrap();
    assert_eq!(send(&client(&sign(claims(now - 60, now + 600))), "GET", pods, "").await.0, 200);
    for (from, until) in [(now - 7200, now - 120), (now + 3600, now + 7200)] {
        let (code, status) = send(&client(&sign(claims(from, until))), "GET", pods, "").await;
        assert_eq!(
            (code, status["message"].as_str(), status["reason"].as_str()),
            (401, Some("Unauthorized"), Some("Unauthorized"))
        );
    }
    // Bound to a Pod, it goes with the Pod; all of them go with the account.
    make(
        &admin,
        pods,
        json!({"metadata": {"name": "q"}, "spec": {"serviceAccountName": "robot",
        "containers": [{"name": "c", "image": "i"}]}}),
    )
    .await;
    let bound = token(json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "q"}}})).await;
    assert_eq!(send(&client(&bound), "GET", pods, "").await.0, 200);
    assert_eq!(send(&admin, "DELETE", &format!("{pods}/q?gracePeriodSeconds=0"), "").await.0, 200);
    assert_eq!(send(&client(&bound), "GET", pods, "").await.0, 401);
    assert_eq!(send(&admin, "DELETE", "/api/v1/namespaces/default/serviceaccounts/robot", "").await.0, 200);
    assert_eq!(send(&client(&good), "GET", pods, "").await.0, 401);
}

/// Two nodes, each with a Pod that refers to objects of its own.
async fn two_nodes(admin: &Https) {
    for node in ["one", "two"] {
        make(admin, "/api/v1/nodes", json!({"metadata": {"name": node}})).await;
        for (kind, name) in [("configmaps", "map"), ("secrets", "secret"), ("secrets", "pull")] {
            let path = format!("/api/v1/namespaces/default/{kind}");
            make(admin, &path, json!({"metadata": {"name": format!("{node}-{name}")}})).await;
        }
        let claim = json!({"metadata": {"name": format!("{node}-claim")}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}});
        make(admin, "/api/v1/namespaces/default/persistentvolumeclaims", claim).await;
        let pod = json!({"metadata": {"name": format!("pod-{node}")}, "spec": {"nodeName": node,
            "imagePullSecrets": [{"name": format!("{node}-pull")}],
            "volumes": [{"name": "a", "configMap": {"name": format!("{node}-map")}},
                {"name": "b", "persistentVolumeClaim": {"claimName": format!("{node}-claim")}}],
            "containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": format!("{node}-secret")}}]}]}});
        make(admin, "/api/v1/namespaces/default/pods", pod).await;
    }
}

/// A node's certificate as its kubelet has it, by a request that the cluster's CA signed.
fn node(server: &Listening, name: &str) -> Https {
    server.client(&format!("system:node:{name}"), &["system:nodes"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_reaches_what_its_own_pods_refer_to() {
    let (server, admin) = set_up().await;
    two_nodes(&admin).await;
    let one = node(&server, "one");
    let core = "/api/v1/namespaces/default";
    let cases: &[(&str, &str, &str, u16)] = &[
        ("GET", "configmaps/one-map", "", 200),
        ("GET", "configmaps/two-map", "", 403),
        ("GET", "configmaps/a", "", 403),
        ("GET", "configmaps", "", 403),
        ("GET", "secrets/one-secret", "", 200),
        ("GET", "secrets/one-pull", "", 200),
        ("GET", "secrets/two-secret", "", 403),
        ("GET", "secrets/s", "", 403),
        ("GET", "secrets", "", 403),
        ("GET", "secrets?fieldSelector=metadata.name%3Done-secret", "", 200),
        ("GET", "secrets?fieldSelector=metadata.name%3Dtwo-secret", "", 403),
        ("PUT", "secrets/one-secret", r#"{"metadata":{"name":"one-secret"}}"#, 403),
        ("GET", "persistentvolumeclaims/one-claim", "", 200),
        ("GET", "persistentvolumeclaims/two-claim", "", 403),
        ("GET", "pods/pod-one", "", 200),
        ("GET", "pods/pod-two", "", 403),
        ("GET", "pods?fieldSelector=spec.nodeName%3Done", "", 200),
        ("GET", "pods?fieldSelector=spec.nodeName%3Dtwo", "", 403),
        ("GET", "pods", "", 403),
        ("PATCH", "pods/pod-one/status", r#"{"status":{"phase":"Running"}}"#, 200),
        ("PATCH", "pods/pod-two/status", r#"{"status":{"phase":"Running"}}"#, 403),
        ("PATCH", "pods/pod-one", r#"{"metadata":{"labels":{"x":"y"}}}"#, 403),
        ("POST", "pods/pod-one/eviction", r#"{"metadata":{"name":"pod-one"}}"#, 201),
        ("POST", "pods/pod-two/eviction", r#"{"metadata":{"name":"pod-two"}}"#, 403),
        ("DELETE", "pods/pod-two", "", 403),
        ("POST", "pods", r#"{"metadata":{"name":"x"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#, 403),
        ("POST", "serviceaccounts/default/token", r#"{"spec":{}}"#, 403),
        ("GET", "serviceaccounts/robot", "", 403),
        ("GET", "services", "", 200),
    ];
    for (method, path, body, expected) in cases {
        let (code, answer) = send(&one, method, &format!("{core}/{path}"), body).await;
        assert_eq!(code, *expected, "{method} {path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_changes_only_itself_and_not_what_others_go_by() {
    let (server, admin) = set_up().await;
    two_nodes(&admin).await;
    let one = node(&server, "one");
    let lease = |name: &str| format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{"holderIdentity":"{name}"}}}}"#);
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let (nodes, own) = ("/api/v1/nodes", "/api/v1/nodes/one");
    let cases: &[(&str, &str, &str, u16)] = &[
        ("GET", own, "", 200),
        ("GET", "/api/v1/nodes/two", "", 403),
        ("PATCH", "/api/v1/nodes/one/status", r#"{"status":{"conditions":[]}}"#, 200),
        ("PATCH", "/api/v1/nodes/two/status", r#"{"status":{"conditions":[]}}"#, 403),
        ("PATCH", own, r#"{"metadata":{"labels":{"kubernetes.io/arch":"amd64"}}}"#, 200),
        ("PATCH", own, r#"{"metadata":{"labels":{"mine":"yes"}}}"#, 200),
        ("PATCH", own, r#"{"metadata":{"labels":{"node-restriction.kubernetes.io/pci":"yes"}}}"#, 403),
        ("PATCH", own, r#"{"metadata":{"labels":{"x.node-restriction.kubernetes.io/pci":"yes"}}}"#, 403),
        ("PATCH", own, r#"{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}}"#, 403),
        ("PATCH", own, r#"{"spec":{"taints":[{"key":"x","effect":"NoSchedule"}]}}"#, 403),
        ("PATCH", own, r#"{"spec":{"unschedulable":true}}"#, 200),
        ("PATCH", "/api/v1/nodes/two", r#"{"spec":{"unschedulable":true}}"#, 403),
        ("DELETE", own, "", 403),
        ("DELETE", "/api/v1/nodes/two", "", 403),
        ("POST", nodes, r#"{"metadata":{"name":"three"}}"#, 403),
        ("POST", leases, &lease("one"), 201),
        ("POST", leases, &lease("two"), 403),
        ("GET", &format!("{leases}/one"), "", 200),
        ("GET", &format!("{leases}/two"), "", 403),
        ("GET", "/api/v1/pods", "", 403),
        // Ours: the service proxy of an agent has no identity but its node's (policy/cox.txt).
        ("GET", "/api/v1/nodes", "", 200),
        ("GET", "/api/v1/secrets", "", 403),
        ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles", "", 403),
        ("POST", "/api/v1/namespaces", r#"{"metadata":{"name":"x"}}"#, 403),
    ];
    for (method, path, body, expected) in cases {
        let (code, answer) = send(&one, method, path, body).await;
        assert_eq!(code, *expected, "{method} {path} {body}: {answer}");
    }
    // A certificate of the nodes' group without a node's name, and a name without the group, reach nothing.
    for (user, groups) in [("one", &["system:nodes"][..]), ("system:node:one", &[])] {
        let client = server.client(user, groups);
        assert_eq!(send(&client, "GET", own, "").await.0, 403, "{user}");
        assert_eq!(send(&client, "GET", "/api/v1/namespaces/default/secrets/one-secret", "").await.0, 403, "{user}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_another_authority_or_time_are_refused() {
    use apiserver_auth::pki::{Authority, LIFETIME, Pki, Profile};
    let server = listening().await;
    let now = jiff::Timestamp::now();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Pki::ensure(elsewhere.path(), &[], now).unwrap();
    let root = Profile::client("admin", &["system:masters"]);
    let issue = |ca: &Authority, at| ca.issue(&root, LIFETIME, at).unwrap();
    let day = jiff::SignedDuration::from_hours(24);
    let ours = server.pki();
    for (what, pair) in [
        ("of another authority", issue(&other.ca, now)),
        ("over", issue(&ours.ca, now - LIFETIME - day)),
        ("not yet begun", issue(&ours.ca, now + day)),
        ("for servers", ours.ca.issue(&Profile::server("admin", &["localhost".to_owned()]), LIFETIME, now).unwrap()),
    ] {
        let client = Https::new(server.address, Some((&pair.certificate, &pair.key)), None);
        let (code, answer) = send(&client, "GET", "/api/v1/secrets", "").await;
        assert_eq!((code, answer["message"].as_str()), (401, Some("Unauthorized")), "{what}: {answer}");
    }
}
