//! Tests of what a node does for its Pods besides running them: figures, ports, volumes, static Pods, logs, probes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use serde_json::Value;
use testkit::cluster::{Cluster, PATIENCE};
use testkit::net::run;
use testkit::sctp::Raw;
use testkit::{Image, wait_for};

const COX: &str = env!("CARGO_BIN_EXE_cox");

fn shell() -> Image {
    Image::named("docker.io/library/shell:dev").busybox().unwrap().command(&["sh"])
}

fn cluster() -> Cluster {
    let cluster = Cluster::up(COX, &[]).unwrap();
    cluster.load(&shell()).unwrap();
    cluster
}

/// A Pod that runs a script; `more` goes into its container, `spec` beside it.
fn pod(name: &str, script: &str, more: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  \
         terminationGracePeriodSeconds: 1\n  {spec}\n  containers:\n  - name: main\n    image: shell:dev\n    \
         imagePullPolicy: Never\n    command: [sh, -c, {script:?}]\n    {more}\n"
    )
}

const FOREVER: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
const SERVES: &str = "mkdir -p /tmp/www; hostname > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www";

fn fetch(cluster: &Cluster, url: &str) -> anyhow::Result<String> {
    run(cluster.network.command("curl").args(["--silent", "--show-error", "--fail", "--max-time", "5", url]))
}

/// The number before a unit in a column of `kubectl top`.
fn figure(table: &str, row: &str, column: usize) -> u64 {
    let line = table.lines().find(|line| line.starts_with(row)).unwrap_or_else(|| panic!("no {row} in {table}"));
    let cell = line.split_whitespace().nth(column).unwrap();
    cell.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

#[test]
fn kubectl_top_shows_what_is_used() {
    let cluster = cluster();
    cluster.apply(&pod("busy", "trap 'exit 0' TERM; while :; do :; done", "", "")).unwrap();
    cluster.apply(&pod("idle", FOREVER, "", "")).unwrap();
    for name in ["busy", "idle"] {
        cluster.wait_ready(name).unwrap();
    }
    let nodes = cluster.kubectl(&["top", "node"]).unwrap();
    assert!(figure(&nodes, "node-1", 1) > 0 && figure(&nodes, "node-1", 3) > 0, "{nodes}");
    let pods = cluster.kubectl(&["top", "pod"]).unwrap();
    assert!(figure(&pods, "busy", 1) > 20 && figure(&pods, "busy", 1) > figure(&pods, "idle", 1), "{pods}");
    let one = cluster.kubectl(&["top", "pod", "-l", "app=idle", "--containers", "--no-headers"]).unwrap();
    assert!(one.starts_with("idle") && one.contains("main") && one.lines().count() == 1, "{one}");

    let same = run(&mut cluster.verb(&["top", "pod", "busy", "--no-headers"])).unwrap();
    assert!(same.starts_with("busy"), "{same}");

    // As objects, as a table, in discovery; with upstream's words for what is not there.
    let metrics =
        cluster.kubectl(&["get", "--raw", "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/busy"]).unwrap();
    let metrics: Value = serde_json::from_str(&metrics).unwrap();
    assert_eq!((&metrics["kind"], &metrics["containers"][0]["name"]), (&"PodMetrics".into(), &"main".into()));
    assert!(metrics["window"].as_str().is_some_and(|window| window.ends_with('s')), "{metrics}");
    let table = cluster.kubectl(&["get", "nodes.metrics.k8s.io"]).unwrap();
    assert!(table.starts_with("NAME") && table.contains("CPU") && table.contains("WINDOW"), "{table}");
    let missing = cluster.kubectl_fails(&["top", "pod", "nobody"]).unwrap();
    assert!(missing.contains("pods \"nobody\" not found"), "{missing}");
    cluster.apply(&pod("never", FOREVER, "", "nodeSelector: {no: where}")).unwrap();
    let unmeasured = cluster.kubectl_fails(&["top", "pod", "never"]).unwrap();
    assert!(unmeasured.contains("podmetrics.metrics.k8s.io \"default/never\" not found"), "{unmeasured}");

    // Who may only view may look; who may nothing may not.
    cluster.kubectl(&["create", "serviceaccount", "viewer"]).unwrap();
    let view = ["create", "rolebinding", "view", "--clusterrole=view", "--serviceaccount=default:viewer"];
    cluster.kubectl(&view).unwrap();
    let user = "--as=system:serviceaccount:default:viewer";
    cluster.kubectl(&["top", "pod", user]).unwrap();
    let refused = cluster.kubectl_fails(&["top", "pod", "--as=nobody"]).unwrap();
    assert!(refused.contains("pods.metrics.k8s.io is forbidden"), "{refused}");

    // The APIService says who serves the group.
    let services = cluster.kubectl(&["get", "apiservice", "v1beta1.metrics.k8s.io"]).unwrap();
    assert!(services.contains("Local") && services.contains("True"), "{services}");
    let resources = || cluster.kubectl(&["api-resources", "--api-group=metrics.k8s.io"]);
    assert!(resources().unwrap().contains("NodeMetrics"));
    let patch = r#"{"spec": {"insecureSkipTLSVerify": true,
        "service": {"name": "metrics-server", "namespace": "kube-system"}}}"#;
    cluster.kubectl(&["patch", "apiservice", "v1beta1.metrics.k8s.io", "--type=merge", "-p", patch]).unwrap();
    wait_for("the group to be somebody else's", PATIENCE, || {
        Ok(cluster.kubectl(&["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes"]).is_err().then_some(()))
    })
    .unwrap();
    cluster
        .kubectl(&[
            "patch",
            "apiservice",
            "v1beta1.metrics.k8s.io",
            "--type=json",
            "-p",
            r#"[{"op": "remove", "path": "/spec/service"}, {"op": "remove", "path": "/spec/insecureSkipTLSVerify"}]"#,
        ])
        .unwrap();
    wait_for("the group to be ours again", PATIENCE, || Ok(cluster.kubectl(&["top", "node"]).ok())).unwrap();
}

