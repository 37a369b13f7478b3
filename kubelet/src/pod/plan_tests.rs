//! Tables of plans: a Pod and what is observed, and what is done about it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kubelet_runtime::cri::{ContainerState, ContainerStatus, PodSandboxStatus, SandboxState};
use serde_json::{Value, json};

use super::plan::{Action, Image, Input, Plan, ProbeState, SandboxWork, Volumes, plan};
use crate::backoff::Entry;
use crate::labels;
use crate::spec;
use crate::time::SECOND;

const NOW: i64 = 1_000 * SECOND;

struct Case {
    pod: Pod,
    sandboxes: Vec<PodSandboxStatus>,
    containers: Vec<ContainerStatus>,
    probes: BTreeMap<String, ProbeState>,
    backoff: BTreeMap<String, Entry>,
    starting: BTreeSet<String>,
}

fn case(spec: Value) -> Case {
    let pod: Pod =
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec})).unwrap();
    Case {
        pod,
        sandboxes: Vec::new(),
        containers: Vec::new(),
        probes: BTreeMap::new(),
        backoff: BTreeMap::new(),
        starting: BTreeSet::new(),
    }
}

impl Case {
    fn sandbox(mut self, state: SandboxState) -> Self {
        let attempt = u32::try_from(self.sandboxes.len()).unwrap();
        self.sandboxes.insert(
            0,
            PodSandboxStatus {
                id: format!("s{attempt}"),
                name: "p".into(),
                namespace: "n".into(),
                uid: "u".into(),
                attempt,
                state,
                created_at: i64::from(attempt),
                ips: vec!["10.0.0.1".into()],
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
            },
        );
        self
    }

    fn container(mut self, name: &str, state: ContainerState, exit_code: i32) -> Self {
        let slot = spec::slot_of(&self.pod, name).unwrap();
        let container = spec::container(&self.pod, slot).unwrap();
        self.containers.insert(
            0,
            ContainerStatus {
                id: format!("{name}-id"),
                sandbox_id: self.sandboxes[0].id.clone(),
                name: name.into(),
                attempt: 0,
                state,
                created_at: 0,
                started_at: 0,
                finished_at: NOW - SECOND,
                exit_code,
                signal: 0,
                reason: String::new(),
                message: String::new(),
                image: String::new(),
                image_ref: String::new(),
                labels: BTreeMap::new(),
                annotations: labels::container_annotations(&self.pod, &container, 0),
                log_path: String::new(),
            },
        );
        self
    }

    fn probe(mut self, name: &str, state: ProbeState) -> Self {
        self.probes.insert(format!("{name}-id"), state);
        self
    }

    fn plan(&self) -> Plan {
        let all = spec::containers(&self.pod).iter().chain(spec::init_containers(&self.pod));
        let images = all.map(|c| (c.name.clone(), Image::Present("i".into()))).collect();
        plan(&Input {
            pod: &self.pod,
            sandboxes: &self.sandboxes,
            containers: &self.containers,
            volumes: Volumes::Ready,
            images: &images,
            probes: &self.probes,
            backoff: &self.backoff,
            blocked: &BTreeMap::new(),
            starting: &self.starting,
            stopping: &BTreeSet::new(),
            sandbox: SandboxWork::Idle,
            now: NOW,
        })
    }

    /// The plan in words.
    fn words(&self) -> Vec<String> {
        let name = |slot| spec::container(&self.pod, slot).unwrap().name;
        let word = |action: &Action| match action {
            Action::SetUpVolumes => "volumes".to_owned(),
            Action::CreateSandbox { attempt } => format!("sandbox {attempt}"),
            Action::EnsureImage { slot } => format!("image {}", name(*slot)),
            Action::Start { slot, .. } => format!("start {}", name(*slot)),
            Action::Kill { message, .. } => format!("kill: {message}"),
            Action::KillPod => "kill pod".to_owned(),
        };
        self.plan().actions.iter().map(word).collect()
    }
}

fn one(policy: &str) -> Case {
    case(json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "x"}]}))
}

#[test]
fn restart_policies() {
    use ContainerState::{Created, Exited, Running, Unknown};
    use SandboxState::Ready;
    for (policy, state, code, want) in [
        ("Always", Running, 0, vec![]),
        ("Always", Exited, 0, vec!["start a"]),
        ("Always", Exited, 1, vec!["start a"]),
        ("OnFailure", Exited, 0, vec!["kill pod"]),
        ("OnFailure", Exited, 1, vec!["start a"]),
        ("Never", Exited, 0, vec!["kill pod"]),
        ("Never", Exited, 1, vec!["kill pod"]),
        ("Never", Created, 0, vec!["start a"]),
        (
            "Always",
            Unknown,
            0,
            vec!["kill: Container is in \"unknown\" state, try killing it before restart", "start a"],
        ),
    ] {
        let got = one(policy).sandbox(Ready).container("a", state, code).words();
        assert_eq!(got, want, "{policy} {state:?} {code}");
    }
}

