//! Tests of clusters of several machines: joining, Pods and Services across them, power cuts, partitions, drains.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use testkit::kubectl::{PATIENCE, condition};
use testkit::net::run;
use testkit::{Image, Kubectl, Machines, wait_for};

const COX: &str = env!("CARGO_BIN_EXE_cox");
const SERVER: &str = "https://172.31.99.1:6443";

/// An image whose default program serves its host's name over HTTP on port 8080.
fn web() -> Image {
    let script = "mkdir -p /tmp/www && hostname > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www";
    let image = Image::named("docker.io/library/web:dev").busybox().unwrap().resolver().unwrap();
    image.entrypoint(&["/bin/sh", "-c", script])
}

/// Machine 1 is the server, the others have joined it; the image is loaded on all.
fn cluster(agents: usize) -> (Machines, Kubectl) {
    let machines = Machines::new(COX, agents + 1).unwrap();
    run(&mut machines.cox(1, &["server", "--detach"]).unwrap()).unwrap();
    let kubectl = machines.kubectl().unwrap();
    let image = machines.home().join("web.tar");
    web().write(&image).unwrap();
    let image = image.to_string_lossy().into_owned();
    run(&mut machines.cox(1, &["image", "load", &image]).unwrap()).unwrap();
    let token = token(&machines);
    for number in 2..=agents + 1 {
        join(&machines, number, &token).unwrap();
        run(&mut machines.cox(number, &["image", "load", &image]).unwrap()).unwrap();
    }
    (machines, kubectl)
}

fn token(machines: &Machines) -> String {
    run(&mut machines.cox(1, &["token", "create"]).unwrap()).unwrap().trim().to_owned()
}

fn join(machines: &Machines, number: usize, token: &str) -> anyhow::Result<String> {
    run(&mut machines.cox(number, &["agent", "--server", SERVER, "--token", token, "--detach"])?)
}

/// What a machine hears from a URL.
fn fetch(machines: &Machines, number: usize, url: &str) -> anyhow::Result<String> {
    let mut curl = machines.machine(number).command("curl")?;
    run(curl.args(["--silent", "--show-error", "--fail", "--max-time", "5", url]))
}

fn wait_node(kubectl: &Kubectl, name: &str, ready: &str) {
    kubectl.wait(&["node", name], &format!("Ready {ready}"), |node| condition(node, "Ready") == Some(ready)).unwrap();
}

/// The Pods of the app that have not been told to go, by name, with their Nodes.
fn placed(kubectl: &Kubectl) -> anyhow::Result<BTreeMap<String, String>> {
    let list = kubectl.get(&["pods", "-l", "app=web"])?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let staying =
        list["items"].as_array().into_iter().flatten().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    Ok(staying.map(|pod| (text(&pod["metadata"]["name"]), text(&pod["spec"]["nodeName"]))).collect())
}

const APP: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations:
        - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
        - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
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

fn start_app(kubectl: &Kubectl) {
    kubectl.apply(APP).unwrap();
    wait_available(kubectl, 6);
}

fn wait_available(kubectl: &Kubectl, count: i64) {
    kubectl.wait(&["deployment", "web"], "all replicas", |d| d["status"]["availableReplicas"] == count).unwrap();
}

#[test]
fn who_may_not_join_is_told_why_and_nothing_is_left() {
    let machines = Machines::new(COX, 2).unwrap();
    let said = run(&mut machines.cox(1, &["server", "--detach"]).unwrap()).unwrap();
    assert!(said.contains(&format!("cox agent --server {SERVER} --token ")), "{said}");
    let token = token(&machines);
    let kubectl = machines.kubectl().unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let other_pin = format!("{}.{}.{}", parts[0], parts[1], "ab".repeat(32));
    let other_secret = format!("{}.0123456789abcdef.{}", parts[0], parts[2]);

    let attempts: [(&str, &str, &str); 5] = [
        (SERVER, "abc", "this is no token"),
        (SERVER, &other_pin, "is not the server that the token is for"),
        (SERVER, &other_secret, "does not accept the token"),
        ("https://172.31.99.1:6444", &token, "connect to https://172.31.99.1:6444"),
        ("http://172.31.99.1:6443", &token, "must begin with https://"),
    ];
    for (server, token, why) in attempts {
        for detach in [&["--detach"][..], &[]] {
            let words = [&["agent", "--server", server, "--token", token], detach].concat();
            let error = run(&mut machines.cox(2, &words).unwrap()).unwrap_err().to_string();
            assert!(error.contains(why), "{why} is missing in {error}");
            assert!(!machines.machine(2).data().exists(), "{why}: the data directory is left");
        }
    }
    // The token's time is over; another one is deleted.
    let secret = format!("bootstrap-token-{}", parts[0]);
    let past = r#"{"stringData":{"expiration":"2020-01-01T00:00:00Z"}}"#;
    kubectl.kubectl(&["-n", "kube-system", "patch", "secret", &secret, "-p", past]).unwrap();
    let error = join(&machines, 2, &token).unwrap_err().to_string();
    assert!(error.contains("does not accept the token"), "{error}");
    let deleted = self::token(&machines);
    run(&mut machines.cox(1, &["token", "delete", &deleted[..6]]).unwrap()).unwrap();
    let error = join(&machines, 2, &deleted).unwrap_err().to_string();
    assert!(error.contains("does not accept the token"), "{error}");
    assert!(!machines.machine(2).data().exists());
    let nodes = kubectl.kubectl(&["get", "nodes", "-o", "name"]).unwrap();
    assert_eq!(nodes, "node/m1\n");
    let requests = kubectl.kubectl(&["get", "certificatesigningrequests", "-o", "name"]).unwrap();
    assert_eq!(requests, "");
}