#[test]
fn host_ports_lead_to_pods() {
    let cluster = cluster();
    let ports =
        "ports: [{containerPort: 8080, hostPort: 18080}, {containerPort: 8080, hostPort: 18081, hostIP: 127.0.0.1}]";
    cluster.apply(&pod("web", SERVES, ports, "")).unwrap();
    cluster.wait_ready("web").unwrap();
    let ip = cluster.network.ip.clone();
    let answers = |url: &str| wait_for(url, PATIENCE, || Ok(Some(fetch(&cluster, url)?))).unwrap();
    // From the node by its address and by loopback.
    assert_eq!(answers(&format!("http://{ip}:18080/")), "web\n");
    assert_eq!(answers("http://127.0.0.1:18080/"), "web\n");
    assert_eq!(answers("http://127.0.0.1:18081/"), "web\n");
    assert!(fetch(&cluster, &format!("http://{ip}:18081/")).is_err(), "only of the address that was asked for");
    // From another Pod, and from the Pod itself.
    cluster.apply(&pod("client", FOREVER, "", "")).unwrap();
    cluster.wait_ready("client").unwrap();
    let url = format!("http://{ip}:18080/");
    for from in ["client", "web"] {
        let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc {ip} 18080 | tail -n 1");
        let got = wait_for(from, PATIENCE, || {
            Ok(Some(cluster.kubectl(&["exec", from, "--", "sh", "-c", &script])?).filter(|got| got == "web\n"))
        });
        assert_eq!(got.unwrap(), "web\n", "{from} asks {url}");
    }
    // Nothing of the node's own loopback can be reached from a Pod.
    let mut secret = cluster.network.command("busybox");
    let mut secret = Stop(secret.args(["httpd", "-f", "-p", "127.0.0.1:19999", "-h", "/"]).spawn().unwrap());
    let gateway =
        cluster.kubectl(&["exec", "web", "--", "sh", "-c", "ip route | grep default | cut -d' ' -f3"]).unwrap();
    let attack = format!(
        "ip route add 127.0.0.1/32 via {} dev eth0 2>/dev/null; printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {} 19999",
        gateway.trim(),
        gateway.trim()
    );
    assert!(!cluster.kubectl(&["exec", "web", "--", "sh", "-c", &attack]).unwrap_or_default().contains("HTTP"));
    drop(secret.0.kill());

    // A second Pod with the port has no place.
    cluster.apply(&pod("second", SERVES, "ports: [{containerPort: 8080, hostPort: 18080}]", "")).unwrap();
    cluster
        .wait(&["pod", "second"], "no free ports", |pod| {
            let said = pod["status"]["conditions"][0]["message"].as_str().unwrap_or_default();
            said.contains("didn't have free ports")
        })
        .unwrap();

    // The ports lead on while the process is away, and with the next one.
    run(Command::new("kill").args(["-9", &cluster.pid().unwrap().to_string()])).unwrap();
    assert_eq!(fetch(&cluster, &url).unwrap(), "web\n");
    cluster.start().unwrap();
    assert_eq!(fetch(&cluster, &url).unwrap(), "web\n");

    // With the Pod the port goes, and the one that waited gets it.
    cluster.kubectl(&["delete", "pod", "web"]).unwrap();
    cluster.wait_ready("second").unwrap();
    assert_eq!(wait_for("second", PATIENCE, || Ok(Some(fetch(&cluster, &url)?))).unwrap(), "second\n");
    cluster.kubectl(&["delete", "pod", "second"]).unwrap();
    assert!(fetch(&cluster, &url).is_err());
    let tables = || run(cluster.network.command("nft").args(["list", "tables"])).unwrap();
    assert!(!tables().contains("-ports"), "{}", tables());

    // Reset finds them too.
    cluster.apply(&pod("third", SERVES, "ports: [{containerPort: 8080, hostPort: 18080}]", "")).unwrap();
    cluster.wait_ready("third").unwrap();
    assert!(tables().contains("-ports"), "{}", tables());
    run(&mut cluster.cox(&["reset", "--yes"])).unwrap();
    assert!(tables().trim().is_empty(), "{}", tables());
}

