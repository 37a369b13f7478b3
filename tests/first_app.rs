//! Tests of a first app on a cluster of one machine: real containers, real kubectl.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use testkit::cluster::{Cluster, PATIENCE};
use testkit::net::run;
use testkit::{Image, wait_for};

const COX: &str = env!("CARGO_BIN_EXE_cox");

/// An image whose default program serves its host's name over HTTP on port 8080.
fn web() -> Image {
    let script = "mkdir -p /tmp/www && hostname > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www";
    Image::named("docker.io/library/web:dev").busybox().unwrap().entrypoint(&["/bin/sh", "-c", script])
}

fn shell() -> Image {
    Image::named("docker.io/library/shell:dev").busybox().unwrap().command(&["sh"])
}

const APP: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: web:dev
          imagePullPolicy: Never
          ports: [{containerPort: 8080, name: http}]
          readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: http, nodePort: 30080}]
"#;

fn fetch(cluster: &Cluster, url: &str) -> anyhow::Result<String> {
    run(cluster.network.command("curl").args(["--silent", "--show-error", "--fail", "--max-time", "5", url]))
}

fn names(list: &Value) -> BTreeSet<String> {
    list["items"].as_array().unwrap().iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// Who leads the scheduler and the controllers, and how often that has changed.
fn leads(cluster: &Cluster) -> Vec<(Value, Value)> {
    let lease = |name: &&str| {
        let mut spec = cluster.get(&["lease", name, "-n", "kube-system"]).unwrap()["spec"].take();
        assert_ne!(spec["holderIdentity"], "", "{name}");
        (spec["holderIdentity"].take(), spec["leaseTransitions"].take())
    };
    ["kube-scheduler", "kube-controller-manager"].iter().map(lease).collect()
}

#[test]
fn a_deployment_answers_through_its_service_scales_and_outlives_the_process() {
    let cluster = Cluster::up(COX, &[]).unwrap();
    cluster.load(&web()).unwrap();
    cluster.apply(APP).unwrap();
    cluster.wait(&["deployment", "web"], "three replicas", |d| d["status"]["availableReplicas"] == 3).unwrap();

    // Every replica answers in turn, through the cluster's address and the node's port.
    let pods = names(&cluster.get(&["pods", "-l", "app=web"]).unwrap());
    let ip = cluster.get(&["service", "web"]).unwrap()["spec"]["clusterIP"].as_str().unwrap().to_owned();
    for url in [format!("http://{ip}/"), format!("http://{}:30080/", cluster.network.ip)] {
        let mut heard = BTreeSet::new();
        wait_for("all replicas to answer", PATIENCE, || {
            heard.insert(fetch(&cluster, &url)?.trim().to_owned());
            Ok((heard.len() == 3).then_some(()))
        })
        .unwrap();
        assert_eq!(heard, pods, "{url}");
    }

    // The process dies; Pods and Service go on; the next process takes over what runs.
    let before = cluster.get(&["pods", "-l", "app=web"]).unwrap();
    let led = leads(&cluster);
    let pid = cluster.pid().unwrap();
    run(Command::new("kill").args(["-9", &pid.to_string()])).unwrap();
    for _ in 0..10 {
        fetch(&cluster, &format!("http://{ip}/")).unwrap();
    }
    cluster.start().unwrap();
    let after = cluster.get(&["pods", "-l", "app=web"]).unwrap();
    assert_eq!(names(&before), names(&after));
    let restarts = |pods: &Value| {
        let all = pods["items"].as_array().unwrap().iter();
        all.map(|pod| pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap()).sum::<i64>()
    };
    assert_eq!(restarts(&after), 0);

    cluster.kubectl(&["scale", "deployment", "web", "--replicas=5"]).unwrap();
    cluster.wait(&["deployment", "web"], "five replicas", |d| d["status"]["availableReplicas"] == 5).unwrap();
    // Whoever waits for a dead holder's lease to run out changes its holder: the lead was taken over instead.
    assert_eq!(leads(&cluster), led);
    cluster.kubectl(&["delete", "deployment", "web"]).unwrap();
    wait_for("the Pods to go", PATIENCE, || Ok(names(&cluster.get(&["pods"])?).is_empty().then_some(()))).unwrap();
    let refused = fetch(&cluster, &format!("http://{ip}/")).unwrap_err().to_string();
    assert!(refused.contains("refused") || refused.contains("Failed to connect"), "{refused}");
}

#[test]
fn a_pods_life_as_kubectl_shows_it() {
    let cluster = Cluster::up(COX, &[]).unwrap();
    cluster.load(&shell()).unwrap();
    let pod = |name: &str, policy: &str, script: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: {policy}\n  \
             terminationGracePeriodSeconds: 1\n  containers:\n  - name: main\n    image: shell:dev\n    \
             imagePullPolicy: Never\n    command: [sh, -c, {script:?}]\n"
        )
    };
    cluster.apply(&pod("talks", "Always", "echo hello; trap 'exit 0' TERM; while :; do sleep 0.1; done")).unwrap();
    cluster.apply(&pod("ends", "Never", "echo done; exit 0")).unwrap();
    cluster.apply(&pod("fails", "Never", "echo oops; exit 3")).unwrap();

    cluster.wait_ready("talks").unwrap();
    assert_eq!(cluster.kubectl(&["logs", "talks"]).unwrap(), "hello\n");
    assert_eq!(cluster.kubectl(&["exec", "talks", "--", "sh", "-c", "echo from inside"]).unwrap(), "from inside\n");
    let failed = cluster.kubectl_fails(&["exec", "talks", "--", "sh", "-c", "exit 7"]).unwrap();
    assert!(failed.contains("exit code 7"), "{failed}");

    cluster.wait(&["pod", "ends"], "Succeeded", |pod| pod["status"]["phase"] == "Succeeded").unwrap();
    let failed = cluster.wait(&["pod", "fails"], "Failed", |pod| pod["status"]["phase"] == "Failed").unwrap();
    let ended = &failed["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&ended["exitCode"], &ended["reason"]), (&3.into(), &"Error".into()));

    let described = cluster.kubectl(&["describe", "pod", "talks"]).unwrap();
    for expected in ["Scheduled", "Created", "Started", "node-1/"] {
        assert!(described.contains(expected), "{expected} is missing in {described}");
    }
    cluster.kubectl(&["delete", "pod", "talks", "ends", "fails"]).unwrap();
    assert!(names(&cluster.get(&["pods"]).unwrap()).is_empty());
}

