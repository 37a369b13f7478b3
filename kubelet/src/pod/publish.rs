//! Writing a Pod's status to the API: at once when it matters, gathered for a moment when it does not, one write at a
//! time.

use client::Api;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Patch, PatchParams};
use kubelet_runtime::cri::ContainerState;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::spec;
use crate::time::{self, Nanos, SECOND};

use super::conditions;
use super::run::Op;
use super::status::{self, Input};
use super::worker::{Stage, Worker};

/// How long a change that nobody waits for is gathered with others.
const GATHER: Nanos = SECOND / 5;
const LONGEST_RETRY: Nanos = 10 * SECOND;

/// What was written, and what is being written.
#[derive(Debug)]
pub(super) struct Publisher {
    /// The status that the API has, as far as we know.
    sent: PodStatus,
    underway: Option<PodStatus>,
    /// The status of a static Pod's new mirror, which came while one was written to the old.
    mirror: Option<PodStatus>,
    /// Since when there is something to write that may wait.
    since: Option<Nanos>,
    retry_at: Option<Nanos>,
    retries: u32,
    /// The final delete is under way.
    pub releasing: bool,
}

impl Publisher {
    pub fn new(api: &PodStatus) -> Self {
        let (underway, mirror, since, retry_at) = (None, None, None, None);
        Self { sent: api.clone(), underway, mirror, since, retry_at, retries: 0, releasing: false }
    }

    /// A static Pod's mirror is another one now, with this status.
    pub fn mirrored(&mut self, status: PodStatus) {
        if self.underway.is_some() {
            self.mirror = Some(status);
        } else {
            self.sent = status;
        }
    }

    /// Whether the API has this status.
    pub fn settled(&self, status: &PodStatus) -> bool {
        self.underway.is_none() && self.sent == *status
    }
}

impl Worker {
    /// Computes the status and writes it when it changed; when to come again.
    pub(super) fn publish(&mut self) -> Option<Nanos> {
        if self.stage >= Stage::Removing && self.publisher.underway.is_none() && self.publisher.settled(&self.status) {
            return None;
        }
        if self.stage < Stage::Removing {
            self.compute();
        }
        if self.removed || self.publisher.underway.is_some() {
            return None;
        }
        let now = time::now();
        if self.publisher.sent == self.status {
            self.publisher.since = None;
            return None;
        }
        if let Some(at) = self.publisher.retry_at.filter(|at| *at > now) {
            return Some(at);
        }
        let since = *self.publisher.since.get_or_insert(now);
        if !urgent(&self.publisher.sent, &self.status) && now < since + GATHER {
            return Some(since + GATHER);
        }
        self.write();
        None
    }

    fn compute(&mut self) {
        let mut waiting = self.failures.clone();
        waiting.extend(self.crashing.iter().map(|(k, v)| (k.clone(), v.clone())));
        // An image that cannot be had says more than the back-off before it.
        let host_ip = self.agent.host_ip();
        let runtime_name = self.agent.runtime_name();
        let killed = self.stage >= Stage::Killed && !self.comes_back();
        let mut fresh = status::status(&Input {
            pod: &self.pod,
            previous: &self.status,
            sandboxes: &self.sandboxes,
            containers: &self.containers,
            messages: &self.messages,
            waiting: &waiting,
            probes: &self.probes,
            terminal: killed,
            never_began: self.never_began(),
            failure: self.failure.as_ref().filter(|_| killed),
            host_ip: &host_ip,
            runtime_name: &runtime_name,
        });
        let now = time::api_time(time::now());
        if fresh.start_time.is_none() {
            fresh.start_time = Some(now.clone());
        }
        self.hold_phase(&mut fresh, killed);
        let old = self.status.conditions.as_deref();
        if let Some(list) = &mut fresh.conditions {
            conditions::keep_times(old, list, &now);
        }
        self.status = fresh;
    }