/// Runs something in a network namespace, given by its file.
fn within<T: Send>(namespace: &str, what: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(std::fs::File::open(namespace).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            what()
        });
        inside.join().unwrap()
    })
}

/// The network namespace of the Pod in which `sleep NUMBER` runs.
fn network_of(number: u64) -> anyhow::Result<Option<String>> {
    let wanted = format!("sleep\0{number}\0");
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        if std::fs::read(path.join("cmdline")).is_ok_and(|line| line == wanted.as_bytes()) {
            return Ok(Some(format!("{}/ns/net", path.display())));
        }
    }
    Ok(None)
}

#[test]
fn udp_host_ports_lead_to_the_pod_that_is_there_now() {
    let cluster = cluster();
    let ports = "ports: [{containerPort: 9053, hostPort: 19053, protocol: UDP}]";
    let node = format!("{}:19053", cluster.network.ip);
    let client = within(&cluster.network.path().to_string_lossy(), || UdpSocket::bind("0.0.0.0:0").unwrap());
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let ask = |expected: &str| {
        wait_for(expected, PATIENCE, || {
            client.send_to(b"who", &node).ok();
            let mut answer = [0; 16];
            let heard = client.recv_from(&mut answer).ok().map(|(n, from)| (answer[..n].to_vec(), from));
            Ok(heard.filter(|(text, from)| text == expected.as_bytes() && from.to_string() == node))
        })
        .unwrap();
    };
    for name in ["first", "second"] {
        let number = u64::from(std::process::id()) + if name == "first" { 1_000_000_000 } else { 2_000_000_000 };
        cluster.apply(&pod(name, &format!("exec sleep {number}"), ports, "")).unwrap();
        cluster.wait_ready(name).unwrap();
        let network = wait_for("the Pod's process", PATIENCE, || network_of(number)).unwrap();
        let server = within(&network, || UdpSocket::bind("0.0.0.0:9053").unwrap());
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                server.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let mut question = [0; 16];
                    if let Ok((_, from)) = server.recv_from(&mut question) {
                        server.send_to(name.as_bytes(), from).unwrap();
                    }
                }
            });
            // The same client, which went on sending while the Pods changed.
            ask(name);
            stop.store(true, Ordering::Relaxed);
        });
        drop(server);
        cluster.kubectl(&["delete", "pod", name]).unwrap();
    }
}

