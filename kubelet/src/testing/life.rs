//! Whole lives of Pods: the agent with an API and a runtime in memory, from bound to gone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use kubelet_runtime::cri::ContainerState;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::runtime::Fake;
use crate::config::Config;
use crate::shutdown::Shutdown;

pub(super) const PODS: &str = "api/v1/namespaces/ns/pods";
/// Long enough for a loaded machine; nothing waits for it when all is well.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Node {
    pub(super) api: Api,
    pub(super) runtime: Arc<Fake>,
    pub(super) shutdown: Shutdown,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
    dir: tempfile::TempDir,
}

impl Node {
    fn config(dir: &tempfile::TempDir) -> Config {
        let mut config = Config::new("n1", "192.0.2.10".parse().unwrap(), dir.path());
        config.listen = None;
        config.static_pod_dir = Some(dir.path().join("manifests"));
        config.cgroup_root =
            format!("/coxtest-{}-{}", std::process::id(), dir.path().file_name().unwrap().to_string_lossy());
        config
    }

    pub(super) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let api = Api::new();
        api.put(
            "api/v1/namespaces/default/services",
            json!({"metadata": {"name": "kubernetes", "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]}}),
        );
        let runtime = Fake::new();
        let cancel = CancellationToken::new();
        let config = Self::config(&dir);
        let shutdown = config.shutdown.clone();
        let task = client::spawn(crate::run(config, api.client(), runtime.clone(), cancel.clone()));
        Self { api, runtime, shutdown, cancel, task, dir }
    }

    /// The kubelet ends and starts again beside the same runtime and API.
    pub(super) async fn restart(&mut self) {
        self.cancel.cancel();
        (&mut self.task).await.unwrap().unwrap();
        self.cancel = CancellationToken::new();
        let config = Self::config(&self.dir);
        self.shutdown = config.shutdown.clone();
        self.task = client::spawn(crate::run(config, self.api.client(), self.runtime.clone(), self.cancel.clone()));
    }

    pub(super) fn bind(&self, name: &str, mut spec: Value) {
        spec["nodeName"] = json!("n1");
        self.api.put(
            PODS,
            json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "ns", "generation": 1}, "spec": spec,
            "status": {"phase": "Pending"}}),
        );
    }

    fn delete(&self, name: &str, grace: i64) {
        let patch =
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace}});
        self.api.patch(PODS, name, &patch).unwrap();
    }

    pub(super) async fn until<T>(&self, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
        let wait = async {
            loop {
                if let Some(found) = check() {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(found) => found,
            Err(_) => panic!("{what}: pods {:#?}, calls {:?}", self.api.list(PODS), self.runtime.calls()),
        }
    }

    pub(super) async fn phase(&self, name: &str, phase: &str) -> Value {
        self.until(&format!("{name} {phase}"), || self.api.get(PODS, name).filter(|p| p["status"]["phase"] == phase))
            .await
    }

    async fn gone(&self, name: &str) {
        self.until(&format!("{name} gone"), || self.api.get(PODS, name).is_none().then_some(())).await;
    }

    fn events(&self) -> Vec<(String, String)> {
        let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
        let list = self.api.list("api/v1/namespaces/ns/events");
        list.iter().map(|e| (text(&e["reason"]), text(&e["message"]))).collect()
    }

    async fn event(&self, reason: &str) -> String {
        self.until(reason, || self.events().into_iter().find(|(r, _)| r == reason).map(|(_, m)| m)).await
    }

    pub(super) async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
        let root = Self::config(&self.dir).cgroup_root;
        crate::cgroup::Cgroups::detect(&root).unwrap().remove(&root).unwrap();
    }
}

pub(super) fn condition<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let list = pod["status"]["conditions"].as_array().expect("conditions");
    list.iter().find(|c| c["type"] == name).expect(name)
}

#[tokio::test]
async fn a_pod_runs_and_is_deleted() {
    let node = Node::start();
    node.bind("web", json!({"containers": [{"name": "c", "image": "app:1", "env": [{"name": "A", "value": "1"}]}]}));
    let pod = node.phase("web", "Running").await;
    assert_eq!(condition(&pod, "Ready")["status"], "True");
    assert_eq!(pod["status"]["podIP"], "10.244.0.7");
    assert_eq!(pod["status"]["hostIP"], "192.0.2.10");
    assert_eq!(pod["status"]["qosClass"], "BestEffort");
    let container = &pod["status"]["containerStatuses"][0];
    assert!(container["containerID"].as_str().unwrap().starts_with("cox://c"));
    assert_eq!((&container["ready"], &container["started"]), (&json!(true), &json!(true)));
    let config = node.runtime.config(&node.runtime.running("c").unwrap().id);
    assert!(config.envs.contains(&("KUBERNETES_SERVICE_HOST".into(), "10.96.0.1".into())));
    for (reason, message) in
        [("Pulling", "Pulling image \"app:1\""), ("Created", "Container created"), ("Started", "Container started")]
    {
        assert_eq!(node.event(reason).await, message);
    }
    let pod_dir = node.dir.path().join("pods/uid-web");
    assert!(pod_dir.join("etc-hosts").exists());
    node.delete("web", 30);
    node.gone("web").await;
    assert_eq!(node.event("Killing").await, "Stopping container c");
    assert!(node.runtime.calls().contains(&"stop c 30".to_owned()));
    assert!(!pod_dir.exists());
    node.stop().await;
}

