//! The phase of a Pod from the statuses of its containers (upstream's getPhase). Pure.

use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, Pod, PodStatus};
use kubelet_runtime::cri;

use crate::spec;

use super::plan;

/// Whether any main container runs or ran in the Pod's newest sandbox.
pub fn main_started(pod: &Pod, containers: &[cri::ContainerStatus]) -> bool {
    let Some(sandbox) = containers.first().map(|c| c.sandbox_id.as_str()) else { return false };
    spec::containers(pod).iter().any(|c| {
        plan::newest(containers, &c.name).is_some_and(|s| {
            s.sandbox_id == sandbox && matches!(s.state, cri::ContainerState::Running | cri::ContainerState::Exited)
        })
    })
}

#[derive(Default)]
struct Count {
    pending_init: usize,
    pending_sidecar: usize,
    failed_init: bool,
    unknown: usize,
    running: usize,
    waiting: usize,
    stopped: usize,
    stopped_for_good: usize,
    succeeded: usize,
}

/// `terminal` says that no container will be started again, whatever the restart policy.
pub fn phase(pod: &Pod, status: &PodStatus, terminal: bool, initialized: bool) -> &'static str {
    let mut count = Count::default();
    let inits = status.init_container_statuses.as_deref().unwrap_or_default();
    for container in spec::init_containers(pod) {
        let found = inits.iter().find(|s| s.name == container.name);
        if spec::is_sidecar(container) {
            count.sidecar(found);
        } else {
            count.init(pod, container, found);
        }
    }
    let mains = status.container_statuses.as_deref().unwrap_or_default();
    for container in spec::containers(pod) {
        count.main(pod, container, mains.iter().find(|s| s.name == container.name));
    }
    count.phase(terminal && !spec::is_static(pod), initialized)
}

/// A container's state, and the exit code of its last end when it waits.
enum Shown {
    Running,
    Ended(i32),
    WaitsAfter(i32),
    Waits,
    Unknown,
}

fn shown(status: Option<&ContainerStatus>) -> Shown {
    let Some(status) = status else { return Shown::Unknown };
    let code = |s: Option<&ContainerState>| s.and_then(|s| s.terminated.as_ref()).map(|t| t.exit_code);
    match &status.state {
        Some(s) if s.running.is_some() => Shown::Running,
        Some(s) if s.terminated.is_some() => code(Some(s)).map_or(Shown::Unknown, Shown::Ended),
        Some(s) if s.waiting.is_some() => code(status.last_state.as_ref()).map_or(Shown::Waits, Shown::WaitsAfter),
        _ => Shown::Unknown,
    }
}

impl Count {
    fn init(&mut self, pod: &Pod, container: &Container, status: Option<&ContainerStatus>) {
        match shown(status) {
            Shown::Ended(code) | Shown::WaitsAfter(code) => {
                if code != 0 && !spec::should_restart(pod, container, code) {
                    self.failed_init = true;
                } else if code != 0 {
                    self.pending_init += 1;
                }
            }
            _ => self.pending_init += 1,
        }
    }

    fn sidecar(&mut self, status: Option<&ContainerStatus>) {
        match shown(status) {
            Shown::Running => {
                self.pending_sidecar += usize::from(status.is_some_and(|s| s.started != Some(true)));
                self.running += 1;
            }
            Shown::Ended(_) | Shown::WaitsAfter(_) => {}
            Shown::Waits => {
                self.pending_sidecar += 1;
                self.waiting += 1;
            }
            Shown::Unknown => {
                self.pending_sidecar += 1;
                self.unknown += 1;
            }
        }
    }

    fn main(&mut self, pod: &Pod, container: &Container, status: Option<&ContainerStatus>) {
        match shown(status) {
            Shown::Running => self.running += 1,
            Shown::Ended(code) => {
                self.stopped += 1;
                self.stopped_for_good += usize::from(!spec::should_restart(pod, container, code));
                self.succeeded += usize::from(code == 0);
            }
            Shown::WaitsAfter(code) => {
                self.stopped += 1;
                self.stopped_for_good += usize::from(!spec::should_restart(pod, container, code));
            }
            Shown::Waits => self.waiting += 1,
            Shown::Unknown => self.unknown += 1,
        }
    }

    fn phase(&self, terminal: bool, initialized: bool) -> &'static str {
        if self.failed_init {
            return "Failed";
        }
        if self.pending_init > 0 || (self.pending_sidecar > 0 && !initialized) || self.waiting > 0 {
            return "Pending";
        }
        if self.running > 0 && self.unknown == 0 {
            return "Running";
        }
        if self.running == 0 && self.stopped > 0 && self.unknown == 0 {
            return match () {
                () if !terminal && self.stopped != self.stopped_for_good => "Running",
                () if self.stopped == self.succeeded => "Succeeded",
                () => "Failed",
            };
        }
        "Pending"
    }
}
