//! Lists and watches: consistency, selectors, resumption, slow watchers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use store::{Kv as _, Op, TxnRequest};
use support::{cluster, over};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn version(object: &Value) -> i64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn pages_of_a_list_are_of_one_moment() {
    let c = cluster().await;
    for n in 0..10 {
        c.config_map(&format!("m{n}"), "{}").await;
    }
    let first = c.get(&format!("{MAPS}?limit=4")).await.expect(200);
    assert_eq!(first["metadata"]["remainingItemCount"], 6);
    c.delete(&format!("{MAPS}/m7")).await.expect(200);
    c.config_map("m77", "{}").await;
    let mut names: Vec<String> = Vec::new();
    let mut page = first.clone();
    loop {
        names.extend(
            page["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap().to_owned()),
        );
        assert_eq!(page["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
        let Some(token) = page["metadata"]["continue"].as_str().filter(|t| !t.is_empty()) else { break };
        page = c.get(&format!("{MAPS}?limit=4&continue={token}")).await.expect(200);
    }
    assert_eq!(names, (0..10).map(|n| format!("m{n}")).collect::<Vec<_>>());
    let exact = format!("{MAPS}?resourceVersion={}&resourceVersionMatch=Exact", version(&first));
    assert_eq!(c.get(&exact).await.expect(200)["items"].as_array().unwrap().len(), 10);
    let future = c.get(&format!("{MAPS}?resourceVersion=999999")).await;
    assert_eq!(future.code, 504);
    assert!(future.message().contains("Too large resource version: 999999"), "{}", future.message());
}

#[tokio::test]
async fn a_watch_sees_every_change_once_in_order() {
    let c = cluster().await;
    let start = c.get(MAPS).await.expect(200);
    let mut watch = c.watch(&format!("{MAPS}?watch=true&resourceVersion={}", version(&start))).await;
    let writers = (0..8).map(|w| {
        let c = &c;
        async move {
            for n in 0..20 {
                let made = c.config_map(&format!("w{w}-{n}"), "{}").await;
                let mut changed = made.clone();
                changed["data"]["k"] = json!("x");
                c.put(&format!("{MAPS}/w{w}-{n}"), &changed.to_string()).await.expect(200);
                c.delete(&format!("{MAPS}/w{w}-{n}")).await.expect(200);
            }
        }
    });
    let reader = async {
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut last = version(&start);
        for _ in 0..8 * 20 * 3 {
            let event = watch.next().await.unwrap();
            let revision = version(&event["object"]);
            assert!(revision > last, "{revision} after {last}");
            last = revision;
            let name = event["object"]["metadata"]["name"].as_str().unwrap().to_owned();
            seen.entry(name).or_default().push(event["type"].as_str().unwrap().to_owned());
        }
        seen
    };
    let (_, seen) = tokio::join!(futures::future::join_all(writers), reader);
    assert_eq!(seen.len(), 160);
    assert!(seen.values().all(|types| *types == ["ADDED", "MODIFIED", "DELETED"]));
    // The same history again, from the ring, by a second watcher.
    let mut again = c.watch(&format!("{MAPS}?watch=true&resourceVersion={}", version(&start))).await;
    let mut last = version(&start);
    for _ in 0..480 {
        let event = again.next().await.unwrap();
        assert!(version(&event["object"]) > last);
        last = version(&event["object"]);
    }
}

#[tokio::test]
async fn objects_come_into_and_go_out_of_a_selection() {
    let c = cluster().await;
    c.config_map("a", r#"{"x":"1"}"#).await;
    c.config_map("b", "{}").await;
    let mut watch = c.watch(&format!("{MAPS}?watch=true&labelSelector=x%3D1")).await;
    assert_eq!(watch.brief().await, "ADDED a");
    let relabel = |name: &'static str, labels: Value| {
        let c = &c;
        async move {
            let mut object = c.get(&format!("{MAPS}/{name}")).await.expect(200);
            object["metadata"]["labels"] = labels;
            c.put(&format!("{MAPS}/{name}"), &object.to_string()).await.expect(200)
        }
    };
    relabel("b", json!({"x": "1"})).await;
    assert_eq!(watch.brief().await, "ADDED b");
    relabel("b", json!({"x": "1", "y": "2"})).await;
    assert_eq!(watch.brief().await, "MODIFIED b");
    let left = relabel("b", json!({"x": "2"})).await;
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    assert_eq!(version(&event["object"]), version(&left), "at the revision of the change");
    assert_eq!(event["object"]["metadata"]["labels"]["x"], "1", "as it was when it was selected");
    c.delete(&format!("{MAPS}/a")).await.expect(200);
    assert_eq!(watch.brief().await, "DELETED a");

    let mut one = c.watch(&format!("{MAPS}?watch=true&fieldSelector=metadata.name%3Dz&resourceVersion=0")).await;
    c.config_map("y", "{}").await;
    c.config_map("z", "{}").await;
    assert_eq!(one.brief().await, "ADDED z");
}

#[tokio::test]
async fn initial_events_end_with_their_bookmark_and_a_watch_with_one() {
    let c = cluster().await;
    c.config_map("a", "{}").await;
    let query =
        "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1";
    let mut watch = c.watch(&format!("{MAPS}?{query}")).await;
    assert_eq!(watch.brief().await, "ADDED a");
    let end = watch.next().await.unwrap();
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    // Another resource's change moves the final bookmark on.
    c.post("/api/v1/namespaces/default/serviceaccounts", r#"{"metadata":{"name":"x"}}"#).await.expect(201);
    let last = watch.next().await.unwrap();
    assert_eq!((&last["type"], &last["object"]["kind"]), (&json!("BOOKMARK"), &json!("ConfigMap")));
    assert!(version(&last["object"]) > version(&end["object"]));
    assert_eq!(watch.brief().await, "END");
}

#[tokio::test]
async fn a_watcher_that_is_too_slow_ends_with_410_and_slows_nobody() {
    let c = cluster().await;
    let start = c.get(MAPS).await.expect(200);
    let path = format!("{MAPS}?watch=true&resourceVersion={}", version(&start));
    let mut slow = c.watch(&path).await;
    let large = "x".repeat(512 << 10);
    for n in 0..24 {
        let body = format!(r#"{{"metadata":{{"name":"m{n}"}},"data":{{"k":"{large}"}}}}"#);
        c.post(MAPS, &body).await.expect(201);
    }
    let event = slow.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(event["object"]["reason"], "Expired");
    assert_eq!(slow.brief().await, "END");
}

#[tokio::test]
async fn a_watch_resumes_over_a_restart() {
    let c = cluster().await;
    let before = c.config_map("a", "{}").await;
    c.config_map("b", "{}").await;
    let restarted = over(c.store.clone()).await;
    restarted.config_map("c", "{}").await;
    let mut watch = restarted.watch(&format!("{MAPS}?watch=true&resourceVersion={}", version(&before))).await;
    assert_eq!(watch.brief().await, "ADDED b");
    assert_eq!(watch.brief().await, "ADDED c");
    let old = restarted.watch(&format!("{MAPS}?watch=true&resourceVersion=1")).await;
    drop(old);
}

#[tokio::test]
async fn a_watch_of_a_quiet_resource_resumes_after_much_has_happened_elsewhere() {
    let c = cluster().await;
    let before = c.config_map("a", r#"{"app":"x"}"#).await;
    c.config_map("b", r#"{"app":"x"}"#).await;
    c.delete(&format!("{MAPS}/a")).await.expect(200);
    for _ in 0..5000 {
        let put = Op::Put(store::PutRequest { key: Bytes::from_static(b"elsewhere"), ..Default::default() });
        c.store.txn(TxnRequest { success: vec![put], ..TxnRequest::default() }).await.unwrap();
    }
    let restarted = over(c.store.clone()).await;
    restarted.config_map("c", "{}").await;
    let from = version(&before);
    let mut watch = restarted.watch(&format!("{MAPS}?watch=true&resourceVersion={from}")).await;
    for expected in ["ADDED b", "DELETED a", "ADDED c"] {
        assert_eq!(watch.brief().await, expected);
    }
    let selected = format!("{MAPS}?watch=true&labelSelector=app%3Dx&timeoutSeconds=1&resourceVersion={from}");
    let mut watch = restarted.watch(&selected).await;
    for expected in ["ADDED b", "DELETED a", "END"] {
        assert_eq!(watch.brief().await, expected);
    }
    // What was compacted is gone.
    c.store.compact(from + 2).await.unwrap();
    let mut watch = restarted.watch(&format!("{MAPS}?watch=true&resourceVersion={from}")).await;
    let event = watch.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
}