#[tokio::test]
async fn a_job_succeeds_and_keeps_its_container() {
    let node = Node::start();
    node.bind("job", json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "app:1"}]}));
    node.phase("job", "Running").await;
    node.runtime.exit("c", 0);
    let pod = node.phase("job", "Succeeded").await;
    assert_eq!(condition(&pod, "Ready")["reason"], "PodCompleted");
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    node.delete("job", 0);
    node.gone("job").await;
    node.stop().await;
}

#[tokio::test]
async fn a_crash_restarts_at_once_then_backs_off() {
    let node = Node::start();
    node.bind("crash", json!({"containers": [{"name": "c", "image": "app:1"}]}));
    node.phase("crash", "Running").await;
    node.runtime.exit("c", 1);
    let restarted = |n: i64| {
        node.api.get(PODS, "crash").filter(|p| {
            let c = &p["status"]["containerStatuses"][0];
            c["restartCount"] == n && !c["state"]["running"].is_null()
        })
    };
    let pod = node.until("restarted", || restarted(1)).await;
    assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 1);
    node.runtime.exit("c", 2);
    let waiting = node
        .until("backing off", || {
            let pod = node.api.get(PODS, "crash")?;
            let state = pod["status"]["containerStatuses"][0]["state"]["waiting"].clone();
            (state["reason"] == "CrashLoopBackOff").then_some(state)
        })
        .await;
    let want = "back-off 10s restarting failed container=c pod=crash_ns(uid-crash)";
    assert_eq!(waiting["message"], want);
    assert_eq!(node.event("BackOff").await, "Back-off restarting failed container c in pod crash_ns(uid-crash)");
    assert_eq!(node.api.get(PODS, "crash").unwrap()["status"]["phase"], "Running");
    node.delete("crash", 0);
    node.gone("crash").await;
    node.stop().await;
}

#[tokio::test]
async fn init_containers_come_first_and_sidecars_stay() {
    let node = Node::start();
    node.bind(
        "order",
        json!({
        "initContainers": [
            {"name": "side", "image": "s:1", "restartPolicy": "Always"}, {"name": "init", "image": "i:1"}],
        "containers": [{"name": "main", "image": "m:1"}]}),
    );
    node.until("init runs", || node.runtime.running("init")).await;
    assert!(node.runtime.running("main").is_none());
    node.runtime.exit("init", 0);
    let pod = node.phase("order", "Running").await;
    assert_eq!(condition(&pod, "Initialized")["status"], "True");
    let starts: Vec<_> = node.runtime.calls().into_iter().filter(|c| c.starts_with("start")).collect();
    assert_eq!(starts, ["start side", "start init", "start main"]);
    node.delete("order", 5);
    node.gone("order").await;
    let stops: Vec<_> =
        node.runtime.calls().into_iter().filter(|c| c.starts_with("stop ") && c != "stop sandbox").collect();
    assert_eq!(stops, ["stop main 5", "stop side 5"]);
    node.stop().await;
}

#[tokio::test]
async fn a_missing_config_map_holds_the_start_until_it_comes() {
    let node = Node::start();
    node.bind(
        "cfg",
        json!({"containers": [{"name": "c", "image": "a:1",
        "env": [{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}]}]}),
    );
    let waiting = node
        .until("config error", || {
            let pod = node.api.get(PODS, "cfg")?;
            let state = pod["status"]["containerStatuses"][0]["state"]["waiting"].clone();
            (state["reason"] == "CreateContainerConfigError").then_some(state)
        })
        .await;
    assert_eq!(waiting["message"], "configmap \"cm\" not found");
    node.api.put(
        "api/v1/namespaces/ns/configmaps",
        json!({"metadata": {"name": "cm", "namespace": "ns"}, "data": {"k": "v"}}),
    );
    node.phase("cfg", "Running").await;
    let config = node.runtime.config(&node.runtime.running("c").unwrap().id);
    assert!(config.envs.contains(&("K".into(), "v".into())));
    node.stop().await;
}