/// By host port, ClusterIP and NodePort, from the node itself and from another Pod.
#[test]
fn sctp_reaches_a_pod_by_all_ports_that_lead_to_it() {
    let cluster = cluster();
    let ports = "ports: [{containerPort: 9000, hostPort: 19000, protocol: SCTP}]";
    let number = |offset: u64| offset + u64::from(std::process::id());
    let network = |name: &str, number: u64, ports: &str| {
        cluster.apply(&pod(name, &format!("exec sleep {number}"), ports, "")).unwrap();
        cluster.wait_ready(name).unwrap();
        wait_for("the Pod's process", PATIENCE, || network_of(number)).unwrap()
    };
    let peer = network("peer", number(3_000_000_000), ports);
    let other = network("other", number(4_000_000_000), "");
    cluster
        .apply(
            "apiVersion: v1\nkind: Service\nmetadata: {name: peer}\nspec:\n  type: NodePort\n  selector: {app: peer}\n  \
             ports: [{protocol: SCTP, port: 9001, targetPort: 9000, nodePort: 30901}]\n",
        )
        .unwrap();
    let shown = cluster.kubectl(&["get", "service", "peer"]).unwrap();
    assert!(shown.contains("9001:30901/SCTP"), "{shown}");
    let service = cluster.get(&["service", "peer"]).unwrap();
    let cluster_ip = service["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
    let node: Ipv4Addr = cluster.network.ip.parse().unwrap();

    let server = within(&peer, || Raw::open().unwrap());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                server.answer(9000, Duration::from_secs(1)).unwrap();
            }
        });
        let asked = std::panic::catch_unwind(|| {
            let mut own = 40_000;
            for from in [cluster.network.path().to_string_lossy().into_owned(), other] {
                let client = within(&from, || Raw::open().unwrap());
                for to in [(node, 19000), (cluster_ip, 9001), (node, 30901)] {
                    let answered = || {
                        // A fresh port for each: what the kernel learned of an earlier try is nobody's concern.
                        own += 1;
                        Ok(client.ask(own, to, Duration::from_secs(1))?.then_some(()))
                    };
                    wait_for(&format!("an answer of {to:?} in {from}"), PATIENCE, answered).unwrap();
                }
            }
        });
        done.store(true, Ordering::Relaxed);
        asked.unwrap();
    });
}

/// A process of the test's own, ended with the test.
struct Stop(Child);

impl Drop for Stop {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn volume(name: &str, policy: &str, class: &str, source: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: {name}}}\nspec:\n  capacity: {{storage: 1Gi}}\n  \
         accessModes: [ReadWriteOnce]\n  persistentVolumeReclaimPolicy: {policy}\n  storageClassName: {class:?}\n  \
         {source}\n---\n"
    )
}

fn claim(name: &str, class: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec:\n  accessModes: \
         [ReadWriteOnce]\n  storageClassName: {class:?}\n  resources: {{requests: {{storage: 500Mi}}}}\n---\n"
    )
}

fn with_claim(name: &str, script: &str, claim: &str) -> String {
    let volumes = format!("volumes: [{{name: data, persistentVolumeClaim: {{claimName: {claim}}}}}]");
    pod(name, script, "volumeMounts: [{name: data, mountPath: /data}]", &volumes)
}

