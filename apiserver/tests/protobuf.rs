//! Requests and answers in protobuf say what those in JSON say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use api::protobuf::{self, CONTENT_TYPE, STREAM_TYPE};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use support::{Answer, Cluster, cluster};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const EITHER: &str = "application/vnd.kubernetes.protobuf,application/json";

fn encoded(definition: &str, object: &Value) -> Vec<u8> {
    protobuf::encode(protobuf::message(definition).unwrap(), object.as_object().unwrap())
}

fn decoded(answer: &Answer) -> Value {
    assert_eq!(answer.headers["content-type"], CONTENT_TYPE);
    Value::Object(protobuf::decode(&answer.bytes).unwrap())
}

async fn send(c: &Cluster, method: Method, path: &str, body: Vec<u8>) -> Answer {
    let request = Request::builder().method(method).uri(path).header("accept", EITHER);
    c.send(request.header("content-type", CONTENT_TYPE).body(Full::from(body)).unwrap()).await
}

/// What a list's items do not repeat.
fn without_kind(mut object: Value) -> Value {
    object.as_object_mut().unwrap().retain(|key, _| !matches!(key.as_str(), "apiVersion" | "kind"));
    object
}

#[tokio::test]
async fn objects_are_written_and_read() {
    let c = cluster().await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"},
        "data": {"k": "v"}, "binaryData": {"b": "AP8="}, "immutable": false});
    let created = send(&c, Method::POST, MAPS, encoded("io.k8s.api.core.v1.ConfigMap", &map)).await;
    assert_eq!(created.code, StatusCode::CREATED);
    let path = format!("{MAPS}/m");
    let stored = c.get(&path).await.expect(200);
    assert_eq!((&stored["data"], &stored["binaryData"]), (&map["data"], &map["binaryData"]));
    assert_eq!(decoded(&created), stored);
    assert_eq!(decoded(&c.get_as(&path, EITHER).await), stored);
    let again = send(&c, Method::POST, MAPS, encoded("io.k8s.api.core.v1.ConfigMap", &map)).await;
    assert_eq!((again.code, &decoded(&again)["reason"]), (StatusCode::CONFLICT, &json!("AlreadyExists")));
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "other"}});
    let options = encoded("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions", &options);
    assert_eq!(send(&c, Method::DELETE, &path, options).await.code, StatusCode::CONFLICT);
    let deleted = send(&c, Method::DELETE, &path, Vec::new()).await;
    assert_eq!(decoded(&deleted)["status"], "Success");
}

#[tokio::test]
async fn defaults_and_checks_are_the_same() {
    let c = cluster().await;
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "0.5"}}}]}}}});
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let in_json = c.post(path, &deployment.to_string()).await.expect(201);
    c.delete(&format!("{path}/d")).await;
    let body = encoded("io.k8s.api.apps.v1.Deployment", &deployment);
    let created = decoded(&send(&c, Method::POST, path, body).await);
    assert_eq!(created["spec"], in_json["spec"]);
    let mut wrong = deployment.clone();
    wrong["spec"]["template"]["spec"]["containers"] = json!([]);
    wrong["metadata"]["name"] = json!("e");
    let refused = send(&c, Method::POST, path, encoded("io.k8s.api.apps.v1.Deployment", &wrong)).await;
    assert_eq!(decoded(&refused)["message"], c.post(path, &wrong.to_string()).await.expect(422)["message"]);
    let scale = c.get_as(&format!("{path}/d/scale"), EITHER).await;
    assert_eq!(decoded(&scale)["kind"], "Scale");
    for body in [&b"{}"[..], b"k8s\0\x0a\xff", b""] {
        assert_eq!(send(&c, Method::POST, MAPS, body.to_vec()).await.code, StatusCode::BAD_REQUEST, "{body:?}");
    }
}

#[tokio::test]
async fn lists_are_complete() {
    let c = cluster().await;
    for n in 0..3 {
        c.config_map(&format!("m{n}"), "{}").await;
    }
    let expected = c.get(&format!("{MAPS}?limit=2")).await.expect(200);
    let list = decoded(&c.get_as(&format!("{MAPS}?limit=2"), EITHER).await);
    assert_eq!((&list["kind"], &list["metadata"]), (&json!("ConfigMapList"), &expected["metadata"]));
    let items: Vec<_> = expected["items"].as_array().unwrap().iter().cloned().map(without_kind).collect();
    assert_eq!(list["items"], json!(items));
    let form = format!("{CONTENT_TYPE};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let metadata = c.get_as(MAPS, &form).await;
    let envelope = protobuf::envelope::open(&metadata.bytes).unwrap();
    assert_eq!((envelope.api_version, envelope.kind), ("meta.k8s.io/v1", "PartialObjectMetadataList"));
    let table = c.get_as(MAPS, &format!("{CONTENT_TYPE};as=Table;g=meta.k8s.io;v=v1, application/json")).await;
    assert_eq!(table.expect(200)["kind"], "ConfigMapList");
}

/// The frames of a watch that has ended.
fn frames(mut bytes: &[u8]) -> Vec<Value> {
    let event = protobuf::message("io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent").unwrap();
    let mut events = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (frame, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        events.push(Value::Object(protobuf::decode_message(event, frame).unwrap()));
        bytes = rest;
    }
    events
}

#[tokio::test]
async fn watches_are_framed() {
    let c = cluster().await;
    let first = c.config_map("m", r#"{"a":"1"}"#).await;
    let mut changed = first.clone();
    changed["metadata"]["labels"]["a"] = json!("2");
    let changed = c.put(&format!("{MAPS}/m"), &changed.to_string()).await.expect(200);
    let since = c.get(MAPS).await.expect(200)["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    c.delete(&format!("{MAPS}/m")).await.expect(200);
    let before: i64 = first["metadata"]["resourceVersion"].as_str().unwrap().parse::<i64>().unwrap() - 1;
    let watch = async |query: String| c.get_as(&format!("{MAPS}?watch=true&timeoutSeconds=1&{query}"), EITHER).await;
    let all = watch(format!("resourceVersion={before}")).await;
    assert_eq!(all.headers["content-type"], STREAM_TYPE);
    let events = frames(&all.bytes);
    let types: Vec<_> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["ADDED", "MODIFIED", "DELETED"]);
    assert_eq!((&events[0]["object"], &events[1]["object"]), (&first, &changed));
    let selected = frames(&watch(format!("resourceVersion={before}&labelSelector=a%3D1")).await.bytes);
    let types: Vec<_> = selected.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["ADDED", "DELETED"]);
    let bookmarks = frames(&watch(format!("resourceVersion={since}&allowWatchBookmarks=true")).await.bytes);
    let last = bookmarks.last().unwrap();
    assert_eq!((&last["type"], &last["object"]["kind"]), (&json!("BOOKMARK"), &json!("ConfigMap")));
}