#[tokio::test]
async fn volumes_follow_their_objects() {
    let node = Node::start();
    node.api.put(
        "api/v1/namespaces/ns/configmaps",
        json!({"metadata": {"name": "cm", "namespace": "ns"}, "data": {"k": "one"}}),
    );
    node.bind(
        "vol",
        json!({
        "volumes": [{"name": "v", "configMap": {"name": "cm"}}, {"name": "t", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
            {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}}],
        "containers": [{"name": "c", "image": "a:1", "volumeMounts": [
            {"name": "v", "mountPath": "/v"}, {"name": "t", "mountPath": "/t"}]}]}),
    );
    node.phase("vol", "Running").await;
    let dir = node.dir.path().join("pods/uid-vol/volumes");
    let read = |path: &str| std::fs::read_to_string(dir.join(path)).unwrap_or_default();
    assert_eq!(read("kubernetes.io~configmap/v/k"), "one");
    assert_eq!(read("kubernetes.io~projected/t/token"), "token-of-default");
    assert_eq!(read("kubernetes.io~projected/t/ns"), "ns");
    node.api.patch("api/v1/namespaces/ns/configmaps", "cm", &json!({"data": {"k": "two"}})).unwrap();
    node.until("updated", || (read("kubernetes.io~configmap/v/k") == "two").then_some(())).await;
    node.delete("vol", 0);
    node.gone("vol").await;
    assert!(!dir.exists());
    node.stop().await;
}

#[tokio::test]
async fn pulls_fail_back_off_and_are_tried_again() {
    let node = Node::start();
    node.runtime.break_image("bad:1");
    node.bind("pull", json!({"containers": [{"name": "c", "image": "bad:1"}]}));
    let waits = |reason: &'static str| {
        let api = node.api.clone();
        move || {
            let pod = api.get(PODS, "pull")?;
            let state = pod["status"]["containerStatuses"][0]["state"]["waiting"].clone();
            (state["reason"] == reason).then_some(state)
        }
    };
    let first = node.until("ErrImagePull", waits("ErrImagePull")).await;
    assert_eq!(first["message"], "bad:1: not found");
    let then = node.until("ImagePullBackOff", waits("ImagePullBackOff")).await;
    assert_eq!(then["message"], "Back-off pulling image \"bad:1\": ErrImagePull: bad:1: not found");
    node.runtime.mend_image("bad:1");
    node.phase("pull", "Running").await;
    node.stop().await;
}

#[tokio::test]
async fn probes_decide_on_readiness_and_restarts() {
    let node = Node::start();
    let exec = |word: &str| json!({"exec": {"command": [word]}, "periodSeconds": 1, "failureThreshold": 1});
    node.bind(
        "probed",
        json!({"terminationGracePeriodSeconds": 1, "containers": [
        {"name": "ok", "image": "a:1", "readinessProbe": exec("true")},
        {"name": "unready", "image": "a:1", "readinessProbe": exec("false")},
        {"name": "dead", "image": "a:1", "livenessProbe": exec("false")}]}),
    );
    let statuses = || node.api.get(PODS, "probed").map(|p| p["status"]["containerStatuses"].clone());
    node.until("restarted by liveness", || statuses().filter(|s| s[0]["restartCount"].as_i64() > Some(0))).await;
    let seen = node.until("ready", || statuses().filter(|s| s[1]["ready"] == true)).await;
    assert_eq!(seen[2]["ready"], false);
    let killing = node.events().into_iter().find(|(r, _)| r == "Killing").unwrap().1;
    assert_eq!(killing, "Container dead failed liveness probe, will be restarted");
    let pod = node.api.get(PODS, "probed").unwrap();
    assert_eq!(condition(&pod, "Ready")["reason"], "ContainersNotReady");
    node.delete("probed", 0);
    node.gone("probed").await;
    node.stop().await;
}