#[test]
fn a_claim_keeps_its_data_from_pod_to_pod() {
    let cluster = cluster();
    let keep = cluster.home().join("keep");
    // Only below /tmp may a released volume be deleted.
    let scratch = tempfile::Builder::new().prefix("cox-pv-").tempdir_in("/tmp").unwrap();
    let gone = scratch.path().join("gone");
    let host_path = |path: &std::path::Path| format!("hostPath: {{path: {}, type: DirectoryOrCreate}}", path.display());
    // A Pod whose claim is not there waits, in upstream's words.
    cluster.apply(&with_claim("writer", &format!("echo kept > /data/file; {FOREVER}"), "data")).unwrap();
    let waits = |text: &'static str| {
        move |pod: &Value| {
            let said = pod["status"]["conditions"][0]["message"].as_str().unwrap_or_default();
            said.starts_with(text)
        }
    };
    let missing = "0/1 nodes are available: persistentvolumeclaim \"data\" not found. not found";
    cluster.wait(&["pod", "writer"], missing, waits(missing)).unwrap();
    cluster.apply(&claim("data", "")).unwrap();
    let unbound = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found";
    cluster.wait(&["pod", "writer"], unbound, waits(unbound)).unwrap();
    let described = cluster.kubectl(&["describe", "pvc", "data"]).unwrap();
    assert!(described.contains("no persistent volumes available for this claim"), "{described}");

    cluster.apply(&volume("kept", "Retain", "", &host_path(&keep))).unwrap();
    let bound = |object: &Value| object["status"]["phase"] == "Bound";
    let data = cluster.wait(&["pvc", "data"], "Bound", bound).unwrap();
    assert_eq!((&data["spec"]["volumeName"], &data["status"]["capacity"]["storage"]), (&"kept".into(), &"1Gi".into()));
    cluster.wait_ready("writer").unwrap();
    wait_for("the file", PATIENCE, || Ok(keep.join("file").exists().then_some(()))).unwrap();
    cluster.kubectl(&["delete", "pod", "writer"]).unwrap();
    cluster.apply(&with_claim("reader", &format!("cat /data/file; {FOREVER}"), "data")).unwrap();
    cluster.wait_ready("reader").unwrap();
    assert_eq!(cluster.kubectl(&["logs", "reader"]).unwrap(), "kept\n");

    // In use it is not deleted; afterwards its volume is released and keeps its data.
    cluster.kubectl(&["delete", "pvc", "data", "--wait=false"]).unwrap();
    cluster.wait(&["pvc", "data"], "being deleted", |pvc| pvc["metadata"]["deletionTimestamp"].is_string()).unwrap();
    cluster.kubectl(&["delete", "pod", "reader"]).unwrap();
    cluster.wait(&["pv", "kept"], "Released", |pv| pv["status"]["phase"] == "Released").unwrap();
    assert!(keep.join("file").exists());

    // A volume to be deleted goes with its claim, and its directory too.
    let manifest = volume("gone", "Delete", "", &host_path(&gone)) + &claim("brief", "");
    cluster.apply(&manifest).unwrap();
    cluster.wait(&["pvc", "brief"], "Bound", bound).unwrap();
    cluster.apply(&with_claim("short", "touch /data/file", "brief")).unwrap();
    wait_for("the file", PATIENCE, || Ok(gone.join("file").exists().then_some(()))).unwrap();
    cluster.kubectl(&["delete", "pod/short", "pvc/brief"]).unwrap();
    wait_for("the volume to go", PATIENCE, || Ok(cluster.get(&["pv", "gone"]).is_err().then_some(()))).unwrap();
    assert!(!gone.exists(), "the directory is still there");
}

#[test]
fn a_local_volume_waits_for_its_first_consumer() {
    let cluster = cluster();
    let local = cluster.home().join("local");
    std::fs::create_dir(&local).unwrap();
    let class = "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: local}\nprovisioner: \
                 kubernetes.io/no-provisioner\nvolumeBindingMode: WaitForFirstConsumer\n---\n";
    let on = |node: &str| {
        format!(
            "local: {{path: {}}}\n  nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: [{{key: \
             kubernetes.io/hostname, operator: In, values: [{node}]}}]}}]}}}}",
            local.display()
        )
    };
    cluster
        .apply(&(class.to_owned() + &volume("far", "Retain", "local", &on("node-2")) + &claim("data", "local")))
        .unwrap();
    wait_for("the claim to say that it waits", PATIENCE, || {
        let described = cluster.kubectl(&["describe", "pvc", "data"])?;
        Ok(described.contains("waiting for first consumer to be created before binding").then_some(()))
    })
    .unwrap();
    cluster.apply(&with_claim("user", &format!("echo here > /data/file; {FOREVER}"), "data")).unwrap();
    let none = "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind.";
    cluster
        .wait(&["pod", "user"], none, |pod| {
            pod["status"]["conditions"][0]["message"].as_str().unwrap_or_default().starts_with(none)
        })
        .unwrap();
    cluster.apply(&volume("near", "Retain", "local", &on("node-1"))).unwrap();
    cluster.wait_ready("user").unwrap();
    assert_eq!(cluster.get(&["pvc", "data"]).unwrap()["spec"]["volumeName"], "near");
    wait_for("the file", PATIENCE, || Ok(local.join("file").exists().then_some(()))).unwrap();
}

