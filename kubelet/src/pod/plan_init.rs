//! The init containers' part of the plan (upstream's computeInitContainerActions): one after another, sidecars kept
//! running beside what comes after them.

use k8s_openapi::api::core::v1::{Container, Pod};
use kubelet_runtime::cri::{ContainerState, ContainerStatus};

use crate::labels;
use crate::spec::{self, Slot};

use super::plan::{Input, KillReason, Wanted, newest, should_start};

/// Adds what init containers need; true when the main containers may run.
pub(super) fn init_containers(input: &Input, wanted: &mut Wanted) -> bool {
    let inits = spec::init_containers(input.pod);
    if inits.is_empty() {
        return true;
    }
    let mut walk =
        Walk { input, last: inits.len() - 1, initialized: main_active(input.pod, input.containers), previously: false };
    walk.previously = walk.initialized;
    let mut starts = Vec::new();
    // From the last to the first: finished ones may be gone from the runtime, the newest tells how far the Pod is.
    for (i, container) in inits.iter().enumerate().rev() {
        if !walk.one(i, container, &mut starts, wanted) {
            wanted.kill_pod = true;
            return false;
        }
    }
    if !walk.previously {
        starts.push(0);
    }
    starts.reverse();
    wanted.start.extend(starts.into_iter().map(Slot::Init));
    walk.initialized
}

/// A main container that was created or runs shows that initialization is over. One that exited may be of an earlier
/// sandbox.
fn main_active(pod: &Pod, containers: &[ContainerStatus]) -> bool {
    spec::containers(pod).iter().any(|c| {
        newest(containers, &c.name)
            .is_some_and(|s| matches!(s.state, ContainerState::Created | ContainerState::Running))
    }) || exited_in_current_sandbox(pod, containers)
}

/// Unlike upstream we know which sandbox a container belongs to: a main container that exited in the newest one counts.
fn exited_in_current_sandbox(pod: &Pod, containers: &[ContainerStatus]) -> bool {
    let Some(current) = containers.first().map(|c| &c.sandbox_id) else { return false };
    spec::containers(pod).iter().any(|c| newest(containers, &c.name).is_some_and(|s| &s.sandbox_id == current))
}

struct Walk<'a> {
    input: &'a Input<'a>,
    last: usize,
    /// All init containers are done, or started as sidecars.
    initialized: bool,
    /// The one looked at was passed before: something after it has begun.
    previously: bool,
}

impl<'a> Walk<'a> {
    /// Looks at one init container; false when it failed for good.
    fn one(&mut self, i: usize, container: &Container, starts: &mut Vec<usize>, wanted: &mut Wanted) -> bool {
        let sidecar = spec::is_sidecar(container);
        let Some(status) = self.status(container) else {
            if self.previously && sidecar {
                starts.push(i);
            }
            return true;
        };
        if self.previously && !sidecar {
            return true;
        }
        match status.state {
            ContainerState::Created => starts.push(i),
            ContainerState::Running if sidecar => self.running_sidecar(i, container, status, starts, wanted),
            ContainerState::Running => {}
            ContainerState::Exited if sidecar => starts.push(i),
            ContainerState::Exited if status.exit_code == 0 => self.passed(i, starts),
            ContainerState::Exited => {
                if !should_start(self.input.pod, container, self.input.containers) {
                    return false;
                }
                starts.push(i);
            }
            ContainerState::Unknown => {
                let policy =
                    container.restart_policy.as_deref().unwrap_or_else(|| spec::restart_policy(self.input.pod));
                if !sidecar && policy == "Never" {
                    return false;
                }
                let message = "Init container is in \"unknown\" state, try killing it before restart".to_owned();
                wanted.kill.push((status.id.clone(), Slot::Init(i), message, KillReason::Unknown));
                starts.push(i);
            }
        }
        self.previously = true;
        true
    }

    /// Containers of an earlier sandbox count for nothing: a Pod with a new sandbox initializes anew.
    fn status(&self, container: &Container) -> Option<&'a ContainerStatus> {
        let current = self.input.sandboxes.first().map(|s| s.id.as_str());
        newest(self.input.containers, &container.name).filter(|c| Some(c.sandbox_id.as_str()) == current)
    }

    fn passed(&mut self, i: usize, starts: &mut Vec<usize>) {
        if i == self.last {
            self.initialized = true;
        } else if !self.previously {
            starts.push(i + 1);
        }
    }

    fn running_sidecar(
        &mut self,
        i: usize,
        container: &Container,
        status: &ContainerStatus,
        starts: &mut Vec<usize>,
        wanted: &mut Wanted,
    ) {
        let probes = self.input.probes.get(&status.id).copied().unwrap_or_default();
        let mut kill = |what: &str, reason| {
            let message = format!("Init container {} {what}", container.name);
            wanted.kill.push((status.id.clone(), Slot::Init(i), message, reason));
        };
        if container.startup_probe.is_some() && probes.startup != Some(true) {
            if probes.startup == Some(false) {
                kill("failed startup probe", KillReason::Startup);
                starts.push(i);
            }
            return;
        }
        self.passed(i, starts);
        if labels::changed(container, status) {
            kill("definition changed", KillReason::Changed);
            starts.push(i);
        } else if container.liveness_probe.is_some() && probes.liveness == Some(false) {
            kill("failed liveness probe", KillReason::Liveness);
            starts.push(i);
        }
    }
}