#[tokio::test]
async fn a_restarted_kubelet_adopts_what_runs_and_ends_what_is_gone() {
    let mut node = Node::start();
    node.bind("keep", json!({"containers": [{"name": "k", "image": "a:1"}]}));
    node.bind("lose", json!({"containers": [{"name": "l", "image": "a:1"}]}));
    node.phase("keep", "Running").await;
    node.phase("lose", "Running").await;
    let before = node.runtime.running("k").unwrap().id;
    node.cancel.cancel();
    (&mut node.task).await.unwrap().unwrap();
    assert_eq!(node.runtime.running("l").unwrap().state, ContainerState::Running);
    node.api.remove(PODS, "lose");
    node.task = client::spawn(async { Ok(()) });
    node.restart().await;
    node.until("the orphan ends", || node.runtime.running("l").is_none().then_some(())).await;
    assert_eq!(node.runtime.running("k").unwrap().id, before);
    node.runtime.exit("k", 1);
    node.until("watched again", || node.runtime.running("k").filter(|c| c.id != before)).await;
    node.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_is_rejected() {
    let node = Node::start();
    node.until("registered", || node.api.get("api/v1/nodes", "n1")).await;
    node.bind(
        "huge",
        json!({"containers": [{"name": "c", "image": "a:1", "resources": {"requests": {"cpu": "9000"}}}]}),
    );
    let pod = node.phase("huge", "Failed").await;
    assert_eq!(pod["status"]["reason"], "OutOfcpu");
    let message = pod["status"]["message"].as_str().unwrap();
    assert!(message.starts_with(
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 9000000, used: 0, capacity: "
    ));
    assert!(node.runtime.running("c").is_none());
    // kubectl shows a container's state before the Pod's reason.
    assert!(pod["status"]["containerStatuses"].is_null(), "{pod}");
    node.stop().await;
}

#[tokio::test]
async fn a_deadline_ends_a_pod() {
    let node = Node::start();
    node.bind(
        "late",
        json!({"activeDeadlineSeconds": 1, "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "a:1"}]}),
    );
    let pod = node.phase("late", "Failed").await;
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
    assert!(node.runtime.running("c").is_none());
    node.stop().await;
}

#[tokio::test]
async fn the_node_registers_ready_and_takes_its_cidr() {
    let node = Node::start();
    let registered = node.until("registered", || node.api.get("api/v1/nodes", "n1")).await;
    assert_eq!(registered["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
    let ready = condition(&registered, "Ready");
    assert_eq!((&ready["status"], &ready["message"]), (&json!("True"), &json!("kubelet is posting ready status")));
    node.until("lease", || node.api.get("apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", "n1")).await;
    node.api.patch("api/v1/nodes", "n1", &json!({"spec": {"podCIDR": "10.244.3.0/24"}})).unwrap();
    node.until("cidr", || node.runtime.calls().contains(&"cidr 10.244.3.0/24".to_owned()).then_some(())).await;
    node.stop().await;
}

/// The mirror of what the manifest was before bears the name yet when the new one is to be made, also after a restart.
#[tokio::test]
async fn a_static_pod_gets_its_mirror_when_another_ones_makes_place() {
    const MIRRORS: &str = "api/v1/namespaces/default/pods";
    let node = Node::start();
    let manifests = Node::config(&node.dir).static_pod_dir.unwrap();
    node.until("the directory of manifests", || manifests.is_dir().then_some(())).await;
    let manifest = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "image": "app:1"}]}});
    std::fs::write(manifests.join("web.json"), manifest.to_string()).unwrap();
    let config = |pod: &Value| pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].clone();
    let mirror = || node.api.get(MIRRORS, "web-n1");
    let own = config(&node.until("a mirror", mirror).await);
    let other = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "another"}}});
    node.api.patch(MIRRORS, "web-n1", &other).unwrap();
    node.until("its own mirror again", || mirror().filter(|pod| config(pod) == own)).await;
    node.stop().await;
}

/// The share of CPU that Burstable Pods have against others, as this machine's cgroups say it.
fn burstable_weight(root: &str) -> Option<String> {
    let (v1, v2) = (format!("/sys/fs/cgroup/cpu{root}"), format!("/sys/fs/cgroup{root}"));
    let files = [format!("{v1}/kubepods/burstable/cpu.shares"), format!("{v2}/kubepods/burstable/cpu.weight")];
    files.iter().find_map(|file| Some(std::fs::read_to_string(file).ok()?.trim().to_owned()))
}

#[tokio::test]
async fn burstable_pods_weigh_what_they_ask_for_together() {
    let mut node = Node::start();
    let root = Node::config(&node.dir).cgroup_root;
    // Shares of version 1, or their weight of version 2.
    let weighs = |shares: &'static str, weight: &'static str| {
        let root = root.clone();
        move || burstable_weight(&root).filter(|found| found == shares || found == weight)
    };
    let asking =
        |cpu: &str| json!({"containers": [{"name": "c", "image": "app:1", "resources": {"requests": {"cpu": cpu}}}]});
    node.until("nothing asked for", weighs("2", "1")).await;
    node.bind("small", asking("250m"));
    node.bind("large", asking("500m"));
    node.bind(
        "guaranteed",
        json!({"containers": [{"name": "c", "image": "app:1",
        "resources": {"limits": {"cpu": "100m", "memory": "1Mi"}}}]}),
    );
    for name in ["small", "large", "guaranteed"] {
        node.phase(name, "Running").await;
    }
    node.until("both asked for", weighs("768", "30")).await;
    node.restart().await;
    node.delete("large", 0);
    node.gone("large").await;
    node.until("one is left", weighs("256", "10")).await;
    node.stop().await;
}