#[test]
fn a_static_pod_has_a_mirror_that_cannot_take_it_along() {
    let cluster = cluster();
    let manifest = cluster.dir.join("kubelet/manifests/alone.yaml");
    std::fs::write(&manifest, pod("alone", SERVES, "", "")).unwrap();
    let mirror = cluster.wait_ready("alone-node-1").unwrap();
    let metadata = &mirror["metadata"];
    assert_eq!(metadata["annotations"]["kubernetes.io/config.source"], "file", "{metadata}");
    assert!(metadata["annotations"]["kubernetes.io/config.mirror"].is_string(), "{metadata}");
    assert_eq!(metadata["ownerReferences"][0]["kind"], "Node", "{metadata}");
    let id = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap_or_default().to_owned();
    let image_id = mirror["status"]["containerStatuses"][0]["imageID"].as_str().unwrap();
    assert!(image_id.contains("sha256:"), "{image_id}");

    // Its mirror deleted, it goes on and gets another.
    cluster.kubectl(&["delete", "pod", "alone-node-1", "--force", "--grace-period=0"]).unwrap();
    let again = cluster
        .wait(&["pod", "alone-node-1"], "a new mirror", |pod| {
            pod["metadata"]["uid"] != metadata["uid"] && testkit::kubectl::condition(pod, "Ready") == Some("True")
        })
        .unwrap();
    assert_eq!(id(&again), id(&mirror), "the container was not touched");

    // Changed, it is replaced; gone, it goes.
    std::fs::write(&manifest, pod("alone", SERVES, "env: [{name: A, value: b}]", "")).unwrap();
    cluster
        .wait(&["pod", "alone-node-1"], "a new container", |pod| {
            id(pod) != id(&mirror) && testkit::kubectl::condition(pod, "Ready") == Some("True")
        })
        .unwrap();
    std::fs::remove_file(&manifest).unwrap();
    wait_for("the mirror to go", PATIENCE, || Ok(cluster.get(&["pod", "alone-node-1"]).is_err().then_some(())))
        .unwrap();
}

#[test]
fn a_changed_configmap_appears_whole_in_its_volume() {
    let cluster = cluster();
    let literals = |value: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{a: {value:?}, b: {value:?}}}\n")
    };
    cluster.apply(&literals("one")).unwrap();
    // Both files must never differ: they are read through one open directory each time.
    let script = "while :; do d=$(readlink -f /all/..data); a=$(cat $d/a 2>/dev/null); b=$(cat $d/b 2>/dev/null); \
                  [ -n \"$a\" ] && [ -n \"$b\" ] && [ \"$a\" != \"$b\" ] && echo torn; sleep 0.01; done";
    let mounts = "volumeMounts: [{name: v, mountPath: /all}, {name: v, mountPath: /one/a, subPath: a}]";
    let script = format!("trap 'exit 0' TERM; {script}").replace("readlink -f", "busybox readlink -f");
    cluster.apply(&pod("reads", &script, mounts, "volumes: [{name: v, configMap: {name: settings}}]")).unwrap();
    cluster.wait_ready("reads").unwrap();
    let read = |file: &str| cluster.kubectl(&["exec", "reads", "--", "cat", file]);
    assert_eq!((read("/all/a").unwrap().as_str(), read("/one/a").unwrap().as_str()), ("one", "one"));
    for value in ["two", "three", "four"] {
        cluster.apply(&literals(value)).unwrap();
        wait_for(value, PATIENCE, || Ok((read("/all/a")? == value && read("/all/b")? == value).then_some(()))).unwrap();
    }
    assert_eq!(read("/one/a").unwrap(), "one", "a subPath stays as it was when it was mounted");
    assert_eq!(cluster.kubectl(&["logs", "reads"]).unwrap(), "", "no reader saw half of an update");
}

