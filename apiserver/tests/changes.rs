//! Patches, server-side apply, scale, eviction: changes that are not a whole object.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::{Value, json};
use support::{Cluster, PATIENCE, cluster};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const PODS: &str = "/api/v1/namespaces/default/pods";

async fn deployment(c: &Cluster) -> Value {
    let body = r#"{"metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{
        "metadata":{"labels":{"a":"b"}},
        "spec":{"containers":[{"name":"c","image":"i:1"},{"name":"e","image":"j:1"}]}}}}"#;
    c.post(DEPLOYMENTS, body).await.expect(201)
}

#[tokio::test]
async fn each_kind_of_patch_changes_what_it_says() {
    let c = cluster().await;
    deployment(&c).await;
    let path = format!("{DEPLOYMENTS}/d");
    let strategic = r#"{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"i:2"}]}}}}"#;
    let patched = c.patch(&path, "application/strategic-merge-patch+json", strategic).await.expect(200);
    let containers = &patched["spec"]["template"]["spec"]["containers"];
    assert_eq!((&containers[0]["image"], &containers[1]["image"]), (&json!("i:2"), &json!("j:1")));
    assert_eq!(patched["metadata"]["generation"], 2);
    let merge = r#"{"metadata":{"labels":{"x":"y"}}}"#;
    let patched = c.patch(&path, "application/merge-patch+json", merge).await.expect(200);
    assert_eq!((&patched["metadata"]["labels"]["x"], &patched["metadata"]["generation"]), (&json!("y"), &json!(2)));
    let operations = r#"[{"op":"replace","path":"/spec/replicas","value":4}]"#;
    let patched = c.patch(&path, "application/json-patch+json", operations).await.expect(200);
    assert_eq!(patched["spec"]["replicas"], 4);
    let failing = r#"[{"op":"test","path":"/spec/replicas","value":5}]"#;
    assert_eq!(c.patch(&path, "application/json-patch+json", failing).await.code, 422);
    assert_eq!(c.patch(&path, "application/merge-patch+json", "{").await.code, 400);
    assert_eq!(c.patch(&path, "text/plain", "{}").await.code, 415);
    assert_eq!(c.patch(&format!("{DEPLOYMENTS}/none"), "application/merge-patch+json", "{}").await.code, 404);
    let stale = r#"{"metadata":{"resourceVersion":"1"}}"#;
    assert_eq!(c.patch(&path, "application/merge-patch+json", stale).await.code, 409);
}

#[tokio::test]
async fn apply_owns_what_it_applied() {
    let c = cluster().await;
    let path = "/api/v1/namespaces/default/configmaps/a";
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: v\n  l: w\n";
    let apply = "application/apply-patch+yaml";
    let missing = c.patch(path, apply, config).await;
    assert_eq!((missing.code.as_u16(), missing.message().contains("fieldManager: Required value")), (422, true));
    c.patch(&format!("{path}?fieldManager=one"), apply, config).await.expect(201);
    let other = config.replace("k: v", "k: x");
    let conflict = c.patch(&format!("{path}?fieldManager=two"), apply, &other).await;
    assert_eq!(conflict.code, 409);
    assert!(conflict.message().contains("conflict with \"one\""), "{}", conflict.message());
    let forced = c.patch(&format!("{path}?fieldManager=two&force=true"), apply, &other).await.expect(200);
    assert_eq!(forced["data"]["k"], "x");
    let less = config.replace("  l: w\n", "").replace("k: v", "k: x");
    c.patch(&format!("{path}?fieldManager=two&force=true"), apply, &less).await.expect(200);
    let left = c.patch(&format!("{path}?fieldManager=one&force=true"), apply, &less).await.expect(200);
    assert_eq!(left["data"], json!({"k": "x"}), "what nobody applies any more goes");
}

#[tokio::test]
async fn a_scale_is_a_view_of_its_object() {
    let c = cluster().await;
    deployment(&c).await;
    let path = format!("{DEPLOYMENTS}/d/scale");
    let scale = c.get(&path).await.expect(200);
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(1)));
    assert_eq!(scale["status"]["selector"], "a=b");
    let mut more = scale.clone();
    more["spec"]["replicas"] = json!(7);
    assert_eq!(c.put(&path, &more.to_string()).await.expect(200)["spec"]["replicas"], 7);
    assert_eq!(c.put(&path, &more.to_string()).await.code, 409, "of an older version");
    let patch = r#"{"spec":{"replicas":2}}"#;
    c.patch(&path, "application/merge-patch+json", patch).await.expect(200);
    let object = c.get(&format!("{DEPLOYMENTS}/d")).await.expect(200);
    assert_eq!((&object["spec"]["replicas"], &object["metadata"]["generation"]), (&json!(2), &json!(3)));
}

#[tokio::test]
async fn an_eviction_respects_the_budget() {
    let c = cluster().await;
    c.post("/api/v1/namespaces/default/serviceaccounts", r#"{"metadata":{"name":"default"}}"#).await.expect(201);
    let pod = r#"{"metadata":{"name":"p","labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;
    c.post(PODS, pod).await.expect(201);
    let running = r#"{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}"#;
    c.patch(&format!("{PODS}/p/status"), "application/merge-patch+json", running).await.expect(200);
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = r#"{"metadata":{"name":"b"},"spec":{"minAvailable":1,"selector":{"matchLabels":{"a":"b"}}}}"#;
    c.post(budgets, budget).await.expect(201);
    let status = |allowed: i64| {
        format!(
            r#"{{"status":{{"observedGeneration":1,"disruptionsAllowed":{allowed},"currentHealthy":1,"desiredHealthy":1,
            "expectedPods":1}}}}"#
        )
    };
    c.patch(&format!("{budgets}/b/status"), "application/merge-patch+json", &status(0)).await.expect(200);
    let eviction = r#"{"metadata":{"name":"p"}}"#;
    let refused = c.post(&format!("{PODS}/p/eviction"), eviction).await;
    assert_eq!(refused.code, 429);
    assert_eq!(refused.json()["details"]["causes"][0]["reason"], "DisruptionBudget");
    c.patch(&format!("{budgets}/b/status"), "application/merge-patch+json", &status(1)).await.expect(200);
    c.post(&format!("{PODS}/p/eviction"), eviction).await.expect(201);
    assert_eq!(c.get(&format!("{PODS}/p")).await.code, 404);
    let spent = c.get(&format!("{budgets}/b")).await.expect(200);
    assert_eq!(spent["status"]["disruptionsAllowed"], 0);
    assert!(spent["status"]["disruptedPods"]["p"].is_string());
}

#[tokio::test]
async fn what_every_cluster_has_comes_back_when_it_is_deleted() {
    let c = cluster().await;
    let path = "/api/v1/namespaces/default/services/kubernetes";
    let before = c.get(path).await.expect(200);
    c.delete(path).await.expect(200);
    let back = async {
        loop {
            let answer = c.get(path).await;
            if answer.code == 200 {
                return answer.json();
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let after = tokio::time::timeout(PATIENCE, back).await.expect("the Service comes back");
    assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["spec"]["clusterIP"], before["spec"]["clusterIP"]);
}
