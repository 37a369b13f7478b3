//! What a Pod needs next: (spec, observed, probes, back-off, now) in, actions out. No IO, no clock.
//!
//! The decisions are upstream's `computePodActions`; unlike there an action that is under way is part of what is
//! observed, so that sandbox, volumes and images proceed side by side and nothing waits for a sync period.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod};
use kubelet_runtime::cri::{ContainerState, ContainerStatus, PodSandboxStatus, SandboxState};

use crate::backoff::{self, Entry};
use crate::labels;
use crate::spec::{self, Slot};
use crate::time::{Nanos, go_duration};

use super::plan_init;

/// How far a Pod's volumes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volumes {
    Absent,
    Underway,
    Ready,
    /// The last try failed; the next is due then.
    RetryAt(Nanos),
}

/// How far a container's image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    Underway,
    /// On the node, under this id.
    Present(String),
    /// The next try is due then.
    RetryAt(Nanos),
}

/// What the probes of a container have found; `None` is "no result yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeState {
    pub startup: Option<bool>,
    pub liveness: Option<bool>,
    pub readiness: Option<bool>,
}

/// Everything that a plan is made from.
pub struct Input<'a> {
    pub pod: &'a Pod,
    /// The Pod's sandboxes, newest first.
    pub sandboxes: &'a [PodSandboxStatus],
    /// The Pod's containers of all attempts, newest first.
    pub containers: &'a [ContainerStatus],
    pub volumes: Volumes,
    /// By container name, for this attempt of it.
    pub images: &'a BTreeMap<String, Image>,
    /// By container id.
    pub probes: &'a BTreeMap<String, ProbeState>,
    /// Restart back-off by container name.
    pub backoff: &'a BTreeMap<String, Entry>,
    /// Containers whose start failed, and when to try again.
    pub blocked: &'a BTreeMap<String, Nanos>,
    /// Names of containers whose start or postStart hook is under way.
    pub starting: &'a BTreeSet<String>,
    /// Ids of containers that are being stopped.
    pub stopping: &'a BTreeSet<String>,
    /// A sandbox is being made, or its last try failed.
    pub sandbox: SandboxWork,
    pub now: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxWork {
    Idle,
    Underway,
    RetryAt(Nanos),
}

/// Why a container is stopped, as far as it changes its grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    Startup,
    Liveness,
    Changed,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    SetUpVolumes,
    CreateSandbox {
        attempt: u32,
    },
    EnsureImage {
        slot: Slot,
    },
    /// Create and start; `restarts` is the new container's restart count when an older one is known.
    Start {
        slot: Slot,
        restarts: Option<u32>,
        finished_at: Nanos,
    },
    Kill {
        id: String,
        slot: Slot,
        message: String,
        reason: KillReason,
    },
    /// Everything ends: what runs is stopped, and the sandbox too.
    KillPod,
}

/// A container that waits, as its status says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: &'static str,
    pub message: String,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// Containers in restart back-off, by name.
    pub waiting: BTreeMap<String, Waiting>,
    /// When to plan again although nothing happened.
    pub wake_at: Option<Nanos>,
}

impl Plan {
    fn wake(&mut self, at: Nanos) {
        self.wake_at = Some(self.wake_at.map_or(at, |w| w.min(at)));
    }
}

/// What the containers' part of the decision comes to, before what each start needs is looked at.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub kill_pod: bool,
    pub start: Vec<Slot>,
    pub kill: Vec<(String, Slot, String, KillReason)>,
}

/// Whether the Pod needs a new sandbox, and which attempt that is (upstream's PodSandboxChanged).
pub fn sandbox_changed(pod: &Pod, sandboxes: &[PodSandboxStatus]) -> (bool, u32) {
    let Some(newest) = sandboxes.first() else { return (true, 0) };
    let ready = sandboxes.iter().filter(|s| s.state == SandboxState::Ready).count();
    let lost_address = !spec::host_network(pod) && newest.ips.is_empty();
    if ready > 1 || newest.state != SandboxState::Ready || lost_address {
        return (true, newest.attempt + 1);
    }
    (false, newest.attempt)
}

/// The newest container of that name.
pub fn newest<'a>(containers: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    containers.iter().find(|c| c.name == name)
}