#[test]
fn a_long_log_is_rotated() {
    let cluster = cluster();
    // 13 MB at once, more than the 10 Mi that a log may have; then a line from time to time.
    let long = "x".repeat(990);
    let script = format!(
        "trap 'exit 0' TERM; n=0; while [ $n -lt 13000 ]; do echo {long} $n; n=$((n+1)); done; \
         while :; do echo tick; sleep 0.2; done"
    );
    cluster.apply(&pod("talks", &script, "", "")).unwrap();
    cluster.wait_ready("talks").unwrap();
    let logs = || -> anyhow::Result<Vec<std::path::PathBuf>> {
        let mut found = Vec::new();
        for folder in std::fs::read_dir(cluster.dir.join("log/pods"))? {
            let folder = folder?.path();
            if folder.to_string_lossy().contains("default_talks_") {
                for file in std::fs::read_dir(folder.join("main"))? {
                    found.push(file?.path());
                }
            }
        }
        Ok(found)
    };
    let rotated = wait_for("the log to be rotated", PATIENCE, || Ok(Some(logs()?).filter(|files| files.len() > 1)));
    let rotated = rotated.unwrap();
    assert!(rotated.iter().any(|file| file.file_name().is_some_and(|name| name == "0.log")), "{rotated:?}");
    wait_for("lines in the new file", PATIENCE, || {
        Ok((cluster.kubectl(&["logs", "talks", "--tail=1"])? == "tick\n").then_some(()))
    })
    .unwrap();
}

#[test]
fn probes_over_tls_and_grpc() {
    let cluster = cluster();
    let dir = cluster.home();
    let (key, certificate) = (dir.join("key.pem"), dir.join("cert.pem"));
    let make = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"];
    let files = ["-subj", "/CN=nobody-knows", "-keyout", key.to_str().unwrap(), "-out", certificate.to_str().unwrap()];
    run(Command::new("openssl").args(make).args(files)).unwrap();
    // Outside of the Pod, since busybox speaks no TLS: the probe names its host.
    let mut server = cluster.network.command("openssl");
    server.args(["s_server", "-www", "-quiet", "-accept", "8443", "-key"]).arg(&key).arg("-cert").arg(&certificate);
    let _server = Stop(server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let probe = format!(
        "readinessProbe: {{httpGet: {{scheme: HTTPS, host: {}, port: 8443, path: /}}, periodSeconds: 1}}",
        cluster.network.ip
    );
    cluster.apply(&pod("tls", FOREVER, &probe, "")).unwrap();
    cluster.wait_ready("tls").unwrap();

    // SETTINGS; then for stream 1 HEADERS with status 200, DATA with SERVING, HEADERS with grpc-status 0.
    let frames = "printf '\\000\\000\\000\\004\\000\\000\\000\\000\\000'; sleep 0.5; \
        printf '\\000\\000\\000\\004\\001\\000\\000\\000\\000'; \
        printf '\\000\\000\\040\\001\\004\\000\\000\\000\\001\\210\\000\\014content-type\\020application/grpc'; \
        printf '\\000\\000\\007\\000\\000\\000\\000\\000\\001\\000\\000\\000\\000\\002\\010\\001'; \
        printf '\\000\\000\\017\\001\\005\\000\\000\\000\\001\\000\\013grpc-status\\0010'; sleep 0.5";
    let script = format!("while :; do {{ {frames}; }} | nc -l -p 9000 >/dev/null; done");
    let probe = "readinessProbe: {grpc: {port: 9000}, periodSeconds: 2, timeoutSeconds: 5}";
    cluster.apply(&pod("grpc", &script, probe, "")).unwrap();
    cluster.wait_ready("grpc").unwrap();
}

#[test]
fn pods_that_are_stopped_with_the_process_have_their_time_to_end() {
    let cluster = cluster();
    let polite = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done";
    let patient = pod("polite", polite, "", "").replace("PeriodSeconds: 1\n", "PeriodSeconds: 60\n");
    cluster.apply(&patient).unwrap();
    // Deaf to SIGTERM, as the first process of a container is by itself: it is killed when its second is over.
    cluster.apply(&pod("deaf", "echo up; exec sleep 1000", "", "")).unwrap();
    for name in ["polite", "deaf"] {
        wait_for("the script to run", PATIENCE, || {
            Ok(cluster.kubectl(&["logs", name]).ok().filter(|log| log == "up\n"))
        })
        .unwrap();
    }
    let uid = cluster.get(&["pod", "polite"]).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let said = run(&mut cluster.cox(&["down", "--pods"])).unwrap();
    assert!(said.ends_with("stopped 2 Pods\n"), "{said}");
    let log = cluster.dir.join(format!("log/pods/default_polite_{uid}/main/0.log"));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.trim_end().ends_with("bye"), "{log}");
    // With the node the Pods are back, the same, begun once more.
    cluster.start().unwrap();
    let restarts = || -> anyhow::Result<Option<()>> {
        let pod = cluster.get(&["pod", "polite"])?;
        let status = &pod["status"]["containerStatuses"][0];
        let again = pod["metadata"]["uid"] == uid.as_str() && status["restartCount"] == 1 && status["ready"] == true;
        Ok(again.then_some(()))
    };
    wait_for("the Pod to run again", PATIENCE, restarts).unwrap();
    assert_eq!(cluster.kubectl(&["logs", "polite", "--previous"]).unwrap(), "up\nbye\n");
}

