//! One task for each running container with probes: startup first, then liveness and readiness side by side. It sleeps
//! until a probe is due, and tells the Pod of results when they change.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::time::{Instant, sleep_until};

use crate::agent::Agent;
use crate::events::Type;
use crate::expand::expand;
use crate::pod::registry::Mailbox;
use crate::time::{self, Nanos};

use super::{Outcome, exec, grpc, http, tcp};

/// A probe that cannot be run is tried again at once this many times.
const TRIES: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// What is probed.
pub struct Subject {
    pub agent: Arc<Agent>,
    pub mailbox: Arc<Mailbox>,
    pub pod: Arc<Pod>,
    pub container: Container,
    pub container_id: String,
    pub pod_ip: String,
    pub started_at: Nanos,
    /// What was known before this kubelet started: the container counts as started.
    pub was_started: bool,
}

/// Consecutive results against thresholds; says when the verdict changes.
#[derive(Debug, Default)]
struct Tally {
    last: Option<bool>,
    run: i32,
    verdict: Option<bool>,
}

impl Tally {
    /// Counts one result; the verdict when this result makes or keeps one.
    fn count(&mut self, ok: bool, probe: &Probe) -> Option<bool> {
        self.run = if self.last == Some(ok) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(ok);
        let needed = if ok { probe.success_threshold.unwrap_or(1) } else { probe.failure_threshold.unwrap_or(3) };
        if self.run < needed.max(1) {
            return None;
        }
        let changed = self.verdict != Some(ok);
        self.verdict = Some(ok);
        changed.then_some(ok)
    }
}

/// Whether a container has any probe.
pub fn has_probes(container: &Container) -> bool {
    container.startup_probe.is_some() || container.liveness_probe.is_some() || container.readiness_probe.is_some()
}

/// Probes until it is aborted; the Pod aborts it when the container is no longer running.
pub async fn run(subject: Subject) {
    let container = &subject.container;
    if let Some(probe) = &container.startup_probe {
        let passed = subject.was_started || follow(&subject, Kind::Startup, probe).await;
        if !passed {
            return;
        }
        subject.tell(Kind::Startup, true);
    }
    let each = async |kind, probe: &Option<Probe>| {
        if let Some(probe) = probe {
            follow(&subject, kind, probe).await;
        }
    };
    tokio::join!(each(Kind::Liveness, &container.liveness_probe), each(Kind::Readiness, &container.readiness_probe),);
}

/// Runs one probe at its period. Startup ends with its verdict, liveness with a failure; readiness never ends.
async fn follow(subject: &Subject, kind: Kind, probe: &Probe) -> bool {
    let period = seconds(probe.period_seconds, 10);
    let mut due = first_due(subject.started_at, probe);
    let mut tally = Tally::default();
    loop {
        sleep_until(due).await;
        let outcome = attempt(subject, probe).await;
        let ok = subject.say(kind, &outcome);
        if let Some(verdict) = ok.and_then(|ok| tally.count(ok, probe)) {
            match (kind, verdict) {
                (Kind::Startup, true) => return true,
                (Kind::Startup | Kind::Liveness, false) => {
                    subject.tell(kind, false);
                    return false;
                }
                _ => subject.tell(kind, verdict),
            }
        }
        due = (due + period).max(Instant::now());
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default))
}

/// The initial delay counts from the container's start. After a restart of the kubelet probes spread over their period.
fn first_due(started_at: Nanos, probe: &Probe) -> Instant {
    let delay = Duration::from_secs(probe.initial_delay_seconds.and_then(|v| u64::try_from(v).ok()).unwrap_or(0));
    let age = Duration::from_nanos(u64::try_from(time::now() - started_at).unwrap_or(0));
    Instant::now() + delay.saturating_sub(age)
}

async fn attempt(subject: &Subject, probe: &Probe) -> Outcome {
    let mut outcome = Outcome::Error("it was not tried".to_owned());
    for _ in 0..TRIES {
        outcome = once(subject, probe).await;
        if !matches!(outcome, Outcome::Error(_)) {
            break;
        }
    }
    outcome
}

async fn once(subject: &Subject, probe: &Probe) -> Outcome {
    let timeout = seconds(probe.timeout_seconds, 1);
    let container = &subject.container;
    if let Some(action) = &probe.exec {
        let env = container.env.as_deref().unwrap_or_default();
        let lookup = |name: &str| {
            env.iter().find(|e| e.name == name && e.value_from.is_none()).map(|e| e.value.as_deref().unwrap_or(""))
        };
        let command = action.command.iter().flatten().map(|word| expand(word, lookup)).collect();
        return exec::probe(&*subject.agent.runtime, &subject.container_id, command, timeout).await;
    }
    if let Some(action) = &probe.http_get {
        return match http::target(action, container, &subject.pod_ip) {
            Ok(target) => http::probe(&target, timeout, "probe").await,
            Err(error) => Outcome::Error(error),
        };
    }
    if let Some(action) = &probe.tcp_socket {
        let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(&subject.pod_ip);
        return match super::port(&action.port, container) {
            Ok(port) => tcp::probe(host, port, timeout).await,
            Err(error) => Outcome::Error(error),
        };
    }
    if let Some(action) = &probe.grpc {
        let Ok(port) = u16::try_from(action.port) else {
            return Outcome::Error(format!("invalid port number: {}", action.port));
        };
        return grpc::probe(&subject.pod_ip, port, action.service.as_deref().unwrap_or(""), timeout).await;
    }
    Outcome::Error("missing probe handler".to_owned())
}

impl Subject {
    fn tell(&self, kind: Kind, ok: bool) {
        self.mailbox.probed(&self.container_id, kind, ok);
    }

    /// Events of a result; `None` when it counts for nothing.
    fn say(&self, kind: Kind, outcome: &Outcome) -> Option<bool> {
        let name = kind.name();
        let (reason, message, counts) = match outcome {
            Outcome::Success => return Some(true),
            Outcome::Warning(text) => ("ProbeWarning", format!("{name} probe warning: {text}"), Some(true)),
            Outcome::Failure(text) => ("Unhealthy", format!("{name} probe failed: {text}"), Some(false)),
            Outcome::Error(text) => {
                ("Unhealthy", format!("{name} probe errored and resulted in unknown state: {text}"), None)
            }
        };
        self.agent.recorder.container(&self.pod, &self.container.name, Type::Warning, reason, message);
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut tally = Tally::default();
        let results = [true, true, true, false, false, true, false, false, false, false];
        let verdicts: Vec<_> = results.iter().map(|r| tally.count(*r, &probe)).collect();
        assert_eq!(verdicts, [None, Some(true), None, None, None, None, None, None, Some(false), None]);
    }
}
