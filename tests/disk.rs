//! A full disk: writes are refused with upstream's words, reads and watches go on, and with room again writes do too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

use apiserver_auth::pki::{Authority, Profile};
use jiff::{SignedDuration, Timestamp};
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

/// What a write holds that is to find no room.
const BYTES: usize = 400_000;

/// Writes until the disk has no room for more; what was refused, and the answer.
fn until_refused(cluster: &Cluster, prefix: &str, kept: &mut BTreeMap<String, usize>) -> (String, String) {
    // The log's room is made ahead: what fits is still taken.
    for number in 0..100 {
        let name = format!("{prefix}-{number:03}");
        match create(cluster, &name, BYTES) {
            Ok(()) => drop(kept.insert(name, BYTES)),
            Err(error) => return (name, format!("{error:#}")),
        }
    }
    panic!("40 MB fit on a full disk");
}

#[test]
fn a_full_disk_refuses_writes_keeps_reads_and_goes_on_with_room() {
    let disk = SmallDisk::new(96).unwrap();
    let cluster = Cluster::up_at(&disk.path().join("data"), COX, &[]).unwrap();
    create(&cluster, "before", 10).unwrap();
    let watch = Watch::start(&cluster);
    watch.hears("before");
    let mut kept = BTreeMap::from([("before".to_owned(), 10)]);

    disk.fill().unwrap();
    let (name, why) = until_refused(&cluster, "first", &mut kept);
    assert!(why.contains("Error from server:") && why.contains("etcdserver: mvcc: database space exceeded"), "{why}");
    assert!(!why.contains("InternalError"), "{why}");
    // Reads and watches go on, old and new ones; further writes of that size are refused as well, and change nothing.
    assert_eq!(listed(&cluster), kept);
    // Who asks how things are hears it.
    let ready = format!("{:#}", cluster.kubectl(&["get", "--raw", "/readyz"]).unwrap_err());
    assert!(ready.contains("[-]etcd-readiness failed"), "{ready}");
    cluster.kubectl(&["get", "--raw", "/livez"]).unwrap();
    assert!(status(&cluster).contains("the store refuses writes, for its disk is full; reads go on"));
    for name in ["again", "and-again"] {
        let why = format!("{:#}", create(&cluster, name, BYTES).unwrap_err());
        assert!(why.contains("etcdserver: mvcc: database space exceeded"), "{name}: {why}");
    }
    assert_eq!(listed(&cluster), kept);
    assert!(!kept.contains_key(&name));
    let second = Watch::start(&cluster);
    second.hears("before");

    // Room again: writes go on by themselves, and who watched hears of them.
    disk.make_room().unwrap();
    wait_for("writes to go on", PATIENCE, || create(&cluster, "after", 1000).map(Some)).unwrap();
    kept.insert("after".to_owned(), 1000);
    watch.hears("after");
    second.hears("after");

    wait_for("the server to be ready again", PATIENCE, || cluster.kubectl(&["get", "--raw", "/readyz"]).map(Some))
        .unwrap();
    assert!(!status(&cluster).contains("refuses writes"));

    // A crash on a full disk loses nothing. The next process comes up on it, is read, and refuses writes; so does the
    // one after that.
    disk.fill().unwrap();
    let (_, why) = until_refused(&cluster, "second", &mut kept);
    assert!(why.contains("etcdserver: mvcc: database space exceeded"), "{why}");
    for _ in 0..2 {
        cluster.kill().unwrap();
        disk.fill().unwrap();
        cluster.start().unwrap();
        assert_eq!(listed(&cluster), kept);
        let why = format!("{:#}", create(&cluster, "refused", BYTES).unwrap_err());
        assert!(why.contains("etcdserver: mvcc: database space exceeded"), "{why}");
        assert!(status(&cluster).contains("the store refuses writes, for its disk is full; reads go on"));
        let watch = Watch::start(&cluster);
        watch.hears("before");
    }
    // Room again: that process goes on.
    disk.make_room().unwrap();
    wait_for("writes to go on", PATIENCE, || create(&cluster, "room", BYTES).map(Some)).unwrap();
    kept.insert("room".to_owned(), BYTES);
    assert_eq!(listed(&cluster), kept);
    cluster.kill().unwrap();
    cluster.start().unwrap();
    assert_eq!(listed(&cluster), kept);
    create(&cluster, "last", 10).unwrap();
}

/// Puts a pair in a server's place that is good for a day still, and had to be renewed long ago.
fn make_due(cluster: &Cluster, file: &str, name: &str) -> String {
    let path = |name: &str| cluster.dir.join("pki").join(name);
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    let authority = Authority::from_pem(&read("ca.crt"), &read("ca.key")).unwrap();
    let (day, now) = (SignedDuration::from_hours(24), Timestamp::now());
    let profile = Profile::server(name, &["node-1".to_owned(), cluster.network.ip.clone()]);
    let pair = authority.issue(&profile, day * 30, now - day * 29).unwrap();
    std::fs::write(path(&format!("{file}.crt")), &pair.certificate).unwrap();
    std::fs::write(path(&format!("{file}.key")), &pair.key).unwrap();
    pair.certificate
}

#[test]
fn a_certificate_that_is_due_on_a_full_disk_is_shown_while_it_is_good() {
    let disk = SmallDisk::new(96).unwrap();
    let cluster = Cluster::up_at(&disk.path().join("data"), COX, &[]).unwrap();
    create(&cluster, "before", 10).unwrap();
    cluster.kill().unwrap();
    let due = [("apiserver", "kube-apiserver"), ("kubelet-server", "system:node:node-1")]
        .map(|(f, n)| make_due(&cluster, f, n));
    disk.fill().unwrap();
    let said = cluster.start().unwrap();
    assert!(said.contains("certificates are due, but still good; they are renewed when they can be written"), "{said}");
    assert!(said.contains("pki/apiserver.") && said.contains("No space left on device"), "{said}");
    assert_eq!(listed(&cluster).len(), 1);
    let held = |file: &str| std::fs::read_to_string(cluster.dir.join("pki").join(file)).unwrap();
    assert_eq!([held("apiserver.crt"), held("kubelet-server.crt")], due);

    // Room again: that process renews them by itself.
    disk.make_room().unwrap();
    wait_for("both to be renewed", PATIENCE * 2, || {
        let renewed = held("apiserver.crt") != due[0] && held("kubelet-server.crt") != due[1];
        Ok(renewed.then_some(()))
    })
    .unwrap();
    assert_eq!(listed(&cluster).len(), 1);
}

/// What `cox status` prints.
fn status(cluster: &Cluster) -> String {
    let output = cluster.cox(&["status"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