#[test]
fn pods_and_services_reach_across_machines() {
    let (machines, kubectl) = cluster(2);
    for node in ["m1", "m2", "m3"] {
        wait_node(&kubectl, node, "True");
    }
    start_app(&kubectl);
    let pods = placed(&kubectl).unwrap();
    let nodes: BTreeSet<&str> = pods.values().map(String::as_str).collect();
    assert_eq!(nodes, BTreeSet::from(["m1", "m2", "m3"]), "{pods:?}");

    // Every Pod from every Pod, by its address, through kubectl exec on every machine.
    let list = kubectl.get(&["pods", "-l", "app=web"]).unwrap();
    for from in list["items"].as_array().unwrap() {
        let script: String = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|to| format!("wget -q -O - http://{}:8080/;", to["status"]["podIP"].as_str().unwrap()))
            .collect();
        let name = from["metadata"]["name"].as_str().unwrap();
        let heard = kubectl.kubectl(&["exec", name, "--", "sh", "-c", &script]).unwrap();
        let heard: BTreeSet<&str> = heard.lines().collect();
        assert_eq!(heard, pods.keys().map(String::as_str).collect(), "from {name}");
    }
    // Services by address from each machine, by each machine's port, by name from each Pod.
    let ip = kubectl.get(&["service", "web"]).unwrap()["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let ports = (1..=3).map(|number| format!("http://{}:30080/", machines.machine(number).ip));
    let urls: Vec<String> = ports.chain([format!("http://{ip}/")]).collect();
    for number in 1..=3 {
        for url in &urls {
            let mut heard = BTreeSet::new();
            wait_for(&format!("all replicas to answer machine {number} at {url}"), PATIENCE, || {
                heard.insert(fetch(&machines, number, url)?.trim().to_owned());
                Ok((heard.len() == pods.len()).then_some(()))
            })
            .unwrap();
        }
    }
    for pod in pods.keys() {
        for name in ["web.default.svc.cluster.local", "kubernetes.default.svc.cluster.local"] {
            let found = kubectl.kubectl(&["exec", pod, "--", "nslookup", name]);
            assert!(found.is_ok(), "{name} from {pod}: {found:?}");
        }
        let heard = kubectl.kubectl(&["exec", pod, "--", "wget", "-q", "-O", "-", "http://web/"]).unwrap();
        assert!(pods.contains_key(heard.trim()), "{heard}");
    }
    logs_of_pods_on_agents(&kubectl);
    drain_and_uncordon(&kubectl);
}

