//! `metrics.k8s.io`, built in: how it shows, and what it says of nodes that don't answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::{Value, json};
use support::{Cluster, PATIENCE, cluster};

const GROUP: &str = "/apis/metrics.k8s.io/v1beta1";
const SERVICE: &str = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io";

#[tokio::test]
async fn it_shows_as_metrics_servers_would() {
    let c = cluster().await;
    let list = c.get(GROUP).await.expect(200);
    let resource = |name: &str, namespaced: bool, kind: &str| {
        let verbs = ["get", "list"];
        json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": verbs})
    };
    assert_eq!(
        list["resources"],
        json!([resource("nodes", false, "NodeMetrics"), resource("pods", true, "PodMetrics")])
    );
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let groups = c.get_as("/apis", aggregated).await.expect(200);
    let last = groups["items"].as_array().unwrap().last().unwrap();
    assert_eq!(last["metadata"]["name"], "metrics.k8s.io", "it has the least priority");
    let document = c.get(&format!("/openapi/v3{GROUP}")).await.expect(200);
    let node = &document["components"]["schemas"]["io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics"];
    assert_eq!(node["description"], "What a node uses.");
    assert_eq!(node["properties"]["window"]["description"], "Over how long CPU use was measured.");
    assert_eq!(
        node["properties"]["usage"]["additionalProperties"]["$ref"],
        json!("#/components/schemas/io.k8s.apimachinery.pkg.api.resource.Quantity")
    );
    let items = &document["components"]["schemas"]["io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetricsList"];
    assert_eq!(items["properties"]["items"]["description"], "What Pods use.", "descriptions stand where they belong");
    assert_eq!(c.get(SERVICE).await.expect(200)["status"]["conditions"][0]["reason"], "Local");
}

async fn until(c: &Cluster, path: &str, code: u16) {
    let wait = async {
        while c.get(path).await.code.as_u16() != code {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{path} does not come to {code}"));
}

#[tokio::test]
async fn its_apiservice_turns_it_off_and_on() {
    let c = cluster().await;
    let service = c.delete(SERVICE).await;
    assert_eq!(service.code, 200);
    until(&c, GROUP, 404).await;
    until(&c, &format!("{GROUP}/nodes"), 404).await;
    let theirs = json!({"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": {"group": "metrics.k8s.io",
        "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100, "insecureSkipTLSVerify": true,
        "service": {"name": "metrics-server", "namespace": "kube-system"}}});
    let mut made = c.post("/apis/apiregistration.k8s.io/v1/apiservices", &theirs.to_string()).await.expect(201);
    assert_eq!(c.get(GROUP).await.code, 404, "another server's");
    let spec = made["spec"].as_object_mut().unwrap();
    spec.remove("service");
    spec.remove("insecureSkipTLSVerify");
    c.put(SERVICE, &made.to_string()).await.expect(200);
    until(&c, GROUP, 200).await;
}

#[tokio::test]
async fn nodes_that_do_not_answer_are_left_out() {
    let c = cluster().await;
    let node = json!({"metadata": {"name": "n1"}, "status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}});
    c.post("/api/v1/nodes", &node.to_string()).await.expect(201);
    let list = c.get(&format!("{GROUP}/nodes")).await.expect(200);
    assert_eq!((&list["kind"], &list["items"], &list["metadata"]), (&json!("NodeMetricsList"), &json!([]), &json!({})));
    let one = c.get(&format!("{GROUP}/nodes/n1")).await;
    assert_eq!((one.code.as_u16(), one.message().as_str()), (404, "nodemetrics.metrics.k8s.io \"n1\" not found"));
    let none = c.get(&format!("{GROUP}/nodes/n2")).await;
    assert_eq!((none.code.as_u16(), none.message().as_str()), (404, "nodes \"n2\" not found"));
    let table: Value =
        c.get_as(&format!("{GROUP}/nodes"), "application/json;as=Table;v=v1;g=meta.k8s.io").await.expect(200);
    let names: Vec<&str> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Name", "cpu", "memory", "Window"]);
    assert_eq!(c.get(&format!("{GROUP}/pods?labelSelector=a,,b")).await.code, 400);
}
