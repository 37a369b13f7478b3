//! A full disk: writes are refused with upstream's words, reads and watches go on, and with room again writes do too.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;
use testkit::cluster::{Cluster, PATIENCE};
use testkit::disk::SmallDisk;
use testkit::wait_for;

const COX: &str = env!("CARGO_BIN_EXE_cox");
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A ConfigMap of about so many bytes.
fn config_map(name: &str, bytes: usize) -> String {
    let value = "x".repeat(bytes);
    format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"value":"{value}"}}}}"#)
}

/// Names and lengths of what the API has of the test's own.
fn listed(cluster: &Cluster) -> BTreeMap<String, usize> {
    let list: Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw", CONFIG_MAPS]).unwrap()).unwrap();
    let items = list["items"].as_array().unwrap().iter();
    let ours = items.filter_map(|item| {
        Some((item["metadata"]["name"].as_str()?.to_owned(), item["data"]["value"].as_str()?.len()))
    });
    ours.collect()
}

fn create(cluster: &Cluster, name: &str, bytes: usize) -> anyhow::Result<()> {
    cluster.feed(&["create", "-f", "-"], &config_map(name, bytes)).map(drop)
}

/// `kubectl get --watch` of ConfigMaps, by name.
struct Watch {
    kubectl: Child,
    names: Receiver<String>,
}

impl Watch {
    fn start(cluster: &Cluster) -> Self {
        let words = ["get", "configmaps", "--watch", "--no-headers", "-o", "custom-columns=:metadata.name"];
        let mut kubectl = cluster.kubectl_command(&words).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(kubectl.stdout.take().unwrap()).lines();
        let (sender, names) = channel();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).try_for_each(|line| sender.send(line.trim().to_owned()))
        });
        Self { kubectl, names }
    }

    fn hears(&self, name: &str) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.names.recv_timeout(deadline.saturating_duration_since(std::time::Instant::now())).unwrap() != name {}
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.kubectl.kill().unwrap();
        self.kubectl.wait().unwrap();
    }
}

#[test]
fn a_full_disk_refuses_writes_keeps_reads_and_goes_on_with_room() {
    let disk = SmallDisk::new(96).unwrap();
    let cluster = Cluster::up_at(&disk.path().join("data"), COX, &[]).unwrap();
    create(&cluster, "before", 10).unwrap();
    let watch = Watch::start(&cluster);
    watch.hears("before");
    disk.fill().unwrap();

    // The log's room is made ahead: what fits is still taken.
    let mut kept = BTreeMap::from([("before".to_owned(), 10)]);
    let mut refused = None;
    for number in 0..100 {
        let (name, bytes) = (format!("until-{number:03}"), 400_000);
        match create(&cluster, &name, bytes) {
            Ok(()) => drop(kept.insert(name, bytes)),
            Err(error) => {
                refused = Some((name, format!("{error:#}")));
                break;
            }
        }
    }
    let (name, why) = refused.expect("40 MB fit on a full disk");
    assert!(why.contains("Error from server:") && why.contains("etcdserver: mvcc: database space exceeded"), "{why}");

    // Reads and watches go on; every further write is refused as well, and changes nothing.
    assert_eq!(listed(&cluster), kept);
    for verb in [&["delete", "configmap", "before"][..], &["label", "configmap", "before", "a=b"]] {
        let why = cluster.kubectl_fails(verb).unwrap();
        assert!(why.contains("etcdserver: mvcc: database space exceeded"), "{verb:?}: {why}");
    }
    assert_eq!(listed(&cluster), kept);
    assert!(!kept.contains_key(&name));
    let second = Watch::start(&cluster);
    second.hears("before");

    // A crash on the full disk loses nothing, and the next process reads.
    cluster.kill().unwrap();
    let mut full = cluster.foreground().unwrap();
    wait_for("the API to answer on a full disk", PATIENCE, || cluster.kubectl(&["get", "--raw", "/readyz"]).map(Some))
        .unwrap();
    assert_eq!(listed(&cluster), kept);

    // Room again: writes go on by themselves, also for who watches.
    disk.make_room().unwrap();
    let third = Watch::start(&cluster);
    wait_for("writes to go on", PATIENCE, || create(&cluster, "after", 1000).map(Some)).unwrap();
    third.hears("after");
    kept.insert("after".to_owned(), 1000);
    full.kill().unwrap();
    full.wait().unwrap();
    cluster.start().unwrap();
    assert_eq!(listed(&cluster), kept);
}
