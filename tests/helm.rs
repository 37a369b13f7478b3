//! Helm's whole round with a chart of its own: install with hooks, test, upgrade, rollback, failures that are rolled
//! back,
//! uninstall.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::Value;
use testkit::cluster::Cluster;
use testkit::net::run;
use testkit::{images, tools};

const COX: &str = env!("CARGO_BIN_EXE_cox");
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/helm/app");

fn command(cluster: &Cluster, words: &[&str]) -> Command {
    let mut command = cluster.network.command(tools::program("helm"));
    command.args(words).env("KUBECONFIG", cluster.dir.join("kubeconfig")).env("HOME", cluster.home());
    command
}

fn helm(cluster: &Cluster, words: &[&str]) -> String {
    run(&mut command(cluster, words)).unwrap()
}

fn helm_fails(cluster: &Cluster, words: &[&str]) -> String {
    let error = run(&mut command(cluster, words)).map(|out| format!("helm {words:?} should have failed: {out}"));
    format!("{:#}", error.unwrap_err())
}

/// The states of a release's revisions, the first one first.
fn states(cluster: &Cluster) -> Vec<String> {
    let history = helm(cluster, &["history", "web", "--output", "json"]);
    let history: Value = serde_json::from_str(&history).unwrap();
    history.as_array().unwrap().iter().map(|r| r["status"].as_str().unwrap().to_owned()).collect()
}

fn greeting(cluster: &Cluster) -> String {
    let said = cluster.kubectl(&["exec", "deployment/web", "--", "sh", "-c", "echo $GREETING $PASSWORD"]);
    said.unwrap().trim().to_owned()
}

#[test]
fn a_chart_is_installed_tested_upgraded_rolled_back_and_uninstalled() {
    let cluster = Cluster::up(COX, &[]).unwrap();
    cluster.load(&images::web().unwrap()).unwrap();
    cluster.load(&images::shell().unwrap().resolver().unwrap()).unwrap();

    let installed = helm(&cluster, &["install", "web", CHART, "--wait", "--timeout", "100s"]);
    assert!(installed.contains("STATUS: deployed") && installed.contains("web greets with hello."), "{installed}");
    assert_eq!(greeting(&cluster), "hello geheim");
    assert_eq!(cluster.get(&["deployment", "web"]).unwrap()["status"]["availableReplicas"], 2);
    let hook = cluster.kubectl(&["logs", "web-pre-install"]).unwrap();
    assert_eq!(hook, "pre-install of revision 1\n");
    let may = ["auth", "can-i", "list", "configmaps", "--as=system:serviceaccount:default:web"];
    assert_eq!(cluster.kubectl(&may).unwrap(), "yes\n");
    let tested = helm(&cluster, &["test", "web", "--logs", "--timeout", "100s"]);
    assert!(tested.contains("Succeeded") && tested.contains("answered"), "{tested}");

    // An upgrade, one that its hook refuses, and the way back.
    helm(&cluster, &["upgrade", "web", CHART, "--set", "greeting=hi", "--wait", "--timeout", "100s"]);
    assert_eq!(greeting(&cluster), "hi geheim");
    let refused = helm_fails(&cluster, &["upgrade", "web", CHART, "--set", "hookExitCode=1", "--timeout", "100s"]);
    assert!(refused.contains("pre-upgrade hooks failed"), "{refused}");
    assert_eq!(states(&cluster), ["superseded", "deployed", "failed"]);
    helm(&cluster, &["rollback", "web", "1", "--wait", "--timeout", "100s"]);
    assert_eq!(greeting(&cluster), "hello geheim");

    // An image that is nowhere: rolled back by itself, while the old Pods serve on.
    let nowhere = ["--set", "image=web:nowhere", "--rollback-on-failure", "--timeout", "6s"];
    let failed = helm_fails(&cluster, &[&["upgrade", "web", CHART], &nowhere[..]].concat());
    assert!(failed.contains("has been rolled back"), "{failed}");
    assert_eq!(states(&cluster), ["superseded", "superseded", "failed", "superseded", "failed", "deployed"]);
    assert_eq!(greeting(&cluster), "hello geheim");
    let failed = helm_fails(&cluster, &[&["install", "other", CHART], &nowhere[..]].concat());
    assert!(failed.contains("has been uninstalled"), "{failed}");

    helm(&cluster, &["uninstall", "web", "--wait", "--timeout", "100s"]);
    let mine = "deployment,replicaset,service,configmap,secret,serviceaccount,role,rolebinding";
    let left = cluster.kubectl(&["get", mine, "-l", "app.kubernetes.io/managed-by=Helm", "-o", "name"]).unwrap();
    assert_eq!(left, "");
    let hook = cluster.kubectl(&["logs", "web-post-delete"]).unwrap();
    // A rollback takes the hooks along as they were rendered for the revision that it goes back to.
    assert_eq!(hook, "post-delete of revision 1\n");
    assert_eq!(helm(&cluster, &["list", "--output", "json"]).trim(), "[]");
}