/// Whether a container that is not there or not running is to be started (upstream's ShouldContainerBeRestarted).
pub fn should_start(pod: &Pod, container: &Container, containers: &[ContainerStatus]) -> bool {
    if spec::is_deleting(pod) {
        return false;
    }
    match newest(containers, &container.name) {
        None => true,
        Some(c) => match c.state {
            ContainerState::Running => false,
            ContainerState::Created | ContainerState::Unknown => true,
            ContainerState::Exited => spec::should_restart(pod, container, c.exit_code),
        },
    }
}

/// Whether any main container was ever created; then all init containers are done.
pub fn any_main_created(pod: &Pod, containers: &[ContainerStatus]) -> bool {
    spec::containers(pod).iter().any(|c| newest(containers, &c.name).is_some())
}

/// Decides what a Pod that is to run needs now.
pub fn plan(input: &Input) -> Plan {
    let mut plan = Plan::default();
    let (new_sandbox, attempt) = sandbox_changed(input.pod, input.sandboxes);
    let wanted = if new_sandbox { with_new_sandbox(input, attempt) } else { with_sandbox(input) };
    if wanted.kill_pod {
        plan.actions.push(Action::KillPod);
        return plan;
    }
    if new_sandbox {
        sandbox_work(input, attempt, &mut plan);
    }
    for (id, slot, message, reason) in wanted.kill {
        if !input.stopping.contains(&id) {
            plan.actions.push(Action::Kill { id, slot, message, reason });
        }
    }
    volume_work(input, &mut plan);
    start_work(input, &wanted.start, !new_sandbox, &mut plan);
    plan
}

fn sandbox_work(input: &Input, attempt: u32, plan: &mut Plan) {
    match input.sandbox {
        SandboxWork::Underway => {}
        SandboxWork::RetryAt(at) if at > input.now => plan.wake(at),
        // A start in the sandbox that went away still has to fail.
        _ if !input.starting.is_empty() => {}
        _ => plan.actions.push(Action::CreateSandbox { attempt }),
    }
}

fn volume_work(input: &Input, plan: &mut Plan) {
    match input.volumes {
        Volumes::Absent => plan.actions.push(Action::SetUpVolumes),
        Volumes::RetryAt(at) if at > input.now => plan.wake(at),
        Volumes::RetryAt(_) => plan.actions.push(Action::SetUpVolumes),
        Volumes::Underway | Volumes::Ready => {}
    }
}

/// The Pod has no usable sandbox: everything begins anew, unless it is done or may not run twice.
fn with_new_sandbox(input: &Input, attempt: u32) -> Wanted {
    let pod = input.pod;
    let mut wanted = Wanted::default();
    if spec::restart_policy(pod) == "Never" && attempt != 0 && !input.containers.is_empty() {
        wanted.kill_pod = true;
        return wanted;
    }
    for (i, container) in spec::containers(pod).iter().enumerate() {
        let policy = container.restart_policy.as_deref().unwrap_or_else(|| spec::restart_policy(pod));
        let done = newest(input.containers, &container.name)
            .is_some_and(|c| c.state == ContainerState::Exited && c.exit_code == 0);
        if !(policy == "OnFailure" && done) {
            wanted.start.push(Slot::Main(i));
        }
    }
    if wanted.start.is_empty() && any_main_created(pod, input.containers) {
        wanted.kill_pod = true;
        return wanted;
    }
    if !spec::init_containers(pod).is_empty() {
        wanted.start = vec![Slot::Init(0)];
    }
    wanted
}

fn with_sandbox(input: &Input) -> Wanted {
    let pod = input.pod;
    let mut wanted = Wanted::default();
    for (i, container) in spec::ephemeral_containers(pod).iter().enumerate() {
        if newest(input.containers, &container.name).is_none() {
            wanted.start.push(Slot::Ephemeral(i));
        }
    }
    let initialized = plan_init::init_containers(input, &mut wanted);
    if wanted.kill_pod || !initialized {
        return wanted;
    }
    let mut keep = 0;
    let before = wanted.start.iter().filter(|s| matches!(s, Slot::Main(_))).count();
    for (i, container) in spec::containers(pod).iter().enumerate() {
        keep += usize::from(main_container(input, i, container, &mut wanted));
    }
    let starts = wanted.start.iter().filter(|s| matches!(s, Slot::Main(_))).count() - before;
    if keep == 0 && starts == 0 {
        wanted.kill_pod = true;
    }
    wanted
}

