//! Pods: what they are doing, in one word.

use serde_json::{Value, json};

use super::human;
use super::shown::Shown;
use super::view::{NONE, age, is_true, list, map, named, number, objects, text_or};
use crate::Object;
use crate::object::{is_terminating, meta_str, str_at};

/// Restarts and the end of the last one.
#[derive(Default)]
struct Restarts {
    count: i64,
    /// Unix seconds; 0 when there was none.
    last: i64,
}

impl Restarts {
    fn add(&mut self, status: &Object) {
        self.count += number(status, &["restartCount"]);
        let finished = str_at(status, &["lastState", "terminated", "finishedAt"]);
        self.last = self.last.max(human::seconds(finished).unwrap_or(0));
    }

    fn shown(&self) -> Shown {
        if self.count == 0 || self.last == 0 {
            return Shown::from(self.count.to_string());
        }
        Shown::Age { before: format!("{} (", self.count), at: self.last, after: " ago)" }
    }
}

/// What containers make of a Pod's status.
struct Progress {
    reason: String,
    ready: usize,
    restarts: Restarts,
}

fn terminated(status: &Object) -> Option<&Object> {
    map(status, &["state", "terminated"])
}

fn waiting_reason(status: &Object) -> &str {
    str_at(status, &["state", "waiting", "reason"])
}

/// `Error`, `Signal:9` or `ExitCode:1`.
fn end_of(terminated: &Object) -> String {
    let (reason, signal) = (str_at(terminated, &["reason"]), number(terminated, &["signal"]));
    match (reason, signal) {
        ("", 0) => format!("ExitCode:{}", number(terminated, &["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn is_sidecar(pod: &Object, name: &str) -> bool {
    let mut containers = objects(pod, &["spec", "initContainers"]);
    containers.any(|c| str_at(c, &["name"]) == name && str_at(c, &["restartPolicy"]) == "Always")
}

/// Goes through init containers up to the first that is not done; gives whether there is one, and sidecars' restarts.
fn initialization(pod: &Object, progress: &mut Progress) -> (bool, Restarts) {
    let mut sidecars = Restarts::default();
    for (position, status) in objects(pod, &["status", "initContainerStatuses"]).enumerate() {
        let sidecar = is_sidecar(pod, str_at(status, &["name"]));
        progress.restarts.add(status);
        if sidecar {
            sidecars.add(status);
        }
        let is_set = |key: &str| status.get(key).and_then(Value::as_bool).unwrap_or(false);
        match terminated(status) {
            Some(end) if number(end, &["exitCode"]) == 0 => continue,
            _ if sidecar && is_set("started") => {
                progress.ready += usize::from(is_set("ready"));
                continue;
            }
            Some(end) => progress.reason = format!("Init:{}", end_of(end)),
            None => match waiting_reason(status) {
                "" | "PodInitializing" => {
                    let total = list(pod, &["spec", "initContainers"]).len();
                    progress.reason = format!("Init:{position}/{total}");
                }
                reason => progress.reason = format!("Init:{reason}"),
            },
        }
        return (true, sidecars);
    }
    (false, sidecars)
}

fn main_containers(pod: &Object, progress: &mut Progress) {
    let mut has_running = false;
    let mut error = String::new();
    for status in list(pod, &["status", "containerStatuses"]).iter().rev().filter_map(Value::as_object) {
        progress.restarts.add(status);
        if !waiting_reason(status).is_empty() {
            progress.reason = waiting_reason(status).to_owned();
        } else if let Some(end) = terminated(status) {
            progress.reason = end_of(end);
            if number(end, &["exitCode"]) != 0 {
                error.clone_from(&progress.reason);
            }
        } else if status.get("ready") == Some(&Value::Bool(true)) && map(status, &["state", "running"]).is_some() {
            has_running = true;
            progress.ready += 1;
        }
    }
    if progress.reason == "Completed" {
        if has_running && is_true(pod, "Ready") {
            progress.reason = "Running".to_owned();
        } else if !error.is_empty() {
            progress.reason = error;
        } else if has_running {
            progress.reason = "NotReady".to_owned();
        }
    }
}

fn progress(pod: &Object) -> Progress {
    let phase = str_at(pod, &["status", "phase"]);
    let status_reason = str_at(pod, &["status", "reason"]);
    let is_gated = objects(pod, &["status", "conditions"]).any(|condition| {
        str_at(condition, &["type"]) == "PodScheduled" && str_at(condition, &["reason"]) == "SchedulingGated"
    });
    let reason = match (is_gated, status_reason) {
        (true, _) => "SchedulingGated",
        (false, "") => phase,
        (false, reason) => reason,
    };
    let mut progress = Progress { reason: reason.to_owned(), ready: 0, restarts: Restarts::default() };
    let (initializing, sidecars) = initialization(pod, &mut progress);
    if !initializing || is_true(pod, "Initialized") {
        progress.restarts = sidecars;
        main_containers(pod, &mut progress);
    }
    if is_terminating(pod) {
        if status_reason == "NodeLost" {
            progress.reason = "Unknown".to_owned();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            progress.reason = "Terminating".to_owned();
        }
    }
    progress
}

fn readiness_gates(pod: &Object) -> String {
    let total = list(pod, &["spec", "readinessGates"]).len();
    if total == 0 {
        return NONE.to_owned();
    }
    let gates = objects(pod, &["spec", "readinessGates"]);
    let open = gates.filter(|gate| is_true(pod, str_at(gate, &["conditionType"]))).count();
    format!("{open}/{total}")
}

pub(super) fn cells(pod: &Object) -> Vec<Shown> {
    let progress = progress(pod);
    let sidecars = objects(pod, &["spec", "initContainers"]).filter(|c| str_at(c, &["restartPolicy"]) == "Always");
    let total = list(pod, &["spec", "containers"]).len() + sidecars.count();
    let first_ip = objects(pod, &["status", "podIPs"]).next().map_or("", |ip| str_at(ip, &["ip"]));
    vec![
        named(pod),
        Shown::from(format!("{}/{total}", progress.ready)),
        Shown::from(progress.reason),
        progress.restarts.shown(),
        age(pod),
        Shown::from(if first_ip.is_empty() { NONE } else { first_ip }),
        text_or(pod, &["spec", "nodeName"], NONE),
        text_or(pod, &["status", "nominatedNodeName"], NONE),
        Shown::from(readiness_gates(pod)),
    ]
}

/// Conditions of a row: a Pod that is over is `Completed`, so that clients can hide it.
pub(super) fn row_conditions(pod: &Object) -> Vec<Value> {
    let phase = str_at(pod, &["status", "phase"]);
    let message = match phase {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return Vec::new(),
    };
    vec![json!({"type": "Completed", "status": "True", "reason": phase, "message": message})]
}

pub(super) fn template_cells(template: &Object) -> Vec<Shown> {
    let [names, images] = super::view::containers(template, &["template", "spec", "containers"]);
    let labels = super::view::labels(map(template, &["template", "metadata", "labels"]));
    vec![Shown::from(meta_str(template, "name")), names, images, Shown::from(labels)]
}