#[test]
fn sandboxes_come_and_are_replaced() {
    use SandboxState::{NotReady, Ready};
    assert_eq!(one("Always").words(), ["sandbox 0"]);
    assert_eq!(one("Always").sandbox(Ready).words(), ["start a"]);
    assert_eq!(one("Always").sandbox(NotReady).words(), ["sandbox 1"]);
    let ended = |policy| one(policy).sandbox(NotReady).container("a", ContainerState::Exited, 0);
    assert_eq!(ended("Always").words(), ["sandbox 1"]);
    assert_eq!(ended("Never").words(), ["kill pod"]);
    assert_eq!(ended("OnFailure").words(), ["kill pod"]);
}

#[test]
fn everything_that_can_goes_at_once() {
    let case = one("Always");
    let plan = plan(&Input {
        pod: &case.pod,
        sandboxes: &[],
        containers: &[],
        volumes: Volumes::Absent,
        images: &BTreeMap::new(),
        probes: &BTreeMap::new(),
        backoff: &BTreeMap::new(),
        blocked: &BTreeMap::new(),
        starting: &BTreeSet::new(),
        stopping: &BTreeSet::new(),
        sandbox: SandboxWork::Idle,
        now: NOW,
    });
    let want =
        [Action::CreateSandbox { attempt: 0 }, Action::SetUpVolumes, Action::EnsureImage { slot: spec::Slot::Main(0) }];
    assert_eq!(plan.actions, want);
}

#[test]
fn containers_start_one_after_another() {
    let two = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let mut case = case(two).sandbox(SandboxState::Ready);
    assert_eq!(case.words(), ["start a"]);
    case.starting.insert("a".into());
    assert!(case.words().is_empty());
    case.starting.clear();
    assert_eq!(case.container("a", ContainerState::Running, 0).words(), ["start b"]);
}

#[test]
fn probes_and_changes_kill() {
    let failed = ProbeState { liveness: Some(false), ..ProbeState::default() };
    let running = |policy| one(policy).sandbox(SandboxState::Ready).container("a", ContainerState::Running, 0);
    let got = running("Always").probe("a", failed).words();
    assert_eq!(got, ["kill: Container a failed liveness probe, will be restarted"]);
    assert_eq!(running("Never").probe("a", failed).words(), ["kill: Container a failed liveness probe"]);
    let startup = ProbeState { startup: Some(false), ..ProbeState::default() };
    let got = running("OnFailure").probe("a", startup).words();
    assert_eq!(got, ["kill: Container a failed startup probe, will be restarted"]);
    let mut changed = running("Always");
    changed.pod.spec.as_mut().unwrap().containers[0].image = Some("y".into());
    assert_eq!(changed.words(), ["kill: Container a definition changed, will be restarted"]);
}

#[test]
fn init_containers_in_order() {
    use ContainerState::{Exited, Running};
    let spec = |policy: &str| {
        json!({"restartPolicy": policy, "initContainers": [{"name": "i"}, {"name": "j"}],
        "containers": [{"name": "a"}]})
    };
    let with = |policy: &str| case(spec(policy)).sandbox(SandboxState::Ready);
    assert_eq!(with("Always").words(), ["start i"]);
    assert!(with("Always").container("i", Running, 0).words().is_empty());
    assert_eq!(with("Always").container("i", Exited, 0).words(), ["start j"]);
    assert_eq!(with("Always").container("i", Exited, 1).words(), ["start i"]);
    assert_eq!(with("Never").container("i", Exited, 1).words(), ["kill pod"]);
    let done = || with("Always").container("i", Exited, 0).container("j", Exited, 0);
    assert_eq!(done().words(), ["start a"]);
    assert!(done().container("a", Running, 0).words().is_empty());
}

#[test]
fn sidecars() {
    use ContainerState::{Exited, Running};
    let base = || {
        case(json!({"restartPolicy": "Never", "initContainers": [
            {"name": "s", "restartPolicy": "Always", "startupProbe": {"exec": {}}}, {"name": "j"}],
            "containers": [{"name": "a"}]}))
        .sandbox(SandboxState::Ready)
    };
    assert_eq!(base().words(), ["start s"]);
    assert!(base().container("s", Running, 0).words().is_empty(), "its startup probe is waited for");
    let started = ProbeState { startup: Some(true), ..ProbeState::default() };
    assert_eq!(base().container("s", Running, 0).probe("s", started).words(), ["start j"]);
    let all = |state, code| base().container("s", state, code).container("j", Exited, 0).container("a", Running, 0);
    assert!(all(Running, 0).probe("s", started).words().is_empty());
    assert_eq!(all(Exited, 1).words(), ["start s"], "it is started again although the Pod's policy is Never");
    let over = base().container("s", Running, 0).container("j", Exited, 0).container("a", Exited, 0);
    assert_eq!(over.probe("s", started).words(), ["kill pod"]);
}

#[test]
fn back_off_is_waited_for() {
    let mut case = one("Always").sandbox(SandboxState::Ready).container("a", ContainerState::Exited, 1);
    case.backoff.insert("a".into(), Entry { wait: 10 * SECOND, updated: NOW - 2 * SECOND });
    let plan = case.plan();
    assert!(plan.actions.is_empty());
    assert_eq!(plan.wake_at, Some(NOW + 9 * SECOND));
    assert_eq!(plan.waiting["a"].message, "back-off 10s restarting failed container=a pod=p_n(u)");
}
