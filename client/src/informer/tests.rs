//! Copies that are kept current, under races and torn watches.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::convert::Infallible;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;

use super::store::Relist;
use super::*;

fn map(name: &str, version: u64) -> ConfigMap {
    let meta = json!({"name": name, "namespace": "ns", "resourceVersion": version.to_string(), "labels": {"v": "1"}});
    serde_json::from_value(json!({"metadata": meta})).unwrap()
}

fn put(informer: &Informer<ConfigMap>, object: ConfigMap) {
    let (key, kept) = kept(object, whole);
    informer.store.put(key, kept);
}

#[test]
fn a_handler_that_comes_during_a_change_hears_of_it_once() {
    for round in 0..2000 {
        let informer: Informer<ConfigMap> = Informer::idle();
        let (added, barrier) = (Arc::new(AtomicUsize::new(0)), Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                barrier.wait();
                put(&informer, map("a", 1));
            });
            scope.spawn(|| {
                let added = Arc::clone(&added);
                barrier.wait();
                informer.on_change(move |change| {
                    assert!(matches!(change, Change::Added(_)));
                    added.fetch_add(1, Ordering::SeqCst);
                });
            });
        });
        assert_eq!(added.load(Ordering::SeqCst), 1, "round {round}");
    }
}

#[test]
fn changes_are_told_and_the_index_follows() {
    let informer: Informer<ConfigMap> = Informer::with_index(|map| map.metadata.labels.as_ref()?.get("v").cloned());
    let told = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&told);
    informer.on_change(move |change| {
        notes.lock().push(match change {
            Change::Added(_) => "added",
            Change::Updated { .. } => "updated",
            Change::Deleted(_) => "deleted",
        });
    });
    put(&informer, map("a", 1));
    put(&informer, map("a", 1));
    assert_eq!(informer.indexed("1").len(), 1);
    let mut moved = map("a", 2);
    moved.metadata.labels = Some([("v".to_owned(), "2".to_owned())].into());
    put(&informer, moved);
    assert!(informer.indexed("1").is_empty());
    assert_eq!(informer.indexed("2").len(), 1);
    assert_eq!(informer.in_namespace("ns").len(), 1);
    assert!(informer.in_namespace("n").is_empty());
    informer.store.replace(Relist::default());
    assert!(informer.indexed("2").is_empty() && informer.is_empty());
    assert_eq!(*told.lock(), ["added", "updated", "deleted"]);
}

#[test]
fn what_a_new_list_cannot_read_stays_as_it_was() {
    let informer: Informer<ConfigMap> = Informer::idle();
    for name in ["a", "b", "c"] {
        put(&informer, map(name, 1));
    }
    let gone = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&gone);
    informer.on_change(move |change| {
        if let Change::Deleted(map) = change {
            notes.lock().push(map.metadata.name.clone().unwrap());
        }
    });
    let mut list = Relist::default();
    let (key, object) = kept(map("a", 1), whole);
    list.fresh.insert(key, object);
    list.unread.insert(NamespacedName::new("ns", "b"));
    informer.store.replace(list);
    assert_eq!(*gone.lock(), ["c"]);
    assert!(informer.get("ns", "b").is_some());
}

/// Answers lists with version 7, and each watch with one more object, then a torn connection.
#[tokio::test(start_paused = true)]
async fn a_torn_watch_goes_on_where_it_was_and_is_not_listed_again() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<Body>| {
        let query = request.uri().query().unwrap_or("").to_owned();
        let watch = query.contains("watch=");
        let mut asked = requests.lock();
        let at = asked.len() + 7;
        asked.push(query);
        drop(asked);
        let frames: Vec<Result<Frame<bytes::Bytes>, std::io::Error>> = if watch {
            let event = json!({"type": "ADDED", "object": map(&format!("at-{at}"), at as u64)});
            let line = format!("{event}\n");
            vec![Ok(Frame::data(line.into())), Err(std::io::ErrorKind::ConnectionReset.into())]
        } else {
            let list = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7"},
                "items": []});
            vec![Ok(Frame::data(list.to_string().into()))]
        };
        let body = BodyExt::boxed(StreamBody::new(futures::stream::iter(frames)));
        async move { Ok::<_, Infallible>(Response::new(body)) }
    });
    let client = crate::in_process(service, "ns");
    let stop = CancellationToken::new();
    let informer: Informer<ConfigMap> = Informer::start(Api::namespaced(client, "ns"), Config::default(), stop.clone());
    let seen = Arc::new(Notify::new());
    let wake = Arc::clone(&seen);
    informer.on_change(move |_| wake.notify_one());
    while informer.len() < 3 {
        seen.notified().await;
    }
    stop.cancel();
    let asked = asked.lock();
    assert!(!asked[0].contains("watch"), "{asked:?}");
    for (query, version) in asked[1..4].iter().zip([7, 8, 9]) {
        assert!(query.contains("watch=") && query.contains(&format!("resourceVersion={version}")), "{asked:?}");
    }
}