#[test]
fn reset_leaves_nothing_behind_also_twice() {
    let cluster = Cluster::up(COX, &[]).unwrap();
    cluster.load(&web()).unwrap();
    cluster.apply(APP).unwrap();
    cluster.wait(&["deployment", "web"], "three replicas", |d| d["status"]["availableReplicas"] == 3).unwrap();
    let dir = cluster.dir.to_string_lossy().into_owned();
    run(&mut cluster.cox(&["reset", "--yes"])).unwrap();
    run(&mut cluster.cox(&["reset", "--yes"])).unwrap();

    assert!(!cluster.dir.exists(), "{dir} is still there");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&dir), "mounts below {dir} are left");
    let links = run(cluster.network.command("ip").args(["-brief", "link"])).unwrap();
    assert!(!links.contains("cox"), "links are left: {links}");
    let rules = run(cluster.network.command("nft").args(["list", "tables"])).unwrap();
    assert!(rules.trim().is_empty(), "rules are left: {rules}");
    let routes = run(cluster.network.command("ip").args(["route"])).unwrap();
    assert!(!routes.contains("10.244."), "routes are left: {routes}");
    let processes = run(Command::new("ps").args(["-eo", "args"])).unwrap();
    assert!(!processes.contains(&dir), "processes are left: {processes}");

    // Somebody else's directory, which happens to have a folder of a name that we use too.
    std::fs::create_dir_all(cluster.dir.join("pki/private")).unwrap();
    let said = run(&mut cluster.cox(&["reset", "--yes"])).unwrap();
    assert!(said.contains("there is no cluster in"), "{said}");
    assert!(cluster.dir.join("pki/private").exists());
    assert!(run(&mut cluster.cox(&["image", "list"])).is_err());
    assert!(!cluster.dir.join("runtime").exists(), "looking makes nothing");

    // An answer that is not written is no answer; one that nobody reads to its end is.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert!(!cluster.cox(&["status"]).stdout(full).status().unwrap().success());
    let (reader, unread) = std::io::pipe().unwrap();
    drop(reader);
    assert!(cluster.cox(&["status"]).stdout(unread).status().unwrap().success());
}
