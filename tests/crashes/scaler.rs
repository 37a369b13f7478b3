//! Scales Deployments up and down for as long as it runs.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use http::Request;
use serde_json::json;
use testkit::{Cluster, wait_for};

use crate::Random;
use crate::api::Session;

const MOST: u64 = 5;

pub struct Scaler {
    names: Vec<String>,
    session: Session<u64>,
}

impl Scaler {
    pub fn start(cluster: &Cluster, names: &[&str], seed: u64) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let all = names.clone();
        let session = Session::start(cluster, async move |client, stop| {
            let (mut random, mut scaled) = (Random(seed.max(1)), 0);
            while !stop.is_set() {
                let name = &all[random.next() as usize % all.len()];
                let request = scale(name, (random.next() >> 33) % (MOST + 1))?;
                // While the process is away nobody answers; that is what the test is about.
                scaled += u64::from(client.request_text(request).await.is_ok());
                tokio::time::sleep(random.millis(100, 500)).await;
            }
            Ok(scaled)
        });
        Self { names, session }
    }

    /// Stops; how many replicas each Deployment is to have in the end.
    pub fn end(self, cluster: &Cluster) -> Result<BTreeMap<String, usize>> {
        let scaled = self.session.end()?;
        eprintln!("scaled {scaled} times");
        let wanted: BTreeMap<String, usize> = self.names.into_iter().zip([0, 3]).collect();
        for (name, replicas) in &wanted {
            let replicas = format!("--replicas={replicas}");
            wait_for("the last scaling", testkit::cluster::PATIENCE, || {
                cluster.kubectl(&["scale", "deployment", name, &replicas]).map(Some)
            })?;
        }
        Ok(wanted)
    }
}

fn scale(name: &str, replicas: u64) -> Result<Request<Vec<u8>>> {
    let body = serde_json::to_vec(&json!({"spec": {"replicas": replicas}})).context("encode")?;
    let request = Request::patch(format!("/apis/apps/v1/namespaces/default/deployments/{name}/scale"));
    request.header("content-type", "application/merge-patch+json").body(body).context("make a request")
}