/// Decides on one main container; whether it is kept as it runs.
fn main_container(input: &Input, index: usize, container: &Container, wanted: &mut Wanted) -> bool {
    let slot = Slot::Main(index);
    let status = newest(input.containers, &container.name);
    let Some(status) = status.filter(|s| s.state == ContainerState::Running) else {
        if should_start(input.pod, container, input.containers) {
            wanted.start.push(slot);
            if let Some(s) = status.filter(|s| s.state == ContainerState::Unknown) {
                let message = "Container is in \"unknown\" state, try killing it before restart".to_owned();
                wanted.kill.push((s.id.clone(), slot, message, KillReason::Unknown));
            }
        }
        return false;
    };
    let policy = container.restart_policy.as_deref().unwrap_or_else(|| spec::restart_policy(input.pod));
    let probes = input.probes.get(&status.id).copied().unwrap_or_default();
    let (what, reason, restart) = if labels::changed(container, status) {
        ("definition changed", KillReason::Changed, true)
    } else if probes.liveness == Some(false) {
        ("failed liveness probe", KillReason::Liveness, policy != "Never")
    } else if probes.startup == Some(false) {
        ("failed startup probe", KillReason::Startup, policy != "Never")
    } else {
        return true;
    };
    let mut message = format!("Container {} {what}", container.name);
    if restart {
        message.push_str(", will be restarted");
    }
    wanted.kill.push((status.id.clone(), slot, message, reason));
    // It is started once it has ended and is seen to have; until then the Pod has something to wait for.
    true
}

/// Turns wanted starts into actions: back-off first, then what the start needs, in the order of the list.
fn start_work(input: &Input, slots: &[Slot], sandbox_ready: bool, plan: &mut Plan) {
    let mut held = !input.starting.is_empty();
    for &slot in slots {
        let Some(container) = spec::container(input.pod, slot) else { continue };
        if input.starting.contains(&container.name) {
            continue;
        }
        let last = newest(input.containers, &container.name);
        if last.is_some_and(|c| input.stopping.contains(&c.id)) {
            continue;
        }
        let exited = input.containers.iter().find(|c| c.name == container.name && c.state == ContainerState::Exited);
        let finished_at = exited.map_or(0, |c| c.finished_at);
        if let Some(until) = exited.and_then(|_| in_backoff(input, &container.name, finished_at)) {
            plan.waiting.insert(container.name.clone(), backoff_state(input, &container.name));
            plan.wake(until);
            if stops_the_line(slot, &container) {
                return;
            }
            continue;
        }
        if let Some(&at) = input.blocked.get(&container.name).filter(|at| **at > input.now) {
            plan.wake(at);
            if stops_the_line(slot, &container) {
                return;
            }
            continue;
        }
        match input.images.get(&container.name) {
            None => {
                plan.actions.push(Action::EnsureImage { slot });
                held = true;
            }
            Some(Image::Underway) => held = true,
            Some(Image::RetryAt(at)) if *at > input.now => plan.wake(*at),
            Some(Image::RetryAt(_)) => {
                plan.actions.push(Action::EnsureImage { slot });
                held = true;
            }
            Some(Image::Present(_)) => {
                if !held && sandbox_ready && input.volumes == Volumes::Ready {
                    let restarts = last.map(|c| labels::restart_count(c) + 1);
                    plan.actions.push(Action::Start { slot, restarts, finished_at });
                }
                held = true;
            }
        }
    }
}

/// An init container that cannot start holds back those after it.
fn stops_the_line(slot: Slot, container: &Container) -> bool {
    matches!(slot, Slot::Init(_)) && !spec::is_sidecar(container)
}

fn in_backoff(input: &Input, name: &str, finished_at: Nanos) -> Option<Nanos> {
    backoff::RESTART.wait_until(input.backoff.get(name), finished_at, input.now)
}

fn backoff_state(input: &Input, name: &str) -> Waiting {
    let wait = input.backoff.get(name).map_or(0, |e| e.wait);
    let message =
        format!("back-off {} restarting failed container={name} pod={}", go_duration(wait), spec::format(input.pod));
    Waiting { reason: "CrashLoopBackOff", message }
}