    /// Whether the Pod failed before anything of it was made here, in this process's life or before.
    fn never_began(&self) -> bool {
        let api = self.pod.status.as_ref();
        let failed = self.failure.is_some() || spec::is_terminal_phase(api.and_then(|s| s.phase.as_deref()));
        let shown = api.is_some_and(|s| s.container_statuses.as_ref().is_some_and(|list| !list.is_empty()));
        failed && !shown && self.sandboxes.is_empty() && self.containers.is_empty()
    }

    /// A Pod is not called finished while anything of it may run.
    fn hold_phase(&self, fresh: &mut PodStatus, killed: bool) {
        let before = &self.status;
        if killed
            || !spec::is_terminal_phase(fresh.phase.as_deref())
            || spec::is_terminal_phase(before.phase.as_deref())
        {
            return;
        }
        let running = self.containers.iter().any(|c| c.state == ContainerState::Running);
        if running || self.stage > Stage::Running {
            fresh.phase = before.phase.clone().or_else(|| Some("Pending".to_owned()));
            fresh.reason = before.reason.clone();
            fresh.message = before.message.clone();
        }
    }

    fn write(&mut self) {
        self.publisher.since = None;
        let target = if spec::is_static(&self.pod) {
            match self.agent.mirrors.uid_of(&self.pod) {
                Some(uid) => uid,
                // Its mirror is not there yet; the mirror's arrival wakes us.
                None => return,
            }
        } else {
            self.uid().to_owned()
        };
        let body = patch(&target, &self.publisher.sent, &self.status);
        self.publisher.underway = Some(self.status.clone());
        let (agent, pod) = (self.agent.clone(), self.pod.clone());
        self.spawn(async move { Op::Written(send(&agent, &pod, &body).await) }, "status");
    }

    pub(super) fn written(&mut self, result: Result<(), String>) {
        let Some(status) = self.publisher.underway.take() else { return };
        match result {
            Ok(()) => {
                self.publisher.sent = self.publisher.mirror.take().unwrap_or(status);
                self.publisher.retries = 0;
                self.publisher.retry_at = None;
            }
            Err(error) => {
                tracing::warn!(pod = %spec::format(&self.pod), %error, "writing a status failed");
                let wait = (SECOND / 5).saturating_mul(1 << self.publisher.retries.min(10)).min(LONGEST_RETRY);
                self.publisher.retries += 1;
                if let Some(status) = self.publisher.mirror.take() {
                    self.publisher.sent = status;
                }
                self.publisher.retry_at = Some(time::now() + wait);
            }
        }
    }
}

/// Whether somebody waits for this: a phase, readiness, an address, a container's state.
fn urgent(sent: &PodStatus, fresh: &PodStatus) -> bool {
    let ready = |s: &PodStatus| {
        let find = |name: &str| s.conditions.iter().flatten().find(|c| c.type_ == name).map(|c| c.status.clone());
        find("Ready").as_deref() == Some("True")
    };
    let states = |s: &PodStatus| -> Vec<_> {
        let all = s.container_statuses.iter().chain(&s.init_container_statuses).chain(&s.ephemeral_container_statuses);
        all.flatten().map(|c| (c.name.clone(), c.ready, c.started, c.restart_count, shown(c.state.as_ref()))).collect()
    };
    (sent.phase != fresh.phase && fresh.phase.as_deref() != Some("Pending"))
        || ready(sent) != ready(fresh)
        // A container that is being made, or is made and not started, is on its way; nobody acts on that.
        || states(sent) != states(fresh)
            && !states(fresh)
                .iter()
                .all(|s| matches!(s.4.as_deref(), Some("ContainerCreating" | "PodInitializing") | None))
}

/// A container's state in a word: why it waits, that it runs, that it ended.
fn shown(state: Option<&k8s_openapi::api::core::v1::ContainerState>) -> Option<String> {
    let state = state?;
    if let Some(waiting) = &state.waiting {
        return waiting.reason.clone();
    }
    state
        .running
        .as_ref()
        .map(|_| "running".to_owned())
        .or_else(|| state.terminated.as_ref().map(|_| "ended".to_owned()))
}

