//! The same command lines with the real kubectl and with `cox`: both work, and print the same. The lines are in
//! tests/kubectl/*.lines; what their marks mean stands in testkit's `script`.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use testkit::cluster::Cluster;
use testkit::images;
use testkit::script::Script;

const COX: &str = env!("CARGO_BIN_EXE_cox");

const TWO: [&str; 2] = ["apple", "lemon"];

fn run(name: &str, namespaces: [&'static str; 2]) {
    let cluster = Cluster::up(COX, &[]).unwrap();
    cluster.load(&images::shell().unwrap()).unwrap();
    cluster.load(&images::web().unwrap()).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubectl");
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    let mut script = Script::new(&cluster, Path::new(COX), &folder.join("files"), namespaces).unwrap();
    script.run(name, &text).unwrap();
    if let Err(error) = script.finish() {
        panic!("{error:#}");
    }
}

#[test]
fn objects_are_shown() {
    run("reading.lines", ["apple", "apple"]);
}

#[test]
fn objects_are_created() {
    run("creating.lines", TWO);
}

#[test]
fn objects_are_changed() {
    run("changing.lines", TWO);
}

#[test]
fn manifests_are_applied() {
    run("applying.lines", TWO);
}

#[test]
fn kubeconfigs_are_written() {
    run("config.lines", ["apple", "apple"]);
}

#[test]
fn nodes_are_cordoned_tainted_and_drained_and_certificates_approved() {
    run("nodes.lines", TWO);
}

#[test]
fn streams_go_both_ways() {
    run("streams.lines", TWO);
}
