//! Bytes that changed on the disk while the process was away: the next start says so and refuses, or serves the same
//! from another copy. It never serves anything else.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use testkit::cluster::Cluster;
use testkit::net::run;

const COX: &str = env!("CARGO_BIN_EXE_cox");
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// What a start after the damage comes to.
enum Outcome {
    /// It refuses, and says this among other words, on the terminal.
    Refused(&'static str),
    /// It serves everything, and has said this in the log.
    Recovered(&'static str),
    /// What was cut off is the last write, which looks like one that never came to its end; it says this in the log.
    Cut(&'static str),
}

fn create(cluster: &Cluster, name: &str, bytes: usize) {
    let value = "x".repeat(bytes);
    let object = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"value":"{value}"}}}}"#
    );
    cluster.feed(&["create", "-f", "-"], &object).unwrap();
}

/// Revision and value of each ConfigMap of the test.
fn listed(cluster: &Cluster) -> BTreeMap<String, (String, String)> {
    let list: Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw", CONFIG_MAPS]).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ours = list["items"].as_array().unwrap().iter().filter(|item| item["data"]["value"].is_string());
    ours.map(|item| {
        let meta = &item["metadata"];
        (text(&meta["name"]), (text(&meta["resourceVersion"]), text(&item["data"]["value"])))
    })
    .collect()
}

/// Files of a folder in the store with an ending, in order.
fn files(cluster: &Cluster, folder: &str, ending: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(cluster.dir.join("store").join(folder)).unwrap();
    let mut found: Vec<PathBuf> = all.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.to_string_lossy().ends_with(ending));
    found.sort();
    found
}

/// Flips one bit.
fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// Where the last byte is that is not zero: the log's own end, since its segments are made ahead.
fn end(path: &Path) -> usize {
    std::fs::read(path).unwrap().iter().rposition(|byte| *byte != 0).unwrap()
}

/// Damages the store of a stopped cluster, starts it, compares what comes, and puts the store back as it was.
fn case(cluster: &Cluster, expected: &BTreeMap<String, (String, String)>, outcome: &Outcome, damage: impl FnOnce()) {
    let (store, copy) = (cluster.dir.join("store"), cluster.home().join("copy"));
    run(Command::new("cp").arg("-a").arg(&store).arg(&copy)).unwrap();
    damage();
    let logged = cluster.log().len();
    let started = cluster.start();
    let said = cluster.log()[logged..].to_owned();
    match outcome {
        Outcome::Refused(why) => {
            let error = format!("{:#}", started.unwrap_err());
            assert!(error.contains("open the store in") && error.contains(why), "{why} is missing in {error}");
            // `cox status` does not pretend that anything runs.
            let status = run(&mut cluster.cox(&["status"])).unwrap();
            assert!(status.contains("no cluster runs"), "{status}");
        }
        Outcome::Recovered(why) => {
            started.unwrap();
            assert_eq!(&listed(cluster), expected);
            assert!(said.contains(why), "{why} is missing in {said}");
            cluster.kill().unwrap();
        }
        Outcome::Cut(why) => {
            started.unwrap();
            let found = listed(cluster);
            let lost = expected.iter().filter(|(name, value)| found.get(*name) != Some(value)).count();
            assert!(
                lost <= 1 && found.iter().all(|(name, value)| expected.get(name) == Some(value)),
                "{lost} are lost"
            );
            assert!(said.contains(why), "{why} is missing in {said}");
            cluster.kill().unwrap();
        }
    }
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::rename(&copy, &store).unwrap();
}

#[test]
fn flipped_and_torn_bytes_are_said_and_never_served() {
    let cluster = Cluster::up(COX, &[]).unwrap();
    // Each orderly end leaves a snapshot when the log has grown by a megabyte.
    for round in 0..2 {
        (0..4).for_each(|number| create(&cluster, &format!("old-{round}-{number}"), 400_000));
        run(&mut cluster.cox(&["down"])).unwrap();
        cluster.start().unwrap();
    }
    (0..4).for_each(|number| create(&cluster, &format!("new-{number}"), 20_000));
    let expected = listed(&cluster);
    cluster.kill().unwrap();

    let newest = files(&cluster, "snapshots", ".snap").pop().unwrap();
    let length = std::fs::metadata(&newest).unwrap().len() as usize;
    assert_eq!(files(&cluster, "snapshots", ".snap").len(), 2);
    for at in [20, length / 2, length - 5] {
        case(&cluster, &expected, &Outcome::Recovered(".snap"), || flip(&newest, at));
    }
    let cut = |bytes: u64| std::fs::File::options().write(true).open(&newest).unwrap().set_len(bytes).unwrap();
    case(&cluster, &expected, &Outcome::Recovered(".snap"), || cut(length as u64 / 3));
    let both = || files(&cluster, "snapshots", ".snap").iter().for_each(|path| flip(path, 100));
    case(&cluster, &expected, &Outcome::Refused("store data is damaged"), both);

    let log = files(&cluster, "log", ".wal").pop().unwrap();
    let last = end(&log);
    for at in [9, 70, last / 2, last - 30_000] {
        case(&cluster, &expected, &Outcome::Refused(".wal at offset"), || flip(&log, at));
    }
    // After a kill the last group is like one that was being written.
    case(&cluster, &expected, &Outcome::Cut("cut a torn tail"), || flip(&log, last - 4));

    // After an orderly end there is nothing to be cut.
    cluster.start().unwrap();
    let expected = listed(&cluster);
    run(&mut cluster.cox(&["down"])).unwrap();
    let log = files(&cluster, "log", ".wal").pop().unwrap();
    let last = end(&log);
    case(&cluster, &expected, &Outcome::Refused("damaged"), || flip(&log, last - 40));
    // Whole again, it serves all of it.
    cluster.start().unwrap();
    assert_eq!(listed(&cluster), expected);
}
