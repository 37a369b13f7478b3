//! Rolling updates under load: whoever asks through the Service is answered, all the time.
//!
//! Kubernetes takes an ending Pod out of its Services and tells its containers to end at the same time. What makes that
//! lossless is the app's part: it goes on answering for a while, or has a preStop hook that waits. Both are here.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::IpAddr;
use std::time::Duration;

use testkit::cluster::{Cluster, PATIENCE};
use testkit::load::{Connections, Load, Tally};
use testkit::{Image, wait_for};

const COX: &str = env!("CARGO_BIN_EXE_cox");
const UPDATES: usize = 3;
const NODE_PORT: u16 = 30080;

fn app(image: &str, hook: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
        - name: web
          image: {image}
          imagePullPolicy: Never
          ports: [{{containerPort: 8080, name: http}}]
          readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
          {hook}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  type: NodePort
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: http, nodePort: {NODE_PORT}}}]
"#
    )
}

/// Starts the app, updates it some times under load, and returns what the clients counted.
fn update_under_load(image: &Image, manifest: &str, kinds: &[Connections]) -> Tally {
    let cluster = Cluster::up(COX, &[]).unwrap();
    cluster.load(image).unwrap();
    cluster.apply(manifest).unwrap();
    cluster.wait(&["deployment", "web"], "three replicas", |d| d["status"]["availableReplicas"] == 3).unwrap();
    let service = cluster.get(&["service", "web"]).unwrap();
    let ip: IpAddr = service["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
    let node: IpAddr = cluster.network.ip.parse().unwrap();
    // Endpoints are there before the rules that lead to them.
    wait_for("the Service to answer", PATIENCE, || {
        let probe = Load::new().client(&cluster.network, (ip, 80).into(), Connections::New, Duration::ZERO)?;
        std::thread::sleep(Duration::from_millis(50));
        Ok((probe.end()?.failed == 0).then_some(()))
    })
    .unwrap();

    let mut load = Load::new();
    for target in [(ip, 80), (node, NODE_PORT)] {
        for kind in kinds {
            load = load.client(&cluster.network, target.into(), *kind, Duration::from_millis(5)).unwrap();
        }
    }
    for update in 0..UPDATES {
        let before = load.requests();
        cluster.kubectl(&["set", "env", "deployment/web", &format!("UPDATE={update}")]).unwrap();
        cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]).unwrap();
        assert!(load.requests() > before, "nobody asked during update {update}");
    }
    // The last of the old Pods end under load too.
    wait_for("the old Pods to go", PATIENCE, || {
        Ok((cluster.get(&["pods"])?["items"].as_array().map(Vec::len) == Some(3)).then_some(()))
    })
    .unwrap();
    let tally = load.end().unwrap();
    eprintln!("{} answered, {} failed, slowest {:?}, {:?}", tally.answered, tally.failed, tally.slowest, tally.heard);
    tally
}

fn lost_nothing(tally: &Tally) {
    assert_eq!(tally.failed, 0, "of {} requests:\n{}", tally.answered + tally.failed, tally.reasons.join("\n"));
    // Each update brings three new Pods, and all of them answer.
    assert_eq!(tally.heard.len(), 3 * (UPDATES + 1), "{:?}", tally.heard);
}

#[test]
fn an_app_that_lets_its_clients_leave_loses_no_request() {
    let kinds = [Connections::New, Connections::Kept];
    lost_nothing(&update_under_load(&testkit::hello::image().unwrap(), &app("hello:dev", ""), &kinds));
}

#[test]
fn an_app_that_just_ends_loses_no_request_behind_a_pre_stop_hook() {
    let script = "mkdir -p /tmp/www && hostname > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www";
    let image = Image::named("docker.io/library/web:dev").busybox().unwrap().entrypoint(&["/bin/sh", "-c", script]);
    // httpd as a container's first process ignores SIGTERM; its end comes with the grace period's, three seconds here.
    let manifest = app("web:dev", "lifecycle: {preStop: {sleep: {seconds: 2}}}");
    let manifest = manifest.replace("terminationGracePeriodSeconds: 20", "terminationGracePeriodSeconds: 3");
    lost_nothing(&update_under_load(&image, &manifest, &[Connections::New]));
}
