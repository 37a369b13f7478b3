//! The verbs as a client sees them: codes, bodies, headers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use http::Request;
use http_body_util::Full;
use serde_json::json;
use support::cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn an_object_lives_through_its_verbs() {
    let c = cluster().await;
    let made = c.config_map("a", "{}").await;
    assert_eq!(made["apiVersion"], "v1");
    assert!(!made["metadata"]["uid"].as_str().unwrap().is_empty());
    let again = c.post(MAPS, r#"{"metadata":{"name":"a"}}"#).await;
    assert_eq!(again.code, 409);
    assert_eq!(again.message(), "configmaps \"a\" already exists");
    assert_eq!(again.json()["reason"], "AlreadyExists");

    let got = c.get(&format!("{MAPS}/a")).await.expect(200);
    assert_eq!(got, made);

    let mut changed = made.clone();
    changed["data"]["k"] = json!("w");
    let stored = c.put(&format!("{MAPS}/a"), &changed.to_string()).await.expect(200);
    assert_ne!(stored["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    assert_eq!(stored["metadata"]["uid"], made["metadata"]["uid"]);
    let stale = c.put(&format!("{MAPS}/a"), &changed.to_string()).await;
    assert_eq!(stale.code, 409);
    let expected = "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your \
                    changes to the latest version and try again";
    assert_eq!(stale.message(), expected);

    let unchanged = c.put(&format!("{MAPS}/a"), &stored.to_string()).await.expect(200);
    assert_eq!(
        unchanged["metadata"]["resourceVersion"], stored["metadata"]["resourceVersion"],
        "no write for no change"
    );

    let gone = c.delete(&format!("{MAPS}/a")).await.expect(200);
    assert_eq!(
        (&gone["kind"], &gone["status"], &gone["details"]["name"]),
        (&json!("Status"), &json!("Success"), &json!("a"))
    );
    let missing = c.get(&format!("{MAPS}/a")).await;
    assert_eq!((missing.code.as_u16(), missing.message().as_str()), (404, "configmaps \"a\" not found"));
}

#[tokio::test]
async fn names_are_generated_and_dry_runs_store_nothing() {
    let c = cluster().await;
    let made = c.post(MAPS, r#"{"metadata":{"generateName":"web-"}}"#).await.expect(201);
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
    let dry = c.post(&format!("{MAPS}?dryRun=All"), r#"{"metadata":{"name":"dry"}}"#).await.expect(201);
    assert_eq!(dry["metadata"]["name"], "dry");
    assert_eq!(c.get(&format!("{MAPS}/dry")).await.code, 404);
    let dry = c.delete(&format!("{MAPS}/{name}?dryRun=All")).await;
    assert_eq!(dry.code, 200);
    assert_eq!(c.get(&format!("{MAPS}/{name}")).await.code, 200);
    let bad = c.post(&format!("{MAPS}?dryRun=Some"), "{}").await;
    assert_eq!(bad.code, 422);
}

#[tokio::test]
async fn finalizers_and_preconditions_hold_a_delete() {
    let c = cluster().await;
    let body = r#"{"metadata":{"name":"a","finalizers":["example.com/x"]}}"#;
    let made = c.post(MAPS, body).await.expect(201);
    let path = format!("{MAPS}/a");
    let wrong = c.call(http::Method::DELETE, &path, r#"{"preconditions":{"uid":"other"}}"#).await;
    assert_eq!(wrong.code, 409);
    assert!(wrong.message().contains("the UID in the precondition (other) does not match"), "{}", wrong.message());
    let marked = c.delete(&path).await.expect(200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let mut released = marked.clone();
    released["metadata"].as_object_mut().unwrap().remove("finalizers");
    c.put(&path, &released.to_string()).await.expect(200);
    assert_eq!(c.get(&path).await.code, 404, "the last finalizer takes the object along");
    assert_eq!(made["metadata"]["name"], "a");

    c.config_map("b", "{}").await;
    let foreground = c.delete(&format!("{MAPS}/b?propagationPolicy=Foreground")).await.expect(200);
    assert_eq!(foreground["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    let bad = c.delete(&format!("{MAPS}/b?propagationPolicy=Sideways")).await;
    assert_eq!(bad.code, 422);
}

#[tokio::test]
async fn a_bound_pod_goes_gracefully_and_an_unbound_one_at_once() {
    let c = cluster().await;
    c.post("/api/v1/namespaces/default/serviceaccounts", r#"{"metadata":{"name":"default"}}"#).await.expect(201);
    let pods = "/api/v1/namespaces/default/pods";
    let pod = |name: &str| {
        format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{"containers":[{{"name":"c","image":"i"}}]}}}}"#)
    };
    c.post(pods, &pod("free")).await.expect(201);
    let gone = c.delete(&format!("{pods}/free")).await.expect(200);
    assert_eq!(gone["kind"], "Pod");
    assert_eq!(c.get(&format!("{pods}/free")).await.code, 404);

    c.post(pods, &pod("bound")).await.expect(201);
    let binding = r#"{"metadata":{"name":"bound"},"target":{"kind":"Node","name":"n1"}}"#;
    c.post(&format!("{pods}/bound/binding"), binding).await.expect(201);
    let bound = c.get(&format!("{pods}/bound")).await.expect(200);
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let twice = c.post(&format!("{pods}/bound/binding"), binding).await;
    assert_eq!(twice.code, 409);
    assert!(twice.message().ends_with("pod bound is already assigned to node \"n1\""), "{}", twice.message());
    let going = c.delete(&format!("{pods}/bound")).await.expect(200);
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    c.delete(&format!("{pods}/bound?gracePeriodSeconds=0")).await.expect(200);
    assert_eq!(c.get(&format!("{pods}/bound")).await.code, 404);
}

#[tokio::test]
async fn bad_requests_get_upstreams_answers() {
    let c = cluster().await;
    c.config_map("a", "{}").await;
    for (path, code) in [
        ("/api/v1/namespaces/default/nothings", 404),
        ("/api/v2/pods", 404),
        ("/nothing", 404),
        ("/api/v1/configmaps/a", 404),
        ("/api/v1/namespaces/default/nodes", 404),
        ("/api/v1/namespaces/default/configmaps?labelSelector=%3D%3D", 400),
        ("/api/v1/namespaces/default/configmaps?fieldSelector=spec.x%3Dy", 400),
        ("/api/v1/namespaces/default/configmaps?limit=x", 400),
        ("/api/v1/namespaces/default/configmaps?resourceVersion=x", 400),
        ("/api/v1/namespaces/default/configmaps?resourceVersionMatch=Exact", 422),
        ("/api/v1/namespaces/default/configmaps?continue=x", 400),
    ] {
        let answer = c.get(path).await;
        assert_eq!(answer.code.as_u16(), code, "{path}: {}", answer.message());
        if path == "/nothing" {
            assert_eq!(answer.bytes, "404 page not found\n", "{path}: what nobody serves");
        } else {
            assert_eq!(answer.json()["kind"], "Status", "{path}");
        }
    }
    assert_eq!(c.put("/api/v1/configmaps", "{}").await.code, 405);
    assert_eq!(c.post("/api/v1/configmaps", "{}").await.code, 405);
    assert_eq!(c.get_as(&format!("{MAPS}/a"), "text/html").await.code, 406);
    assert_eq!(c.post(MAPS, "{").await.code, 400);
    assert_eq!(c.post(MAPS, r#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"x"}}"#).await.code, 400);
    assert_eq!(c.post(MAPS, r#"{"metadata":{"name":"x","namespace":"other"}}"#).await.code, 400);
    let invalid = c.post(MAPS, r#"{"metadata":{"name":"Not_Valid"}}"#).await;
    assert_eq!(invalid.code, 422);
    assert_eq!(invalid.json()["details"]["causes"][0]["field"], "metadata.name");
    let large = format!(r#"{{"metadata":{{"name":"x"}},"data":{{"k":"{}"}}}}"#, "x".repeat(4 << 20));
    assert_eq!(c.post(MAPS, &large).await.code, 413);
    let typed = Request::post(MAPS).header("content-type", "text/plain").body(Full::from("x")).unwrap();
    assert_eq!(c.send(typed).await.code, 415);
    let unknown = c.post(&format!("{MAPS}?fieldValidation=Strict"), r#"{"metadata":{"name":"x"},"dat":{}}"#).await;
    assert_eq!(unknown.code, 400);
    assert!(unknown.message().contains("unknown field \"dat\""), "{}", unknown.message());
    let warned = c.post(MAPS, r#"{"metadata":{"name":"x"},"dat":{}}"#).await;
    assert_eq!(warned.code, 201);
    assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"dat\\\"\"");
}

#[tokio::test]
async fn objects_come_in_the_form_that_is_asked_for() {
    let c = cluster().await;
    c.config_map("a", "{}").await;
    let table = c.get_as(MAPS, "application/json;as=Table;v=v1;g=meta.k8s.io").await.expect(200);
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let metadata = c.get_as(MAPS, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").await.expect(200);
    assert_eq!(metadata["kind"], "PartialObjectMetadataList");
    assert!(metadata["items"][0].get("data").is_none());
    let yaml = c.get_as(&format!("{MAPS}/a"), "application/yaml").await;
    assert!(yaml.bytes.starts_with(b"apiVersion: v1\n"), "{:?}", yaml.bytes);
    let body = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: yy\ndata: {a: 'b'}\n";
    let request = Request::post(MAPS).header("content-type", "application/yaml").body(Full::from(body)).unwrap();
    assert_eq!(c.send(request).await.expect(201)["data"]["a"], "b");
}

#[tokio::test]
async fn a_collection_is_deleted_as_its_selector_says() {
    let c = cluster().await;
    for (name, labels) in [("a", r#"{"x":"1"}"#), ("b", r#"{"x":"1"}"#), ("c", "{}")] {
        c.config_map(name, labels).await;
    }
    let deleted = c.delete(&format!("{MAPS}?labelSelector=x%3D1")).await.expect(200);
    assert_eq!(deleted["items"].as_array().unwrap().len(), 2);
    let left = c.get(MAPS).await.expect(200);
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn secrets_are_sealed_in_the_store_and_plain_on_the_wire() {
    let c = cluster().await;
    let body = r#"{"metadata":{"name":"s"},"stringData":{"password":"hunter2"}}"#;
    c.post("/api/v1/namespaces/default/secrets", body).await.expect(201);
    let stored = c.store.value("/registry/secrets/default/s").unwrap();
    assert!(stored.starts_with(b"k8s:enc:"));
    let got = c.get("/api/v1/namespaces/default/secrets/s").await.expect(200);
    assert_eq!(got["data"]["password"], "aHVudGVyMg==");
}

#[tokio::test]
async fn concurrent_services_never_share_an_address() {
    let c = cluster().await;
    let path = "/api/v1/namespaces/default/services";
    let one = |n: usize| {
        let body = format!(r#"{{"metadata":{{"name":"s{n}"}},"spec":{{"type":"NodePort","ports":[{{"port":80}}]}}}}"#);
        let c = &c;
        async move { c.post(path, &body).await.expect(201) }
    };
    let made = futures::future::join_all((0..100).map(one)).await;
    let count =
        |of: fn(&serde_json::Value) -> String| made.iter().map(of).collect::<std::collections::HashSet<_>>().len();
    assert_eq!(count(|s| s["spec"]["clusterIP"].to_string()), 100);
    assert_eq!(count(|s| s["spec"]["ports"][0]["nodePort"].to_string()), 100);
}

#[tokio::test]
async fn without_rights_nothing_is_shown() {
    let c = cluster().await;
    c.config_map("a", "{}").await;
    let nobody = c.server.in_process(apiserver_auth::UserInfo::new("nobody", &[]));
    let request = Request::get(format!("{MAPS}/a")).body(Full::default()).unwrap();
    let answer = support::send(&nobody, request).await;
    assert_eq!(answer.code, 403);
    let expected = "configmaps \"a\" is forbidden: User \"nobody\" cannot get resource \"configmaps\" \
                    in API group \"\" in the namespace \"default\"";
    assert_eq!(answer.message(), expected);
}
