//! What becomes of Pods whose node ends, and comes back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};

use super::life::{Node, PATIENCE, PODS, condition};

#[tokio::test]
async fn pods_end_before_their_node_and_come_back_with_it() {
    let mut node = Node::start();
    let hook = json!({"preStop": {"exec": {"command": ["mark"]}}});
    let container = |name: &str| json!([{"name": name, "image": "app:1"}]);
    node.bind(
        "web",
        json!({"containers": [{"name": "web", "image": "app:1", "lifecycle": hook}],
        "terminationGracePeriodSeconds": 7}),
    );
    node.bind("job", json!({"restartPolicy": "Never", "containers": container("job")}));
    node.bind("vital", json!({"priority": 2_000_001_000, "containers": container("vital")}));
    for name in ["web", "job", "vital"] {
        node.phase(name, "Running").await;
    }
    node.shutdown.ask();
    tokio::time::timeout(PATIENCE, node.shutdown.ended()).await.expect("all end");

    let calls = node.runtime.calls();
    let place = |text: &str| {
        calls.iter().position(|call| call.contains(text)).unwrap_or_else(|| panic!("no {text} in {calls:?}"))
    };
    assert!(place(" mark") < place("stop web 7"), "{calls:?}");
    assert!(place("stop vital") > place("stop web").max(place("stop job")), "{calls:?}");
    let get = |name: &str| node.api.get(PODS, name).unwrap();
    let web = get("web");
    assert_eq!(web["status"]["phase"], "Running");
    assert_eq!(condition(&web, "Ready")["status"], "False");
    assert_eq!(web["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 143);
    let job = get("job");
    assert_eq!((&job["status"]["phase"], &job["status"]["reason"]), (&json!("Failed"), &json!("Terminated")));
    assert_eq!(job["status"]["message"], "Pod was terminated in response to imminent node shutdown.");
    assert_eq!(condition(&job, "DisruptionTarget")["reason"], "TerminationByKubelet");
    let shown = || node.api.get("api/v1/nodes", "n1").filter(|n| condition(n, "Ready")["status"] == "False");
    let shown: Value = node.until("the node to say so", shown).await;
    assert_eq!(condition(&shown, "Ready")["message"], "node is shutting down");

    // Whatever comes now waits for the node.
    node.bind("late", json!({"containers": container("late")}));
    node.restart().await;
    for name in ["web", "vital", "late"] {
        node.phase(name, "Running").await;
        node.until("it runs", || node.runtime.running(name)).await;
    }
    let again = || {
        let web = node.api.get(PODS, "web").unwrap();
        Some(web).filter(|web| web["status"]["containerStatuses"][0]["restartCount"] == 1)
    };
    node.until("the restart to be counted", again).await;
    assert_eq!(node.api.get(PODS, "job").unwrap()["status"]["phase"], "Failed");
    assert!(node.runtime.running("job").is_none());
    node.stop().await;
}
