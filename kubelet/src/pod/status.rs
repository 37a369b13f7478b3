//! A Pod's status from what is observed: container statuses, addresses, phase and conditions. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, Pod, PodIP, PodStatus, VolumeMountStatus,
};
use kubelet_runtime::cri;

use crate::qos;
use crate::spec;
use crate::time::api_time;

use super::conditions;
use super::phase;
use super::plan::{self, ProbeState, Waiting};

/// What a status is made from.
pub struct Input<'a> {
    pub pod: &'a Pod,
    /// The status as last computed, or the API's after a restart.
    pub previous: &'a PodStatus,
    pub sandboxes: &'a [cri::PodSandboxStatus],
    /// Newest first.
    pub containers: &'a [cri::ContainerStatus],
    /// Termination messages by container id.
    pub messages: &'a BTreeMap<String, String>,
    pub waiting: &'a BTreeMap<String, Waiting>,
    pub probes: &'a BTreeMap<String, ProbeState>,
    /// The Pod ends, and its containers will not be started again.
    pub terminal: bool,
    /// It failed before anything of it was made here, as one that is rejected.
    pub never_began: bool,
    /// Reason and message of a Pod that failed as a whole (deadline, rejection).
    pub failure: Option<&'a (String, String)>,
    pub host_ip: &'a str,
    pub runtime_name: &'a str,
}

pub fn status(input: &Input) -> PodStatus {
    let pod = input.pod;
    let mut status = PodStatus {
        qos_class: Some(qos::class(pod).name().to_owned()),
        observed_generation: pod.metadata.generation,
        start_time: input.previous.start_time.clone(),
        // Fields that others own are carried along.
        nominated_node_name: pod.status.as_ref().and_then(|s| s.nominated_node_name.clone()),
        ..PodStatus::default()
    };
    if input.never_began {
        // It has no containers whose state could be told: its own reason is what there is to show.
        settle_phase(input, &mut status);
        status.conditions = input.previous.conditions.clone();
        return status;
    }
    let inits = spec::init_containers(pod);
    let main = container_statuses(input, spec::containers(pod), input.previous.container_statuses.as_deref(), false);
    let init = container_statuses(input, inits, input.previous.init_container_statuses.as_deref(), true);
    let ephemeral_specs = spec::ephemeral_containers(pod);
    let previous = input.previous.ephemeral_container_statuses.as_deref();
    let ephemeral = container_statuses(input, &ephemeral_specs, previous, false);
    status.container_statuses = Some(main);
    status.init_container_statuses = (!init.is_empty()).then_some(init);
    status.ephemeral_container_statuses = (!ephemeral.is_empty()).then_some(ephemeral);
    addresses(input, &mut status);
    settle_phase(input, &mut status);
    status.conditions = Some(conditions::conditions(input, &status));
    status
}

fn addresses(input: &Input, status: &mut PodStatus) {
    let host = input.host_ip.to_owned();
    status.host_ips = Some(vec![HostIP { ip: host.clone() }]);
    status.host_ip = Some(host.clone());
    let ips: Vec<String> = if spec::host_network(input.pod) {
        vec![host]
    } else {
        match input.sandboxes.first() {
            // A sandbox that was stopped has given its addresses back, but the Pod shows them to its end.
            Some(s) if s.ips.is_empty() => kept_ips(input.previous),
            Some(s) => s.ips.clone(),
            None => kept_ips(input.previous),
        }
    };
    if let Some(first) = ips.first() {
        status.pod_ip = Some(first.clone());
        status.pod_ips = Some(ips.into_iter().map(|ip| PodIP { ip }).collect());
    }
}

fn kept_ips(previous: &PodStatus) -> Vec<String> {
    previous.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect()
}

/// Terminal phases are never left; reason and message stay with the phase they were given for.
fn settle_phase(input: &Input, status: &mut PodStatus) {
    let computed = phase::phase(input.pod, status, input.terminal, phase::main_started(input.pod, input.containers));
    let api = input.pod.status.as_ref();
    let terminal_before = [input.previous.phase.as_deref(), api.and_then(|s| s.phase.as_deref())]
        .into_iter()
        .flatten()
        .find(|p| spec::is_terminal_phase(Some(p)));
    status.phase = Some(terminal_before.unwrap_or(computed).to_owned());
    if status.phase == input.previous.phase {
        status.reason = input.previous.reason.clone();
        status.message = input.previous.message.clone();
    }
    if let Some((reason, message)) = input.failure {
        status.phase = Some("Failed".to_owned());
        status.reason = Some(reason.clone());
        status.message = Some(message.clone());
    }
}

fn container_statuses(
    input: &Input,
    specs: &[Container],
    previous: Option<&[ContainerStatus]>,
    init: bool,
) -> Vec<ContainerStatus> {
    let mut list: Vec<_> = specs
        .iter()
        .map(|c| {
            let old = previous.unwrap_or_default().iter().find(|s| s.name == c.name);
            one(input, c, old, init)
        })
        .collect();
    if !init {
        list.sort_by(|a, b| a.name.cmp(&b.name));
    }
    list
}