fn logs_of_pods_on_agents(kubectl: &Kubectl) {
    for node in ["m2", "m3"] {
        let name = format!("talks-{node}");
        let overrides = format!(r#"{{"spec":{{"nodeName":"{node}","terminationGracePeriodSeconds":1}}}}"#);
        let image = ["--image=web:dev", "--image-pull-policy=Never", "--overrides", &overrides, "--command", "--"];
        let words = [&["run", &name], &image[..], &["sh", "-c", "echo hello from $HOSTNAME; sleep 1000"]].concat();
        kubectl.kubectl(&words).unwrap();
        kubectl.wait_ready(&name).unwrap();
        let heard = kubectl.kubectl(&["logs", &name]).unwrap();
        assert_eq!(heard, format!("hello from {name}\n"));
        kubectl.kubectl(&["delete", "pod", &name]).unwrap();
    }
}

fn drain_and_uncordon(kubectl: &Kubectl) {
    kubectl.kubectl(&["drain", "m2", "--ignore-daemonsets", "--timeout=120s"]).unwrap();
    wait_available(kubectl, 6);
    let on_m2 = |kubectl: &Kubectl| placed(kubectl).map(|pods| pods.values().filter(|node| *node == "m2").count());
    assert_eq!(on_m2(kubectl).unwrap(), 0);
    let shown = kubectl.kubectl(&["get", "node", "m2"]).unwrap();
    assert!(shown.contains("Ready,SchedulingDisabled"), "{shown}");
    kubectl.kubectl(&["uncordon", "m2"]).unwrap();
    kubectl.kubectl(&["scale", "deployment", "web", "--replicas=9"]).unwrap();
    wait_available(kubectl, 9);
    assert!(on_m2(kubectl).unwrap() > 0);
}

/// Containers that run on a machine, as its processes show.
fn servers(machines: &Machines, number: usize) -> usize {
    running(machines, number).len()
}

/// The Pods whose containers run on a machine: what their processes are told that their host is called.
fn running(machines: &Machines, number: usize) -> Vec<String> {
    let script = "for p in /proc/[0-9]*; do read -r name 2>/dev/null < $p/comm || continue; \
         [ \"$name\" = httpd ] && tr '\\0' '\\n' 2>/dev/null < $p/environ | grep ^HOSTNAME=; done; true";
    let all = run(machines.machine(number).command("sh").unwrap().args(["-c", script])).unwrap();
    all.lines().filter_map(|line| line.strip_prefix("HOSTNAME=")).map(str::to_owned).collect()
}

/// Every Pod runs once, on its own machine, and nothing else runs.
fn runs_once(machines: &Machines, count: usize, pods: &BTreeMap<String, String>) {
    let mut found = Vec::new();
    for number in 1..=count {
        found.extend(running(machines, number).into_iter().map(|name| (name, format!("m{number}"))));
    }
    found.sort();
    assert_eq!(found, pods.clone().into_iter().collect::<Vec<_>>());
}

#[test]
fn a_machine_without_power_is_replaced_and_comes_back_clean() {
    let (mut machines, kubectl) = cluster(2);
    start_app(&kubectl);
    let before = placed(&kubectl).unwrap();
    let lost: Vec<&String> = before.iter().filter(|(_, node)| *node == "m2").map(|(name, _)| name).collect();
    assert!(!lost.is_empty(), "{before:?}");

    machines.cut_power(2);
    wait_node(&kubectl, "m2", "Unknown");
    // The others take over, and the Service leads to them only.
    wait_for("the Pods to be replaced", PATIENCE, || {
        let now = placed(&kubectl)?;
        Ok((now.len() == 6 && now.values().all(|node| node != "m2")).then_some(()))
    })
    .unwrap();
    wait_available(&kubectl, 6);
    let ip = kubectl.get(&["service", "web"]).unwrap()["spec"]["clusterIP"].as_str().unwrap().to_owned();
    for _ in 0..30 {
        fetch(&machines, 3, &format!("http://{ip}/")).unwrap();
    }

    // Back with its disk: the node is Ready, the Pods that were to go are gone, nothing runs that should not.
    machines.boot(2).unwrap();
    // What was replaced while it was away is not started again, not for a moment.
    let not_again = || {
        let here = running(&machines, 2);
        assert!(!lost.iter().any(|name| here.contains(name)), "{lost:?} were replaced, and {here:?} run");
    };
    // A node that has joined needs its token no more, only to know the server.
    std::thread::scope(|scope| {
        let joined = scope.spawn(|| join(&machines, 2, &token(&machines)).unwrap());
        while !joined.is_finished() {
            not_again();
        }
    });
    wait_node(&kubectl, "m2", "True");
    wait_for("the lost Pods to go", PATIENCE, || {
        not_again();
        let all = kubectl.kubectl(&["get", "pods", "-o", "name"])?;
        Ok(lost.iter().all(|name| !all.contains(name.as_str())).then_some(()))
    })
    .unwrap();
    wait_for("nothing to run that should not", PATIENCE, || {
        let expected = placed(&kubectl)?.values().filter(|node| *node == "m2").count();
        Ok((servers(&machines, 2) == expected).then_some(()))
    })
    .unwrap();
    kubectl.kubectl(&["scale", "deployment", "web", "--replicas=9"]).unwrap();
    wait_available(&kubectl, 9);
    let now = placed(&kubectl).unwrap();
    assert!(now.values().any(|node| node == "m2"), "nothing is put on the machine that came back");
    runs_once(&machines, 3, &now);
}

#[test]
fn a_machine_that_comes_back_at_once_runs_its_pods_again() {
    let (mut machines, kubectl) = cluster(1);
    start_app(&kubectl);
    let before = placed(&kubectl).unwrap();
    let here = before.values().filter(|node| *node == "m2").count();
    machines.cut_power(2);
    machines.boot(2).unwrap();
    join(&machines, 2, &token(&machines)).unwrap();
    wait_for("the Pods to run again", PATIENCE, || Ok((servers(&machines, 2) == here).then_some(()))).unwrap();
    wait_available(&kubectl, 6);
    assert_eq!(placed(&kubectl).unwrap(), before);
    let ip = kubectl.get(&["service", "web"]).unwrap()["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let mut heard = BTreeSet::new();
    wait_for("all replicas to answer", PATIENCE, || {
        heard.insert(fetch(&machines, 2, &format!("http://{ip}/"))?.trim().to_owned());
        Ok((heard.len() == 6).then_some(()))
    })
    .unwrap();
    assert_eq!(servers(&machines, 2), here);
}

#[test]
fn a_partition_heals() {
    let (machines, kubectl) = cluster(1);
    start_app(&kubectl);
    machines.unplug(2).unwrap();
    wait_node(&kubectl, "m2", "Unknown");
    wait_for("the Pods to be replaced", PATIENCE, || {
        let now = placed(&kubectl)?;
        Ok((now.len() == 6 && now.values().all(|node| node == "m1")).then_some(()))
    })
    .unwrap();
    // What runs there goes on: nobody could tell it to stop.
    assert!(servers(&machines, 2) > 0);
    machines.plug(2).unwrap();
    wait_node(&kubectl, "m2", "True");
    wait_for("what was replaced to end", PATIENCE, || Ok((servers(&machines, 2) == 0).then_some(()))).unwrap();
    wait_for("the Pods that were lost to be forgotten", PATIENCE, || {
        Ok((kubectl.get(&["pods"])?["items"].as_array().map(Vec::len) == Some(6)).then_some(()))
    })
    .unwrap();
    kubectl.kubectl(&["scale", "deployment", "web", "--replicas=9"]).unwrap();
    wait_available(&kubectl, 9);
}

#[test]
fn nodes_carry_on_while_their_server_is_away() {
    let (mut machines, kubectl) = cluster(1);
    start_app(&kubectl);
    let before = placed(&kubectl).unwrap();
    let here = before.values().filter(|node| *node == "m2").count();
    let ip = kubectl.get(&["service", "web"]).unwrap()["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let token = token(&machines);
    machines.cut_power(1);
    // Containers and Services of the agent go on; about half of the endpoints are on the machine without power.
    assert_eq!(servers(&machines, 2), here);
    let answered = (0..20).filter(|_| fetch(&machines, 2, &format!("http://{ip}/")).is_ok()).take(1).count();
    assert_eq!(answered, 1, "no endpoint of the agent answers");
    // It starts again without its server too, and waits for it.
    let pid = std::fs::read_to_string(machines.machine(2).data().join("cox.pid")).unwrap();
    run(machines.machine(2).command("kill").unwrap().args(["-9", pid.trim()])).unwrap();
    wait_for("the agent to end", PATIENCE, || {
        let gone = run(machines.machine(2).command("kill")?.args(["-0", pid.trim()])).is_err();
        Ok(gone.then_some(()))
    })
    .unwrap();
    let words = ["agent", "--server", SERVER, "--token", &token, "--detach"];
    let mut agent = machines.cox(2, &words).unwrap().stdout(std::process::Stdio::null()).spawn().unwrap();
    machines.boot(1).unwrap();
    run(&mut machines.cox(1, &["server", "--detach"]).unwrap()).unwrap();
    assert!(agent.wait().unwrap().success());
    let kubectl = machines.kubectl().unwrap();
    for node in ["m1", "m2"] {
        wait_node(&kubectl, node, "True");
    }
    wait_available(&kubectl, 6);
    assert_eq!(placed(&kubectl).unwrap(), before);
    assert_eq!(servers(&machines, 2), here);
    let pods = kubectl.get(&["pods", "-l", "app=web", "--field-selector", "spec.nodeName=m2"]).unwrap();
    for pod in pods["items"].as_array().unwrap() {
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    }
}
