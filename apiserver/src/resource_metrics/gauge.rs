//! Asking kubelets, when somebody wants to know. Nothing is asked while nobody does.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::Status;
use futures::StreamExt as _;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::sample::{Measured, Sample, measured, parse};
use crate::proxy;
use crate::server::Shared;

/// For so long an answer is given again.
const FRESH: Duration = Duration::from_secs(5);
/// A sample that is older says nothing of now.
const STALE: Duration = Duration::from_secs(120);
/// How long the first question waits for its second sample.
const FIRST_WINDOW: Duration = Duration::from_millis(500);
/// A kubelet must have answered by then, or it is left out.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many kubelets are asked at a time.
const TOGETHER: usize = 32;
/// The longest answer that is read, in bytes: 1,000 Pods say about 1 MB.
const LONGEST: usize = 16 << 20;

/// What is known of one node.
#[derive(Default)]
struct Known {
    last: Option<(Instant, Sample)>,
    /// The last answer and when it was made; `None` when the kubelet gave none.
    answer: Option<(Instant, Option<Arc<Measured>>)>,
}

/// What is known of all nodes. Those who ask for the same node at the same time wait for one answer.
#[derive(Default)]
pub struct Gauge {
    nodes: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Known>>>>,
}

impl Gauge {
    /// What nodes and their Pods use. Those that don't answer are left out.
    pub async fn measure(&self, server: &Shared, nodes: BTreeSet<String>) -> HashMap<String, Arc<Measured>> {
        self.forget(server, &nodes);
        let each = nodes.into_iter().map(|node| async move {
            let known = self.nodes.lock().entry(node.clone()).or_default().clone();
            let answer = known.lock().await.answer(server, &node).await;
            Some((node, answer?))
        });
        futures::stream::iter(each).buffer_unordered(TOGETHER).filter_map(std::future::ready).collect().await
    }

    /// Drops what is known of nodes that are gone.
    fn forget(&self, server: &Shared, wanted: &BTreeSet<String>) {
        let gvr = &apiserver_auth::objects::NODES;
        let mut nodes = self.nodes.lock();
        nodes.retain(|name, _| wanted.contains(name) || apiserver_auth::Objects::get(server, gvr, "", name).is_some());
    }
}

impl Known {
    async fn answer(&mut self, server: &Shared, node: &str) -> Option<Arc<Measured>> {
        if let Some((at, answer)) = &self.answer
            && at.elapsed() < FRESH
        {
            return answer.clone();
        }
        let answer = match timeout(PATIENCE, self.measure(server, node)).await {
            Ok(Ok(measured)) => Some(Arc::new(measured)),
            Ok(Err(error)) => {
                tracing::debug!(node, %error, "asking a kubelet what is used");
                None
            }
            Err(_) => {
                tracing::debug!(node, "a kubelet does not say what is used");
                None
            }
        };
        self.answer = Some((Instant::now(), answer.clone()));
        answer
    }

    async fn measure(&mut self, server: &Shared, node: &str) -> Result<Measured, Status> {
        let before = match self.last.take().filter(|(at, _)| at.elapsed() < STALE) {
            Some((_, before)) => before,
            None => {
                let first = sample(server, node).await?;
                sleep(FIRST_WINDOW).await;
                first
            }
        };
        let now = sample(server, node).await?;
        let measured = measured(&before, &now);
        self.last = Some((Instant::now(), now));
        Ok(measured)
    }
}

async fn sample(server: &Shared, node: &str) -> Result<Sample, Status> {
    let text = proxy::ask_kubelet(server, node, "/metrics/resource", LONGEST).await?;
    Ok(parse(&String::from_utf8_lossy(&text), jiff::Timestamp::now().as_millisecond()))
}
