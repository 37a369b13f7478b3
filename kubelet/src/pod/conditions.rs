//! The conditions of a Pod that the kubelet owns, with upstream's reasons and messages. Pure.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodCondition, PodStatus};

use crate::spec;

use super::plan;
use super::status::Input;

const OWNED: [&str; 6] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled", "AllContainersRestarting"];

/// What a condition says, before its times are known.
struct Verdict {
    ok: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn yes() -> Self {
        Self { ok: true, reason: "", message: String::new() }
    }

    fn no(reason: &'static str, message: String) -> Self {
        Self { ok: false, reason, message }
    }
}

/// Others' conditions as the API has them, then the kubelet's. Times of last transition are left to [`keep_times`].
pub fn conditions(input: &Input, status: &PodStatus) -> Vec<PodCondition> {
    let pod = input.pod;
    let api = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let mut list: Vec<_> = api.iter().filter(|c| !OWNED.contains(&c.type_.as_str())).cloned().collect();
    if let Some(target) = input.previous.conditions.iter().flatten().find(|c| c.type_ == "DisruptionTarget")
        && !list.iter().any(|c| c.type_ == "DisruptionTarget")
    {
        list.push(target.clone());
    }
    let (new_sandbox, _) = plan::sandbox_changed(pod, input.sandboxes);
    let sandbox = if new_sandbox { Verdict::no("", String::new()) } else { Verdict::yes() };
    let containers = containers_ready(pod, status);
    let ready = ready(pod, &containers, &list);
    for (name, verdict) in [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized(pod, status)),
        ("Ready", ready),
        ("ContainersReady", containers),
        ("PodScheduled", Verdict::yes()),
    ] {
        list.push(condition(pod, name, verdict));
    }
    list
}

fn condition(pod: &Pod, name: &str, verdict: Verdict) -> PodCondition {
    let text = |s: &str| (!s.is_empty()).then(|| s.to_owned());
    PodCondition {
        type_: name.to_owned(),
        status: if verdict.ok { "True" } else { "False" }.to_owned(),
        reason: text(verdict.reason),
        message: text(&verdict.message),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    }
}

fn find<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    all.into_iter().find(|s| s.name == name)
}

fn go_list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", names.collect::<Vec<_>>().join(" "))
}

fn containers_ready(pod: &Pod, status: &PodStatus) -> Verdict {
    let sidecars = spec::init_containers(pod).iter().filter(|c| spec::is_sidecar(c));
    let watched: Vec<&Container> = sidecars.chain(spec::containers(pod)).collect();
    let unknown: Vec<_> = watched.iter().filter(|c| find(status, &c.name).is_none()).map(|c| c.name.as_str()).collect();
    let unready: Vec<_> =
        watched.iter().filter(|c| find(status, &c.name).is_some_and(|s| !s.ready)).map(|c| c.name.as_str()).collect();
    match status.phase.as_deref() {
        Some("Succeeded") if unknown.is_empty() => return Verdict::no("PodCompleted", String::new()),
        Some("Failed") => return Verdict::no("PodFailed", String::new()),
        _ => {}
    }
    let mut parts = Vec::new();
    if !unknown.is_empty() {
        parts.push(format!("containers with unknown status: {}", go_list(unknown.into_iter())));
    }
    if !unready.is_empty() {
        parts.push(format!("containers with unready status: {}", go_list(unready.into_iter())));
    }
    if parts.is_empty() { Verdict::yes() } else { Verdict::no("ContainersNotReady", parts.join(", ")) }
}

fn ready(pod: &Pod, containers: &Verdict, conditions: &[PodCondition]) -> Verdict {
    if !containers.ok {
        return Verdict::no(containers.reason, containers.message.clone());
    }
    let mut parts = Vec::new();
    for gate in spec::spec(pod).readiness_gates.iter().flatten() {
        let name = &gate.condition_type;
        match conditions.iter().find(|c| c.type_ == *name) {
            None => parts.push(format!("corresponding condition of pod readiness gate {name:?} does not exist.")),
            Some(c) if c.status != "True" => {
                parts.push(format!("the status of pod readiness gate {name:?} is not \"True\", but {}", c.status));
            }
            Some(_) => {}
        }
    }
    if parts.is_empty() { Verdict::yes() } else { Verdict::no("ReadinessGatesNotReady", parts.join(", ")) }
}

fn initialized(pod: &Pod, status: &PodStatus) -> Verdict {
    let inits = spec::init_containers(pod);
    let done = |c: &Container, s: &ContainerStatus| if spec::is_sidecar(c) { s.started == Some(true) } else { s.ready };
    let unknown: Vec<_> = inits.iter().filter(|c| find(status, &c.name).is_none()).map(|c| c.name.as_str()).collect();
    let incomplete: Vec<_> =
        inits.iter().filter(|c| find(status, &c.name).is_some_and(|s| !done(c, s))).map(|c| c.name.as_str()).collect();
    if status.phase.as_deref() == Some("Succeeded") && unknown.is_empty() {
        return Verdict { ok: true, reason: "PodCompleted", message: String::new() };
    }
    let began = |s: &ContainerStatus| {
        s.started == Some(true)
            || s.last_state.as_ref().is_some_and(|l| l.terminated.is_some())
            || s.state.as_ref().is_some_and(|l| l.terminated.is_some())
    };
    if spec::containers(pod).iter().any(|c| find(status, &c.name).is_some_and(began)) {
        return Verdict::yes();
    }
    let mut parts = Vec::new();
    if !unknown.is_empty() {
        parts.push(format!("containers with unknown status: {}", go_list(unknown.into_iter())));
    }
    if !incomplete.is_empty() {
        parts.push(format!("containers with incomplete status: {}", go_list(incomplete.into_iter())));
    }
    if parts.is_empty() { Verdict::yes() } else { Verdict::no("ContainersNotInitialized", parts.join(", ")) }
}

/// Gives each condition the time of its last change of status: the old one's while its status is the same.
pub fn keep_times(
    old: Option<&[PodCondition]>,
    new: &mut [PodCondition],
    now: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time,
) {
    for condition in new.iter_mut().filter(|c| OWNED.contains(&c.type_.as_str())) {
        let before = old.unwrap_or_default().iter().find(|c| c.type_ == condition.type_);
        let same = before.filter(|c| c.status == condition.status).and_then(|c| c.last_transition_time.clone());
        condition.last_transition_time = Some(same.unwrap_or_else(|| now.clone()));
    }
}
