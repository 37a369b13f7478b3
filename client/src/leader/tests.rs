//! Who leads, and when, over a double of the API.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;

/// One Lease behind the API's semantics: created once, replaced only at the version that was read.
#[derive(Clone, Default)]
struct Server {
    lease: Arc<Mutex<Option<Value>>>,
    requests: Arc<Mutex<Vec<Method>>>,
    hangs: Arc<AtomicBool>,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                if server.hangs.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                let (code, answer) = server.answer(&parts.method, serde_json::from_slice(&body).unwrap_or_default());
                let text = answer.to_string();
                Ok::<_, Infallible>(Response::builder().status(code).body(Full::<bytes::Bytes>::from(text)).unwrap())
            }
        });
        crate::in_process(service, "default")
    }

    fn answer(&self, method: &Method, body: Value) -> (StatusCode, Value) {
        self.requests.lock().push(method.clone());
        let mut lease = self.lease.lock();
        let version = lease.as_ref().map(|lease| lease["metadata"]["resourceVersion"].clone());
        let refuse = |code: StatusCode| {
            let reason = if code == StatusCode::NOT_FOUND { "NotFound" } else { "Conflict" };
            (code, json!({"kind": "Status", "status": "Failure", "reason": reason, "code": code.as_u16()}))
        };
        let next = match (method, &version) {
            (&Method::GET, Some(_)) => return (StatusCode::OK, lease.clone().unwrap()),
            (&Method::POST, None) => 1,
            (&Method::PUT, Some(at)) if *at == body["metadata"]["resourceVersion"] => {
                at.as_str().unwrap().parse::<u64>().unwrap() + 1
            }
            (_, Some(_)) => return refuse(StatusCode::CONFLICT),
            (_, None) => return refuse(StatusCode::NOT_FOUND),
        };
        let mut stored = body;
        stored["metadata"]["resourceVersion"] = json!(next.to_string());
        *lease = Some(stored.clone());
        (StatusCode::OK, stored)
    }

    fn spec(&self) -> LeaseSpec {
        let lease: Lease = serde_json::from_value(self.lease.lock().clone().unwrap()).unwrap();
        lease.spec.unwrap()
    }
}

fn election(identity: &str) -> Election {
    Election { namespace: "kube-system".to_owned(), name: "x".to_owned(), identity: identity.to_owned() }
}

/// Leads until the returned task is aborted, as a process that is killed: nothing is given back.
async fn lead(server: &Server, identity: &str) -> tokio::task::JoinHandle<bool> {
    let (told, led) = tokio::sync::oneshot::channel();
    let work = |lead: CancellationToken| async move {
        told.send(()).unwrap();
        lead.cancelled().await;
    };
    let leader = tokio::spawn(run(server.client(), election(identity), CancellationToken::new(), work));
    led.await.unwrap();
    leader
}

#[tokio::test(start_paused = true)]
async fn the_same_slots_next_process_leads_at_once_and_the_lead_has_not_changed_hands() {
    let server = Server::default();
    lead(&server, "slot").await.abort();
    let before = server.spec();
    let start = Instant::now();
    lead(&server, "slot").await;
    assert_eq!(start.elapsed(), Duration::ZERO, "no clock had to run");
    let after = server.spec();
    assert_eq!(after.lease_transitions, before.lease_transitions);
    assert_eq!(after.acquire_time, before.acquire_time);
}

#[tokio::test(start_paused = true)]
async fn anothers_lease_is_waited_out() {
    let server = Server::default();
    lead(&server, "other").await.abort();
    let start = Instant::now();
    lead(&server, "me").await;
    assert!(start.elapsed() > Duration::from_secs(15), "{:?}", start.elapsed());
    assert_eq!(server.spec().holder_identity.as_deref(), Some("me"));
    assert_eq!(server.spec().lease_transitions, Some(1));
}

#[tokio::test(start_paused = true)]
async fn anothers_living_lease_is_respected() {
    let server = Server::default();
    let _other = lead(&server, "other").await;
    let waits = tokio::time::timeout(Duration::from_secs(600), lead(&server, "me")).await;
    assert!(waits.is_err());
    assert_eq!(server.spec().holder_identity.as_deref(), Some("other"));
}

#[tokio::test(start_paused = true)]
async fn a_holder_renews_by_one_write_and_reads_only_after_a_conflict() {
    let server = Server::default();
    let _me = lead(&server, "me").await;
    server.requests.lock().clear();
    tokio::time::sleep(Duration::from_secs(21)).await;
    let requests = std::mem::take(&mut *server.requests.lock());
    assert!(requests.len() >= 4 && requests.iter().all(|method| method == Method::PUT), "{requests:?}");
    server.lease.lock().as_mut().unwrap()["metadata"]["resourceVersion"] = json!("100");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(server.requests.lock().contains(&Method::GET));
    assert_eq!(server.spec().holder_identity.as_deref(), Some("me"));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_renew_stops_before_another_may_start() {
    let server = Server::default();
    let me = lead(&server, "me").await;
    server.hangs.store(true, Ordering::SeqCst);
    let cut_off = Instant::now();
    let kept = me.await.unwrap();
    assert!(!kept);
    // The end of the work, then two seconds in which the lease could not be given back either.
    assert!(cut_off.elapsed() < Duration::from_secs(13), "{:?}", cut_off.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_lead_given_back_is_free_at_once() {
    let server = Server::default();
    let stop = CancellationToken::new();
    stop.cancel();
    assert!(run(server.client(), election("me"), stop, |lead| async move { lead.cancelled().await }).await);
    let start = Instant::now();
    lead(&server, "next").await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}