fn one(input: &Input, container: &Container, old: Option<&ContainerStatus>, init: bool) -> ContainerStatus {
    let mut runs = input.containers.iter().filter(|c| c.name == container.name);
    let (newest, before) = (runs.next(), runs.next());
    let mut status = match newest {
        Some(run) => from_run(input, container, run),
        None => without_run(input, container, old),
    };
    if let Some(before) = before {
        status.last_state = Some(state_of(input, before));
    } else if newest.is_some() && status.last_state.is_none() {
        status.last_state = old.and_then(|o| o.last_state.clone()).filter(|s| *s != ContainerState::default());
    }
    status.volume_mounts = volume_mounts(container);
    status.resources = container.resources.clone();
    status.allocated_resources = container.resources.as_ref().and_then(|r| r.requests.clone());
    show_waiting(input, container, newest, &mut status, init);
    set_ready(input, container, newest, &mut status, init);
    status
}

fn from_run(input: &Input, container: &Container, run: &cri::ContainerStatus) -> ContainerStatus {
    let image = if run.image.is_empty() { container.image.clone().unwrap_or_default() } else { run.image.clone() };
    ContainerStatus {
        name: container.name.clone(),
        container_id: Some(container_id(input, &run.id)),
        image,
        image_id: run.image_ref.clone(),
        restart_count: i32::try_from(crate::labels::restart_count(run)).unwrap_or(i32::MAX),
        state: Some(state_of(input, run)),
        ..ContainerStatus::default()
    }
}

/// The runtime knows no such container: it waits, or what is known of its end is kept.
fn without_run(input: &Input, container: &Container, old: Option<&ContainerStatus>) -> ContainerStatus {
    if let Some(old) = old.filter(|o| o.state.as_ref().is_some_and(|s| s.terminated.is_some())) {
        return old.clone();
    }
    let first = if spec::init_containers(input.pod).is_empty() { "ContainerCreating" } else { "PodInitializing" };
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(waiting_state(first, "")),
        ..ContainerStatus::default()
    };
    let Some(old) = old else { return status };
    status.restart_count = old.restart_count;
    status.last_state = old.last_state.clone();
    let ran = old.state.as_ref().is_some_and(|s| s.running.is_some());
    let ended = status.last_state.as_ref().is_some_and(|s| s.terminated.is_some());
    if ran && !ended {
        let message = "The container could not be located when the pod was deleted.  The container used to be Running";
        status.last_state = Some(ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".to_owned()),
                message: Some(message.to_owned()),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        });
        status.restart_count += i32::from(!spec::is_deleting(input.pod));
    }
    status
}

fn waiting_state(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: (!message.is_empty()).then(|| message.to_owned()),
        }),
        ..ContainerState::default()
    }
}

fn container_id(input: &Input, id: &str) -> String {
    format!("{}://{id}", input.runtime_name)
}

fn state_of(input: &Input, run: &cri::ContainerStatus) -> ContainerState {
    match run.state {
        cri::ContainerState::Running => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(api_time(run.started_at)) }),
            ..ContainerState::default()
        },
        cri::ContainerState::Exited => {
            let message = input.messages.get(&run.id).cloned().unwrap_or_else(|| run.message.clone());
            ContainerState {
                terminated: Some(ContainerStateTerminated {
                    container_id: Some(container_id(input, &run.id)),
                    exit_code: run.exit_code,
                    reason: (!run.reason.is_empty()).then(|| run.reason.clone()),
                    message: (!message.is_empty()).then_some(message),
                    started_at: Some(api_time(run.started_at)),
                    finished_at: Some(api_time(run.finished_at)),
                    // What CRI does not say: the exit code tells.
                    signal: None,
                }),
                ..ContainerState::default()
            }
        }
        cri::ContainerState::Created | cri::ContainerState::Unknown => {
            ContainerState { waiting: Some(ContainerStateWaiting::default()), ..ContainerState::default() }
        }
    }
}

/// A container that is to be started but cannot be yet is Waiting, with why; its end becomes the last state.
fn show_waiting(
    input: &Input,
    container: &Container,
    newest: Option<&cri::ContainerStatus>,
    status: &mut ContainerStatus,
    init: bool,
) {
    let Some(waiting) = input.waiting.get(&container.name) else { return };
    let finished = newest.is_some_and(|c| c.state == cri::ContainerState::Exited && c.exit_code == 0);
    if (init && finished && !spec::is_sidecar(container)) || !plan::should_start(input.pod, container, input.containers)
    {
        return;
    }
    let shown = status.state.replace(waiting_state(waiting.reason, &waiting.message));
    if let Some(ended) = shown.filter(|s| s.terminated.is_some()) {
        status.last_state = Some(ended);
    }
}

fn set_ready(
    input: &Input,
    container: &Container,
    newest: Option<&cri::ContainerStatus>,
    status: &mut ContainerStatus,
    init: bool,
) {
    let state = status.state.as_ref();
    let running = state.is_some_and(|s| s.running.is_some());
    if init && !spec::is_sidecar(container) {
        status.started = Some(running);
        status.ready = state.and_then(|s| s.terminated.as_ref()).is_some_and(|t| t.exit_code == 0);
        return;
    }
    let probes = newest.and_then(|c| input.probes.get(&c.id)).copied().unwrap_or_default();
    let started = running && (container.startup_probe.is_none() || probes.startup == Some(true));
    status.started = Some(started);
    status.ready = started && (container.readiness_probe.is_none() || probes.readiness == Some(true));
}

fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref().filter(|m| !m.is_empty())?;
    let shown = mounts.iter().map(|m| VolumeMountStatus {
        name: m.name.clone(),
        mount_path: m.mount_path.clone(),
        read_only: m.read_only.filter(|r| *r),
        recursive_read_only: (m.read_only == Some(true)).then(|| "Disabled".to_owned()),
        ..VolumeMountStatus::default()
    });
    Some(shown.collect())
}
