//! The process is killed again and again, at random moments, while Deployments are scaled, clients write and watch, and
//! others use a Service. Nothing acknowledged may be lost, no watch may miss or repeat anything, no container may be
//! disturbed or left behind, and the Service must answer all the time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod ledger;
mod scaler;
mod watcher;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use testkit::cluster::{Cluster, PATIENCE};
use testkit::kernel::Traces;
use testkit::load::{Connections, Load};
use testkit::wait_for;

use ledger::{Ledger, Writer};
use scaler::Scaler;
use watcher::Watcher;

const COX: &str = env!("CARGO_BIN_EXE_cox");
const KILLS: u64 = 20;
const NODE_PORT: u16 = 30080;
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// A Deployment of the hello app.
fn deployment(name: &str, replicas: usize) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
        - name: main
          image: hello:dev
          imagePullPolicy: Never
          ports: [{{containerPort: 8080, name: http}}]
          readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
          livenessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 2}}
---
"#
    )
}

const SERVICE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: steady}
spec:
  type: NodePort
  selector: {app: steady}
  ports: [{port: 80, targetPort: http, nodePort: 30080}]
"#;

/// Numbers from a seed, xorshift64*.
struct Random(u64);

impl Random {
    /// The seed is printed, and taken from CRASH_SEED where that is set.
    fn new() -> Self {
        let given = std::env::var("CRASH_SEED").ok().and_then(|text| text.parse().ok());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = given.unwrap_or(u64::from(now.subsec_nanos())).max(1);
        eprintln!("CRASH_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + (self.next() >> 33) % (to - from))
    }
}

/// Name, UID and container of each Pod with a label.
fn containers(cluster: &Cluster, selector: &str) -> BTreeMap<String, (String, String)> {
    let list = cluster.get(&["pods", "-l", selector]).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pods = list["items"].as_array().unwrap().iter();
    pods.map(|pod| {
        let id = text(&pod["status"]["containerStatuses"][0]["containerID"]);
        (text(&pod["metadata"]["name"]), (text(&pod["metadata"]["uid"]), id))
    })
    .collect()
}

/// Everything that goes on while the process is killed.
struct Traffic {
    load: Load,
    ledger: Arc<Ledger>,
    writers: Vec<Writer>,
    watchers: Vec<Watcher>,
    scaler: Scaler,
}

impl Traffic {
    fn start(cluster: &Cluster, random: &mut Random) -> Self {
        let service = cluster.get(&["service", "steady"]).unwrap();
        let ip: std::net::IpAddr = service["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
        let targets = [(ip, 80), (cluster.network.ip.parse().unwrap(), NODE_PORT)];
        let mut load = Load::new();
        for target in targets {
            for kind in [Connections::New, Connections::Kept] {
                load = load.client(&cluster.network, target.into(), kind, Duration::from_millis(20)).unwrap();
            }
        }
        let ledger = Arc::new(Ledger::default());
        // They have listed when the first write is made: what a list shows comes as no event.
        let watchers = [CONFIG_MAPS, PODS].map(|path| Watcher::start(cluster, path).unwrap()).into();
        let writers = ["a", "b"].map(|name| Writer::start(cluster, name, Arc::clone(&ledger))).into();
        let scaler = Scaler::start(cluster, &["elastic-a", "elastic-b"], random.next());
        Self { load, ledger, writers, watchers, scaler }
    }
}

/// Kills a process that is this one's child.
fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Starts the process; now and then a start is itself killed half-way, and the next one has to do.
fn start_again(cluster: &Cluster, random: &mut Random, round: u64) -> Child {
    if round % 4 == 3 {
        let mut child = cluster.foreground().unwrap();
        std::thread::sleep(random.millis(20, 600));
        kill(&mut child);
    }
    let child = cluster.foreground().unwrap();
    wait_for("the API to answer", PATIENCE, || cluster.kubectl(&["get", "--raw", "/readyz"]).map(Some)).unwrap();
    child
}

#[test]
fn twenty_crashes_lose_repeat_and_disturb_nothing() {
    let mut random = Random::new();
    let cluster = Cluster::up(COX, &[]).unwrap();
    cluster.load(&testkit::hello::image().unwrap()).unwrap();
    let elastic = [deployment("elastic-a", 1), deployment("elastic-b", 2)].concat();
    cluster.apply(&(deployment("steady", 3) + &elastic + SERVICE)).unwrap();
    for (name, count) in [("steady", 3), ("elastic-a", 1), ("elastic-b", 2)] {
        cluster.wait(&["deployment", name], "its replicas", |d| d["status"]["availableReplicas"] == count).unwrap();
    }
    let steady = containers(&cluster, "app=steady");
    let traffic = Traffic::start(&cluster, &mut random);

    std::thread::sleep(random.millis(300, 1500));
    cluster.kill().unwrap();
    let mut child = start_again(&cluster, &mut random, 0);
    for round in 1..KILLS {
        let kept = traffic.ledger.done();
        let stages = ledger::listed(&cluster).unwrap();
        traffic.ledger.check(&kept, &stages).unwrap();
        std::thread::sleep(random.millis(100, 1500));
        kill(&mut child);
        let before = traffic.load.requests();
        std::thread::sleep(random.millis(0, 400));
        child = start_again(&cluster, &mut random, round);
        assert!(traffic.load.requests() > before, "nobody asked while the process was away");
        assert_eq!(containers(&cluster, "app=steady"), steady, "round {round}");
    }
    settle(&cluster, traffic);
    let pods = cluster.get(&["pods"]).unwrap();
    for pod in pods["items"].as_array().unwrap() {
        let name = &pod["metadata"]["name"];
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0, "{name} was restarted");
    }
    assert_eq!(containers(&cluster, "app=steady"), steady);
    kill(&mut child);
}

/// Lets everything come to rest, and compares.
fn settle(cluster: &Cluster, traffic: Traffic) {
    let replicas = traffic.scaler.end(cluster).unwrap();
    for (name, count) in &replicas {
        let replicas = serde_json::json!(count);
        let settled = move |d: &Value| {
            d["status"]["observedGeneration"] == d["metadata"]["generation"]
                && d["spec"]["replicas"] == replicas
                && (d["status"]["replicas"] == replicas || *count == 0 && d["status"]["replicas"].is_null())
                && (d["status"]["availableReplicas"] == replicas || *count == 0)
        };
        cluster.wait(&["deployment", name], "its replicas", settled).unwrap();
    }
    let expected: usize = 3 + replicas.values().sum::<usize>();
    wait_for("Pods that were scaled away to go", PATIENCE, || {
        Ok((containers(cluster, "").len() == expected).then_some(()))
    })
    .unwrap();

    let mut acknowledged = Vec::new();
    for writer in traffic.writers {
        acknowledged.extend(writer.end().unwrap());
    }
    let kept = traffic.ledger.done();
    traffic.ledger.check(&kept, &ledger::listed(cluster).unwrap()).unwrap();
    eprintln!("{} acknowledged writes", acknowledged.len());
    assert!(acknowledged.len() > 100, "only {} writes were acknowledged", acknowledged.len());
    for watcher in traffic.watchers {
        let path = watcher.path;
        let seen = watcher.end().unwrap();
        eprintln!("{path}: {} events, {} resumes", seen.events.len(), seen.resumes);
        if path == CONFIG_MAPS {
            ledger::all_seen(&acknowledged, &seen.events).unwrap();
        }
    }
    let tally = traffic.load.end().unwrap();
    eprintln!("{} requests answered, the slowest took {:?}", tally.answered, tally.slowest);
    assert_eq!(tally.failed, 0, "requests failed:\n{}", tally.reasons.join("\n"));
    assert_eq!(tally.heard.len(), 3, "{:?}", tally.heard);

    let uids: BTreeSet<String> = containers(cluster, "").into_values().map(|(uid, _)| uid).collect();
    let mut last = Vec::new();
    let clean = wait_for("nothing to be left behind or missing", PATIENCE, || {
        last = Traces::of(cluster)?.differences(&uids);
        Ok(last.is_empty().then_some(()))
    });
    clean.unwrap_or_else(|error| panic!("{error:#}: {last:#?}"));
}