/// What a preStop hook writes to the node, and when: in the process's last moments, and when no process runs.
#[test]
fn hooks_run_when_pods_are_stopped_with_the_process_and_after_it() {
    let cluster = cluster();
    let hook = |name: &str, script: &str| {
        let mount = "volumeMounts: [{name: marks, mountPath: /marks}]";
        let lifecycle = format!("lifecycle: {{preStop: {{exec: {{command: [sh, -c, {script:?}]}}}}}}");
        let volume = format!("volumes: [{{name: marks, hostPath: {{path: {:?}}}}}]", cluster.home());
        let text = pod(name, FOREVER, &format!("{mount}\n    {lifecycle}"), &volume);
        text.replace("PeriodSeconds: 1\n", "PeriodSeconds: 60\n")
    };
    // The hook takes its time, and reaches a Service's name while the node's parts are still there.
    let looks = "sleep 2; nslookup kubernetes.default.svc.cluster.local > /marks/dns; echo ended > /marks/web";
    cluster.apply(&hook("web", looks)).unwrap();
    cluster.apply(&pod("job", FOREVER, "", "restartPolicy: Never")).unwrap();
    for name in ["web", "job"] {
        cluster.wait_ready(name).unwrap();
    }
    let said = run(&mut cluster.cox(&["down", "--pods", "--timeout", "90"])).unwrap();
    assert!(said.contains("each has its grace period, but 90 s at most"), "{said}");
    assert!(said.ends_with("stopped 2 Pods\n"), "{said}");
    assert_eq!(std::fs::read_to_string(cluster.home().join("web")).unwrap(), "ended\n");
    let dns = std::fs::read_to_string(cluster.home().join("dns")).unwrap();
    assert!(dns.contains("10.96.0.1"), "{dns}");

    cluster.start().unwrap();
    let job = cluster.get(&["pod", "job"]).unwrap();
    assert_eq!((&job["status"]["phase"], &job["status"]["reason"]), (&"Failed".into(), &"Terminated".into()), "{job}");
    cluster.wait_ready("web").unwrap();
    std::fs::remove_file(cluster.home().join("web")).unwrap();
    cluster.kill().unwrap();
    let said = run(&mut cluster.cox(&["down", "--pods"])).unwrap();
    assert!(said.starts_with("no cluster runs") && said.ends_with("Pods\n"), "{said}");
    assert_eq!(std::fs::read_to_string(cluster.home().join("web")).unwrap(), "ended\n");

    // One that takes longer than all together may is ended all the same.
    cluster.start().unwrap();
    cluster.kubectl(&["delete", "pod", "web", "job", "--now"]).unwrap();
    cluster.apply(&hook("endless", "echo begun > /marks/endless; sleep 1000")).unwrap();
    cluster.wait_ready("endless").unwrap();
    let said = run(&mut cluster.cox(&["down", "--pods", "--timeout", "3"])).unwrap();
    assert!(said.contains("not all Pods ended in 3 s"), "{said}");
    assert!(cluster.home().join("endless").exists());
    let root = format!("/cox-{}/kubepods", cluster.id().unwrap());
    let left = run(Command::new("sh").args(["-c", &format!("cat $(find /sys/fs/cgroup/*{root} -name cgroup.procs)")]));
    assert_eq!(left.unwrap(), "");
}