/// A strategic merge patch from one status to another; the UID guards against a Pod of the same name.
fn patch(uid: &str, sent: &PodStatus, fresh: &PodStatus) -> Value {
    let value = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let (old, mut body) = (value(sent), value(fresh));
    body.retain(|key, v| old.get(key) != Some(v));
    for key in old.keys().filter(|key| !value(fresh).contains_key(*key)) {
        body.insert(key.clone(), Value::Null);
    }
    // These lists merge by key: what is to go has to be named.
    for (key, name) in [("podIPs", "ip"), ("hostIPs", "ip"), ("conditions", "type")] {
        let (Some(Value::Array(before)), Some(Value::Array(after))) = (old.get(key), body.get_mut(key)) else {
            continue;
        };
        let kept: Vec<Value> = after.iter().filter_map(|item| item.get(name).cloned()).collect();
        for item in after.iter_mut() {
            let old = before.iter().find(|old| old.get(name) == item.get(name));
            empty_what_goes(old.and_then(Value::as_object), item);
        }
        let gone = before.iter().filter_map(|item| item.get(name)).filter(|k| !kept.contains(k));
        let deletes: Vec<Value> = gone.map(|k| json!({name: k, "$patch": "delete"})).collect();
        after.extend(deletes);
    }
    json!({"metadata": {"uid": uid}, "status": body})
}

/// Members of an item that merges with the one it had must be named to go: a reason, a message.
fn empty_what_goes(old: Option<&serde_json::Map<String, Value>>, item: &mut Value) {
    let (Some(old), Some(item)) = (old, item.as_object_mut()) else { return };
    for key in old.keys() {
        item.entry(key.clone()).or_insert(Value::Null);
    }
}

async fn send(agent: &Agent, pod: &Pod, body: &Value) -> Result<(), String> {
    let api: Api<Pod> = Api::namespaced(agent.client.clone(), spec::namespace(pod));
    match api.patch_status(spec::name(pod), &PatchParams::default(), &Patch::Strategic(body)).await {
        Ok(_) => Ok(()),
        // It is gone, or another took its name: the watch says so too.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 && status.message.contains("UID") => Ok(()),
        Err(error) => Err(crate::text(&error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn patches_name_what_changed_and_what_goes() {
        let old =
            status(json!({"phase": "Pending", "reason": "x", "podIPs": [{"ip": "10.0.0.1"}], "hostIP": "192.0.2.1"}));
        let new = status(json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.2"}], "hostIP": "192.0.2.1"}));
        let want = json!({"metadata": {"uid": "u"}, "status": {"phase": "Running", "reason": null,
            "podIPs": [{"ip": "10.0.0.2"}, {"ip": "10.0.0.1", "$patch": "delete"}]}});
        assert_eq!(patch("u", &old, &new), want);
    }

    #[test]
    fn a_condition_loses_the_message_that_is_over() {
        let old = status(json!({"conditions": [{"type": "Ready", "status": "False", "message": "waits"}]}));
        let new = status(json!({"conditions": [{"type": "Ready", "status": "False", "reason": "PodFailed"}]}));
        let want = json!([{"type": "Ready", "status": "False", "reason": "PodFailed", "message": null}]);
        assert_eq!(patch("u", &old, &new)["status"]["conditions"], want);
    }

    #[test]
    fn creating_waits_running_does_not() {
        let none = status(json!({"phase": "Pending"}));
        let creating = status(json!({"phase": "Pending", "containerStatuses": [{"name": "c", "ready": false,
            "restartCount": 0, "image": "", "imageID": "", "state": {"waiting": {"reason": "ContainerCreating"}}}]}));
        let running = status(json!({"phase": "Running", "containerStatuses": [{"name": "c", "ready": true,
            "restartCount": 0, "image": "", "imageID": "", "state": {"running": {}}}]}));
        let created = status(json!({"phase": "Pending", "containerStatuses": [{"name": "c", "ready": false,
            "restartCount": 0, "image": "", "imageID": "", "state": {"waiting": {}}}]}));
        assert!(!urgent(&none, &creating));
        assert!(!urgent(&creating, &created));
        assert!(urgent(&creating, &running));
    }
}
